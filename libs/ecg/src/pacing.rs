//! Pacemaker pulses: detection, removal before beat detection, and their association with beats.
//!
//! A deflection narrower than 12 ms is a pulse, since no wave of the heart is as short. Pulses and their exponential tails are
//! removed before beats are detected, so that a pulse is never counted as a beat. Below 250 Hz, and in recordings whose
//! bandwidth widens pulses beyond 12 ms, a pulse cannot be distinguished from a QRS complex, and none is reported.

use std::ops::Range;

use crate::detect::Detection;

/// Lowest sampling rate at which pulses are detected.
const MIN_RATE_HZ: f64 = 250.0;
/// Largest width of a pulse (IEC 60601-2-27 tests pulses of up to 2 ms; recorders widen them).
const MAX_WIDTH_S: f64 = 0.012;
/// A sampled pulse covers two samples, so that its flanks are at most this far from its extreme at the lowest rate.
const MIN_HALF_SAMPLES: usize = 2;
/// A wave of the heart continues to rise or fall within this distance of its extreme.
const WIDE_S: f64 = 0.036;
/// Smallest share of its height that a pulse has within its own width, on each side. A QRS complex or a pulse that a recorder
/// has widened has less on at least one side, even if it ends in a plateau or lies on the slope of a larger wave.
const MIN_NARROWNESS: f32 = 0.9;
/// Smallest height of a pulse relative to the local noise.
const MIN_NOISE_RATIO: f32 = 10.0;
/// Smallest height of a pulse relative to the typical range of 2 s of the signal.
const MIN_RANGE_SHARE: f32 = 0.15;
/// Half the length of the window in which the noise is measured, and the length of the bins of the range.
const NOISE_REACH_S: f64 = 0.25;
const RANGE_BIN_S: f64 = 2.0;
/// Two deflections closer than this are one pulse.
const MERGE_S: f64 = 0.02;

/// Length of the window that a tail is fitted in, and the range of its time constant (AAMI EC13 4.1.4.2: 4 to 100 ms).
const TAIL_FIT_S: f64 = 0.06;
const TAIL_CONSTANTS_S: [f64; 8] = [0.003, 0.005, 0.008, 0.013, 0.02, 0.035, 0.06, 0.1];
/// Largest share of the energy that a tail leaves unexplained.
const MAX_TAIL_RESIDUAL: f32 = 0.1;
/// Length of the baseline before a pulse.
const BASELINE_S: f64 = 0.012;

/// A pulse captures a beat if the beat follows within this time ...
const MAX_CAPTURE_S: f64 = 0.35;
/// ... at a constant delay, within this tolerance.
const CAPTURE_TOLERANCE_S: f64 = 0.04;
/// Smallest share of the pulses with capture. Fewer means that pulses and beats dissociate.
const MIN_CAPTURE_SHARE: f64 = 0.8;
/// Fewer pulses than this may be artefacts.
const MIN_PULSES: usize = 3;

/// Pulses of a signal, and the signal without them.
pub(crate) struct Pacing {
    /// Sample index of each pulse.
    pub(crate) pulses: Vec<usize>,
    /// The signal without pulses. `None` if there are none.
    pub(crate) cleaned: Option<Vec<f32>>,
}

/// A pulse in a signal.
struct Pulse {
    /// Sample index of its extreme.
    extreme: usize,
    /// Its samples.
    range: Range<usize>,
}

/// Finds and removes the pulses of a signal of `rate` samples per second.
pub(crate) fn remove(samples: &[f32], rate: f64) -> Pacing {
    let pulses = if rate >= MIN_RATE_HZ { find(samples, rate) } else { Vec::new() };
    if pulses.is_empty() {
        return Pacing { pulses: Vec::new(), cleaned: None };
    }
    let mut cleaned = samples.to_vec();
    for (index, pulse) in pulses.iter().enumerate() {
        let next = pulses.get(index + 1).map_or(samples.len(), |next| next.range.start);
        remove_tail(&mut cleaned[..next], pulse, rate);
        interpolate(&mut cleaned, &pulse.range);
    }
    Pacing { pulses: pulses.iter().map(|pulse| pulse.range.start).collect(), cleaned: Some(cleaned) }
}

/// Whether pulses and beats dissociate: too few pulses are followed by a beat at a constant delay.
pub(crate) fn dissociated(pulses: &[usize], beats: &[Detection], rate: f64) -> bool {
    // Of a pair of atrial and ventricular pulses, the second one counts. A pulse at the end has no time for its beat.
    let capture = MAX_CAPTURE_S * rate;
    let last = beats.last().map_or(0.0, |beat| beat.sample as f64);
    let single: Vec<f64> = pulses
        .iter()
        .enumerate()
        .filter(|(index, pulse)| pulses.get(index + 1).is_none_or(|next| (next - **pulse) as f64 > capture))
        .map(|(_, pulse)| *pulse as f64)
        .filter(|pulse| pulse + capture <= last + capture)
        .collect();
    if single.len() < MIN_PULSES {
        return false;
    }
    let mut delays: Vec<f64> = single
        .iter()
        .filter_map(|pulse| {
            let next =
                beats.partition_point(|beat| (beat.sample as f64) < pulse - CAPTURE_TOLERANCE_S * rate);
            let delay = beats.get(next)?.sample as f64 - pulse;
            (delay <= capture).then_some(delay)
        })
        .collect();
    if delays.is_empty() {
        return true;
    }
    let middle = delays.len() / 2;
    let median = *delays.select_nth_unstable_by(middle, f64::total_cmp).1;
    let constant =
        delays.iter().filter(|delay| (**delay - median).abs() <= CAPTURE_TOLERANCE_S * rate).count();
    (constant as f64) < MIN_CAPTURE_SHARE * single.len() as f64
}

fn find(samples: &[f32], rate: f64) -> Vec<Pulse> {
    let half = ((MAX_WIDTH_S / 2.0 * rate) as usize).max(MIN_HALF_SAMPLES);
    let wide = (WIDE_S * rate) as usize;
    if samples.len().saturating_sub(3) / 2 < wide {
        return Vec::new();
    }
    let threshold = MIN_RANGE_SHARE * typical_range(samples, rate);
    let merge = (MERGE_S * rate) as usize;
    let mut out: Vec<Pulse> = Vec::new();
    for at in 1..samples.len() - 1 {
        // A pulse has a sharp extreme; this excludes nearly all samples at once.
        let (before, here, after) = (samples[at - 1], samples[at], samples[at + 1]);
        if (here - before) * (here - after) < 0.0 {
            continue;
        }
        let sides = heights(samples, at, half);
        let height = sides[0].min(sides[1]);
        let is_narrow = || {
            let all = heights(samples, at, wide);
            sides.iter().zip(all).all(|(side, all)| *side >= MIN_NARROWNESS * all)
        };
        if height <= 0.0
            || height < threshold
            || !is_narrow()
            || height < MIN_NOISE_RATIO * noise(samples, at, rate)
        {
            continue;
        }
        let range = extent(samples, at, half, height);
        match out.last_mut() {
            Some(last) if range.start <= last.range.end + merge => {
                last.range.end = last.range.end.max(range.end);
            }
            _ => out.push(Pulse { extreme: at, range }),
        }
    }
    out
}

/// Heights of a maximum above the lowest values before and after it within `reach` samples, or depths of a minimum.
fn heights(samples: &[f32], at: usize, reach: usize) -> [f32; 2] {
    let here = samples[at];
    let before = &samples[at.saturating_sub(reach)..at];
    let after = &samples[at + 1..(at + 1 + reach).min(samples.len())];
    let is_maximum = here > samples[at - 1] || here > samples[at + 1];
    [before, after].map(|side| {
        let distance = |value: &f32| if is_maximum { here - value } else { value - here };
        side.iter().map(distance).fold(0.0_f32, f32::max)
    })
}

/// The samples around an extreme that exceed half its height, and one more on each side for the flanks.
fn extent(samples: &[f32], at: usize, width: usize, height: f32) -> Range<usize> {
    let here = samples[at];
    let inside = |value: &f32| (value - here).abs() < 0.9 * height;
    let before = samples[at.saturating_sub(width)..at].iter().rev().take_while(|value| inside(value)).count();
    let after =
        samples[at + 1..(at + 1 + width).min(samples.len())].iter().take_while(|value| inside(value)).count();
    at.saturating_sub(before + 1)..(at + after + 2).min(samples.len())
}

/// Median of the absolute second differences around a sample.
fn noise(samples: &[f32], at: usize, rate: f64) -> f32 {
    let reach = (NOISE_REACH_S * rate) as usize;
    let around = &samples[at.saturating_sub(reach)..(at + reach).min(samples.len())];
    let mut changes: Vec<f32> =
        around.windows(3).map(|three| (three[0] - 2.0 * three[1] + three[2]).abs()).collect();
    let middle = changes.len() / 2;
    *changes.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// Lower quartile of the ranges of bins of 2 s, so that bins with pulses do not count.
fn typical_range(samples: &[f32], rate: f64) -> f32 {
    let mut ranges: Vec<f32> = samples
        .chunks(((RANGE_BIN_S * rate) as usize).max(1))
        .map(|bin| {
            let (low, high) = crate::units::extremes(bin);
            high - low
        })
        .collect();
    let place = ranges.len() / 4;
    *ranges.select_nth_unstable_by(place, f32::total_cmp).1
}

/// Subtracts the exponential tail after a pulse, if there is one. `samples` end before the next pulse.
fn remove_tail(samples: &mut [f32], pulse: &Pulse, rate: f64) {
    let Pulse { extreme, range } = pulse;
    let steps = |seconds: f64| (seconds * rate) as usize;
    let before = &samples[range.start.saturating_sub(steps(BASELINE_S).max(1))..range.start];
    let after = range.end..(range.end + steps(TAIL_FIT_S)).min(samples.len());
    if before.is_empty() || after.len() < steps(TAIL_FIT_S) {
        return;
    }
    let baseline = before.iter().sum::<f32>() / before.len() as f32;
    let piece: Vec<f32> = samples[after].iter().map(|value| value - baseline).collect();
    let energy: f32 = piece.iter().map(|value| value * value).sum();
    let fits = TAIL_CONSTANTS_S.map(|constant_s| {
        let decay = (-1.0 / (constant_s * rate)).exp() as f32;
        let (mut wave, mut product, mut square) = (1.0_f32, 0.0_f32, 0.0_f32);
        for value in &piece {
            product += value * wave;
            square += wave * wave;
            wave *= decay;
        }
        let amplitude = product / square;
        (energy - amplitude * product, amplitude, decay)
    });
    let Some((residual, amplitude, decay)) =
        fits.into_iter().min_by(|left, right| left.0.total_cmp(&right.0))
    else {
        return;
    };
    // A tail of the same polarity is the decay of the pulse and never higher; a QRS complex that follows may be.
    let height = samples[*extreme] - baseline;
    let is_higher = amplitude * height > 0.0 && amplitude.abs() > height.abs();
    if residual > MAX_TAIL_RESIDUAL * energy || is_higher {
        return;
    }
    let mut wave = amplitude;
    for value in &mut samples[range.end..] {
        *value -= wave;
        wave *= decay;
        if wave.abs() < 1e-3 * amplitude.abs() {
            break;
        }
    }
}

fn interpolate(samples: &mut [f32], range: &Range<usize>) {
    let (Some(first), Some(last)) = (range.start.checked_sub(1), samples.get(range.end).copied()) else {
        return;
    };
    let from = samples[first];
    let steps = (range.len() + 1) as f32;
    for (step, value) in samples[range.clone()].iter_mut().enumerate() {
        *value = from + (last - from) * (step + 1) as f32 / steps;
    }
}
