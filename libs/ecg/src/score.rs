//! Scoring of found beats against reference beats, beat by beat, as AAMI EC57 asks and WFDB's `bxb` does, and of the rates of
//! whole strips.

use crate::analysis::{Analysis, Quality};

/// Largest distance of a found beat from its reference beat, in seconds (AAMI EC57).
pub const MATCH_WINDOW_S: f64 = 0.15;

/// How many beats were found, missed and made up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Reference beats that were found.
    pub matched: usize,
    /// Reference beats that were not found.
    pub missed: usize,
    /// Found beats that are none.
    pub false_beats: usize,
}

/// A beat of one of two lists that has no partner in the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Error {
    /// A reference beat at this time was not found.
    Missed(f64),
    /// What was found at this time is no beat.
    False(f64),
}

impl Score {
    /// Number of reference beats.
    #[must_use]
    pub fn beats(&self) -> usize {
        self.matched + self.missed
    }

    /// Sensitivity in percent: the share of the reference beats that were found.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        percent(self.matched, self.matched + self.missed)
    }

    /// Positive predictivity in percent: the share of the found beats that are beats.
    #[must_use]
    pub fn positive_predictivity(&self) -> f64 {
        percent(self.matched, self.matched + self.false_beats)
    }

    /// Harmonic mean of sensitivity and positive predictivity, in percent.
    #[must_use]
    pub fn f1(&self) -> f64 {
        percent(2 * self.matched, 2 * self.matched + self.missed + self.false_beats)
    }
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.missed += other.missed;
        self.false_beats += other.false_beats;
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Compares found beats with reference beats, both in seconds and in order of time; calls `each` with every error.
///
/// A reference beat and a found beat are a pair when they are at most `window_s` apart and neither has a nearer partner
/// that comes next. Beats of either list within `left_out` stretches do not count.
pub fn compare(
    reference: &[f64],
    found: &[f64],
    left_out: &[(f64, f64)],
    window_s: f64,
    mut each: impl FnMut(Error),
) -> Score {
    let counts = |time: f64| !left_out.iter().any(|(start, end)| time >= *start && time <= *end);
    let reference: Vec<f64> = reference.iter().copied().filter(|time| counts(*time)).collect();
    let found: Vec<f64> = found.iter().copied().filter(|time| counts(*time)).collect();
    let mut score = Score::default();
    let (mut r, mut f) = (0, 0);
    loop {
        match (reference.get(r), found.get(f)) {
            (None, None) => return score,
            (Some(beat), None) => {
                score.missed += 1;
                each(Error::Missed(*beat));
                r += 1;
            }
            (None, Some(beat)) => {
                score.false_beats += 1;
                each(Error::False(*beat));
                f += 1;
            }
            (Some(&truth), Some(&beat)) => {
                let distance = (truth - beat).abs();
                let nearer =
                    |next: Option<&f64>, to: f64| next.is_some_and(|next| (next - to).abs() < distance);
                let (next_found_is_nearer, next_truth_is_nearer) =
                    (nearer(found.get(f + 1), truth), nearer(reference.get(r + 1), beat));
                // Only the earlier of the two can lose its partner to a later beat.
                let pair = distance <= window_s
                    && if beat < truth { !next_found_is_nearer } else { !next_truth_is_nearer };
                if pair {
                    score.matched += 1;
                    r += 1;
                    f += 1;
                } else if beat < truth {
                    score.false_beats += 1;
                    each(Error::False(beat));
                    f += 1;
                } else {
                    score.missed += 1;
                    each(Error::Missed(truth));
                    r += 1;
                }
            }
        }
    }
}

/// A rate is right within this many beats per minute or [`RATE_SHARE`], whichever is more.
pub const RATE_BPM: f64 = 5.0;
/// A rate is right within this share of the true one or [`RATE_BPM`], whichever is more.
pub const RATE_SHARE: f64 = 0.1;

/// What became of strips whose beats are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StripScore {
    /// Strips whose rate is right, whatever their quality.
    pub right: usize,
    /// Strips whose rate is wrong and whose quality is good.
    pub wrong_good: usize,
    /// Strips whose rate is wrong and whose quality is poor: the rate is marked as doubtful.
    pub wrong_poor: usize,
    /// Strips without a rate.
    pub refused: usize,
    /// Strips without a rate although the beats that were found in them give the right one; part of `refused`.
    pub refused_though_right: usize,
}

impl StripScore {
    /// Number of strips.
    #[must_use]
    pub fn strips(&self) -> usize {
        self.right + self.wrong_good + self.wrong_poor + self.refused
    }

    /// Compares the analysis of one strip with its true beats, in seconds and in order of time. Strips with fewer than two
    /// beats have no true rate and are not counted.
    pub fn add(&mut self, analysis: &Analysis, beats: &[f64]) {
        let Some(truth) = mean_rate(beats) else { return };
        let right = |rate: f64| (rate - truth).abs() <= RATE_BPM.max(RATE_SHARE * truth);
        match analysis.heart_rate {
            Some(rate) if right(rate.mean_bpm) => self.right += 1,
            Some(_) if analysis.quality == Quality::Good => self.wrong_good += 1,
            Some(_) => self.wrong_poor += 1,
            None => {
                let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).collect();
                self.refused += 1;
                self.refused_though_right += usize::from(mean_rate(&found).is_some_and(right));
            }
        }
    }
}

impl std::ops::AddAssign for StripScore {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.wrong_good += other.wrong_good;
        self.wrong_poor += other.wrong_poor;
        self.refused += other.refused;
        self.refused_though_right += other.refused_though_right;
    }
}

/// Shares in percent and the number of strips.
impl std::fmt::Display for StripScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |part: usize| 100.0 * part as f64 / self.strips().max(1) as f64;
        write!(
            f,
            "right={:.1} wrong_good={:.1} wrong_poor={:.1} refused={:.1} refused_though_right={:.1} strips={}",
            share(self.right),
            share(self.wrong_good),
            share(self.wrong_poor),
            share(self.refused),
            share(self.refused_though_right),
            self.strips()
        )
    }
}

/// The mean rate from the first to the last of some beats, in beats per minute; nothing of fewer than two.
#[must_use]
pub fn mean_rate(beats: &[f64]) -> Option<f64> {
    match beats {
        [first, .., last] if last > first => Some(60.0 * (beats.len() - 1) as f64 / (last - first)),
        _ => None,
    }
}
