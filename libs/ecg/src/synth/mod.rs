//! Synthetic ECG with beat times that are known, for demonstrations and tests.
//!
//! The dynamical model of P. E. McSharry, G. D. Clifford, L. Tarassenko and L. A. Smith, "A dynamical model for
//! generating synthetic electrocardiogram signals", IEEE Transactions on Biomedical Engineering 50(3), 289-294, 2003: a
//! point runs round a unit circle once per heart beat and is pushed up and down as it passes the angles of the P, Q, R, S
//! and T waves. How long each round takes follows a spectrum with a slow (Mayer) and a respiratory peak. On top come what
//! real recordings have: noise, mains hum, drift, premature beats, an irregular rhythm and leads that fall off.

mod noise;
mod random;
mod rhythm;
mod waves;

use crate::strip::{Segment, Strip};
pub use random::Random;

/// What the synthetic recording is like. [`Settings::default`] is half a minute of quiet sinus rhythm.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Samples per second, 50 or more.
    pub sample_rate_hz: f64,
    /// Length in seconds.
    pub duration_s: f64,
    /// Mean heart rate in beats per minute.
    pub mean_bpm: f64,
    /// Standard deviation of the RR intervals in milliseconds.
    pub rr_sd_ms: f64,
    /// Power of the slow (0.1 Hz) over that of the respiratory (0.25 Hz) swing of the RR intervals.
    pub lf_hf_ratio: f64,
    /// How beats follow each other.
    pub rhythm: Rhythm,
    /// Share of beats that are premature and wide, followed by a compensatory pause: 0 to 0.5.
    pub ectopy: f64,
    /// Height of the R wave in millivolt; negative turns the lead upside down.
    pub amplitude_mv: f64,
    /// Standard deviation of white noise in millivolt.
    pub noise_mv: f64,
    /// Standard deviation of muscle noise (above 20 Hz, in bursts) in millivolt.
    pub muscle_mv: f64,
    /// Amplitude of mains hum in millivolt.
    pub mains_mv: f64,
    /// Frequency of the mains.
    pub mains_hz: f64,
    /// Amplitude of the baseline's drift in millivolt.
    pub drift_mv: f64,
    /// Stretches without a usable signal.
    pub dropouts: Vec<Dropout>,
    /// Two runs with one seed are the same to the last bit.
    pub seed: u64,
}

/// How beats follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// Regular, but for the variability asked for.
    Sinus,
    /// As in atrial fibrillation: intervals without pattern, no P waves, a trembling baseline.
    Irregular,
}

/// A stretch without a usable signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Seconds from the start.
    pub start_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// What the recording has there.
    pub kind: DropoutKind,
}

/// What a recording has where the signal is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropoutKind {
    /// A flat line: the lead fell off.
    LeadOff,
    /// Nothing at all: the strip has a gap.
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

/// A recording and what is true of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The recording.
    pub strip: Strip,
    /// Seconds from the start to each R peak that the recording shows; none lies in a dropout.
    pub beat_times_s: Vec<f64>,
}

/// Makes a recording. Settings out of range are brought to the nearest that make sense.
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
            // A week is more than anyone demonstrates.
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

    /// Indices of the samples it takes.
    fn samples(&self, rate_hz: f64, count: usize) -> std::ops::Range<usize> {
        let index = |time_s: f64| ((time_s * rate_hz).round().max(0.0) as usize).min(count);
        let start = index(self.start_s);
        start..index(self.start_s + self.length_s).max(start)
    }
}

/// Takes missing stretches out of a strip of one segment.
fn cut_missing(strip: &mut Strip, settings: &Settings) {
    let Some(whole) = strip.segments.pop() else { return };
    let count = whole.samples.len();
    let rate_hz = strip.sample_rate_hz;
    let missing = settings.dropouts.iter().filter(|dropout| dropout.kind == DropoutKind::Missing);
    let mut holes: Vec<_> = missing.map(|dropout| dropout.samples(rate_hz, count)).collect();
    holes.sort_by_key(|hole| hole.start);
    holes.push(count..count);
    let mut from = 0;
    for hole in holes {
        if let Some(samples) = whole.samples.get(from..hole.start).filter(|samples| !samples.is_empty()) {
            strip.segments.push(Segment { start_s: from as f64 / rate_hz, samples: samples.to_vec() });
        }
        from = from.max(hole.end);
    }
    strip.rows.used = strip.sample_count() as u64;
}

/// Writes a strip as the text that [`crate::csv::read`] and the patient app take: a time in seconds and a voltage in
/// millivolt per line, no header.
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
