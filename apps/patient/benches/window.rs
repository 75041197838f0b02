//! Measures the app on a virtual screen: `cargo bench -p bedside-patient --bench window`. Needs Xvfb and xdotool.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a measurement that cannot go on has to end"
)]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/screen/mod.rs"]
mod screen;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use screen::{Running, Screen};
use testkit::test_data;

const NOWHERE: [&str; 4] = ["--gateway", "http://127.0.0.1:9", "--theme", "light"];
const WINDOW: [u8; 3] = [0xee, 0xf2, 0xf6];
const PAPER: [u8; 3] = [255, 248, 246];
const SIZE: (u32, u32) = (1180, 760);

/// Types the path of an ECG into the form. Enter then selects the file.
fn type_path(screen: &Screen, path: &Path) {
    screen.hand(&["key", "Tab", "Tab", "Right", "Right", "Tab"]);
    screen.hand(&["type", path.to_str().unwrap()]);
    let _ = screen.settled();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let screen = Screen::start(SIZE.0, SIZE.1);

    let starts = (0..7).map(|_| {
        let begun = Instant::now();
        let _app = Running::launch(&screen, &NOWHERE);
        screen.until("the first frame", |shot| shot.share(WINDOW) > 0.02);
        begun.elapsed().as_secs_f64() * 1e3
    });
    let starts: Vec<f64> = starts.collect();
    println!("start to first frame: median {:.0} ms of {starts:.0?}", median(starts.clone()));

    let strip = folder.path().join("strip.csv");
    test_data::long_csv(&strip, 30);
    let shown = (0..7).map(|_| {
        let app = Running::launch(&screen, &NOWHERE);
        app.fill(&screen);
        type_path(&screen, &strip);
        let begun = Instant::now();
        screen.hand(&["key", "Return"]);
        screen.until("the strip", |shot| shot.share(PAPER) > 0.02);
        begun.elapsed().as_secs_f64() * 1e3
    });
    let shown: Vec<f64> = shown.collect();
    println!(
        "30 s ECG, Enter to drawn (including the start of xdotool): median {:.0} ms of {shown:.0?}",
        median(shown.clone())
    );

    let day = folder.path().join("day.csv");
    test_data::long_csv(&day, 86_400);
    let megabytes = fs::metadata(&day).unwrap().len() / 1_000_000;
    let app = Running::launch(&screen, &NOWHERE);
    app.fill(&screen);
    type_path(&screen, &day);
    let (begun, mut last, mut changed) = (Instant::now(), screen.shot(), Instant::now());
    let (mut gaps, mut frames) = (Vec::new(), 0);
    screen.hand(&["key", "Return"]);
    screen.until("the day", |shot| {
        if *shot != last {
            gaps.push(changed.elapsed().as_secs_f64() * 1e3);
            (last, changed, frames) = (shot.clone(), Instant::now(), frames + 1);
        }
        shot.share(PAPER) > 0.02
    });
    gaps.sort_by(f64::total_cmp);
    let (at, longest) = (gaps.len() * 95 / 100, gaps.last().copied().unwrap_or_default());
    println!(
        "24 h ECG, {megabytes} MB, 30 million samples: drawn after {:.1} s; {frames} different frames before, time between frames: p95 {:.0} ms, longest {longest:.0} ms",
        begun.elapsed().as_secs_f64(),
        gaps[at]
    );
    drop(app);

    let app = Running::launch(&screen, &[&NOWHERE[..], &[strip.to_str().unwrap()]].concat());
    app.fill(&screen);
    screen.until("the strip", |shot| shot.share(PAPER) > 0.02);
    let _ = screen.settled();
    let processor_time = || testkit::cpu_seconds(app.pid()).expect("Linux");
    let (before, begun) = (processor_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let used = (processor_time() - before) / begun.elapsed().as_secs_f64();
    let memory = testkit::resident_bytes(app.pid()).expect("Linux") as f64 / 1e6;
    println!("idle, ECG shown, offline: {:.2} % of one core, {memory:.0} MB", used * 100.0);
}
