//! Beat types: normal, supraventricular, ventricular, paced.
//!
//! Each beat is compared with the dominant beat of its surroundings: timing, QRS shape and width, P and T wave. Two logistic
//! regressions decide first on ventricular beats, then on supraventricular ones among the others. `examples/fit_beat_types` fits
//! [`BEAT_WEIGHTS`] on DS1 of the MIT-BIH Arrhythmia Database and cross-validates them by patient.
//!
//! The timing of a beat needs its neighbours; a beat next to a gap or to the end of the strip is classified by its shape. A strip
//! with fewer than [`MIN_BEATS`] beats has no dominant beat, and all its beats are of unknown type.

use std::ops::Range;

use crate::analysis::{Analysis, Beat};
use crate::strip::Strip;
use crate::waves::BeatWaves;

/// Number of features of a beat before expansion, and of features of the regressions: linear and squared terms.
pub const BEAT_FEATURES: usize = 16;
/// Number of terms of a regression without its bias.
pub const BEAT_TERMS: usize = 2 * BEAT_FEATURES;

/// Smallest number of beats from which a dominant beat is derived.
pub const MIN_BEATS: usize = 5;
/// Beats per block with a dominant beat of its own.
const BLOCK: usize = 64;
/// Beats on either side from which the typical RR interval and its variation are derived.
const RR_REACH: usize = 12;
/// The same for the RR interval of the longer surroundings, which a run of ectopic beats does not change.
const LONG_RR_REACH: usize = 150;
/// Correlation with the medoid from which a beat is part of the dominant shape.
const SAME_SHAPE: f32 = 0.9;
/// Windows around the R peak in seconds, and distance of their points.
const QRS_S: Range<f64> = -0.1..0.1;
const QRS_STEP_S: f64 = 0.005;
const P_S: Range<f64> = -0.24..-0.06;
const T_S: Range<f64> = 0.1..0.4;
const WAVE_STEP_S: f64 = 0.01;
/// A pacemaker pulse this long before an R peak, or shorter, paces the beat.
const PACED_S: f64 = 0.2;

/// Type of a beat (AAMI EC57 classes, with paced beats of their own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BeatType {
    /// Normal, including bundle branch block.
    Normal,
    /// Supraventricular ectopic.
    Supraventricular,
    /// Ventricular ectopic.
    Ventricular,
    /// Paced.
    Paced,
    /// Too few beats to decide.
    Unknown,
}

impl BeatType {
    /// One-letter symbol: `N`, `S`, `V`, `P` or `Q`.
    #[must_use]
    pub fn symbol(self) -> char {
        match self {
            BeatType::Normal => 'N',
            BeatType::Supraventricular => 'S',
            BeatType::Ventricular => 'V',
            BeatType::Paced => 'P',
            BeatType::Unknown => 'Q',
        }
    }
}

/// Type of a beat with its confidence, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypedBeat {
    /// Type.
    pub kind: BeatType,
    /// Probability of the type according to the regression.
    pub confidence: f32,
}

/// A logistic regression on the expanded features of a beat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regression {
    /// Constant term.
    pub bias: f64,
    /// Weights of the terms.
    pub terms: [f64; BEAT_TERMS],
}

/// The two regressions of the classifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeatWeights {
    /// Ventricular against all others.
    pub ventricular: Regression,
    /// Supraventricular against normal.
    pub supraventricular: Regression,
}

impl Regression {
    /// Log-odds of a beat with these features.
    #[must_use]
    pub fn log_odds(&self, features: &[f64; BEAT_FEATURES]) -> f64 {
        let terms = expand(features);
        self.bias + self.terms.iter().zip(terms).map(|(weight, term)| weight * term).sum::<f64>()
    }
}

/// The terms of a regression: the features and their squares.
#[must_use]
pub fn expand(features: &[f64; BEAT_FEATURES]) -> [f64; BEAT_TERMS] {
    std::array::from_fn(|index| {
        features.get(index).copied().unwrap_or_else(|| features[index - BEAT_FEATURES].powi(2))
    })
}

/// Classifies the beats of a strip with the weights in use. `waves` come from [`crate::waves::delineate`].
#[must_use]
pub fn classify(strip: &Strip, analysis: &Analysis, waves: &[BeatWaves]) -> Vec<TypedBeat> {
    classify_with(strip, analysis, waves, &BEAT_WEIGHTS)
}

/// Like [`classify`], with other weights.
#[must_use]
pub fn classify_with(
    strip: &Strip,
    analysis: &Analysis,
    waves: &[BeatWaves],
    weights: &BeatWeights,
) -> Vec<TypedBeat> {
    let beats = &analysis.beats;
    let Some(features) = features(strip, beats, waves) else {
        return vec![TypedBeat { kind: BeatType::Unknown, confidence: 0.0 }; beats.len()];
    };
    let probability = |log_odds: f64| (1.0 / (1.0 + (-log_odds).exp())) as f32;
    let pulses = &analysis.pacing_pulses_s;
    let of = |(beat, features): (&Beat, &[f64; BEAT_FEATURES])| {
        let next = pulses.partition_point(|pulse| *pulse <= beat.time_s);
        let paced = next.checked_sub(1).is_some_and(|last| beat.time_s - pulses[last] <= PACED_S);
        if paced {
            return TypedBeat { kind: BeatType::Paced, confidence: beat.confidence };
        }
        let ventricular = probability(weights.ventricular.log_odds(features));
        if ventricular >= 0.5 {
            return TypedBeat { kind: BeatType::Ventricular, confidence: ventricular };
        }
        let supraventricular = probability(weights.supraventricular.log_odds(features));
        if supraventricular >= 0.5 {
            return TypedBeat { kind: BeatType::Supraventricular, confidence: supraventricular };
        }
        TypedBeat { kind: BeatType::Normal, confidence: (1.0 - ventricular) * (1.0 - supraventricular) }
    };
    beats.iter().zip(&features).map(of).collect()
}

/// The features of each beat. `None` if there are too few beats.
#[must_use]
pub fn features(strip: &Strip, beats: &[Beat], waves: &[BeatWaves]) -> Option<Vec<[f64; BEAT_FEATURES]>> {
    if beats.len() < MIN_BEATS || waves.len() != beats.len() {
        return None;
    }
    let shapes: Vec<Shape> = beats.iter().map(|beat| Shape::of(strip, beat)).collect();
    let rr: Vec<Option<f64>> = (0..beats.len())
        .map(|at| {
            let before = &beats[at.checked_sub(1)?];
            (before.segment == beats[at].segment).then(|| beats[at].time_s - before.time_s)
        })
        .collect();
    let widths: Vec<f64> =
        waves.iter().filter_map(|waves| waves.qrs).map(|qrs| qrs.end_s - qrs.on_s).collect();
    let width = median(widths).unwrap_or(0.1);
    let dominant = dominant(&shapes);
    let features = |at: usize| {
        let shape = &shapes[at];
        let usual = &dominant[(at / BLOCK).min(dominant.len() - 1)];
        let around = at.saturating_sub(RR_REACH)..(at + RR_REACH + 1).min(rr.len());
        let intervals: Vec<f64> = rr[around].iter().flatten().copied().collect();
        let typical = median(intervals.clone()).unwrap_or(1.0);
        let deviations = intervals.iter().map(|interval| (interval / typical - 1.0).abs()).collect();
        let ratio = |interval: Option<f64>, to: f64| {
            interval.map_or(0.0, |interval| (interval / to).ln().clamp(-1.2, 1.2))
        };
        let before = rr[at];
        let long = at.saturating_sub(LONG_RR_REACH)..(at + LONG_RR_REACH + 1).min(rr.len());
        let long_typical = median(rr[long].iter().flatten().copied().collect()).unwrap_or(typical);
        let variation = median(deviations).unwrap_or(0.0).min(0.5);
        let after = rr.get(at + 1).copied().flatten();
        let this_width = waves[at].qrs.map_or(width, |qrs| qrs.end_s - qrs.on_s);
        let log_ratio = |this: f32, usual: f32| {
            f64::from(this.max(f32::MIN_POSITIVE) / usual.max(f32::MIN_POSITIVE)).ln().clamp(-3.0, 3.0)
        };
        let neighbour = |other: Option<usize>| {
            other.and_then(|other| shapes.get(other)).map_or(0.5, |other| correlation(&shape.qrs, &other.qrs))
        };
        [
            ratio(before, typical),
            ratio(after, typical),
            before.map_or(0.0, |before| ratio(after, before)),
            10.0 * this_width.clamp(0.04, 0.25),
            (this_width / width).ln().clamp(-1.5, 1.5),
            correlation(&shape.qrs, &usual.qrs),
            log_ratio(shape.energy, usual.energy),
            neighbour(at.checked_sub(1)),
            neighbour(Some(at + 1)),
            waves[at].p.map_or(0.0, |p| f64::from(p.confidence)),
            correlation(&shape.p, &usual.p),
            correlation(&shape.t, &usual.t),
            variation,
            log_ratio(shape.slope, usual.slope),
            ratio(before, long_typical),
            // Prematurity relative to the variation: in atrial fibrillation an early beat means little.
            (ratio(before, typical) / (0.05 + variation)).clamp(-5.0, 5.0),
        ]
    };
    Some((0..beats.len()).map(features).collect())
}

/// The surroundings of a beat at fixed points. Empty where the recording ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    qrs: Vec<f32>,
    pub(crate) p: Vec<f32>,
    t: Vec<f32>,
    energy: f32,
    slope: f32,
}

impl Shape {
    pub(crate) fn of(strip: &Strip, beat: &Beat) -> Self {
        let Some(samples) = strip.segments.get(beat.segment).map(|segment| segment.samples.as_slice()) else {
            return Shape::default();
        };
        let rate = strip.sample_rate_hz;
        let points = |range: Range<f64>, step_s: f64| -> Vec<f32> {
            let count = ((range.end - range.start) / step_s).round() as usize + 1;
            let half = ((step_s * rate / 2.0) as usize).max(1);
            (0..count)
                .map_while(|point| {
                    let offset = ((range.start + point as f64 * step_s) * rate).round() as isize;
                    let at = beat.sample.checked_add_signed(offset)?;
                    let piece = samples.get(at.checked_sub(half)?..at + half + 1)?;
                    Some(piece.iter().sum::<f32>() / piece.len() as f32)
                })
                .collect()
        };
        let qrs = points(QRS_S, QRS_STEP_S);
        let mean = qrs.iter().sum::<f32>() / qrs.len().max(1) as f32;
        let energy = qrs.iter().map(|value| (value - mean).powi(2)).sum();
        let slope = qrs.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        Shape { qrs, p: points(P_S, WAVE_STEP_S), t: points(T_S, WAVE_STEP_S), energy, slope }
    }
}

/// The dominant beat of each block: the mean of the beats similar to the one that resembles most others.
fn dominant(shapes: &[Shape]) -> Vec<Shape> {
    shapes
        .chunks(BLOCK)
        .map(|block| {
            let similar =
                |one: &Shape, other: &Shape| correlation(&one.qrs, &other.qrs) >= f64::from(SAME_SHAPE);
            let votes = |one: &Shape| block.iter().filter(|other| similar(one, other)).count();
            let Some(medoid) = block.iter().max_by_key(|shape| votes(shape)) else { return Shape::default() };
            let group: Vec<&Shape> = block.iter().filter(|other| similar(medoid, other)).collect();
            let mean = |of: fn(&Shape) -> &Vec<f32>| -> Vec<f32> {
                let length = of(medoid).len();
                let whole: Vec<&Vec<f32>> =
                    group.iter().map(|shape| of(shape)).filter(|points| points.len() == length).collect();
                let count = whole.len().max(1) as f32;
                (0..length).map(|at| whole.iter().map(|points| points[at]).sum::<f32>() / count).collect()
            };
            let middle = |of: fn(&Shape) -> f32| {
                median(group.iter().map(|shape| f64::from(of(shape))).collect()).unwrap_or(0.0) as f32
            };
            Shape {
                qrs: mean(|shape| &shape.qrs),
                p: mean(|shape| &shape.p),
                t: mean(|shape| &shape.t),
                energy: middle(|shape| shape.energy),
                slope: middle(|shape| shape.slope),
            }
        })
        .collect()
}

/// Correlation of two shapes; 0 if they differ in length or one is constant.
pub(crate) fn correlation(one: &[f32], other: &[f32]) -> f64 {
    if one.len() != other.len() || one.is_empty() {
        return 0.0;
    }
    let count = one.len() as f32;
    let (mean_one, mean_other) = (one.iter().sum::<f32>() / count, other.iter().sum::<f32>() / count);
    let (mut product, mut square_one, mut square_other) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (left, right) in one.iter().zip(other) {
        let (left, right) = (left - mean_one, right - mean_other);
        product += left * right;
        square_one += left * left;
        square_other += right * right;
    }
    let norm = (square_one * square_other).sqrt();
    if norm > 0.0 { f64::from(product / norm) } else { 0.0 }
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// The weights in use, as printed by `examples/fit_beat_types`.
pub const BEAT_WEIGHTS: BeatWeights = BeatWeights {
    ventricular: Regression {
        bias: -2.202,
        terms: [
            -0.005, 1.634, 0.215, 1.515, 7.653, -1.760, 1.056, -0.595, -0.700, -2.082, -1.296, -1.055,
            12.050, -0.503, -4.269, -0.133, -4.269, 2.657, 0.390, -0.702, -2.577, 0.625, 0.731, -0.644,
            -0.432, 0.691, 1.029, 1.571, -24.042, -0.114, -4.045, 0.069,
        ],
    },
    supraventricular: Regression {
        bias: -2.793,
        terms: [
            4.891, 3.085, -1.432, 0.587, 1.175, 0.743, -0.029, -0.271, -0.344, 5.046, -1.138, -1.332,
            -21.373, -0.688, -16.217, -0.674, 1.922, 2.411, -0.199, -0.110, -2.918, -0.407, -0.229, 2.169,
            0.571, -8.193, 0.508, 0.964, 44.007, 1.560, -8.506, 0.180,
        ],
    },
};
