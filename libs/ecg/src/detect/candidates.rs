//! Places that may be beats: the peaks of the envelope.

use super::logarithm::ln;
use super::signal::Signal;
use super::tuning::{Tuning, work_samples};

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

/// Appends the peaks that stand out, from working sample `from` to `to`, of the signal that is visible until `end`.
///
/// Depends on `SURROUNDINGS` samples on either side, as far as they exist.
pub(crate) fn find(
    signal: &Signal,
    from: usize,
    to: usize,
    end: usize,
    tuning: &Tuning,
    out: &mut Vec<Candidate>,
) {
    let dropped = signal.dropped;
    let envelope = &signal.envelope[..end - dropped];
    let to = to - dropped;
    let mut at = from - dropped;
    while at < to {
        // Where something higher follows there is no peak before it.
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
            // Not zero: the peak itself is part of it.
            let background =
                signal.background(at.saturating_sub(SURROUNDINGS), (at + SURROUNDINGS).min(envelope.len()));
            if height > tuning.contrast_floor * background {
                let (ln_height, ln_contrast) = (ln(height), ln(height / background));
                out.push(Candidate { at: dropped + at, height, background, ln_height, ln_contrast });
            }
        }
        at += SEPARATION + 1;
    }
}
