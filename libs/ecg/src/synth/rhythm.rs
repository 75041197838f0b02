//! Beat times.

use std::f64::consts::TAU;

use super::random::Random;
use super::{Pause, Rhythm, Settings};

/// Center and width of the slow (Mayer) peak of the RR spectrum in hertz.
const SLOW_HZ: (f64, f64) = (0.1, 0.01);
/// Center and width of the respiratory peak in hertz.
const RESPIRATORY_HZ: (f64, f64) = (0.25, 0.01);
/// Number of sine waves per peak.
const WAVES: usize = 12;
/// A premature beat follows after this share of the regular interval.
const PREMATURE: f64 = 0.62;
/// Standard deviation of irregular intervals as a share of their mean.
const IRREGULAR_SD: f64 = 0.22;
/// Standard deviation of the intervals of a ventricular tachycardia as a share of their mean.
const VENTRICULAR_SD: f64 = 0.015;

/// A beat to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Beat {
    pub(super) time_s: f64,
    /// Whether the beat comes from a ventricle: it is wide and has no P wave.
    pub(super) ventricular: bool,
}

/// Returns the time before the start from which the trace is computed, in seconds, so that it has settled. Beats
/// without pauses between their waves move the baseline, which settles within some seconds.
pub(super) fn lead_in_s(rhythm: Rhythm) -> f64 {
    if rhythm == Rhythm::VentricularTachycardia { 5.0 } else { 0.5 }
}

/// Returns beats from before the start to after the end, so that both ends have complete waves. An asystole has
/// none.
pub(super) fn beats(settings: &Settings, random: &mut Random) -> Vec<Beat> {
    if settings.rhythm == Rhythm::Asystole {
        return Vec::new();
    }
    let ventricular = settings.rhythm == Rhythm::VentricularTachycardia;
    let mean_s = 60.0 / settings.mean_bpm;
    let tachogram = Tachogram::new(settings, random);
    let mut beats = Vec::new();
    let mut time_s = -mean_s * (1.0 + random.uniform());
    if ventricular {
        time_s -= lead_in_s(settings.rhythm);
    }
    let mut just_ectopic = true;
    while time_s < settings.duration_s + 2.0 * mean_s {
        beats.push(Beat { time_s, ventricular });
        let interval_s = match settings.rhythm {
            Rhythm::Sinus | Rhythm::Asystole => (mean_s + tachogram.deviation_s(time_s)).max(0.35 * mean_s),
            Rhythm::Irregular => mean_s * (1.0 + IRREGULAR_SD * random.normal()).clamp(0.5, 1.8),
            Rhythm::VentricularTachycardia => {
                mean_s * (1.0 + VENTRICULAR_SD * random.normal()).clamp(0.9, 1.1)
            }
        };
        // A premature beat replaces the regular one. The next beat comes at its regular time.
        if !just_ectopic && random.uniform() < settings.ectopy {
            beats.push(Beat { time_s: time_s + PREMATURE * interval_s, ventricular: true });
            time_s += 2.0 * interval_s;
            just_ectopic = settings.ectopy < 0.5;
        } else {
            time_s += interval_s;
            just_ectopic = false;
        }
    }
    beats.retain(|beat| !settings.pauses.iter().any(|pause| pause.contains(beat.time_s)));
    beats
}

impl Pause {
    fn contains(&self, time_s: f64) -> bool {
        (self.start_s..self.start_s + self.length_s).contains(&time_s)
    }
}

/// Deviation of the RR interval over time: spectral lines with random phases.
struct Tachogram {
    /// Frequency in hertz, phase, amplitude in seconds.
    waves: Vec<(f64, f64, f64)>,
}

impl Tachogram {
    fn new(settings: &Settings, random: &mut Random) -> Self {
        let sd_s = settings.rr_sd_ms / 1000.0;
        let slow = settings.lf_hf_ratio / (1.0 + settings.lf_hf_ratio);
        let mut waves = Vec::with_capacity(2 * WAVES);
        for ((centre, width), share) in [(SLOW_HZ, slow), (RESPIRATORY_HZ, 1.0 - slow)] {
            // A sine of amplitude a has the variance a²/2.
            let amplitude = sd_s * (2.0 * share / WAVES as f64).sqrt();
            for _ in 0..WAVES {
                let frequency = (centre + width * random.normal()).max(0.01);
                waves.push((frequency, TAU * random.uniform(), amplitude));
            }
        }
        Tachogram { waves }
    }

    fn deviation_s(&self, time_s: f64) -> f64 {
        self.waves
            .iter()
            .map(|(frequency, phase, amplitude)| amplitude * (TAU * frequency * time_s + phase).sin())
            .sum()
    }
}
