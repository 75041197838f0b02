//! Measures frame time and memory with many patients and updates. The app is drawn by the software renderer into memory and
//! connects to a real gateway.
//!
//!     frames [--seconds 60] [--patients 64] [--rate 10]

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed measurement ends with a panic")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use client::{Upload, UploadFile};
use monitor::{App, Args};
use proto_json::{FileKind, Mrn, Timestamp};
use slint::platform::software_renderer::{MinimalSoftwareWindow, RepaintBufferType};
use slint::platform::{Platform, WindowAdapter};
use slint::{ComponentHandle, PhysicalSize, PlatformError, Rgb8Pixel};

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::{System, test_data};

const SIZE: (u32, u32) = (1920, 1080);

#[derive(Debug, Parser)]
struct Options {
    /// Duration of the measurement
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Number of patients
    #[arg(long, default_value_t = 64)]
    patients: u64,
    /// Strips per second of all patients together
    #[arg(long, default_value_t = 10)]
    rate: u64,
}

/// A platform that draws into memory.
struct Memory(Rc<MinimalSoftwareWindow>, Instant);

impl Platform for Memory {
    fn create_window_adapter(&self) -> Result<Rc<dyn WindowAdapter>, PlatformError> {
        Ok(self.0.clone())
    }

    fn duration_since_start(&self) -> Duration {
        self.1.elapsed()
    }
}

fn main() {
    let options = Options::parse();
    let window = MinimalSoftwareWindow::new(RepaintBufferType::ReusedBuffer);
    slint::platform::set_platform(Box::new(Memory(window.clone(), Instant::now()))).unwrap();
    let system = System::standalone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let strips: Vec<Vec<u8>> =
        (0..40).map(|seed| test_data::strip_csv(50.0 + 2.5 * seed as f64, 10.0, seed)).collect();
    let (gateway, patients, pause) =
        (system.client(), options.patients, Duration::from_micros(1_000_000 / options.rate));
    let send = move |number: u64| {
        let csv = strips[(number * 7 % 40) as usize].clone();
        let upload = Upload {
            name: Some(format!("Patient {:02}", number % patients)),
            recorded_at: Some(Timestamp::now()),
            ..Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", csv)])
        };
        let gateway = gateway.clone();
        async move {
            let mrn = Mrn::new(number % patients).unwrap();
            gateway.upload(mrn, &upload, |_| {}).await.expect("stored");
        }
    };
    runtime.block_on(async {
        for number in 0..patients {
            send(number).await;
        }
    });

    let folder = tempfile::tempdir().unwrap();
    let mut args = Args::default();
    args.connection.gateway = Some(system.url());
    args.connection.settings = Some(folder.path().join("monitor.json"));
    let app = App::new(args).unwrap();
    window.set_size(PhysicalSize::new(SIZE.0, SIZE.1));
    app.window().show().unwrap();
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(pause);
        for number in 0.. {
            ticks.tick().await;
            tokio::spawn(send(number));
        }
    });

    let mut pixels = vec![Rgb8Pixel::default(); (SIZE.0 * SIZE.1) as usize];
    let (mut frames, mut work) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let warm = Duration::from_secs(5);
    let mut next_line = warm;
    println!("{:>6} {:>8} {:>10}", "s", "frames", "RSS MB");
    while begun.elapsed() < warm + Duration::from_secs(options.seconds) {
        let busy = Instant::now();
        slint::platform::update_timers_and_animations();
        while app.wait(Duration::ZERO) {}
        let drawn = window.draw_if_needed(|renderer| {
            renderer.render(&mut pixels, SIZE.0 as usize);
        });
        if drawn && begun.elapsed() > warm {
            frames.push(busy.elapsed());
        } else if begun.elapsed() > warm {
            work.push(busy.elapsed());
        }
        if begun.elapsed() >= next_line {
            let own = testkit::resident_bytes(std::process::id()).expect("Linux") as f64 / 1e6;
            println!("{:>6} {:>8} {own:>10.1}", begun.elapsed().as_secs(), frames.len());
            next_line += Duration::from_secs((options.seconds / 10).max(1));
        }
        let rest = Duration::from_millis(16).saturating_sub(busy.elapsed());
        app.wait(rest);
    }
    frames.sort_unstable();
    let share = |part: f64| frames[((frames.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    println!(
        "{} patients, {} strips per second, {} x {}: {} frames, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        options.patients,
        options.rate,
        SIZE.0,
        SIZE.1,
        frames.len(),
        share(0.5),
        share(0.95),
        share(0.99),
        share(1.0)
    );
}
