//! A day of ECG to measure with.

use std::io::Read;
use std::time::{Duration, Instant};

const RATE_HZ: f64 = 360.0;
const DAY_ROWS: usize = 24 * 3600 * RATE_HZ as usize;

/// A day of ECG as text, written as it is read so that only the reader's memory counts.
pub(crate) struct Day {
    values: Vec<f32>,
    row: usize,
    text: Vec<u8>,
    at: usize,
    /// Bytes given so far.
    pub(crate) given: usize,
    /// Time spent writing, which is no part of the measurement.
    pub(crate) spent: Duration,
}

impl Day {
    /// Of a stretch at [`RATE_HZ`] that is repeated.
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Day { values, row: 0, text: Vec::new(), at: 0, given: 0, spent: Duration::ZERO }
    }
}

impl Read for Day {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::io::Write as _;
        let start = Instant::now();
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
            while self.text.len() < 60_000 && self.row < DAY_ROWS {
                let value = self.values[self.row % self.values.len()];
                writeln!(self.text, "{:.3},{value:.3}", self.row as f64 / RATE_HZ)?;
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
pub(crate) fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1e3)
}
