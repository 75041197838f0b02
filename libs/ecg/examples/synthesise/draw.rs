//! Drawing of beats of known shape at known times, and of disturbances.

use std::f64::consts::TAU;

use ecg::synth::Random;

/// Shape of a wave around its center.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// A Gaussian; `width_s` is its standard deviation.
    Gaussian,
    /// A triangle; `width_s` is half its base.
    Triangle,
    /// Half a period of a sine; `width_s` is half its base.
    HalfSine,
}

/// A wave of a beat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wave {
    /// Seconds after the R peak.
    pub(crate) offset_s: f64,
    pub(crate) height_mv: f64,
    pub(crate) width_s: f64,
    pub(crate) form: Form,
}

/// A Gaussian wave.
pub(crate) fn gaussian(offset_s: f64, height_mv: f64, width_s: f64) -> Wave {
    Wave { offset_s, height_mv, width_s, form: Form::Gaussian }
}

impl Wave {
    fn reach_s(&self) -> f64 {
        if self.form == Form::Gaussian { 5.0 * self.width_s } else { self.width_s }
    }

    fn at(&self, since_peak_s: f64) -> f64 {
        let place = (since_peak_s - self.offset_s) / self.width_s;
        self.height_mv
            * match self.form {
                Form::Gaussian => (-place * place / 2.0).exp(),
                Form::Triangle => (1.0 - place.abs()).max(0.0),
                Form::HalfSine if place.abs() < 1.0 => (place * TAU / 4.0).cos(),
                Form::HalfSine => 0.0,
            }
    }
}

/// A recording in progress.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) rate_hz: f64,
    pub(crate) samples: Vec<f64>,
}

impl Trace {
    pub(crate) fn new(rate_hz: f64, seconds: f64) -> Self {
        Trace { rate_hz, samples: vec![0.0; (rate_hz * seconds).round() as usize] }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.samples.len() as f64 / self.rate_hz
    }

    fn range(&self, from_s: f64, to_s: f64) -> std::ops::Range<usize> {
        let index = |time_s: f64| ((time_s * self.rate_hz).ceil().max(0.0) as usize).min(self.samples.len());
        index(from_s)..index(to_s).max(index(from_s))
    }

    /// Adds the waves of a beat with its R peak at `time_s`, scaled by `gain`.
    pub(crate) fn beat(&mut self, time_s: f64, waves: &[Wave], gain: f64) {
        for wave in waves {
            let middle_s = time_s + wave.offset_s;
            for index in self.range(middle_s - wave.reach_s(), middle_s + wave.reach_s()) {
                self.samples[index] += gain * wave.at(index as f64 / self.rate_hz - time_s);
            }
        }
    }

    /// Adds `value(time)` to each sample.
    pub(crate) fn add(&mut self, mut value: impl FnMut(f64) -> f64) {
        for (index, sample) in self.samples.iter_mut().enumerate() {
            *sample += value(index as f64 / self.rate_hz);
        }
    }

    pub(crate) fn white(&mut self, sd_mv: f64, random: &mut Random) {
        self.add(|_| sd_mv * random.normal());
    }

    /// Adds muscle noise within an interval: white noise above 20 Hz (one pole) with this standard deviation.
    pub(crate) fn muscle(&mut self, sd_mv: f64, from_s: f64, to_s: f64, random: &mut Random) {
        let keep = 1.0 / (1.0 + TAU * 20.0 / self.rate_hz);
        let gain = sd_mv * ((1.0 + keep) / (2.0 * keep * keep)).sqrt();
        let (mut before, mut passed) = (0.0, 0.0);
        self.add(|time_s| {
            let white = random.normal();
            passed = keep * (passed + white - before);
            before = white;
            if (from_s..to_s).contains(&time_s) { gain * passed } else { 0.0 }
        });
    }

    /// Adds a sine of this amplitude.
    pub(crate) fn drift(&mut self, amplitude_mv: f64, hertz: f64, random: &mut Random) {
        let phase = TAU * random.uniform();
        self.add(|time_s| amplitude_mv * (TAU * hertz * time_s + phase).sin());
    }

    /// Adds a pacemaker pulse: a box of `width_s` averaged over one sample, as by the low-pass filter of a
    /// recorder, with an opposite exponential tail (AAMI EC13 4.1.4.2).
    pub(crate) fn pulse(&mut self, time_s: f64, height_mv: f64, width_s: f64, tail_mv: f64, decay_s: f64) {
        let at = time_s * self.rate_hz;
        let (index, share) = (at.floor() as usize, at.fract());
        let seen_mv = height_mv * (width_s * self.rate_hz).min(1.0);
        for (index, part) in [(index, 1.0 - share), (index + 1, share)] {
            if let Some(sample) = self.samples.get_mut(index) {
                *sample += seen_mv * part;
            }
        }
        for index in self.range(time_s + width_s, time_s + 6.0 * decay_s) {
            let since_s = index as f64 / self.rate_hz - time_s;
            self.samples[index] -= tail_mv * (-since_s / decay_s).exp();
        }
    }

    /// Holds the signal constant in an interval, at `level_mv` or at its value at `from_s`.
    pub(crate) fn hold(&mut self, from_s: f64, to_s: f64, level_mv: Option<f64>) {
        let range = self.range(from_s, to_s);
        let level = level_mv.unwrap_or(self.samples.get(range.start).copied().unwrap_or(0.0));
        self.samples[range].fill(level);
    }
}
