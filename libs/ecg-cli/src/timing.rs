//! Measurement of processor time.

use std::time::Instant;

/// Processor time of this thread in seconds, so that other processes do not matter; elapsed time where that is unknown. The
/// resolution is some milliseconds.
pub fn processor_time(work: impl FnOnce()) -> f64 {
    let used = || -> Option<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
    };
    let (start, before) = (Instant::now(), used());
    work();
    match (before, used()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => start.elapsed().as_secs_f64(),
    }
}
