//! Beat candidates: the peaks of the envelope.

use super::logarithm::ln;
use super::signal::Signal;
use super::tuning::{Tuning, work_samples};

/// Smallest distance between two candidates: the duration of a QRS complex.
const SEPARATION: usize = work_samples(0.08);
/// Half the length of the window that a peak is compared with for its contrast.
pub(crate) const SURROUNDINGS: usize = work_samples(1.0);

/// A peak of the envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Position of the peak in working samples from the start of the signal.
    pub(crate) at: usize,
    /// Height of the envelope at the peak.
    pub(crate) height: f32,
    /// Typical height of the envelope around the peak.
    pub(crate) background: f32,
    /// Natural logarithms of the height, and of the ratio of height and background.
    pub(crate) ln_height: f32,
    pub(crate) ln_contrast: f32,
}

/// Appends the peaks between the working samples `from` and `to`. The signal is known up to `end`.
///
/// A peak depends on [`SEPARATION`] samples on either side, as far as they exist before `end`, so the peaks do not
/// depend on how the signal is divided into ranges.
pub(crate) fn find(signal: &Signal, from: usize, to: usize, end: usize, out: &mut Vec<usize>) {
    let dropped = signal.dropped;
    let envelope = &signal.envelope[..end - dropped];
    let to = to - dropped;
    let mut at = from - dropped;
    while at < to {
        // A rising envelope has no peak.
        let rise = envelope[at..].windows(2).take_while(|pair| pair[1] >= pair[0]).count();
        at += rise;
        if at >= to {
            break;
        }
        let height = envelope[at];
        let high = (at + SEPARATION + 1).min(envelope.len());
        if let Some(later) = envelope[at + 1..high].iter().position(|value| *value >= height) {
            at += later + 1;
            continue;
        }
        let low = at.saturating_sub(SEPARATION);
        if height > 0.0 && envelope[low..at].iter().all(|value| *value <= height) {
            out.push(dropped + at);
        }
        at += SEPARATION + 1;
    }
}

impl Candidate {
    /// The candidate at the peak `at` of a signal that is known up to `end`. `None` if it does not exceed its
    /// background.
    pub(crate) fn new(signal: &Signal, at: usize, end: usize, tuning: &Tuning) -> Option<Self> {
        let place = at - signal.dropped;
        let height = *signal.envelope.get(place)?;
        // The background is never zero: the peak itself is part of it.
        let high = (place + SURROUNDINGS).min(end - signal.dropped);
        let background = signal.background(place.saturating_sub(SURROUNDINGS), high);
        (height > tuning.contrast_floor * background).then(|| Candidate {
            at,
            height,
            background,
            ln_height: ln(height),
            ln_contrast: ln(height / background),
        })
    }
}
