//! Renders bursts of pulses to samples.

use std::f64::consts::{PI, TAU};
use std::time::Duration;

/// Samples per second of rendered sounds.
pub const SAMPLE_RATE_HZ: u32 = 48_000;

/// The priority that a burst sounds like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SoundPriority {
    /// Two pulses.
    Low,
    /// Three pulses.
    Medium,
    /// Two groups of five pulses.
    High,
}

/// The volume of a sound: one of ten steps, of which none is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume(u8);

impl Volume {
    /// The softest volume.
    pub const MIN: Volume = Volume(1);
    /// The loudest volume.
    pub const MAX: Volume = Volume(10);
    /// Decibels between two steps.
    const STEP_DB: f64 = 3.0;

    /// The step that is nearest to `step`.
    #[must_use]
    pub fn of_step(step: u8) -> Self {
        Volume(step.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The step, from 1 to 10.
    #[must_use]
    pub fn step(self) -> u8 {
        self.0
    }

    /// The peak of the samples.
    fn peak(self) -> f64 {
        0.9 * 10_f64.powf(f64::from(Self::MAX.0 - self.0) * -Self::STEP_DB / 20.0)
    }
}

impl Default for Volume {
    fn default() -> Self {
        Volume(8)
    }
}

/// Pulse and burst of a priority. Times are in seconds.
struct Pattern {
    /// Fundamental frequency. The standard allows 150 to 1000 Hz.
    frequency_hz: f64,
    /// Effective duration of a pulse (`t_d`): the time above 90 % of its amplitude.
    pulse_s: f64,
    /// Spacings between the pulses (`t_s`), from 90 % of the fall to 90 % of the next rise.
    spacings_s: &'static [f64],
    /// Time from the end of a burst to the start of the next one (`t_b`).
    interburst_s: f64,
}

/// Spacing of the pulses of high priority: `x`, 50 to 125 ms.
const HIGH_X_S: f64 = 0.1;
/// Effective duration of a pulse of high priority: 75 to 200 ms.
const HIGH_PULSE_S: f64 = 0.15;
/// Spacing between the third and the fourth pulse of a group of high priority: 2 `x` + `t_d`.
const HIGH_GAP_S: f64 = 2.0 * HIGH_X_S + HIGH_PULSE_S;
/// Spacing between both groups of high priority: 0.35 to 1.3 s.
const HIGH_GROUPS_S: f64 = 0.7;
/// Spacing of the pulses of medium and low priority: `y`, 125 to 250 ms.
const Y_S: f64 = 0.2;
/// Effective duration of a pulse of medium and low priority: 125 to 250 ms.
const PULSE_S: f64 = 0.2;

const HIGH: Pattern = Pattern {
    frequency_hz: 523.25,
    pulse_s: HIGH_PULSE_S,
    spacings_s: &[
        HIGH_X_S,
        HIGH_X_S,
        HIGH_GAP_S,
        HIGH_X_S,
        HIGH_GROUPS_S,
        HIGH_X_S,
        HIGH_X_S,
        HIGH_GAP_S,
        HIGH_X_S,
    ],
    // 2.5 to 15 s.
    interburst_s: 4.0,
};
const MEDIUM: Pattern = Pattern {
    frequency_hz: 392.0,
    pulse_s: PULSE_S,
    spacings_s: &[Y_S, Y_S],
    // 2.5 to 30 s.
    interburst_s: 7.5,
};
const LOW: Pattern = Pattern {
    frequency_hz: 329.63,
    pulse_s: PULSE_S,
    spacings_s: &[Y_S],
    // More than 15 s.
    interburst_s: 20.0,
};

/// Amplitudes of the harmonics from the fundamental on. The standard requires at least four components from 300 to 4000 Hz within
/// 15 dB of the fundamental; there are six, so that small loudspeakers reproduce enough of them.
const HARMONICS: [f64; 7] = [1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

/// Duration of the rise from 10 % to 90 % as a share of the effective duration of a pulse. The standard requires 10 to 40 %.
const RISE_SHARE: f64 = 0.2;

impl SoundPriority {
    /// All priorities, the lowest first.
    pub const ALL: [SoundPriority; 3] = [SoundPriority::Low, SoundPriority::Medium, SoundPriority::High];

    fn pattern(self) -> &'static Pattern {
        match self {
            SoundPriority::Low => &LOW,
            SoundPriority::Medium => &MEDIUM,
            SoundPriority::High => &HIGH,
        }
    }
}

/// Position within a raised-cosine ramp, from 0 to 1, at which it reaches this share of its height.
fn ramp_position(height: f64) -> f64 {
    (1.0 - 2.0 * height).acos() / PI
}

impl Pattern {
    /// Length of the whole ramp of a rise or a fall.
    fn ramp_s(&self) -> f64 {
        RISE_SHARE * self.pulse_s / (ramp_position(0.9) - ramp_position(0.1))
    }

    /// Time from the start of a ramp to 90 % of its height.
    fn to_90_s(&self) -> f64 {
        self.ramp_s() * ramp_position(0.9)
    }

    /// Starts of the pulses.
    fn starts_s(&self) -> Vec<f64> {
        let mut starts = vec![0.0];
        let mut start = 0.0;
        for spacing in self.spacings_s {
            start += self.pulse_s + spacing;
            starts.push(start);
        }
        starts
    }

    /// Length of a pulse from silence to silence.
    fn whole_pulse_s(&self) -> f64 {
        self.pulse_s + 2.0 * self.to_90_s()
    }

    /// The envelope of a pulse at this time after its start, from 0 to 1.
    fn envelope(&self, time_s: f64) -> f64 {
        let from_edge = time_s.min(self.whole_pulse_s() - time_s);
        let position = (from_edge / self.ramp_s()).clamp(0.0, 1.0);
        0.5 - 0.5 * (PI * position).cos()
    }

    /// Sum of the harmonics at this time, with a peak of at most 1.
    fn tone(&self, time_s: f64, scale: f64) -> f64 {
        let phase = TAU * self.frequency_hz * time_s;
        let sum =
            (1_u32..).zip(HARMONICS).map(|(order, amplitude)| amplitude * (phase * f64::from(order)).sin());
        scale * sum.sum::<f64>()
    }

    /// The factor by which [`Pattern::tone`] has a peak of 1.
    fn scale(&self) -> f64 {
        let period = f64::from(SAMPLE_RATE_HZ) / self.frequency_hz;
        let steps = 8 * period.ceil() as u32;
        let at = |step: u32| self.tone(f64::from(step) / (f64::from(steps) * self.frequency_hz), 1.0).abs();
        1.0 / (0..steps).map(at).fold(f64::MIN_POSITIVE, f64::max)
    }
}

/// Duration of the burst of a priority.
#[must_use]
pub fn burst_duration(priority: SoundPriority) -> Duration {
    let pattern = priority.pattern();
    let last = pattern.starts_s().last().copied().unwrap_or_default();
    Duration::from_secs_f64(last + pattern.whole_pulse_s())
}

/// Time from the end of the burst of a priority to the start of the next one.
#[must_use]
pub fn interburst_interval(priority: SoundPriority) -> Duration {
    Duration::from_secs_f64(priority.pattern().interburst_s)
}

/// Samples of one burst: one channel, [`SAMPLE_RATE_HZ`], from -1 to 1.
#[must_use]
pub fn burst(priority: SoundPriority, volume: Volume) -> Vec<f32> {
    let pattern = priority.pattern();
    let rate = f64::from(SAMPLE_RATE_HZ);
    let scale = pattern.scale() * volume.peak();
    let mut samples = vec![0.0_f32; (burst_duration(priority).as_secs_f64() * rate).ceil() as usize];
    let length = (pattern.whole_pulse_s() * rate).ceil() as usize;
    for start in pattern.starts_s() {
        let first = (start * rate).round() as usize;
        for (offset, sample) in samples.iter_mut().skip(first).take(length).enumerate() {
            let time = offset as f64 / rate;
            *sample += (pattern.envelope(time) * pattern.tone(time, scale)) as f32;
        }
    }
    samples
}
