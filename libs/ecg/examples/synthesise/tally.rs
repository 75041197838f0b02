//! Scores of a set.

use std::fmt;

use ecg::Analysis;
use ecg::score::{MATCH_WINDOW_S, Score, StripScore, compare};

use super::sets::Case;

/// Beats this close to the end of a strip are not scored, since they are incomplete.
const EDGE_S: f64 = 0.2;
/// A beat this far from both ends of a pause is invented.
const INSIDE_S: f64 = 0.2;

/// A count and its total.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) part: usize,
    pub(crate) whole: usize,
}

impl Share {
    fn add(&mut self, is: bool) {
        self.part += usize::from(is);
        self.whole += 1;
    }

    pub(crate) fn percent(self) -> f64 {
        100.0 * self.part as f64 / self.whole.max(1) as f64
    }
}

/// Sums over the strips of a set.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) strips: StripScore,
    pub(crate) beats: Score,
    /// Reported pauses.
    pub(crate) reported: Share,
    /// Strips with a pause that contains an invented beat.
    pub(crate) invented: Share,
    /// Detected beats of runs.
    pub(crate) in_runs: Share,
    /// Strips with an interval across lead-off.
    pub(crate) across: Share,
    /// Strips with dissociated pulses and beats whose quality is good.
    pub(crate) dissociated_good: Share,
}

impl Tally {
    pub(crate) fn add(&mut self, case: &Case, analysis: &Analysis) {
        if let Some(truth) = rate_without(&case.beats, &case.lead_off) {
            self.strips.add_rate(analysis, truth);
        }
        let seconds = case.strip.duration_s();
        let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).collect();
        let mut left_out = vec![(-1.0, EDGE_S), (seconds - EDGE_S, seconds + 1.0)];
        left_out.extend(case.lead_off.iter().map(|(from, to)| (from - EDGE_S, to + EDGE_S)));
        self.beats += compare(&case.beats, &found, &left_out, MATCH_WINDOW_S, |_| {});
        for (from, to) in &case.pauses {
            let near = |time: f64| time > from - INSIDE_S && time < *to;
            self.reported.add(
                analysis.rhythm_notes.iter().any(|note| note.code == "pause" && note.at_s.is_some_and(near)),
            );
            self.invented.add(found.iter().any(|time| *time > from + INSIDE_S && *time < to - INSIDE_S));
        }
        for beat in &case.runs {
            self.in_runs.add(found.iter().any(|time| (time - beat).abs() <= MATCH_WINDOW_S));
        }
        for (from, to) in &case.lead_off {
            // The lowest instantaneous rate of the trend belongs to the longest interval.
            let gap = found.windows(2).find(|pair| pair[0] <= from + INSIDE_S && pair[1] >= to - INSIDE_S);
            let longest = analysis.trend.iter().map(|point| 60.0 / point.min_bpm).fold(0.0, f64::max);
            let inside = found.iter().any(|time| *time > from + INSIDE_S && *time < to - INSIDE_S);
            let spanned = gap.is_some_and(|pair| longest >= pair[1] - pair[0] - 1e-6);
            self.across.add(inside || spanned);
        }
        if case.dissociated {
            self.dissociated_good
                .add(analysis.heart_rate.is_some() && analysis.quality == ecg::Quality::Good);
        }
    }
}

/// Mean rate of the intervals that do not cross lead-off. `None` if there are none.
pub(crate) fn rate_without(beats: &[f64], lead_off: &[(f64, f64)]) -> Option<f64> {
    let crosses = |pair: &[f64]| lead_off.iter().any(|(from, to)| pair[0] < *to && pair[1] > *from);
    let intervals: Vec<f64> =
        beats.windows(2).filter(|pair| !crosses(pair)).map(|pair| pair[1] - pair[0]).collect();
    (!intervals.is_empty()).then(|| 60.0 * intervals.len() as f64 / intervals.iter().sum::<f64>())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} se={:.1} pp={:.1}",
            self.strips,
            self.beats.sensitivity(),
            self.beats.positive_predictivity()
        )?;
        for (name, share) in [
            ("pauses_reported", self.reported),
            ("beats_invented", self.invented),
            ("run_beats", self.in_runs),
            ("across_lead_off", self.across),
            ("dissociated_good", self.dissociated_good),
        ] {
            if share.whole > 0 {
                write!(f, " {name}={:.1}", share.percent())?;
            }
        }
        Ok(())
    }
}
