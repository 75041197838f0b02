//! Finds the parts of a signal in which the lead is off or the amplifier is saturated.
//!
//! An electrode on a living body always delivers noise, so a line that is constant for half a second comes
//! from a lead that is off. A signal without any noise, such as a generated one, is treated differently: its
//! baseline may be constant, so a constant line counts only if it lasts longer than a pause can.

use std::ops::Range;

/// Shortest constant line that counts as lead off.
const MIN_FLAT_S: f64 = 0.5;
/// A level that exceeds the range of the rest by this share of the range is a saturated amplifier.
const LEVEL_TOLERANCE: f32 = 1e-4;
/// A recording has noise if the lower quartile of its second differences exceeds this share of its range.
const MIN_NOISE: f32 = 2e-4;
/// Shortest constant line that counts as lead off in a signal without noise.
const MAX_NOISELESS_PAUSE_S: f64 = 6.0;

/// Returns the sample ranges in which the lead is off, in order. `rate` is in samples per second.
pub(crate) fn segments(samples: &[f32], rate: f64) -> Vec<Range<usize>> {
    let shortest = ((MIN_FLAT_S * rate) as usize).max(2);
    let runs = flat_runs(samples, shortest);
    if runs.is_empty() {
        return runs;
    }
    let outside = |index: usize| {
        let next = runs.partition_point(|run| run.end <= index);
        runs.get(next).is_none_or(|run| index < run.start)
    };
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let mut changes = Vec::new();
    for (index, three) in samples.windows(3).enumerate() {
        if outside(index) && outside(index + 2) {
            low = low.min(three[1]);
            high = high.max(three[1]);
            changes.push((three[0] - 2.0 * three[1] + three[2]).abs());
        }
    }
    if changes.len() < shortest {
        return runs;
    }
    let place = changes.len() / 4;
    let noise = *changes.select_nth_unstable_by(place, f32::total_cmp).1;
    let longest = (MAX_NOISELESS_PAUSE_S * rate) as usize;
    let limit = |run: &Range<usize>| {
        let level = samples[run.start];
        // A level outside the range of the rest is a saturated amplifier.
        let beyond =
            level > high + LEVEL_TOLERANCE * (high - low) || level < low - LEVEL_TOLERANCE * (high - low);
        beyond || noise > MIN_NOISE * (high - low) || run.len() >= longest
    };
    runs.into_iter().filter(limit).collect()
}

/// Runs of at least `shortest` equal samples.
fn flat_runs(samples: &[f32], shortest: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    for index in 1..=samples.len() {
        let moves = samples.get(index).is_none_or(|value| value != &samples[start]);
        if moves {
            if index - start >= shortest {
                out.push(start..index);
            }
            start = index;
        }
    }
    out
}
