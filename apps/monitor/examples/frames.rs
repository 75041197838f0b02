//! Measures frame time and memory with many patients and updates. The app is drawn by the software renderer into memory and
//! connects to a real gateway.
//!
//!     frames [--seconds 60] [--patients 64] [--rate 10] [--live] [--open]
//!
//! With `--live`, each patient streams live waveforms. Their events are given to the app without a server, so that the figures are
//! those of the app alone. With `--open`, the page of one patient is open.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed measurement ends with a panic")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use client::{LiveEvent, Upload, UploadFile};
use monitor::{App, Args};
use proto_json::{FileKind, Mrn, Timestamp};
use slint::platform::software_renderer::{MinimalSoftwareWindow, RepaintBufferType};
use slint::platform::{Platform, WindowAdapter};
use slint::{ComponentHandle, Model, PhysicalSize, PlatformError, Rgb8Pixel};

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::live_source::LiveSource;
use fixture::{System, test_data};

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
    /// Each patient streams live waveforms
    #[arg(long)]
    live: bool,
    /// The page of a patient is open
    #[arg(long)]
    open: bool,
    /// Width and height of the window
    #[arg(long, num_args = 2, default_values_t = [1920, 1080])]
    size: Vec<u32>,
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
    let size = (options.size[0], options.size[1]);
    window.set_size(PhysicalSize::new(size.0, size.1));
    app.window().show().unwrap();
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(pause);
        for number in 0.. {
            ticks.tick().await;
            tokio::spawn(send(number));
        }
    });

    let mut pixels = vec![Rgb8Pixel::default(); (size.0 * size.1) as usize];
    let mut sources: Vec<LiveSource> = Vec::new();
    let (mut frames, mut cpu_times, mut work) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    let warm = Duration::from_secs(5);
    let mut next_line = warm;
    println!("{:>6} {:>8} {:>10}", "s", "frames", "RSS MB");
    while begun.elapsed() < warm + Duration::from_secs(options.seconds) {
        let events = if options.live { due_events(&app, &mut sources, &options) } else { Vec::new() };
        let (busy, cpu) = (Instant::now(), cpu_time());
        slint::platform::update_timers_and_animations();
        while app.wait(Duration::ZERO) {}
        for event in events {
            app.live_event(event);
        }
        let drawn = window.draw_if_needed(|renderer| {
            renderer.render(&mut pixels, size.0 as usize);
        });
        if drawn && begun.elapsed() > warm {
            frames.push(busy.elapsed());
            cpu_times.push(cpu_time() - cpu);
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
        size.0,
        size.1,
        frames.len(),
        share(0.5),
        share(0.95),
        share(0.99),
        share(1.0)
    );
    cpu_times.sort_unstable();
    let share = |part: f64| cpu_times[((cpu_times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    println!("CPU time per frame: p50 {:.1} ms, p95 {:.1} ms", share(0.5), share(0.95));
}

/// CPU time of this thread. Unlike the elapsed time, it does not depend on other programs.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

/// The events that are due. Starts the streams once the patients are on the overview.
fn due_events(app: &App, sources: &mut Vec<LiveSource>, options: &Options) -> Vec<LiveEvent> {
    let now_us = app.now().as_millis() * 1000;
    let mut events = Vec::new();
    if sources.is_empty() {
        let window = app.window();
        let api = window.global::<monitor::window::Api>();
        if api.get_tiles().row_count() < options.patients as usize {
            return events;
        }
        if options.open {
            api.invoke_open_patient("1".into());
        }
        let start = |mrn: u64| now_us - 400_000 - (mrn as i64 * 3_137) % 200_000;
        sources.extend((0..options.patients).map(|mrn| LiveSource::new(mrn, 55.0 + mrn as f64, start(mrn))));
        events.push(LiveSource::connected());
        events.extend(sources.iter().map(LiveSource::stream));
    }
    for source in sources {
        while source.due_us() + 20_000 <= now_us {
            events.push(if options.open { source.frame() } else { source.columns() });
        }
    }
    events
}
