//! The waves of each beat: the third equation of the model along the circle.

use std::f64::consts::{PI, TAU};

use super::random::Random;
use super::rhythm::{self, Beat};
use super::{Rhythm, Settings};

/// A wave of a beat: angle and width in radians, and strength.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wave {
    angle: f64,
    push: f64,
    width: f64,
}

const fn wave(degrees: f64, push: f64, width: f64) -> Wave {
    Wave { angle: degrees * PI / 180.0, push, width }
}

/// Table I of the paper (P, Q, R, S, T) for 60 beats per minute.
pub(super) const NORMAL: [Wave; 5] = [
    wave(-70.0, 1.2, 0.25),
    wave(-15.0, -5.0, 0.1),
    wave(0.0, 30.0, 0.1),
    wave(15.0, -7.5, 0.1),
    wave(100.0, 0.75, 0.4),
];
/// The same without a P wave.
pub(super) const WITHOUT_P: [Wave; 4] = [NORMAL[1], NORMAL[2], NORMAL[3], NORMAL[4]];
/// A ventricular beat (not in the paper): no P wave, a QRS complex three times as wide, an inverted T wave.
pub(super) const VENTRICULAR: [Wave; 3] =
    [wave(0.0, 6.4, 0.27), wave(42.0, -1.7, 0.3), wave(115.0, -0.55, 0.45)];
/// A beat of a ventricular tachycardia (not in the paper): a QRS complex of about 130 ms that goes
/// over into an opposite T wave.
pub(super) const TACHYCARDIC: [Wave; 2] = [wave(0.0, 5.0, 0.3), wave(85.0, -0.7, 0.5)];
/// Height of the R wave of [`NORMAL`] at 60 beats per minute in units of the model.
pub(super) const R_HEIGHT: f64 = 0.0425;
/// Limits of the speed along the circle relative to its mean, so that a long pause does not stretch the beat
/// before it.
pub(super) const STRETCH: std::ops::Range<f64> = 0.7..1.3;
/// Number of widths at which a wave is cut off.
const REACH: f64 = 5.0;
/// Fibrillation waves: frequency in hertz, amplitude as a share of the R wave.
pub(super) const FIBRILLATION: (f64, f64) = (6.0, 0.05);
/// Half the length of the window in which the peak of a beat is searched.
const PEAK_REACH_S: f64 = 0.06;

/// Returns the trace without noise in millivolts, and the index of each R peak.
pub(super) fn trace(
    settings: &Settings,
    beats: &[Beat],
    count: usize,
    random: &mut Random,
) -> (Vec<f32>, Vec<usize>) {
    let rate_hz = settings.sample_rate_hz;
    let step_s = 1.0 / rate_hz;
    let mean_s = 60.0 / settings.mean_bpm;
    // As in the authors' program, waves take a larger part of a faster cycle, by the square root of the rate.
    let spread = (settings.mean_bpm / 60.0).sqrt();
    let scale = settings.amplitude_mv / R_HEIGHT;
    let (tremble_hz, tremble_mv) = match settings.rhythm {
        Rhythm::Sinus | Rhythm::VentricularTachycardia | Rhythm::Asystole => (0.0, 0.0),
        Rhythm::Irregular => {
            (FIBRILLATION.0 + random.normal() * 0.5, FIBRILLATION.1 * settings.amplitude_mv.abs())
        }
    };

    let mut samples = Vec::with_capacity(count);
    let mut height = 0.0;
    let mut next = 1;
    let lead_in = (rhythm::lead_in_s(settings.rhythm) * rate_hz) as i64;
    for index in -lead_in..count as i64 {
        let time_s = index as f64 * step_s;
        while beats.get(next).is_some_and(|beat| nearest_changes(beats[next - 1], *beat) <= time_s) {
            next += 1;
        }
        let push = beats.get(next - 1).map_or(0.0, |beat| {
            let neighbour = if time_s < beat.time_s {
                next.checked_sub(2).and_then(|before| beats.get(before))
            } else {
                beats.get(next)
            };
            let round_s = neighbour.map_or(mean_s, |neighbour| (neighbour.time_s - beat.time_s).abs());
            let round_s = round_s.clamp(STRETCH.start * mean_s, STRETCH.end * mean_s);
            let speed = TAU / round_s;
            let angle = (time_s - beat.time_s) * speed;
            // In a pause longer than a cycle the point waits, and no wave acts on it.
            if angle.abs() > PI {
                return 0.0;
            }
            let waves: &[Wave] = match (beat.ventricular, settings.rhythm) {
                (true, Rhythm::VentricularTachycardia) => &TACHYCARDIC,
                (true, _) => &VENTRICULAR,
                (false, Rhythm::Irregular) => &WITHOUT_P,
                (false, _) => &NORMAL,
            };
            // The strength follows the speed, so that the height of a wave does not depend on the length of
            // the cycle.
            waves.iter().map(|wave| wave.push_at(angle, spread)).sum::<f64>() * mean_s / round_s
        });
        // dz/dt = push - z, integrated exactly in z. A point that starts on the circle stays on it, so only
        // the angle of the first two equations is needed.
        let decay = (-step_s).exp();
        height = height * decay + push * (1.0 - decay);
        if index >= 0 {
            let phase = TAU * tremble_hz * time_s;
            let tremble = tremble_mv * (phase.sin() + 0.5 * (1.7 * phase + 1.0).sin());
            samples.push((height * scale + tremble) as f32);
        }
    }
    let peaks = beats
        .iter()
        .filter_map(|beat| peak_near(&samples, beat.time_s, rate_hz, settings.amplitude_mv))
        .collect();
    (samples, peaks)
}

/// Time at which the part of one beat ends and that of the next begins.
fn nearest_changes(before: Beat, after: Beat) -> f64 {
    (before.time_s + after.time_s) / 2.0
}

impl Wave {
    pub(super) fn push_at(&self, angle: f64, spread: f64) -> f64 {
        // The R wave stays at angle 0. Other waves move away from it with the rate, distant ones less.
        let away = if self.angle.abs() < PI / 4.0 { spread } else { spread.sqrt() };
        // Angles wrap around: at a fast rate the T wave extends into the next cycle.
        let off = (angle - self.angle * away + PI).rem_euclid(TAU) - PI;
        let width = self.width * spread;
        if off.abs() > REACH * width {
            return 0.0;
        }
        -self.push * off * (-off * off / (2.0 * width * width)).exp()
    }
}

/// Index of the largest deflection near `time_s`, if it is inside the trace.
fn peak_near(samples: &[f32], time_s: f64, rate_hz: f64, amplitude_mv: f64) -> Option<usize> {
    let reach = PEAK_REACH_S * rate_hz;
    let middle = time_s * rate_hz;
    let first = (middle - reach).ceil();
    let last = (middle + reach).floor();
    if first < 0.0 || last >= samples.len() as f64 {
        return None;
    }
    let first = first as usize;
    let upright = |sample: f32| if amplitude_mv < 0.0 { -sample } else { sample };
    let window = samples.get(first..=last as usize)?;
    let peak = window.iter().enumerate().max_by(|a, b| upright(*a.1).total_cmp(&upright(*b.1)))?;
    Some(first + peak.0)
}
