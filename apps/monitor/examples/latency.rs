//! Measures the time from the POST of an ECG to the changed pixel, with a real gateway and the app on a real X server.
//!
//!     latency [--uploads 60] [--monitor target/release/monitor]

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed measurement ends with a panic")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use client::{Upload, UploadFile};
use proto_json::{FileKind, Mrn, Timestamp};

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::{System, test_data};
use testkit::{Screen, Shot};

#[derive(Debug, Parser)]
struct Options {
    /// Number of measurements
    #[arg(long, default_value_t = 60)]
    uploads: usize,
    /// Path of the app
    #[arg(long, default_value = "target/release/monitor")]
    monitor: PathBuf,
}

struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let options = Options::parse();
    let system = System::standalone();
    let screen = Screen::start(1440, 900);
    let folder = tempfile::tempdir().unwrap();
    let app = Command::new(&options.monitor)
        .args(["--gateway", &system.url(), "--theme", "dark", "--settings"])
        .arg(folder.path().join("monitor.json"))
        .env("DISPLAY", screen.display())
        .env("SLINT_BACKEND", "winit-software")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the app starts");
    let _app = ChildGuard(app);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateway = system.client();
    let send = |bpm: f64, seed: u64| {
        let csv = test_data::strip_csv(bpm, 10.0, seed);
        let upload = Upload {
            name: Some("Ann".to_owned()),
            recorded_at: Some(Timestamp::now()),
            ..Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", csv)])
        };
        let gateway = gateway.clone();
        async move {
            gateway.upload(Mrn::new(1).unwrap(), &upload, |_| {}).await.expect("stored");
        }
    };
    runtime.block_on(send(60.0, 0));
    // The digits and the sparkline of the only tile, at the upper left.
    let digits = || screen.part(20, 105, 150, 80);
    let sparkline = || screen.part(190, 105, 220, 80);
    let settled = |look: &dyn Fn() -> Shot| {
        let mut before = look();
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(400) {
            std::thread::sleep(Duration::from_millis(5));
            let now = look();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        before
    };
    std::thread::sleep(Duration::from_secs(3));
    let (mut to_sparkline, mut to_rate) = (Vec::new(), Vec::new());
    for number in 0..options.uploads {
        let (old_digits, old_sparkline) = (settled(&digits), settled(&sparkline));
        let bpm = if number % 2 == 0 { 90.0 } else { 60.0 };
        let upload = send(bpm, number as u64 + 1);
        let begun = Instant::now();
        let sending = runtime.spawn(upload);
        let (mut sparkline_at, mut rate_at) = (None, None);
        while sparkline_at.is_none() || rate_at.is_none() {
            if sparkline_at.is_none() && sparkline() != old_sparkline {
                sparkline_at = Some(begun.elapsed());
            }
            if rate_at.is_none() && digits() != old_digits {
                rate_at = Some(begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the screen does not change");
            std::thread::sleep(Duration::from_millis(1));
        }
        runtime.block_on(sending).unwrap();
        to_sparkline.extend(sparkline_at);
        to_rate.extend(rate_at);
    }
    for (what, mut times) in [("the sparkline on the tile", to_sparkline), ("its heart rate", to_rate)] {
        times.sort_unstable();
        let share = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        println!(
            "POST of a 10 s ECG until {what} has changed: p50 {:.0} ms, p95 {:.0} ms, longest {:.0} ms ({} uploads)",
            share(0.5),
            share(0.95),
            share(1.0),
            times.len()
        );
    }
}
