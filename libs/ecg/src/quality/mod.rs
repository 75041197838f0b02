//! Signal quality of each 10 s, and the best channel of a recording.
//!
//! [`Indices`] are measured first. A few rules on them exclude signals that cannot be an ECG. A logistic regression
//! (`log_odds`) decides on the rest; docs/ECG.md reports its performance. Two published indices, pSQI and basSQI, are
//! measured but not used: with their published limits they reject many records in which every beat is found.

mod agreement;
mod channel;
mod evidence;
mod indices;
mod spectrum;

pub use channel::{best_channel, channel_quality};
pub use evidence::{EVIDENCE_FEATURES, EVIDENCE_WEIGHTS, EvidenceWeights, evidence_features};
pub use indices::Indices;

use crate::analysis::{Quality, QualitySegment};
use crate::detect::{Detection, supported_rate};
use crate::pacing;

/// Length of the segments that receive a quality.
const SEGMENT_S: f64 = 10.0;
/// A remainder shorter than this is part of the segment before it.
const MIN_SEGMENT_S: f64 = 3.0;

const FLAT: &str = "The signal is a flat line.";
const DISSOCIATED: &str = "Pacemaker pulses are not followed by beats at a constant delay.";
/// A larger share of flat signal is a lead that is off; the flattest 10 s of MIT-BIH have 0.6.
const MAX_FLAT: f64 = 0.9;
/// 18 bpm: fewer beats are not a rhythm.
const MIN_BEATS_PER_S: f64 = 0.3;
/// Square waves have 0.97 and more, even with noise; ECGs have up to 0.92.
const MAX_TWO_LEVELS: f64 = 0.94;
/// The largest value of MIT-BIH is 0.77; sines and hum have more.
const MAX_TONE: f64 = 0.85;
/// Triangle waves and breathing have less; ECGs have 0.04 and more, nearly all above 0.1.
const MIN_SHARPNESS: f64 = 0.03;
/// Sines, triangles and ramps have 1.5 to 2; Gaussian noise has 3; ECGs have more.
const MIN_KURTOSIS: f64 = 2.2;
/// Ramps and telegraph signals keep at least this share of each jump. With an elevated ST segment a beat
/// keeps up to 0.6 of its height.
const MAX_STEP: f32 = 0.65;
/// Below this median contrast some beats are not clearer than noise.
const GOOD_CONTRAST: f32 = 4.0;
/// Minimum evidence of a strip: the smallest log-odds of its best segment. docs/ECG.md shows the curve of
/// accepted noise against rejected ECG that this operating point was chosen from.
const MIN_STRIP_LOG_ODDS: f64 = 1.5;
/// The smallest log-odds of each usable segment of a strip with minimum evidence.
const MIN_SEGMENT_LOG_ODDS: f64 = -1.0;
/// Smallest concordance of a good segment (Orphanidou et al. 2015 use a mean correlation of 0.66).
const GOOD_CONCORDANCE: f64 = 0.85;
/// Smallest agreement of a good segment (Li, Mark and Clifford 2008; Behar et al. 2013 use 0.8 to 0.9).
const GOOD_AGREEMENT: f64 = 0.8;
const GOOD_CONFIDENCE: f32 = 0.9;
/// Largest share of doubtful beats of a good segment: each may be false, or stand for a missed one.
const MAX_DOUBTFUL: f64 = 0.2;
/// A larger share of beats that consist of the decay after a pacemaker pulse limits a segment to poor quality ...
const MAX_DECAYS: f64 = 0.1;
/// ... and at this share, the segment shows pulses and no beats.
const ONLY_DECAYS: f64 = 0.5;
/// Largest share of clipped samples of a good segment.
const MAX_CLIPPED: f64 = 0.01;

/// Indices of a whole signal of `rate` samples per second. `beats` are the result of
/// [`crate::detect::detect`]. Intended for segments of about 10 s.
#[must_use]
pub fn indices(samples: &[f32], rate: f64, beats: &[Detection]) -> Indices {
    Indices::new(samples, rate, 0, beats)
}

/// Quality of the latest seconds of a live signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowQuality {
    /// The quality, by the rules for a segment of a strip.
    pub quality: Quality,
    /// One sentence, present if the quality is not good.
    pub reason: Option<&'static str>,
    /// Whether the window has the minimum evidence of a strip. A window without it supports a heart rate only if an
    /// earlier window of the same part had it.
    pub has_evidence: bool,
}

/// Quality of `samples` in millivolts, a continuous part of about 10 s of one lead with `rate` samples per second. `beats`
/// and `pulses` are those that [`crate::Stream`] found in it, counted from the first sample.
#[must_use]
pub fn window(samples: &[f32], rate: f64, beats: &[Detection], pulses: &[usize]) -> WindowQuality {
    let cleaned = (!pulses.is_empty()).then(|| pacing::remove(samples, rate));
    let found = Indices::new(cleaned.as_deref().unwrap_or(samples), supported_rate(rate), 0, beats);
    let (mut quality, mut reason) = classify(&found);
    let has_evidence = quality > Quality::Unusable && evidence::log_odds(&found) >= MIN_STRIP_LOG_ODDS;
    if quality == Quality::Good && pacing::dissociated(pulses, beats, rate) {
        (quality, reason) = (Quality::Poor, Some(DISSOCIATED));
    }
    WindowQuality { quality, reason, has_evidence }
}

/// Appends the quality of the segments of a continuous signal that starts at `start_s`. Returns whether one
/// of them has the minimum evidence of a strip.
pub(crate) fn assess(
    samples: &[f32],
    start_s: f64,
    rate: f64,
    beats: &[Detection],
    out: &mut Vec<QualitySegment>,
) -> bool {
    let rate = supported_rate(rate);
    let total = samples.len() as f64 / rate;
    let count = (((total - MIN_SEGMENT_S) / SEGMENT_S).ceil()).max(1.0) as usize;
    let mut beat = 0;
    let mut has_evidence = false;
    for index in 0..count {
        let from = (index as f64 * SEGMENT_S * rate) as usize;
        let to =
            if index + 1 == count { samples.len() } else { ((index + 1) as f64 * SEGMENT_S * rate) as usize };
        let first = beat;
        while beats.get(beat).is_some_and(|found| found.sample < to as u64) {
            beat += 1;
        }
        let found = Indices::new(&samples[from..to], rate, from as u64, &beats[first..beat]);
        let (quality, reason) = classify(&found);
        has_evidence |= quality > Quality::Unusable && evidence::log_odds(&found) >= MIN_STRIP_LOG_ODDS;
        out.push(QualitySegment {
            start_s: start_s + from as f64 / rate,
            end_s: start_s + to as f64 / rate,
            quality,
            reason: reason.map(str::to_owned),
        });
    }
    has_evidence
}

/// Appends a segment in which the lead is off.
pub(crate) fn lead_off(start_s: f64, end_s: f64, out: &mut Vec<QualitySegment>) {
    let reason = Some(FLAT.to_owned());
    out.push(QualitySegment { start_s, end_s, quality: Quality::Unusable, reason });
}

/// Limits segments to poor quality because pacemaker pulses and beats dissociate: a pulse or its tail may hide a beat
/// or resemble one.
pub(crate) fn dissociated(segments: &mut [QualitySegment]) {
    for segment in segments.iter_mut().filter(|segment| segment.quality == Quality::Good) {
        segment.quality = Quality::Poor;
        segment.reason = Some(DISSOCIATED.to_owned());
    }
}

/// Lowers the quality of segments with beats that consist only of the decay after a pacemaker pulse. `decays` tells for each
/// of `beats`, whose times start at `start_s`, whether it is one of these.
pub(crate) fn pulses_without_beats(
    beats: &[Detection],
    decays: &[bool],
    start_s: f64,
    rate: f64,
    segments: &mut [QualitySegment],
) {
    for segment in segments {
        let index = |time_s: f64| beats.partition_point(|beat| start_s + beat.sample as f64 / rate < time_s);
        let inside = &decays[index(segment.start_s)..index(segment.end_s)];
        let share = inside.iter().filter(|is| **is).count() as f64 / inside.len().max(1) as f64;
        let (quality, reason) = if share >= ONLY_DECAYS {
            (Quality::Unusable, "The signal has pacemaker pulses and no beats after them.")
        } else if share > MAX_DECAYS {
            (Quality::Poor, "Some pacemaker pulses are not followed by beats.")
        } else {
            continue;
        };
        if segment.quality > quality {
            segment.quality = quality;
            segment.reason = Some(reason.to_owned());
        }
    }
}

/// Makes all segments of a strip unusable. Without minimum evidence in any of them, beats may be chance.
pub(crate) fn reject(segments: &mut [QualitySegment]) {
    for segment in segments.iter_mut().filter(|segment| segment.quality > Quality::Unusable) {
        segment.quality = Quality::Unusable;
        segment.reason =
            Some("No part of the strip shows beats that can be distinguished from noise.".to_owned());
    }
}

/// Why a segment cannot be an ECG, whatever its evidence.
fn exclusion(found: &Indices) -> Option<&'static str> {
    if found.range <= 0.0 || !found.range.is_finite() || found.flat > MAX_FLAT {
        return Some(FLAT);
    }
    if found.two_levels > MAX_TWO_LEVELS {
        return Some("The signal jumps between two values, as a square wave does.");
    }
    if found.tone > MAX_TONE {
        return Some("The signal is a single tone, such as mains hum.");
    }
    if found.sharpness < MIN_SHARPNESS || found.kurtosis < MIN_KURTOSIS {
        return Some("The signal oscillates without the short peaks of heart beats.");
    }
    // NaN: the signal has no power below 60 Hz.
    let nothing = found.sharpness.is_nan() || found.kurtosis.is_nan();
    if nothing || found.beats_per_s < MIN_BEATS_PER_S {
        return Some("No beats are visible in the signal.");
    }
    if found.step > MAX_STEP {
        return Some("The signal consists of steps, not of heart beats.");
    }
    None
}

fn classify(found: &Indices) -> (Quality, Option<&'static str>) {
    if let Some(reason) = exclusion(found) {
        return (Quality::Unusable, Some(reason));
    }
    if evidence::log_odds(found) < MIN_SEGMENT_LOG_ODDS {
        return (Quality::Unusable, Some("The beats cannot be distinguished from noise."));
    }
    if found.clipped > MAX_CLIPPED {
        return (Quality::Poor, Some("The signal is clipped at the limit of the recorder."));
    }
    if found.contrast < GOOD_CONTRAST
        || found.confidence < GOOD_CONFIDENCE
        || found.concordance.is_none_or(|concordance| concordance < GOOD_CONCORDANCE)
        || found.doubtful > MAX_DOUBTFUL
        || found.agreement < GOOD_AGREEMENT
    {
        return (Quality::Poor, Some("Noise makes some beats doubtful."));
    }
    (Quality::Good, None)
}
