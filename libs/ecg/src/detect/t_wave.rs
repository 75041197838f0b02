//! Detection of T waves: a lower peak at a constant delay after most beats.

use super::candidates::Candidate;
use super::tuning::work_samples;

/// A T wave peaks between the refractory period and the end of a long QT interval (480 ms by Bazett at 60
/// bpm).
const FIRST: usize = work_samples(0.18);
const LAST: usize = work_samples(0.46);
/// It peaks in the first half of the interval. A low beat between two high ones lies in the middle.
const SHARE_OF_INTERVAL: f32 = 0.47;
/// Height of a T wave below that of its QRS complex in the QRS band (natural logarithm). T waves as high as
/// their R wave have 1.0 and more after narrow complexes and 0.6 after the widest.
const MIN_DROP: f32 = 0.5;
const CLEAR_DROP: f32 = 0.8;
/// Lower peaks are not candidates.
const MAX_DROP: f32 = 3.0;
/// Tolerance of delay and height for T waves of one heart.
const SAME_DELAY: usize = work_samples(0.048);
const SAME_DROP: f32 = 0.45;
/// Smallest height of a beat whose T wave is searched, relative to the typical height (natural logarithm).
const HIGH: f32 = -0.45;
/// Smallest number of beats with a T wave.
const MIN_BEATS: usize = 2;
/// Share of the beats that must show a T wave, and share from which it is certain.
const MIN_SHARE: f32 = 0.4;
const CLEAR_SHARE: f32 = 0.7;

/// Typical T wave of a section of the signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TWave {
    /// Delay from the R peak, and height below it (natural logarithm).
    delay: usize,
    drop: f32,
    /// Certainty, from 0 to 1.
    weight: f32,
    /// Typical logarithmic height, and the end of the section at the start of a signal in which a T wave can
    /// appear without its beat.
    ln_height: f32,
    until: usize,
}

impl TWave {
    /// Searches the T waves of the high candidates. `from_start` states that they are the first of the
    /// signal.
    pub(crate) fn look_for(candidates: &[Candidate], ln_level: f32, from_start: bool) -> Option<Self> {
        let high: Vec<usize> =
            (0..candidates.len()).filter(|at| candidates[*at].ln_height > ln_level + HIGH).collect();
        if high.len() < MIN_BEATS + 1 {
            return None;
        }
        let mut intervals: Vec<usize> =
            high.windows(2).map(|pair| candidates[pair[1]].at - candidates[pair[0]].at).collect();
        let middle = intervals.len() / 2;
        let interval = *intervals.select_nth_unstable(middle).1;
        let last = LAST.min((SHARE_OF_INTERVAL * interval as f32) as usize);
        // For each beat: the highest peak in the range of the T wave, if it is low enough.
        let mut followers: Vec<(usize, f32)> = Vec::with_capacity(high.len());
        let mut asked = 0_u32;
        for (place, index) in high.iter().enumerate() {
            let beat = &candidates[*index];
            let Some(next) = high.get(place + 1).map(|next| candidates[*next].at) else { continue };
            if next < beat.at + 2 * FIRST {
                continue;
            }
            asked += 1;
            let hump = candidates[index + 1..]
                .iter()
                .take_while(|other| other.at < next && other.at <= beat.at + last)
                .filter(|other| other.at >= beat.at + FIRST)
                .max_by(|left, right| left.height.total_cmp(&right.height));
            if let Some(hump) = hump {
                let drop = beat.ln_height - hump.ln_height;
                if (MIN_DROP..MAX_DROP).contains(&drop) {
                    followers.push((hump.at - beat.at, drop));
                }
            }
        }
        if followers.len() < MIN_BEATS {
            return None;
        }
        let middle = followers.len() / 2;
        let delay = followers.select_nth_unstable_by_key(middle, |follower| follower.0).1.0;
        let drop = followers.select_nth_unstable_by(middle, |left, right| left.1.total_cmp(&right.1)).1.1;
        let same = followers
            .iter()
            .filter(|(other, _)| other.abs_diff(delay) <= SAME_DELAY)
            .filter(|(_, other)| (other - drop).abs() <= SAME_DROP)
            .count();
        let share = same as f32 / asked.max(1) as f32;
        let weight = ((share - MIN_SHARE) / (CLEAR_SHARE - MIN_SHARE)).clamp(0.0, 1.0)
            * ((drop - MIN_DROP) / (CLEAR_DROP - MIN_DROP)).clamp(0.0, 1.0);
        let until = if from_start { last } else { 0 };
        (weight > 0.0).then_some(TWave { delay, drop, weight, ln_height: ln_level - drop, until })
    }

    /// Similarity, 0 to 1, of a peak to the T wave: `gap` after a beat and lower than it by `drop`.
    pub(crate) fn similarity(&self, gap: usize, drop: f32) -> f32 {
        let off = gap.abs_diff(self.delay) as f32 / SAME_DELAY as f32;
        let lower = (drop - self.drop).abs() / SAME_DROP;
        self.weight * (1.0 - off.max(lower).powi(4)).max(0.0)
    }

    /// Like [`TWave::similarity`], for a peak at the start of a signal whose beat would lie before it.
    pub(crate) fn similarity_at_start(&self, at: usize, ln_height: f32) -> f32 {
        let lower = (ln_height - self.ln_height).abs() / SAME_DROP;
        if at <= self.until { self.weight * (1.0 - lower.powi(4)).max(0.0) } else { 0.0 }
    }
}
