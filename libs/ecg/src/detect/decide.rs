//! Which candidates are beats: the most plausible sequence of them.
//!
//! Every candidate has a score of its own (how it compares with known beats and with its surroundings), every pair of
//! successive beats has one (how the interval fits the rhythm). The best sum is found by dynamic programming (Viterbi),
//! so that refractory period, search-back and the rejection of noise are one decision instead of three rules.

use super::candidates::Candidate;
use super::tuning::{Tuning, WORK_HZ, work_samples};

/// No heart beats twice within this time.
const REFRACTORY: usize = work_samples(0.2);
/// After this time without a beat the rhythm has no say in what comes next.
const FORGET_RHYTHM: usize = work_samples(4.0);

/// What is known of the rhythm when a stretch is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// The interval to expect, in working samples.
    pub(crate) interval: f32,
    /// 1 for a regular rhythm, less the more it wanders.
    pub(crate) weight: f32,
}

/// A candidate with its own score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored {
    pub(crate) candidate: Candidate,
    pub(crate) score: f32,
    pub(crate) correlation: f32,
}

/// Score of two successive beats `gap` working samples apart.
fn interval_score(gap: usize, height_ratio: f32, rhythm: Option<Rhythm>, tuning: &Tuning) -> f32 {
    let mut score = 0.0;
    if let Some(rhythm) = rhythm {
        let off = (gap as f32 / rhythm.interval).ln();
        score -= (tuning.k_rhythm * off * off).min(tuning.rhythm_cap) * rhythm.weight;
        // Each beat that should have come and did not.
        let missing = (gap as f32 / rhythm.interval - 1.3).max(0.0);
        score -= tuning.k_gap * missing.min(3.0) * rhythm.weight;
    }
    let seconds = gap as f32 / WORK_HZ as f32;
    if seconds < tuning.early_s {
        // What follows a beat this soon is its T wave, unless it is as high as the beat itself.
        let soon = (tuning.early_s - seconds) / tuning.early_s;
        score -= tuning.k_early * soon * (1.0 - height_ratio.ln()).clamp(0.2, 2.0);
    }
    score
}

/// The indices of the candidates that are beats. `last` is the last beat already decided.
pub(crate) fn decide(
    scored: &[Scored],
    last: Option<Candidate>,
    rhythm: Option<Rhythm>,
    tuning: &Tuning,
    picked: &mut Vec<usize>,
) {
    picked.clear();
    let mut best: Vec<(f32, Option<usize>)> = Vec::with_capacity(scored.len());
    for (now, this) in scored.iter().enumerate() {
        let from_last = match last {
            Some(last) => {
                let gap = this.candidate.at - last.at;
                if gap < REFRACTORY {
                    best.push((f32::NEG_INFINITY, None));
                    continue;
                }
                interval_score(gap, this.candidate.height / last.height, rhythm, tuning)
            }
            None => 0.0,
        };
        let mut choice = (from_last, None);
        for before in (0..now).rev() {
            let gap = this.candidate.at - scored[before].candidate.at;
            if gap < REFRACTORY {
                continue;
            }
            let ratio = this.candidate.height / scored[before].candidate.height;
            let score = best[before].0 + interval_score(gap.min(FORGET_RHYTHM), ratio, rhythm, tuning);
            if score > choice.0 {
                choice = (score, Some(before));
            }
            if gap > FORGET_RHYTHM {
                break;
            }
        }
        best.push((choice.0 + this.score, choice.1));
    }
    // The stretch may also end with beats missing.
    let Some(end) = scored.last().map(|scored| scored.candidate.at) else { return };
    let closing = |index: usize| {
        let gap = end - scored[index].candidate.at;
        rhythm.map_or(0.0, |rhythm| {
            -tuning.k_gap * (gap as f32 / rhythm.interval - 1.3).clamp(0.0, 3.0) * rhythm.weight
        })
    };
    let mut at = (0..scored.len()).filter(|index| best[*index].0.is_finite()).max_by(|left, right| {
        (best[*left].0 + closing(*left)).total_cmp(&(best[*right].0 + closing(*right)))
    });
    while let Some(index) = at {
        picked.push(index);
        at = best[index].1;
    }
    picked.reverse();
}
