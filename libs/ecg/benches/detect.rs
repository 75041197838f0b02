//! Speed of detection, analysis and plotting, up to a recording of 24 hours: `cargo bench -p bedside-ecg --bench
//! detect`

#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]

mod day;

use std::hint::black_box;
use std::time::Instant;

use day::{Day, peak_memory_mb};
use ecg::csv::{Options, read};
use ecg::synth::{self, Settings};
use ecg::{Stream, Strip, analyze, plot};
use ecg_cli::timing::processor_time;

const RATE_HZ: f64 = 360.0;

fn main() {
    println!("{:<44} {:>12} {:>12}", "", "measured", "aim");
    for rate_hz in [128.0, RATE_HZ, 1000.0] {
        let strip = strip(rate_hz, 600.0);
        let samples = &strip.segments[0].samples;
        let seconds = mean(60, || black_box(ecg::detect::detect(black_box(samples), rate_hz)).len());
        let speed = samples.len() as f64 / 1e6 / seconds;
        let aim = if rate_hz == RATE_HZ { "50 Ms/s" } else { "" };
        row(&format!("detection at {rate_hz:.0} Hz"), &format!("{speed:.1} Ms/s"), aim);
    }

    let samples = strip(250.0, 600.0).segments.remove(0).samples;
    let frames: Vec<f32> = samples.iter().flat_map(|sample| [*sample; 3]).collect();
    let seconds = mean(20, || {
        let mut stream = Stream::new(250.0, 3);
        frames.chunks(150).map(|push| stream.push(black_box(push)).len()).sum()
    });
    let speed = frames.len() as f64 / 1e6 / seconds;
    row("stream of 3 leads at 250 Hz, pushes of 50 frames", &format!("{speed:.1} Ms/s"), "10 Ms/s");

    let long = strip(RATE_HZ, 600.0);
    let analysis = analyze(&long);
    let seconds = mean(10, || {
        let waves = ecg::waves::delineate(&long, &analysis.beats);
        let types = ecg::beat_types::classify(&long, &analysis, &waves);
        ecg::rhythm::findings(&long, &analysis, &waves, &types).len()
    });
    let speed = long.sample_count() as f64 / 1e6 / seconds;
    row("waves, beat types and rhythm at 360 Hz", &format!("{speed:.1} Ms/s"), "10 Ms/s");

    let short = strip(RATE_HZ, 28.0);
    let text = synth::csv(&short);
    let options = Options::default();
    let from_text =
        || analyze(&read(black_box(text.as_slice()), &options).expect("a generated file is in order"));
    let seconds = mean(300, || from_text().beats.len());
    row("28 s of CSV to a result", &format!("{:.2} ms", seconds * 1e3), "1.5 ms");
    let analysis = from_text();
    let draw = || {
        plot::png(&short, &analysis, &plot::Options::default()).expect("a strip with samples can be drawn")
    };
    row("28 s drawn as PNG", &format!("{:.1} ms", mean(60, || draw().len()) * 1e3), "15 ms");

    let before = peak_memory_mb();
    let start = Instant::now();
    let mut day = Day::new(strip(RATE_HZ, 60.0).segments.remove(0).samples);
    let strip = read(&mut day, &options).expect("a generated file is in order");
    let reading = start.elapsed() - day.spent;
    let start = Instant::now();
    let analysis = analyze(&strip);
    let analysing = start.elapsed();
    let beats = analysis.beats.len();
    let rate = analysis.heart_rate.map_or(f64::NAN, |rate| rate.mean_bpm);
    println!(
        "24 h of CSV, {} rows, {:.0} MB, {beats} beats, {rate:.1} bpm:",
        strip.rows.used,
        day.given as f64 / 1e6
    );
    row("  read", &format!("{:.2} s", reading.as_secs_f64()), "");
    row("  analysed", &format!("{:.2} s", analysing.as_secs_f64()), "");
    row("  both", &format!("{:.2} s", (reading + analysing).as_secs_f64()), "5 s");
    row("  peak memory", &format!("{:.0} MB", peak_memory_mb()), "400 MB");
    row("  peak memory before it", &format!("{before:.0} MB"), "");
}

fn row(name: &str, measured: &str, aim: &str) {
    println!("{name:<44} {measured:>12} {aim:>12}");
}

/// An ECG with noise, baseline drift and ectopic beats.
fn strip(sample_rate_hz: f64, duration_s: f64) -> Strip {
    let settings = Settings { sample_rate_hz, duration_s, noise_mv: 0.05, ..Settings::default() };
    synth::generate(&settings).strip
}

/// Processor time of a run in seconds: the mean of several runs.
fn mean(times: usize, mut run: impl FnMut() -> usize) -> f64 {
    let all = || {
        (0..times).for_each(|_| {
            black_box(run());
        })
    };
    processor_time(all) / times as f64
}
