//! Scoring of found beats against reference beats, beat by beat, as AAMI EC57 asks and WFDB's `bxb` does.

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
