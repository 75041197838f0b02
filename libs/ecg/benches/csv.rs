//! Speed and memory of the CSV reader: `cargo bench -p bedside-ecg --bench csv`

#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]

mod day;

use std::hint::black_box;
use std::time::{Duration, Instant};

use day::{Day, peak_memory_mb};
use ecg::csv::{Options, read, read_recording};
use ecg::synth::{self, Settings};

fn main() {
    let half_hour = Settings { duration_s: 1805.0, ..Settings::default() };
    let strip = synth::generate(&half_hour).strip;
    let plain = synth::csv(&strip);
    report("half an hour at 360 Hz, as the patient app sends it", &plain);
    let rows = strip.segments[0].samples.iter().enumerate();
    let times = |index: usize| index as f64 / 360.0;
    let milliseconds: String =
        rows.clone().map(|(index, value)| format!("{:.3},{value:.3}\n", times(index))).collect();
    report("the same in milliseconds and microvolts' thousands", milliseconds.as_bytes());
    let leads: String = rows
        .clone()
        .map(|(index, value)| format!("{:.3};{value:.3};{value:.3};{value:.3}\r\n", times(index)))
        .collect();
    report("the same with three leads, semicolons and CRLF", leads.as_bytes());
    report_all("all three leads of it", leads.as_bytes());
    let header = "time,I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6\n".to_owned();
    let twelve: String = std::iter::once(header)
        .chain(
            rows.clone()
                .map(|(index, value)| format!("{:.3}{}\n", times(index), format!(",{value:.3}").repeat(12))),
        )
        .collect();
    report_all("all of twelve leads", twelve.as_bytes());
    let blanks: String = rows.map(|(index, value)| format!("{:10.3} {value:10.3}\n", times(index))).collect();
    report("the same in aligned columns", blanks.as_bytes());
    let short = synth::csv(&synth::generate(&Settings { duration_s: 28.0, ..Settings::default() }).strip);
    report("28 s at 360 Hz", &short);

    let before = peak_memory_mb();
    let start = Instant::now();
    let minute =
        synth::generate(&Settings { duration_s: 60.0, ..Settings::default() }).strip.segments.remove(0);
    let mut day = Day::new(minute.samples);
    let strip = read(&mut day, &Options::default()).expect("a generated file is in order");
    let seconds = start.elapsed().as_secs_f64() - day.spent.as_secs_f64();
    println!(
        "24 h at 360 Hz: {} rows, {:.0} MB in {seconds:.2} s = {:.0} MB/s, peak memory {:.0} MB (before: {before:.0} MB)",
        strip.rows.used,
        day.given as f64 / 1e6,
        day.given as f64 / 1e6 / seconds,
        peak_memory_mb(),
    );
}

fn report(name: &str, bytes: &[u8]) {
    measure(name, bytes, |bytes| {
        black_box(read(bytes, &Options::default()).expect("a generated file is in order"));
    });
}

fn report_all(name: &str, bytes: &[u8]) {
    measure(name, bytes, |bytes| {
        black_box(read_recording(bytes, &Options::default()).expect("a generated file is in order"));
    });
}

fn measure(name: &str, bytes: &[u8], read: impl Fn(&[u8])) {
    let mut spans: Vec<Duration> = (0..31)
        .map(|_| {
            let start = Instant::now();
            read(black_box(bytes));
            start.elapsed()
        })
        .collect();
    spans.sort();
    // The fastest run is the least disturbed one.
    let (best, median) = (spans[0].as_secs_f64(), spans[spans.len() / 2].as_secs_f64());
    let rows = bytes.iter().filter(|&&byte| byte == b'\n').count();
    println!(
        "{name}: {:.1} MB in {:.2} ms (median {:.2}) = {:.0} MB/s, {:.0} million rows/s",
        bytes.len() as f64 / 1e6,
        best * 1e3,
        median * 1e3,
        bytes.len() as f64 / 1e6 / best,
        rows as f64 / 1e6 / best
    );
}
