//! Noise, mains hum and baseline drift.

use std::f64::consts::TAU;

use super::Settings;
use super::random::Random;

/// Lowest frequency of muscle noise in hertz.
pub(super) const MUSCLE_ABOVE_HZ: f64 = 20.0;
/// Period of the bursts of muscle noise.
pub(super) const MUSCLE_BURST_S: f64 = 2.5;
/// Components of the drift (breathing and slow movements): frequency in hertz, share of the amplitude.
pub(super) const DRIFT: [(f64, f64); 4] = [(0.27, 0.35), (0.15, 0.25), (0.07, 0.25), (0.031, 0.15)];

/// Adds all configured disturbances to `samples`.
pub(super) fn add(settings: &Settings, samples: &mut [f32], random: &mut Random) {
    let step_s = 1.0 / settings.sample_rate_hz;
    if settings.noise_mv > 0.0 {
        for sample in samples.iter_mut() {
            *sample += (settings.noise_mv * random.normal()) as f32;
        }
    }
    if settings.muscle_mv > 0.0 {
        add_muscle(settings, samples, random);
    }
    if settings.mains_mv > 0.0 {
        let phase = TAU * random.uniform();
        let swell = TAU * random.uniform();
        for (index, sample) in samples.iter_mut().enumerate() {
            let time_s = index as f64 * step_s;
            let strength = settings.mains_mv * (1.0 + 0.1 * (0.4 * time_s + swell).sin());
            *sample += (strength * (TAU * settings.mains_hz * time_s + phase).sin()) as f32;
        }
    }
    if settings.drift_mv > 0.0 {
        let phases = DRIFT.map(|_| TAU * random.uniform());
        for (index, sample) in samples.iter_mut().enumerate() {
            let time_s = index as f64 * step_s;
            let drift: f64 = DRIFT
                .iter()
                .zip(phases)
                .map(|((frequency, share), phase)| share * (TAU * frequency * time_s + phase).sin())
                .sum();
            *sample += (settings.drift_mv * drift) as f32;
        }
    }
}

/// High-pass filtered white noise with a varying amplitude.
fn add_muscle(settings: &Settings, samples: &mut [f32], random: &mut Random) {
    let step_s = 1.0 / settings.sample_rate_hz;
    // A first-order high-pass, scaled to the requested standard deviation.
    let keep = 1.0 / (1.0 + TAU * MUSCLE_ABOVE_HZ * step_s);
    let gain = settings.muscle_mv * ((1.0 + keep) / (2.0 * keep * keep)).sqrt();
    let phase = TAU * random.uniform();
    let (mut before, mut passed) = (0.0, 0.0);
    for (index, sample) in samples.iter_mut().enumerate() {
        let white = random.normal();
        passed = keep * (passed + white - before);
        before = white;
        let time_s = index as f64 * step_s;
        let tension = 1.0 + 0.8 * (TAU * time_s / MUSCLE_BURST_S + phase).sin();
        *sample += (gain * tension * passed) as f32;
    }
}
