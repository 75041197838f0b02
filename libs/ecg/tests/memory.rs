//! Memory of the streaming detector. This test has its own process, so that no other test affects the peak.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ecg::Detector;
use ecg::synth::{self, Settings};

/// Peak resident memory of the process in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
fn memory_does_not_grow_with_duration() {
    let strip = synth::generate(&Settings { duration_s: 60.0, ..Settings::default() }).strip;
    let samples = &strip.segments[0].samples;
    let mut detector = Detector::new(360.0);
    let mut beats = detector.push(samples).len();
    let before = peak_mb();
    for _ in 1..24 * 60 {
        beats += detector.push(samples).len();
    }
    beats += detector.finish().len();
    // The samples of a day alone take 124 MB.
    assert!(peak_mb() - before < 8.0, "{} MB more", peak_mb() - before);
    assert!((100_000..108_000).contains(&beats), "{beats} beats");
}
