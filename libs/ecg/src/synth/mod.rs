//! Synthetic ECG with known beat times, for demonstrations and tests.
//!
//! The dynamical model of P. E. McSharry, G. D. Clifford, L. Tarassenko and L. A. Smith, "A dynamical model
//! for generating synthetic electrocardiogram signals", IEEE Transactions on Biomedical Engineering 50(3),
//! 289-294, 2003. A point moves around a unit circle once per heart beat; Gaussian terms at the angles of the
//! P, Q, R, S and T waves move it up and down. The spectrum of the RR intervals has a slow (Mayer) and a
//! respiratory peak. Noise, mains hum, drift, premature beats, other rhythms, pauses and dropouts are added.

mod noise;
mod patient;
mod random;
mod rhythm;
mod waves;

use crate::strip::{Segment, Strip};
pub use patient::{PatientSettings, SimulatedLead, SimulatedNumerics, SimulatedPatient};
pub use random::Random;

/// Settings of the generator. [`Settings::default`] is half a minute of sinus rhythm.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Samples per second, at least 50.
    pub sample_rate_hz: f64,
    /// Length in seconds.
    pub duration_s: f64,
    /// Mean heart rate in beats per minute.
    pub mean_bpm: f64,
    /// Standard deviation of the RR intervals in milliseconds.
    pub rr_sd_ms: f64,
    /// Power of the slow (0.1 Hz) divided by power of the respiratory (0.25 Hz) component of the RR
    /// intervals.
    pub lf_hf_ratio: f64,
    /// Rhythm.
    pub rhythm: Rhythm,
    /// Share of premature wide beats with a compensatory pause, 0 to 0.5.
    pub ectopy: f64,
    /// Intervals without beats.
    pub pauses: Vec<Pause>,
    /// Height of the R wave in millivolts. Negative values invert the lead.
    pub amplitude_mv: f64,
    /// Standard deviation of white noise in millivolts.
    pub noise_mv: f64,
    /// Standard deviation of muscle noise (above 20 Hz, in bursts) in millivolts.
    pub muscle_mv: f64,
    /// Amplitude of mains hum in millivolts.
    pub mains_mv: f64,
    /// Mains frequency in hertz.
    pub mains_hz: f64,
    /// Amplitude of the baseline drift in millivolts.
    pub drift_mv: f64,
    /// Intervals without a usable signal.
    pub dropouts: Vec<Dropout>,
    /// Seed. Equal seeds give identical samples.
    pub seed: u64,
}

/// Rhythm of the beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// Regular, with the requested variability.
    Sinus,
    /// As in atrial fibrillation: random intervals, no P waves, fibrillation waves.
    Irregular,
    /// Regular wide beats without P waves.
    VentricularTachycardia,
    /// No beats.
    Asystole,
}

/// An interval without beats, as in a sinus arrest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pause {
    /// Seconds from the start.
    pub start_s: f64,
    /// Duration in seconds.
    pub length_s: f64,
}

/// An interval without a usable signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Seconds from the start.
    pub start_s: f64,
    /// Duration in seconds.
    pub length_s: f64,
    /// Content of the recording during the dropout.
    pub kind: DropoutKind,
}

/// Content of the recording during a dropout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropoutKind {
    /// A constant value: the lead is off.
    LeadOff,
    /// No samples: the strip has a gap.
    Missing,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sample_rate_hz: 360.0,
            duration_s: 30.0,
            mean_bpm: 72.0,
            rr_sd_ms: 30.0,
            lf_hf_ratio: 0.5,
            rhythm: Rhythm::Sinus,
            ectopy: 0.0,
            pauses: Vec::new(),
            amplitude_mv: 1.1,
            noise_mv: 0.01,
            muscle_mv: 0.0,
            mains_mv: 0.0,
            mains_hz: 50.0,
            drift_mv: 0.05,
            dropouts: Vec::new(),
            seed: 1,
        }
    }
}

/// A generated recording and its beats.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The recording.
    pub strip: Strip,
    /// Times of the R peaks in seconds. None is in a dropout.
    pub beat_times_s: Vec<f64>,
}

/// Generates a recording. Settings out of range are clamped.
#[must_use]
pub fn generate(settings: &Settings) -> Synthetic {
    let settings = settings.brought_into_range();
    let rate_hz = settings.sample_rate_hz;
    let count = ((settings.duration_s * rate_hz).round() as usize).max(1);
    let mut random = Random::new(settings.seed);
    let beats = rhythm::beats(&settings, &mut random);
    let (mut samples, peaks) = waves::trace(&settings, &beats, count, &mut random);
    noise::add(&settings, &mut samples, &mut random);

    let is_lost = |time_s: f64| settings.dropouts.iter().any(|dropout| dropout.contains(time_s));
    for dropout in settings.dropouts.iter().filter(|dropout| dropout.kind == DropoutKind::LeadOff) {
        let range = dropout.samples(rate_hz, count);
        let held = samples.get(range.start).copied().unwrap_or_default();
        samples.get_mut(range).unwrap_or_default().fill(held);
    }
    let beat_times_s =
        peaks.iter().map(|&peak| peak as f64 / rate_hz).filter(|&time_s| !is_lost(time_s)).collect();
    let mut strip = Strip::from_samples(rate_hz, samples);
    strip.lead = Some("synthetic".to_owned());
    cut_missing(&mut strip, &settings);
    Synthetic { strip, beat_times_s }
}

impl Settings {
    fn brought_into_range(&self) -> Self {
        let finite = |value: f64, low: f64, high: f64, otherwise: f64| {
            if value.is_finite() { value.clamp(low, high) } else { otherwise }
        };
        let default = Settings::default();
        Settings {
            sample_rate_hz: finite(self.sample_rate_hz, 50.0, 20_000.0, default.sample_rate_hz),
            // Limit: one week.
            duration_s: finite(self.duration_s, 0.0, 604_800.0, default.duration_s),
            mean_bpm: finite(self.mean_bpm, 20.0, 300.0, default.mean_bpm),
            rr_sd_ms: finite(self.rr_sd_ms, 0.0, 500.0, 0.0),
            lf_hf_ratio: finite(self.lf_hf_ratio, 0.01, 100.0, default.lf_hf_ratio),
            ectopy: finite(self.ectopy, 0.0, 0.5, 0.0),
            amplitude_mv: finite(self.amplitude_mv, -100.0, 100.0, default.amplitude_mv),
            noise_mv: finite(self.noise_mv, 0.0, 100.0, 0.0),
            muscle_mv: finite(self.muscle_mv, 0.0, 100.0, 0.0),
            mains_mv: finite(self.mains_mv, 0.0, 100.0, 0.0),
            mains_hz: finite(self.mains_hz, 1.0, 1000.0, default.mains_hz),
            drift_mv: finite(self.drift_mv, 0.0, 100.0, 0.0),
            ..self.clone()
        }
    }
}

impl Dropout {
    fn contains(&self, time_s: f64) -> bool {
        (self.start_s..self.start_s + self.length_s).contains(&time_s)
    }

    /// Range of the samples of the dropout.
    fn samples(&self, rate_hz: f64, count: usize) -> std::ops::Range<usize> {
        let index = |time_s: f64| ((time_s * rate_hz).round().max(0.0) as usize).min(count);
        let start = index(self.start_s);
        start..index(self.start_s + self.length_s).max(start)
    }
}

/// Removes missing intervals from a strip of one segment.
fn cut_missing(strip: &mut Strip, settings: &Settings) {
    let Some(whole) = strip.segments.pop() else { return };
    let count = whole.samples.len();
    let rate_hz = strip.sample_rate_hz;
    let missing = settings.dropouts.iter().filter(|dropout| dropout.kind == DropoutKind::Missing);
    let mut gaps: Vec<_> = missing.map(|dropout| dropout.samples(rate_hz, count)).collect();
    gaps.sort_by_key(|gap| gap.start);
    gaps.push(count..count);
    let mut from = 0;
    for gap in gaps {
        if let Some(samples) = whole.samples.get(from..gap.start).filter(|samples| !samples.is_empty()) {
            strip.segments.push(Segment { start_s: from as f64 / rate_hz, samples: samples.to_vec() });
        }
        from = from.max(gap.end);
    }
    strip.rows.used = strip.sample_count() as u64;
}

/// Writes a strip in the CSV dialect of the patient app: one line per sample with seconds and millivolts, no
/// header.
#[must_use]
pub fn csv(strip: &Strip) -> Vec<u8> {
    use std::io::Write as _;
    let mut text = Vec::with_capacity(strip.sample_count() * 16);
    for segment in &strip.segments {
        for (index, sample) in segment.samples.iter().enumerate() {
            let time_s = segment.start_s + index as f64 / strip.sample_rate_hz;
            // Writing to memory cannot fail.
            let _ = writeln!(text, "{time_s:.5},{sample:.4}");
        }
    }
    text
}
