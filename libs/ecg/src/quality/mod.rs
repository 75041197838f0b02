//! How far each 10 s of a signal can be trusted, and which of several leads most.
//!
//! [`Indices`] are measured, a few rules on them decide. The limits are what separates the MIT-BIH records from noise, sines,
//! triangles, ramps, square waves and bursts; docs/ECG.md says how well. Two of the published indices, pSQI and basSQI, are
//! measured but decide nothing: with their published limits they refuse many records in which every beat is found.

mod agreement;
mod indices;
mod spectrum;
mod trust;

pub use indices::Indices;
pub use trust::{most_trustworthy, trust};

use crate::analysis::{Quality, QualitySegment};
use crate::detect::Detection;
use crate::strip::Segment;

/// Length of the stretches that get a quality each.
const STRETCH_S: f64 = 10.0;
/// A rest shorter than this is judged together with the stretch before it.
const SHORTEST_S: f64 = 3.0;

/// Above this share of still signal there is no ECG but a lead that fell off; the flattest 10 s of MIT-BIH have 0.6.
const MOST_FLAT: f64 = 0.9;
/// 18 bpm: fewer beats than this are no rhythm but chance.
const LEAST_BEATS_PER_S: f64 = 0.3;
/// What two levels explain of a signal, at most: square waves have 0.97 and more even under noise, ECGs up to 0.92.
const MOST_TWO_LEVELS: f64 = 0.94;
/// One narrow line has at most this share of the power of an ECG (0.77 in MIT-BIH), and more of that of a sine or of hum.
const LARGEST_TONE: f64 = 0.85;
/// Less of the power above 5 Hz have triangle waves and breathing; ECGs 0.04 and more, nearly all above 0.1.
const LEAST_SHARPNESS: f64 = 0.03;
/// Sines, triangles and ramps have 1.5 to 2; Gaussian noise has 3, ECGs more.
const LEAST_KURTOSIS: f64 = 2.2;
/// A ramp or a telegraph signal jumps and stays for at least this share of the jump.
const LARGEST_STEP: f32 = 0.8;
/// Below this contrast (median of the beats over what surrounds them) beats are not clearer than noise: the peaks of
/// filtered noise have 2 to 3, those of an ECG 5 and more.
const LEAST_CONTRAST: f32 = 3.0;
const CLEAR_CONTRAST: f32 = 4.0;
/// Beats of a usable signal look like each other (Orphanidou et al. 2015 ask for a mean correlation of 0.66).
const LEAST_ALIKE: f64 = 0.72;
/// A heart repeats itself in shape or in time, mostly in both; syllables do neither. What beats lack of being alike, times the
/// square root of how irregular they come, is at most this somewhere in a strip where a second detector agrees ...
const MOST_CHANCE_AGREED: f64 = 0.0175;
/// ... and this where it half agrees. docs/ECG.md says how rarely noise reaches that.
const MOST_CHANCE_DOUBTED: f64 = 0.01;
/// Fewer beats than this prove less, by the square of their share: a few are alike and evenly spaced by chance more easily.
const ENOUGH_BEATS: usize = 8;
/// A beat that proves a heart comes back to where it was up to this share of its height; ramps and pulses do not.
const LARGEST_STEP_PROVEN: f32 = 0.5;
/// No rhythm counts as more regular than this: intervals are known to a sample, and paced hearts vary less.
const REGULAR: f64 = 0.02;
/// The bursts of speech look like each other by chance, or two detectors agree on them by chance, or one is sure of them; all
/// three at once they do not.
const DOUBTFULLY_ALIKE: f64 = 0.88;
const DOUBTFUL_AGREEMENT: f64 = 0.86;
const DOUBTFUL_CONFIDENCE: f32 = 0.85;
/// Fewer beats than this (39 bpm) are found by chance more easily: they have to be clear in both respects.
const SPARSE_BEATS_PER_S: f64 = 0.65;
const CLEARLY_ALIKE: f64 = 0.85;
/// How far two detectors agree (Li, Mark and Clifford 2008; Behar et al. 2013 ask for 0.8 to 0.9).
const CLEAR_AGREEMENT: f64 = 0.8;
/// Where even contrast is low, agreement has to be at least this.
const LEAST_AGREEMENT: f64 = 0.6;
const LEAST_CONFIDENCE: f32 = 0.6;
const CLEAR_CONFIDENCE: f32 = 0.9;
/// An amplifier that spends more than this share of the time at its limit cuts off what is to be seen.
const MOST_CLIPPED: f64 = 0.01;

/// The indices of a whole signal of `rate` samples per second in which the beats were found by [`crate::detect::detect`].
/// Meant for stretches of about 10 s.
#[must_use]
pub fn indices(samples: &[f32], rate: f64, beats: &[Detection]) -> Indices {
    Indices::new(samples, rate, 0, beats)
}

/// As the detector does: rates outside are no rates of an ECG.
fn sensible(rate: f64) -> f64 {
    if rate.is_nan() { 250.0 } else { rate.clamp(10.0, 100_000.0) }
}

/// Appends the quality of the stretches of one segment. Says whether one of them proves that there is a heart.
pub(crate) fn assess(
    segment: &Segment,
    rate: f64,
    beats: &[Detection],
    out: &mut Vec<QualitySegment>,
) -> bool {
    let rate = sensible(rate);
    let total = segment.samples.len() as f64 / rate;
    let count = (((total - SHORTEST_S) / STRETCH_S).ceil()).max(1.0) as usize;
    let mut beat = 0;
    let mut proven = false;
    for index in 0..count {
        let from = (index as f64 * STRETCH_S * rate) as usize;
        let to = if index + 1 == count {
            segment.samples.len()
        } else {
            ((index + 1) as f64 * STRETCH_S * rate) as usize
        };
        let first = beat;
        while beats.get(beat).is_some_and(|found| found.sample < to as u64) {
            beat += 1;
        }
        let found = Indices::new(&segment.samples[from..to], rate, from as u64, &beats[first..beat]);
        let (quality, reason) = verdict(&found);
        proven |= quality > Quality::Unusable && proves_a_heart(&found);
        out.push(QualitySegment {
            start_s: segment.start_s + from as f64 / rate,
            end_s: segment.start_s + to as f64 / rate,
            quality,
            reason: reason.map(str::to_owned),
        });
    }
    proven
}

/// Makes all stretches of a strip unusable: where none proves that there is a heart, beats that are doubtful everywhere may be
/// chance.
pub(crate) fn refuse(stretches: &mut [QualitySegment]) {
    for stretch in stretches.iter_mut().filter(|stretch| stretch.quality > Quality::Unusable) {
        stretch.quality = Quality::Unusable;
        stretch.reason =
            Some("What looks like beats is nowhere clear enough to be told from noise.".to_owned());
    }
}

/// How easily chance makes beats that repeat as these do; nothing of fewer than three beats.
fn chance(found: &Indices) -> Option<f64> {
    let few = (ENOUGH_BEATS as f64 / found.beats as f64).max(1.0).powi(2);
    Some((1.0 - found.alike?) * found.irregular?.max(REGULAR).sqrt() * few)
}

/// Whether a stretch alone is enough to say that there is a heart.
fn proves_a_heart(found: &Indices) -> bool {
    let limit = if found.agreement >= DOUBTFUL_AGREEMENT { MOST_CHANCE_AGREED } else { MOST_CHANCE_DOUBTED };
    found.contrast >= CLEAR_CONTRAST
        && found.confidence >= CLEAR_CONFIDENCE
        && found.agreement >= LEAST_AGREEMENT
        && found.step <= LARGEST_STEP_PROVEN
        && chance(found).is_some_and(|chance| chance <= limit)
}

fn verdict(found: &Indices) -> (Quality, Option<&'static str>) {
    let unusable = |reason| (Quality::Unusable, Some(reason));
    if found.range <= 0.0 || !found.range.is_finite() || found.flat > MOST_FLAT {
        return unusable("The signal is a flat line.");
    }
    if found.two_levels > MOST_TWO_LEVELS {
        return unusable("The signal jumps between two values, as a square wave does.");
    }
    if found.tone > LARGEST_TONE {
        return unusable("The signal is a single tone, such as mains hum.");
    }
    if found.sharpness < LEAST_SHARPNESS || found.kurtosis < LEAST_KURTOSIS {
        return unusable("The signal swings evenly, without the short spikes of a heart beat.");
    }
    // Not a number: nothing is left of the signal below 60 Hz.
    let nothing = found.sharpness.is_nan() || found.kurtosis.is_nan();
    if nothing || found.beats_per_s < LEAST_BEATS_PER_S {
        return unusable("No beats stand out from the signal.");
    }
    if found.step > LARGEST_STEP {
        return unusable("The signal jumps and stays, as no heart beat does.");
    }
    let alike = found.alike.unwrap_or(LEAST_ALIKE);
    let clearly = alike >= DOUBTFULLY_ALIKE && found.agreement >= CLEAR_AGREEMENT;
    let doubtful = alike < DOUBTFULLY_ALIKE
        && found.agreement < DOUBTFUL_AGREEMENT
        && found.confidence < DOUBTFUL_CONFIDENCE;
    let sparse = found.beats_per_s < SPARSE_BEATS_PER_S;
    if alike < LEAST_ALIKE || doubtful || (sparse && !clearly) {
        return unusable("What looks like beats has no shape in common, as in noise.");
    }
    let clear = found.contrast >= CLEAR_CONTRAST || found.agreement >= LEAST_AGREEMENT;
    if found.contrast < LEAST_CONTRAST || found.confidence < LEAST_CONFIDENCE || !clear {
        return unusable("What looks like beats is not clearer than the noise around it.");
    }
    if found.clipped > MOST_CLIPPED {
        return (Quality::Poor, Some("The signal is cut off at the limit of the recorder."));
    }
    if found.contrast < CLEAR_CONTRAST
        || found.confidence < CLEAR_CONFIDENCE
        || alike < CLEARLY_ALIKE
        || found.agreement < CLEAR_AGREEMENT
    {
        return (Quality::Poor, Some("Noise makes some beats doubtful."));
    }
    (Quality::Good, None)
}
