//! Selection of the best channel of a recording by signal quality.

use crate::analysis::{Analysis, Quality};

/// Weight of a second of poor signal relative to a second of good signal.
const POOR_WEIGHT: f64 = 0.5;

/// Signal quality of an analysis, 0 to 1: the share of good time (poor time counts half) multiplied by the
/// mean confidence of the beats. Comparable between leads of one recording.
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

/// Index of the analysis with the best signal quality; the first of equals. An analysis with a heart rate is
/// preferred to one without. `None` if there are no analyses.
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
