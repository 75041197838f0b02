//! Places that may be beats: the peaks of the envelope.

use super::tuning::work_samples;

/// No two candidates are closer: the QRS complex itself lasts this long.
const SEPARATION: usize = work_samples(0.08);
/// Half the stretch a peak is compared with for its contrast.
const SURROUNDINGS: usize = work_samples(1.0);

/// A peak of the envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Working sample of the peak, counted from the start of the signal.
    pub(crate) at: usize,
    /// Height of the envelope.
    pub(crate) height: f32,
    /// What the envelope typically is around it.
    pub(crate) background: f32,
    /// Natural logarithms of the height, and of the height over the background.
    pub(crate) ln_height: f32,
    pub(crate) ln_contrast: f32,
}

/// Appends the peaks with `from <= index < to` in `envelope`, whose first value is working sample `base`.
///
/// Depends on `SURROUNDINGS` samples on either side, as far as they exist.
pub(crate) fn find(envelope: &[f32], base: usize, from: usize, to: usize, out: &mut Vec<Candidate>) {
    let mut at = from;
    while at < to {
        let height = envelope[at];
        let low = at.saturating_sub(SEPARATION);
        let high = (at + SEPARATION + 1).min(envelope.len());
        // Where something higher follows there is no peak before it.
        if let Some(later) = envelope[at + 1..high].iter().position(|value| *value >= height) {
            at += later + 1;
            continue;
        }
        if height > 0.0 && envelope[low..at].iter().all(|value| *value <= height) {
            // Not zero: the peak itself is part of it.
            let background = background(envelope, at);
            let (ln_height, ln_contrast) = (height.ln(), (height / background).ln());
            out.push(Candidate { at: base + at, height, background, ln_height, ln_contrast });
        }
        at += SEPARATION + 1;
    }
}

/// The square of the mean root: the typical height, little moved by the few high values of a QRS complex.
fn background(envelope: &[f32], at: usize) -> f32 {
    let low = at.saturating_sub(SURROUNDINGS);
    let high = (at + SURROUNDINGS).min(envelope.len());
    let sum: f32 = envelope[low..high].iter().step_by(2).map(|value| value.sqrt()).sum();
    let mean = sum / (high - low).div_ceil(2) as f32;
    mean * mean
}
