//! The T wave as the habit of a heart: each beat is followed by a lower hump after the same time.

use super::candidates::Candidate;
use super::tuning::work_samples;

/// A T wave peaks this long after its R peak: not before the shortest refractory period, and before the end of a long QT
/// interval (480 ms by Bazett at 60 a minute) ...
const FIRST: usize = work_samples(0.18);
const LAST: usize = work_samples(0.46);
/// ... and in the first half of the interval, as far as beats leave room. A low beat between two high ones comes in the middle.
const SHARE_OF_INTERVAL: f32 = 0.47;
/// How much lower than its QRS complex a T wave is in the band that is looked at (natural logarithm): those of the height of
/// their R wave have 1.0 and more after narrow complexes, 0.6 after the widest.
const MIN_DROP: f32 = 0.5;
const CLEAR_DROP: f32 = 0.8;
/// Lower humps are not looked at anyway.
const MAX_DROP: f32 = 3.0;
/// Times and heights of the T waves of one heart differ by up to this.
const SAME_DELAY: usize = work_samples(0.048);
const SAME_DROP: f32 = 0.45;
/// A beat is this high (natural logarithm, relative to the known height) at least to say something of what follows it.
const HIGH: f32 = -0.45;
/// Fewer beats do not make a habit.
const MIN_BEATS: usize = 2;
/// A habit is what this share of the beats shows, and is certain from the second on.
const MIN_SHARE: f32 = 0.4;
const CLEAR_SHARE: f32 = 0.7;

/// What follows the beats of a stretch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TWave {
    /// Usual distance from the R peak, and how much lower it is (natural logarithm).
    delay: usize,
    drop: f32,
    /// 0 to 1: how sure it is that beats are followed by one.
    weight: f32,
    /// Usual logarithm of its height, and the end of the time in which one without its beat is met: at the start of a signal.
    ln_height: f32,
    until: usize,
}

impl TWave {
    /// Looks at what follows the high ones of some candidates; `from_start` says that they are the first of the signal.
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
        // What follows each: the highest hump in the time of the T wave, if it is low enough.
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

    /// 0 to 1: how much a hump `gap` after a beat, by `drop` lower than it, looks like its T wave.
    pub(crate) fn similarity(&self, gap: usize, drop: f32) -> f32 {
        let off = gap.abs_diff(self.delay) as f32 / SAME_DELAY as f32;
        let lower = (drop - self.drop).abs() / SAME_DROP;
        self.weight * (1.0 - off.max(lower).powi(4)).max(0.0)
    }

    /// The same of a hump at the very start, whose beat would be before it.
    pub(crate) fn similarity_at_start(&self, at: usize, ln_height: f32) -> f32 {
        let lower = (ln_height - self.ln_height).abs() / SAME_DROP;
        if at <= self.until { self.weight * (1.0 - lower.powi(4)).max(0.0) } else { 0.0 }
    }
}
