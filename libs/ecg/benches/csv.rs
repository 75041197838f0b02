//! How fast text files are read, and how much memory a day of ECG takes: `cargo bench -p ecg --bench csv`.

#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]

use std::hint::black_box;
use std::io::Read;
use std::time::{Duration, Instant};

use ecg::csv::{Options, read};
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
    let blanks: String = rows.map(|(index, value)| format!("{:10.3} {value:10.3}\n", times(index))).collect();
    report("the same in aligned columns", blanks.as_bytes());
    let short = synth::csv(&synth::generate(&Settings { duration_s: 28.0, ..Settings::default() }).strip);
    report("28 s at 360 Hz", &short);

    let before = peak_memory_mb();
    let start = Instant::now();
    let mut day = Day::new();
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
    let mut spans: Vec<Duration> = (0..31)
        .map(|_| {
            let start = Instant::now();
            black_box(read(black_box(bytes), &Options::default()).expect("a generated file is in order"));
            start.elapsed()
        })
        .collect();
    spans.sort();
    // The fastest run is the one that nothing else on the machine disturbed.
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

/// A day of ECG as text, written as it is read so that only the reader's memory counts.
struct Day {
    minute: Vec<f32>,
    row: usize,
    text: Vec<u8>,
    at: usize,
    given: usize,
    /// Time spent on writing, which is not the reader's.
    spent: Duration,
}

impl Day {
    fn new() -> Self {
        let settings = Settings { duration_s: 60.0, ..Settings::default() };
        let minute = synth::generate(&settings).strip.segments.remove(0).samples;
        Day { minute, row: 0, text: Vec::new(), at: 0, given: 0, spent: Duration::ZERO }
    }
}

impl Read for Day {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let start = Instant::now();
        if self.at == self.text.len() {
            use std::io::Write as _;
            self.text.clear();
            self.at = 0;
            while self.text.len() < 60_000 && self.row < 24 * 3600 * 360 {
                let value = self.minute[self.row % self.minute.len()];
                writeln!(self.text, "{:.3},{value:.3}", self.row as f64 / 360.0)?;
                self.row += 1;
            }
        }
        let count = buffer.len().min(self.text.len() - self.at);
        buffer[..count].copy_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        self.given += count;
        self.spent += start.elapsed();
        Ok(count)
    }
}

/// Largest memory that the process has had, in megabytes (Linux; elsewhere nothing is known).
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1e3)
}
