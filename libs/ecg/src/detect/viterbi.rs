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
pub(crate) const REFRACTORY: usize = work_samples(0.2);
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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    rhythm: Option<Rhythm>,
    t_wave: Option<TWave>,
    ln_interval: f32,
}

impl Context {
    pub(crate) fn new(rhythm: Option<Rhythm>, t_wave: Option<TWave>) -> Self {
        Context { rhythm, t_wave, ln_interval: rhythm.map_or(0.0, |rhythm| rhythm.interval.ln()) }
    }
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

impl<'a> Pairs<'a> {
    fn new(context: &Context, tuning: &'a Tuning) -> Self {
        let Context { rhythm, t_wave, ln_interval } = *context;
        Pairs { tuning, logarithms: &LOGARITHMS, rhythm, t_wave, ln_interval }
    }

    /// How much noise could hide a beat where the signal is `clean`.
    fn hidden(&self, clean: f32) -> f32 {
        1.0 - self.tuning.gap_clean * clean
    }

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

/// The best sequences that end with each candidate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lattice {
    /// For each candidate: the best sum of a sequence that ends with it, and its predecessor in that sequence.
    best: Vec<(f32, Option<usize>)>,
    /// The best sum of all candidates up to each.
    highest: Vec<f32>,
}

impl Lattice {
    pub(crate) fn clear(&mut self) {
        self.best.clear();
        self.highest.clear();
    }

    /// Adds the last of `scored`, or replaces it if it is already part. `last` is the position and the logarithmic
    /// height of the last beat already reported; all candidates are later.
    pub(crate) fn extend(
        &mut self,
        scored: &[Scored],
        last: Option<(usize, f32)>,
        context: &Context,
        tuning: &Tuning,
    ) {
        let Some((this, earlier)) = scored.split_last() else { return };
        self.best.truncate(earlier.len());
        self.highest.truncate(earlier.len());
        let (sum, predecessor) = self.choose(this, earlier, last, context, tuning);
        let sum = sum + this.score;
        self.best.push((sum, predecessor));
        self.highest.push(self.highest.last().map_or(sum, |highest| highest.max(sum)));
    }

    /// The best predecessor of `this`, and the sum of its sequence with the score of the pair.
    fn choose(
        &self,
        this: &Scored,
        earlier: &[Scored],
        last: Option<(usize, f32)>,
        context: &Context,
        tuning: &Tuning,
    ) -> (f32, Option<usize>) {
        let pairs = Pairs::new(context, tuning);
        let (at, ln_height) = (this.candidate.at, this.candidate.ln_height);
        let mut choice = match last {
            None => {
                let similarity =
                    context.t_wave.map_or(0.0, |t_wave| t_wave.similarity_at_start(at, ln_height));
                (-tuning.k_t_wave * similarity, None)
            }
            Some((last, _)) if at < last + REFRACTORY => return (f32::NEG_INFINITY, None),
            Some((last, last_ln)) => {
                (pairs.score(at - last, ln_height - last_ln, pairs.hidden(this.clean)), None)
            }
        };
        for (before, other) in earlier.iter().enumerate().rev() {
            // Pair scores are never positive, so a smaller sum cannot become the best.
            if self.highest[before] <= choice.0 {
                break;
            }
            let gap = at - other.candidate.at;
            let sum = self.best[before].0;
            if gap < REFRACTORY || sum <= choice.0 {
                continue;
            }
            let hidden = pairs.hidden(this.clean.min(other.clean));
            let score = sum + pairs.score(gap, ln_height - other.candidate.ln_height, hidden);
            if score > choice.0 {
                choice = (score, Some(before));
            }
            if gap > FORGET_RHYTHM {
                break;
            }
        }
        choice
    }

    /// Difference between the best sequence that ends with the last of `scored` and the best one without it.
    pub(crate) fn margin(&self, scored: &[Scored], context: &Context, tuning: &Tuning) -> f32 {
        let Some((last, earlier)) = scored.split_last() else { return 0.0 };
        let pairs = Pairs::new(context, tuning);
        let others = earlier.iter().enumerate().map(|(index, other)| {
            let gap = last.candidate.at - other.candidate.at;
            let missing = |rhythm| pairs.missing(gap, rhythm, pairs.hidden(other.clean));
            self.best[index].0 - context.rhythm.map_or(0.0, missing)
        });
        self.best[earlier.len()].0 - others.fold(0.0, f32::max)
    }

    /// Writes the indices of the most plausible sequence of `scored` to `picked`.
    pub(crate) fn path(
        &self,
        scored: &[Scored],
        context: &Context,
        tuning: &Tuning,
        picked: &mut Vec<usize>,
    ) {
        picked.clear();
        let Some(end) = scored.last().map(|scored| scored.candidate.at) else { return };
        let pairs = Pairs::new(context, tuning);
        // Beats can also be missing at the end.
        let total = |index: usize| {
            let Scored { candidate, clean, .. } = &scored[index];
            let missing = context
                .rhythm
                .map_or(0.0, |rhythm| pairs.missing(end - candidate.at, rhythm, pairs.hidden(*clean)));
            self.best[index].0 - missing
        };
        let mut at = (0..scored.len())
            .filter(|index| self.best[*index].0.is_finite())
            .max_by(|left, right| total(*left).total_cmp(&total(*right)));
        while let Some(index) = at {
            picked.push(index);
            at = self.best[index].1;
        }
        picked.reverse();
    }
}
