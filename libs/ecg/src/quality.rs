//! How far each 10 s of a signal can be trusted.

use crate::analysis::{Quality, QualitySegment};
use crate::detect::Detection;
use crate::strip::Segment;

/// Length of the stretches that get a quality each.
const STRETCH_S: f64 = 10.0;
/// A rest shorter than this is judged together with the stretch before it.
const SHORTEST_S: f64 = 3.0;

/// Below this contrast (median of the beats over what surrounds them) beats are not clearer than noise: the peaks of
/// filtered noise have 2 to 3, those of an ECG 5 and more.
const LEAST_CONTRAST: f32 = 3.0;
/// Beats of a usable signal look like each other (Orphanidou et al. 2015 ask for a mean correlation of 0.66).
const LEAST_LIKENESS: f32 = 0.66;
/// The first beats of a signal have nothing to be like.
const UNKNOWN_LIKENESS: f32 = 0.8;

/// Appends the quality of the stretches of one segment.
pub(crate) fn assess(segment: &Segment, rate: f64, beats: &[Detection], out: &mut Vec<QualitySegment>) {
    let total = segment.samples.len() as f64 / rate;
    let count = (((total - SHORTEST_S) / STRETCH_S).ceil()).max(1.0) as usize;
    let mut beat = 0;
    for index in 0..count {
        let from = (index as f64 * STRETCH_S * rate) as usize;
        let to = if index + 1 == count {
            segment.samples.len()
        } else {
            ((index + 1) as f64 * STRETCH_S * rate) as usize
        };
        let first = beat;
        while beats.get(beat).is_some_and(|found| found.sample < to as u64) {
            beat += 1;
        }
        let (quality, reason) = stretch(&segment.samples[from..to], rate, &beats[first..beat]);
        out.push(QualitySegment {
            start_s: segment.start_s + from as f64 / rate,
            end_s: segment.start_s + to as f64 / rate,
            quality,
            reason: reason.map(str::to_owned),
        });
    }
}

fn stretch(samples: &[f32], rate: f64, beats: &[Detection]) -> (Quality, Option<&'static str>) {
    let (low, high) = samples
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let range = high - low;
    if range <= 0.0 || !range.is_finite() {
        return (Quality::Unusable, Some("The signal is a flat line."));
    }
    // Square waves and test pulses know two values only; an ECG spends time between its extremes.
    let near = 0.05 * range;
    let bottom = samples.iter().filter(|value| **value < low + near).count() as f64 / samples.len() as f64;
    let top = samples.iter().filter(|value| **value > high - near).count() as f64 / samples.len() as f64;
    if bottom + top > 0.96 && bottom.min(top) > 0.02 {
        return (Quality::Unusable, Some("The signal jumps between two values, as a square wave does."));
    }
    let seconds = samples.len() as f64 / rate;
    if (beats.len() as f64) < 0.3 * seconds {
        return (Quality::Unusable, Some("No beats stand out from the signal."));
    }
    let median = |of: fn(&Detection) -> f32| {
        let mut values: Vec<f32> = beats.iter().map(of).collect();
        values.sort_unstable_by(f32::total_cmp);
        values[values.len() / 2]
    };
    let contrast = median(|beat| beat.contrast);
    let likeness = median(|beat| beat.likeness.unwrap_or(UNKNOWN_LIKENESS));
    let confidence = median(|beat| beat.confidence);
    if contrast < LEAST_CONTRAST || likeness < LEAST_LIKENESS || confidence < 0.6 {
        return (Quality::Unusable, Some("What looks like beats is not clearer than the noise around it."));
    }
    if contrast < 4.0 || likeness < 0.8 || confidence < 0.9 {
        return (Quality::Poor, Some("Noise makes some beats doubtful."));
    }
    (Quality::Good, None)
}
