//! Which of several leads of one recording to believe.

use crate::analysis::{Analysis, Quality};

/// What a second of poor signal is worth, compared with one of good signal.
const POOR_WEIGHT: f64 = 0.5;

/// How far an analysis can be trusted, 0 to 1: the share of the time that is good (poor counts half), times the mean
/// confidence of the beats. Comparable between leads of one recording.
#[must_use]
pub fn channel_quality(analysis: &Analysis) -> f64 {
    let (mut worth, mut all) = (0.0, 0.0);
    for segment in &analysis.quality_segments {
        let seconds = segment.end_s - segment.start_s;
        all += seconds;
        worth += seconds
            * match segment.quality {
                Quality::Good => 1.0,
                Quality::Poor => POOR_WEIGHT,
                Quality::Unusable => 0.0,
            };
    }
    if all <= 0.0 || analysis.beats.is_empty() {
        return 0.0;
    }
    let confidence: f64 = analysis.beats.iter().map(|beat| f64::from(beat.confidence)).sum();
    worth / all * confidence / analysis.beats.len() as f64
}

/// Index of the analysis to trust most, the first of equals; leads of one recording are meant. A lead with a heart rate goes
/// before one without. Nothing only if there are none.
#[must_use]
pub fn best_channel<'a>(analyses: impl IntoIterator<Item = &'a Analysis>) -> Option<usize> {
    let mut best: Option<(usize, (bool, f64))> = None;
    for (index, analysis) in analyses.into_iter().enumerate() {
        let this = (analysis.heart_rate.is_some(), channel_quality(analysis));
        if best.is_none_or(|(_, best)| this > best) {
            best = Some((index, this));
        }
    }
    best.map(|(index, _)| index)
}
