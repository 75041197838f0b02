//! Agreement with a second, simple detector (bSQI).

/// Length of the moving average that smooths the signal: a zero at 25 Hz.
const SMOOTHING_S: f64 = 0.04;
/// Length of the curve-length window: the duration of a wide QRS complex.
const LENGTH_S: f64 = 0.13;
/// Shortest distance between two beats.
const REFRACTORY_S: f64 = 0.25;
/// The typical height is the median of the maxima of windows of this length.
const BIN_S: f64 = 2.0;
/// A beat reaches this share of the typical height.
const THRESHOLD: f32 = 0.4;
/// Largest distance of two detections of the same beat (Li, Mark and Clifford 2008).
const SAME_S: f64 = 0.15;

/// Number of beats found by both detectors divided by the number found by either.
///
/// The second detector is the curve length of W. Zong, G. B. Moody and D. Jiang, "A robust open-source
/// algorithm to detect onset and duration of QRS complexes", Computers in Cardiology 30, 2003, with a fixed
/// threshold. It uses no templates, no rhythm and no contrast, so noise causes different errors.
pub(super) fn bsqi(samples: &[f32], rate: f64, beats: &[usize]) -> f64 {
    let found = length_transform(samples, rate);
    let same = SAME_S * rate;
    let (mut both, mut at) = (0, 0);
    for beat in beats {
        while found.get(at).is_some_and(|other| (*other as f64) < *beat as f64 - same) {
            at += 1;
        }
        if found.get(at).is_some_and(|other| (*other as f64) <= *beat as f64 + same) {
            both += 1;
            at += 1;
        }
    }
    let either = beats.len() + found.len() - both;
    if either == 0 { 0.0 } else { f64::from(both as u32) / either as f64 }
}

fn length_transform(samples: &[f32], rate: f64) -> Vec<usize> {
    let steps = |seconds: f64| ((seconds * rate).round() as usize).max(1);
    let smooth = steps(SMOOTHING_S);
    if samples.len() < steps(LENGTH_S) + smooth + 2 {
        return Vec::new();
    }
    let smoothed: Vec<f32> = samples.windows(smooth).map(|piece| piece.iter().sum::<f32>()).collect();
    let mut sum = 0.0_f64;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(smoothed.windows(2).map(|pair| {
            sum += f64::from((pair[1] - pair[0]).abs());
            sum
        }))
        .collect();
    let length = steps(LENGTH_S);
    let curve: Vec<f32> = sums.windows(length + 1).map(|piece| (piece[length] - piece[0]) as f32).collect();
    let mut highest: Vec<f32> = curve
        .chunks(steps(BIN_S))
        .map(|bin| bin.iter().fold(0.0_f32, |high, value| high.max(*value)))
        .collect();
    let middle = highest.len() / 2;
    let threshold = THRESHOLD * *highest.select_nth_unstable_by(middle, f32::total_cmp).1;
    let reach = steps(REFRACTORY_S);
    // Center of the window with the longest curve.
    let middle = (length + smooth) / 2;
    let mut out: Vec<usize> = Vec::new();
    for at in 0..curve.len() {
        let around = &curve[at.saturating_sub(reach)..(at + reach + 1).min(curve.len())];
        if curve[at] > threshold
            && around.iter().all(|value| *value <= curve[at])
            && out.last().is_none_or(|last| at + middle > last + reach)
        {
            out.push(at + middle);
        }
    }
    out
}
