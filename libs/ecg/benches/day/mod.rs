//! A recording of 24 hours as a stream.

use std::io::Read;
use std::time::{Duration, Instant};

const RATE_HZ: f64 = 360.0;
const DAY_ROWS: usize = 24 * 3600 * RATE_HZ as usize;

/// 24 hours of ECG as text, generated while it is read, so that only the reader uses memory.
pub(crate) struct Day {
    values: Vec<f32>,
    row: usize,
    text: Vec<u8>,
    at: usize,
    /// Bytes returned.
    pub(crate) given: usize,
    /// Time spent on generation, which is subtracted from the measurement.
    pub(crate) spent: Duration,
}

impl Day {
    /// Creates a day that repeats `values` at [`RATE_HZ`].
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

/// Peak resident memory of the process in megabytes (Linux only, else NaN).
pub(crate) fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1e3)
}
