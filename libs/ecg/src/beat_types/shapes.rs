//! Shapes of beats at fixed points around the R peak, and their comparison.

use std::ops::Range;

use crate::analysis::Beat;
use crate::strip::Strip;

/// Window of the QRS complex around the R peak in seconds. A ventricular complex ends late.
const QRS_S: Range<f64> = -0.1..0.14;
/// Distance of the points of the QRS complex, and largest shift of two complexes: the R peak of a biphasic complex is
/// not always on the same phase, and the phases of a wide one are up to 60 ms apart.
pub(super) const QRS_STEP_S: f64 = 0.005;
const QRS_SHIFT: usize = 12;
const QRS_POINTS: usize = 49;
/// Windows of the P wave and of the T wave, and the distance of their points.
const P_S: Range<f64> = -0.24..-0.06;
pub(super) const T_S: Range<f64> = 0.14..0.44;
pub(super) const WAVE_STEP_S: f64 = 0.01;
/// Similarity without a shift from which no shift is tried.
const SIMILAR: f64 = 0.95;

/// The surroundings of a beat in one lead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// QRS complex with a margin of [`QRS_SHIFT`] points on either side.
    qrs: Vec<f32>,
    pub(crate) p: Vec<f32>,
    pub(crate) t: Vec<f32>,
}

impl Shape {
    /// The shape of a beat. Before the start and after the end of the signal, its first and last values are repeated.
    /// Empty if the beat is in no segment.
    pub(crate) fn of(strip: &Strip, beat: &Beat) -> Self {
        let segment = strip.segments.get(beat.segment).filter(|segment| !segment.samples.is_empty());
        let Some(segment) = segment else { return Shape::default() };
        let peak = ((beat.time_s - segment.start_s) * strip.sample_rate_hz).round() as isize;
        let margin = QRS_SHIFT as f64 * QRS_STEP_S;
        let points = |range: Range<f64>, step_s: f64| {
            sampled(&segment.samples, strip.sample_rate_hz, peak, &range, step_s)
        };
        Shape {
            qrs: points(QRS_S.start - margin..QRS_S.end + margin, QRS_STEP_S),
            p: points(P_S, WAVE_STEP_S),
            t: points(T_S, WAVE_STEP_S),
        }
    }

    /// The QRS complex, later by `shift` points.
    pub(crate) fn qrs(&self, shift: isize) -> &[f32] {
        let from = QRS_SHIFT.saturating_add_signed(shift);
        self.qrs.get(from..from + QRS_POINTS).unwrap_or(&[])
    }

    /// Adds another shape, shifted, with a weight to this one: a running mean.
    fn blend(&mut self, other: &Shape, shift: isize, weight: f32) {
        let last = other.qrs.len().saturating_sub(1);
        for (at, value) in self.qrs.iter_mut().enumerate() {
            let from = at.saturating_add_signed(shift).min(last);
            *value += weight * (other.qrs.get(from).copied().unwrap_or(*value) - *value);
        }
        for (to, from) in [(&mut self.p, &other.p), (&mut self.t, &other.t)] {
            for (value, other) in to.iter_mut().zip(from) {
                *value += weight * (other - *value);
            }
        }
    }
}

fn sampled(samples: &[f32], rate_hz: f64, peak: isize, range: &Range<f64>, step_s: f64) -> Vec<f32> {
    let count = ((range.end - range.start) / step_s).round() as usize + 1;
    let half = ((step_s * rate_hz / 2.0) as isize).max(1);
    let last = samples.len() as isize - 1;
    let position = |point: usize| peak + ((range.start + point as f64 * step_s) * rate_hz).round() as isize;
    let inside = position(0) >= half && position(count - 1) + half <= last;
    let scale = 1.0 / (2 * half + 1) as f32;
    (0..count)
        .map(|point| {
            let at = position(point);
            if inside {
                let from = (at - half) as usize;
                scale * samples[from..=from + 2 * half as usize].iter().sum::<f32>()
            } else {
                scale * (at - half..=at + half).map(|at| samples[at.clamp(0, last) as usize]).sum::<f32>()
            }
        })
        .collect()
}

/// A beat in all leads.
pub(crate) type Leads = Vec<Shape>;

/// Mean-free product and squares of two pieces of equal length.
fn moments(one: &[f32], other: &[f32]) -> [f32; 3] {
    let count = one.len().min(other.len()).max(1) as f32;
    let (mut sums, mut products) = ([0.0_f32; 2], [0.0_f32; 3]);
    for (left, right) in one.iter().zip(other) {
        sums[0] += left;
        sums[1] += right;
        products[0] += left * right;
        products[1] += left * left;
        products[2] += right * right;
    }
    [
        products[0] - sums[0] * sums[1] / count,
        (products[1] - sums[0] * sums[0] / count).max(0.0),
        (products[2] - sums[1] * sums[1] / count).max(0.0),
    ]
}

/// Correlation of two shapes; 0 if they differ in length or one is constant.
pub(crate) fn correlation(one: &[f32], other: &[f32]) -> f64 {
    if one.len() != other.len() || one.is_empty() {
        return 0.0;
    }
    let [product, square_one, square_other] = moments(one, other);
    let norm = (square_one * square_other).sqrt();
    if norm > 0.0 { f64::from(product / norm).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Concordance of the QRS complexes of two beats in all leads, each lead divided by its scale, and the shift of `one`
/// by which it is largest. Concordance is 1 for equal complexes and decreases with a difference in shape or in
/// height.
pub(crate) fn similarity(one: &[Shape], other: &[Shape], scales: &[f32]) -> (f64, isize) {
    let at = |shift: isize| {
        let mut sums = [0.0_f32; 2];
        for ((one, other), scale) in one.iter().zip(other).zip(scales) {
            let [product, square_one, square_other] = moments(one.qrs(shift), other.qrs(0));
            sums[0] += 2.0 * product / (scale * scale);
            sums[1] += (square_one + square_other) / (scale * scale);
        }
        if sums[1] > 0.0 { f64::from(sums[0] / sums[1]) } else { 0.0 }
    };
    let mut best = (at(0), 0);
    if best.0 < SIMILAR {
        // A peak of the similarity is wider than two points.
        let reach = QRS_SHIFT as isize;
        let coarse = (-reach..=reach).step_by(2).map(|shift| (at(shift), shift));
        best = coarse.fold(best, |best, next| if next.0 > best.0 { next } else { best });
        for shift in [best.1 - 1, best.1 + 1] {
            if shift.abs() <= reach && at(shift) > best.0 {
                best = (at(shift), shift);
            }
        }
    }
    best
}

/// Norm of the mean-free QRS complex.
pub(crate) fn norm(shape: &Shape) -> f32 {
    moments(shape.qrs(0), shape.qrs(0))[1].sqrt()
}

/// Adds a beat to a mean of beats.
pub(crate) fn blend(mean: &mut [Shape], beat: &[Shape], shift: isize, weight: f32) {
    for (mean, beat) in mean.iter_mut().zip(beat) {
        mean.blend(beat, shift, weight);
    }
}
