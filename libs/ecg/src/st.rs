//! ST level of a lead: 60 and 80 ms after the J point, relative to the PR segment.
//!
//! Method. The J point is the end of the QRS complex as [`crate::waves`] finds it. The reference is the flattest 20 ms
//! of the PR segment, from the end of the P wave, at most 80 ms before the QRS onset, to the onset. The level is a
//! mean over 10 ms. The points are those of the European ST-T Database, which uses J+80, and J+60 at more than 120
//! beats a minute (A. Taddei, G. Distante, M. Emdin, P. Pisani, G. B. Moody, C. Zeelenberg and C. Marchesi, European
//! Heart Journal 13(9), 1164-1172, 1992).
//!
//! The level of a lead is the median of its beats, so that single noisy beats and respiration do not affect it. It has
//! no value where too few beats can be measured. A high-pass filter above 0.05 Hz in the recorder shifts the ST
//! segment (AHA recommendation, Kligfield et al., Circulation 115, 1306-1324, 2007); the level of such a recording is
//! not a measurement of the heart. The result is a measurement, not a diagnosis.

use crate::analysis::Beat;
use crate::strip::Strip;
use crate::waves::{BeatWaves, summary};

/// Length of the reference, and of the part of the PR segment in which it is searched.
const REFERENCE_S: f64 = 0.02;
const PR_SEGMENT_S: f64 = 0.08;
/// Length of the mean at a point of the ST segment.
const POINT_S: f64 = 0.01;
/// Distances of the points from the J point.
const J60_S: f64 = 0.06;
const J80_S: f64 = 0.08;
/// At shorter intervals (120 beats a minute) J+80 is part of the T wave.
const MIN_RR_S: f64 = 0.5;

/// ST levels of a beat in millivolts. `None`: the point is not part of the ST segment or of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeatSt {
    /// Index of the beat.
    pub beat: usize,
    /// Time of the J point in seconds from the start of the strip.
    pub j_s: f64,
    /// Level of the PR segment, to which the others are relative.
    pub reference_mv: f32,
    /// Level 60 ms after the J point.
    pub j60_mv: Option<f32>,
    /// Level 80 ms after the J point. `None` at more than 120 beats a minute.
    pub j80_mv: Option<f32>,
}

/// Median and spread of a level over the beats of a lead, in millivolts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelMv {
    /// Median.
    pub median: f32,
    /// Interquartile range.
    pub spread: f32,
    /// Number of beats.
    pub count: usize,
}

/// ST levels of a lead. `None`: too few beats support a value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StLevels {
    /// Level 60 ms after the J point.
    pub j60: Option<LevelMv>,
    /// Level 80 ms after the J point.
    pub j80: Option<LevelMv>,
}

/// Measures the ST levels of the beats of a strip. `waves` are those of `beats` ([`crate::waves::delineate`]). Beats
/// without a QRS complex or a PR segment are left out.
#[must_use]
pub fn measure(strip: &Strip, beats: &[Beat], waves: &[BeatWaves]) -> Vec<BeatSt> {
    waves.iter().filter_map(|waves| measure_beat(strip, beats, waves)).collect()
}

/// The levels of a lead: medians of the beats for which `counts` returns true, given the index of the beat.
/// Ventricular and paced beats have an ST segment of their own and should not count.
#[must_use]
pub fn levels(measured: &[BeatSt], counts: impl Fn(usize) -> bool) -> StLevels {
    let counted: Vec<&BeatSt> = measured.iter().filter(|beat| counts(beat.beat)).collect();
    let level = |of: fn(&BeatSt) -> Option<f32>| -> Option<LevelMv> {
        let values = counted.iter().filter_map(|beat| of(beat).map(f64::from)).collect();
        let (median, spread, count) = summary(values, counted.len())?;
        Some(LevelMv { median: median as f32, spread: spread as f32, count })
    };
    StLevels { j60: level(|beat| beat.j60_mv), j80: level(|beat| beat.j80_mv) }
}

fn measure_beat(strip: &Strip, beats: &[Beat], waves: &BeatWaves) -> Option<BeatSt> {
    let beat = beats.get(waves.beat)?;
    let qrs = waves.qrs?;
    let segment = strip.segments.get(beat.segment)?;
    let rate = strip.sample_rate_hz;
    let index = |time_s: f64| ((time_s - segment.start_s) * rate).round().max(0.0) as usize;
    let steps = |seconds: f64| ((seconds * rate).round() as usize).max(1);
    let p_end_s = waves.p.map_or(f64::NEG_INFINITY, |p| p.end_s);
    let latest_s = qrs.on_s - REFERENCE_S;
    let pr_segment =
        segment.samples.get(index((qrs.on_s - PR_SEGMENT_S).max(p_end_s).min(latest_s))..index(qrs.on_s))?;
    let reference_mv = flattest(pr_segment, steps(REFERENCE_S))?;
    let is_near =
        |other: &Beat| other.segment == beat.segment && (other.time_s - beat.time_s).abs() < MIN_RR_S;
    let before = waves.beat.checked_sub(1).and_then(|before| beats.get(before));
    let is_fast = before.is_some_and(is_near) || beats.get(waves.beat + 1).is_some_and(is_near);
    let point = |after_s: f64| {
        let half = steps(POINT_S) / 2;
        let at = index(qrs.end_s + after_s);
        let piece = segment.samples.get(at.checked_sub(half)?..=at + half)?;
        let level = mean(piece) - reference_mv;
        level.is_finite().then_some(level)
    };
    let j80_mv = if is_fast { None } else { point(J80_S) };
    Some(BeatSt { beat: waves.beat, j_s: qrs.end_s, reference_mv, j60_mv: point(J60_S), j80_mv })
}

/// Mean of the `length` samples with the smallest range.
fn flattest(samples: &[f32], length: usize) -> Option<f32> {
    let range = |piece: &[f32]| {
        let (low, high) = crate::units::extremes(piece);
        high - low
    };
    let best = samples.windows(length).min_by(|left, right| range(left).total_cmp(&range(right)))?;
    let level = mean(best);
    level.is_finite().then_some(level)
}

fn mean(samples: &[f32]) -> f32 {
    samples.iter().sum::<f32>() / samples.len().max(1) as f32
}
