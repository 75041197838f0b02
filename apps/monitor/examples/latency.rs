//! From the POST of an ECG to the pixel that changes: a real gateway, the real app on a real X server.
//!
//!     latency [--uploads 60] [--monitor target/release/monitor]

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that cannot go on has to stop")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use client::{Upload, UploadFile};
use proto_json::{FileKind, Mrn, Timestamp};

#[path = "../tests/beside/mod.rs"]
mod beside;

use beside::{System, material};
use testkit::{Screen, Shot};

#[derive(Debug, Parser)]
struct Wanted {
    /// How often to measure
    #[arg(long, default_value_t = 60)]
    uploads: usize,
    /// The app
    #[arg(long, default_value = "target/release/monitor")]
    monitor: PathBuf,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let wanted = Wanted::parse();
    let system = System::standalone();
    let screen = Screen::start(1440, 900);
    let folder = tempfile::tempdir().unwrap();
    let app = Command::new(&wanted.monitor)
        .args(["--gateway", &system.url(), "--theme", "dark", "--settings"])
        .arg(folder.path().join("monitor.json"))
        .env("DISPLAY", screen.display())
        .env("SLINT_BACKEND", "winit-software")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the app starts");
    let _app = Ended(app);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateway = system.client();
    let send = |bpm: f64, seed: u64| {
        let csv = material::strip_csv(bpm, 10.0, seed);
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
    // The one tile stands at the upper left; its digits, and its small strip beside them.
    let digits = || screen.part(20, 105, 150, 80);
    let strip = || screen.part(190, 105, 220, 80);
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
    let (mut to_strip, mut to_rate) = (Vec::new(), Vec::new());
    for number in 0..wanted.uploads {
        let (old_digits, old_strip) = (settled(&digits), settled(&strip));
        let bpm = if number % 2 == 0 { 90.0 } else { 60.0 };
        let upload = send(bpm, number as u64 + 1);
        let begun = Instant::now();
        let sending = runtime.spawn(upload);
        let (mut strip_at, mut rate_at) = (None, None);
        while strip_at.is_none() || rate_at.is_none() {
            if strip_at.is_none() && strip() != old_strip {
                strip_at = Some(begun.elapsed());
            }
            if rate_at.is_none() && digits() != old_digits {
                rate_at = Some(begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the screen does not change");
            std::thread::sleep(Duration::from_millis(1));
        }
        runtime.block_on(sending).unwrap();
        to_strip.extend(strip_at);
        to_rate.extend(rate_at);
    }
    for (what, mut times) in [("the strip on the tile", to_strip), ("its heart rate", to_rate)] {
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
