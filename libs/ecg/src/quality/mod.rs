//! How far each 10 s of a signal can be trusted, and which of several leads most.
//!
//! [`Indices`] are measured. A few rules on them exclude what cannot be an ECG; the odds of a heart against noise decide on the rest
//! (`likelihood`); docs/ECG.md says how well. Two of the published indices, pSQI and basSQI, are
//! measured but decide nothing: with their published limits they refuse many records in which every beat is found.

mod agreement;
mod channel;
mod indices;
mod spectrum;

pub use channel::{best_channel, channel_quality};
pub use indices::Indices;

use crate::analysis::{Quality, QualitySegment};
use crate::detect::Detection;

/// Length of the segments that get a quality each.
const SEGMENT_S: f64 = 10.0;
/// A rest shorter than this is judged together with the segment before it.
const MIN_SEGMENT_S: f64 = 3.0;

const FLAT: &str = "The signal is a flat line.";
/// Above this share of still signal there is no ECG but a lead that fell off; the flattest 10 s of MIT-BIH have 0.6.
const MAX_FLAT: f64 = 0.9;
/// 18 bpm: fewer beats than this are no rhythm but chance.
const MIN_BEATS_PER_S: f64 = 0.3;
/// What two levels explain of a signal, at most: square waves have 0.97 and more even under noise, ECGs up to 0.92.
const MAX_TWO_LEVELS: f64 = 0.94;
/// One narrow line has at most this share of the power of an ECG (0.77 in MIT-BIH), and more of that of a sine or of hum.
const MAX_TONE: f64 = 0.85;
/// Less of the power above 5 Hz have triangle waves and breathing; ECGs 0.04 and more, nearly all above 0.1.
const MIN_SHARPNESS: f64 = 0.03;
/// Sines, triangles and ramps have 1.5 to 2; Gaussian noise has 3, ECGs more.
const MIN_KURTOSIS: f64 = 2.2;
/// A ramp or a telegraph signal jumps and stays for at least this share of the jump; with an elevated ST segment a beat stays for up
/// to 0.6 of its height.
const MAX_STEP: f32 = 0.65;
/// Below this contrast (median of the beats over what surrounds them) some beats are no clearer than noise.
const GOOD_CONTRAST: f32 = 4.0;
/// Odds (natural logarithm) that somewhere in a strip there is a heart and not noise, at least: [`likelihood`]. docs/ECG.md has the
/// curve of accepted noise against rejected ECG that this point lies on.
const MIN_STRIP_LOG_ODDS: f64 = 1.5;
/// The same of each segment of a strip that shows a heart somewhere.
const MIN_SEGMENT_LOG_ODDS: f64 = -1.0;
/// Fewer beats than this prove less.
const ENOUGH_BEATS: f64 = 8.0;
/// How irregular intervals count of which there are too few, and how regular at most: paced hearts vary less than that.
const DEFAULT_RR_VARIATION: f64 = 0.4;
const MIN_RR_VARIATION: f64 = 0.02;
/// Beats of a good segment are this much alike (Orphanidou et al. 2015 ask for a mean correlation of 0.66).
const GOOD_CONCORDANCE: f64 = 0.85;
/// How far two detectors agree on a good segment (Li, Mark and Clifford 2008; Behar et al. 2013 ask for 0.8 to 0.9).
const GOOD_AGREEMENT: f64 = 0.8;
const GOOD_CONFIDENCE: f32 = 0.9;
/// More doubtful beats than this share make a segment poor: each may be one too many, or stand for one too few.
const MAX_DOUBTFUL: f64 = 0.2;
/// An amplifier that spends more than this share of the time at its limit cuts off what is to be seen.
const MAX_CLIPPED: f64 = 0.01;

/// The indices of a whole signal of `rate` samples per second in which the beats were found by [`crate::detect::detect`].
/// Meant for segments of about 10 s.
#[must_use]
pub fn indices(samples: &[f32], rate: f64, beats: &[Detection]) -> Indices {
    Indices::new(samples, rate, 0, beats)
}

/// As the detector does: rates outside are no rates of an ECG.
fn sensible(rate: f64) -> f64 {
    if rate.is_nan() { 250.0 } else { rate.clamp(10.0, 100_000.0) }
}

/// Appends the quality of the segments of an unbroken signal that starts at `start_s`. Says whether one of them proves that there is
/// a heart.
pub(crate) fn assess(
    samples: &[f32],
    start_s: f64,
    rate: f64,
    beats: &[Detection],
    out: &mut Vec<QualitySegment>,
) -> bool {
    let rate = sensible(rate);
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
        has_evidence |= quality > Quality::Unusable && log_odds(&found) >= MIN_STRIP_LOG_ODDS;
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

/// Makes all segments of a strip unusable: where none proves that there is a heart, beats that are doubtful everywhere may be
/// chance.
pub(crate) fn reject(segments: &mut [QualitySegment]) {
    for segment in segments.iter_mut().filter(|segment| segment.quality > Quality::Unusable) {
        segment.quality = Quality::Unusable;
        segment.reason =
            Some("What looks like beats is nowhere clear enough to be told from noise.".to_owned());
    }
}

/// The logarithm of the odds that a segment shows a heart and not noise, speech or the wave of a generator: a logistic regression on
/// what makes a heart beat one. docs/ECG.md says on which data, and how it does on patients it has not seen.
fn log_odds(found: &Indices) -> f64 {
    let few = (ENOUGH_BEATS / found.beats.max(1) as f64).max(1.0);
    // Beats have one shape, in the whole ...
    2.251 * -(1.02 - found.concordance.unwrap_or(0.5)).ln()
        // ... and in the QRS complex, however they follow each other.
        + 1.354 * -(1.05 - found.template_share.unwrap_or(0.0)).ln()
        + 1.093 * -found.rr_variation.unwrap_or(DEFAULT_RR_VARIATION).clamp(MIN_RR_VARIATION, 1.5).ln()
        // Two detectors find them, and one is sure of them.
        + 1.273 * found.agreement
        + 1.45 * (-(1.02 - f64::from(found.confidence)).ln()).min(3.0)
        // A QRS complex is over within a tenth of a second, and the line is back where it was.
        + 8.359 * f64::from(found.compactness).min(0.95)
        - 14.509 * (f64::from(found.step) - 0.25).max(0.0)
        - 0.545 * found.kurtosis.clamp(1.0, 100.0).ln()
        - 1.368 * found.sharpness.clamp(0.01, 1.0).ln()
        // A few are alike and evenly spaced by chance more easily.
        - 1.661 * few.ln()
        - 19.182
}

fn classify(found: &Indices) -> (Quality, Option<&'static str>) {
    let unusable = |reason| (Quality::Unusable, Some(reason));
    if found.range <= 0.0 || !found.range.is_finite() || found.flat > MAX_FLAT {
        return unusable(FLAT);
    }
    if found.two_levels > MAX_TWO_LEVELS {
        return unusable("The signal jumps between two values, as a square wave does.");
    }
    if found.tone > MAX_TONE {
        return unusable("The signal is a single tone, such as mains hum.");
    }
    if found.sharpness < MIN_SHARPNESS || found.kurtosis < MIN_KURTOSIS {
        return unusable("The signal swings evenly, without the short spikes of a heart beat.");
    }
    // Not a number: nothing is left of the signal below 60 Hz.
    let nothing = found.sharpness.is_nan() || found.kurtosis.is_nan();
    if nothing || found.beats_per_s < MIN_BEATS_PER_S {
        return unusable("No beats stand out from the signal.");
    }
    if found.step > MAX_STEP {
        return unusable("The signal jumps and stays, as no heart beat does.");
    }
    if log_odds(found) < MIN_SEGMENT_LOG_ODDS {
        return unusable("What looks like beats is not clear enough to be told from noise.");
    }
    if found.clipped > MAX_CLIPPED {
        return (Quality::Poor, Some("The signal is cut off at the limit of the recorder."));
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
