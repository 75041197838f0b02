//! Selection of beats: the most plausible sequence of candidates, by dynamic programming (Viterbi).
//!
//! Each candidate has a score of its own, and each pair of successive beats has a score for its interval. The
//! sequence with the highest sum replaces separate rules for refractory period, search-back and rejection of
//! noise.

use std::sync::LazyLock;

use super::scorer::Scored;
use super::t_wave::TWave;
use super::tuning::{Tuning, WORK_HZ, work_samples};

/// Refractory period.
const REFRACTORY: usize = work_samples(0.2);
/// After this time without a beat, the rhythm no longer affects the score.
const FORGET_RHYTHM: usize = work_samples(4.0);
/// Upper limit of the mismatch factor of two close beats.
const MAX_MISMATCH: f32 = 2.0;

/// Rhythm known when a sequence is selected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// Typical interval in working samples.
    pub(crate) interval: f32,
    /// Weight of the rhythm: 1 if it is regular, less the more it varies.
    pub(crate) weight: f32,
}

/// Prior knowledge when a sequence is selected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) rhythm: Option<Rhythm>,
    pub(crate) t_wave: Option<TWave>,
}

/// Natural logarithms of whole numbers.
static LOGARITHMS: LazyLock<[f32; FORGET_RHYTHM + 1]> =
    LazyLock::new(|| std::array::from_fn(|n| (n.max(1) as f32).ln()));

/// Scores of pairs of successive beats.
struct Pairs<'a> {
    tuning: &'a Tuning,
    logarithms: &'a [f32; FORGET_RHYTHM + 1],
    rhythm: Option<Rhythm>,
    t_wave: Option<TWave>,
    ln_interval: f32,
}

impl Pairs<'_> {
    /// Score of two successive beats `gap` working samples apart. `ln_ratio` is the height of the second
    /// relative to the first (natural logarithm); `hidden` is 1 where noise could hide a beat between them.
    fn score(&self, gap: usize, ln_ratio: f32, hidden: f32) -> f32 {
        let Pairs { tuning, .. } = self;
        let mut score = 0.0;
        if let Some(rhythm) = self.rhythm {
            let off = self.logarithms[gap.min(FORGET_RHYTHM)] - self.ln_interval;
            score -= (tuning.k_rhythm * off * off).min(tuning.rhythm_cap) * rhythm.weight;
            score -= self.missing(gap.min(FORGET_RHYTHM), rhythm, hidden);
        }
        if let Some(t_wave) = self.t_wave {
            score -= tuning.k_t_wave * t_wave.similarity(gap, -ln_ratio);
        }
        let seconds = gap as f32 / WORK_HZ as f32;
        if seconds < tuning.early_s {
            // A peak this close to a beat is its P or T wave, unless it is equally high.
            let soon = (tuning.early_s - seconds) / tuning.early_s;
            let mismatch = (tuning.early_base + tuning.early_ratio * ln_ratio.abs()).min(MAX_MISMATCH);
            score -= tuning.k_early * soon * mismatch;
        }
        score
    }

    /// Cost of the beats missing in `gap`.
    fn missing(&self, gap: usize, rhythm: Rhythm, hidden: f32) -> f32 {
        let missing = gap as f32 / rhythm.interval - self.tuning.gap_from;
        self.tuning.k_gap * missing.clamp(0.0, self.tuning.gap_max) * rhythm.weight * hidden
    }
}

/// Writes the indices of the selected candidates to `picked`. `last` is the position and the logarithmic
/// height of the last beat already reported; all candidates are later.
pub(crate) fn best_sequence(
    scored: &[Scored],
    last: Option<(usize, f32)>,
    context: Context,
    tuning: &Tuning,
    picked: &mut Vec<usize>,
) {
    picked.clear();
    let Context { rhythm, t_wave } = context;
    let ln_interval = rhythm.map_or(0.0, |rhythm| rhythm.interval.ln());
    let pairs = Pairs { tuning, logarithms: &LOGARITHMS, rhythm, t_wave, ln_interval };
    let hidden = |clean: f32| 1.0 - tuning.gap_clean * clean;
    // For each candidate: the best sum of a sequence that ends with it, and its predecessor in that sequence.
    let mut best: Vec<(f32, Option<usize>)> = Vec::with_capacity(scored.len());
    // The best sum of all candidates up to each.
    let mut highest: Vec<f32> = Vec::with_capacity(scored.len());
    for (now, this) in scored.iter().enumerate() {
        let (at, ln_height) = (this.candidate.at, this.candidate.ln_height);
        let mut choice = match last {
            None => {
                let similarity = t_wave.map_or(0.0, |t_wave| t_wave.similarity_at_start(at, ln_height));
                (-tuning.k_t_wave * similarity, None)
            }
            Some((last, last_ln)) => {
                let gap = at.saturating_sub(last);
                if gap < REFRACTORY {
                    best.push((f32::NEG_INFINITY, None));
                    highest.push(highest.last().copied().unwrap_or(f32::NEG_INFINITY));
                    continue;
                }
                (pairs.score(gap, ln_height - last_ln, hidden(this.clean)), None)
            }
        };
        for before in (0..now).rev() {
            // Pair scores are never positive, so a smaller sum cannot become the best.
            if highest[before] <= choice.0 {
                break;
            }
            let other = &scored[before].candidate;
            let gap = at - other.at;
            if gap < REFRACTORY || best[before].0 <= choice.0 {
                continue;
            }
            let score = best[before].0
                + pairs.score(gap, ln_height - other.ln_height, hidden(this.clean.min(scored[before].clean)));
            if score > choice.0 {
                choice = (score, Some(before));
            }
            if gap > FORGET_RHYTHM {
                break;
            }
        }
        let sum = choice.0 + this.score;
        best.push((sum, choice.1));
        highest.push(highest.last().map_or(sum, |highest| highest.max(sum)));
    }
    let Some(end) = scored.last().map(|scored| scored.candidate.at) else { return };
    // Beats can also be missing at the end.
    let total = |index: usize| {
        let gap = end - scored[index].candidate.at;
        best[index].0 - rhythm.map_or(0.0, |rhythm| pairs.missing(gap, rhythm, hidden(scored[index].clean)))
    };
    let mut at = (0..scored.len())
        .filter(|index| best[*index].0.is_finite())
        .max_by(|left, right| total(*left).total_cmp(&total(*right)));
    while let Some(index) = at {
        picked.push(index);
        at = best[index].1;
    }
    picked.reverse();
}
