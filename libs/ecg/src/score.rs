//! Comparison of detected beats with reference beats (AAMI EC57, as WFDB's `bxb`), and of the rates of whole
//! strips.

use crate::analysis::{Analysis, Quality};

/// Largest distance between a detected beat and its reference beat, in seconds (AAMI EC57).
pub const MATCH_WINDOW_S: f64 = 0.15;

/// Numbers of matched, missed and false beats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Reference beats that were detected.
    pub matched: usize,
    /// Reference beats that were not detected.
    pub missed: usize,
    /// Detected beats without a reference beat.
    pub false_beats: usize,
}

/// An unmatched beat, with its time in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Error {
    /// A reference beat that was not detected.
    Missed(f64),
    /// A detection without a reference beat.
    False(f64),
}

impl Score {
    /// Number of reference beats.
    #[must_use]
    pub fn beats(&self) -> usize {
        self.matched + self.missed
    }

    /// Sensitivity in percent: detected share of the reference beats.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        percent(self.matched, self.matched + self.missed)
    }

    /// Positive predictivity in percent: true share of the detected beats.
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

/// Compares detected beats with reference beats, both in seconds and in order of time. Calls `each` for every
/// error.
///
/// A reference beat and a detected beat match if they are at most `window_s` apart and neither is closer to
/// the next beat of the other list. Beats of either list inside one of the `left_out` intervals do not count.
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
                // Only the earlier of the two can lose its match to a later beat.
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

/// A rate is right within this many beats per minute or within [`RATE_SHARE`], whichever is more.
pub const RATE_BPM: f64 = 5.0;
/// A rate is right within this share of the true rate or within [`RATE_BPM`], whichever is more.
pub const RATE_SHARE: f64 = 0.1;

/// Results of strips whose beats are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StripScore {
    /// Strips with a right rate of any quality.
    pub right: usize,
    /// Strips with a wrong rate of good quality.
    pub wrong_good: usize,
    /// Strips with a wrong rate of poor quality. Poor quality marks a rate as doubtful.
    pub wrong_poor: usize,
    /// Strips without a rate.
    pub refused: usize,
    /// Strips without a rate whose detected beats would give the right one. Part of `refused`.
    pub refused_though_right: usize,
}

impl StripScore {
    /// Number of strips.
    #[must_use]
    pub fn strips(&self) -> usize {
        self.right + self.wrong_good + self.wrong_poor + self.refused
    }

    /// Compares the analysis of one strip with its true beats, in seconds and in order of time. A strip with
    /// fewer than two beats has no true rate and is not counted.
    pub fn add(&mut self, analysis: &Analysis, beats: &[f64]) {
        if let Some(truth) = mean_rate(beats) {
            self.add_rate(analysis, truth);
        }
    }

    /// Compares the analysis of one strip with its true rate in beats per minute.
    pub fn add_rate(&mut self, analysis: &Analysis, truth: f64) {
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

/// Mean rate from the first to the last beat, in beats per minute. `None` for fewer than two beats.
#[must_use]
pub fn mean_rate(beats: &[f64]) -> Option<f64> {
    match beats {
        [first, .., last] if last > first => Some(60.0 * (beats.len() - 1) as f64 / (last - first)),
        _ => None,
    }
}
