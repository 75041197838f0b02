//! The signal at the working rate, and what the filters make of it.

use super::filter::Quadrature;
use super::resample::Resampler;
use super::shapes::Bands;
use super::tuning::Tuning;

/// The last stretch of the signal; what lies before `gone` has been dropped.
#[derive(Debug, Clone)]
pub(crate) struct Signal {
    pub(crate) resampler: Resampler,
    filter: Quadrature,
    /// Ahead of everything below by the reach of the filter on both sides.
    work: Vec<f32>,
    pub(crate) envelope: Vec<f32>,
    pub(crate) bands: Bands,
    /// Running sums of the squares of the bands, one value longer than they are.
    power: [Vec<f64>; 2],
    /// Working samples dropped.
    pub(crate) gone: usize,
}

impl Signal {
    pub(crate) fn new(sample_rate_hz: f64, tuning: &Tuning) -> Self {
        Signal {
            resampler: Resampler::new(sample_rate_hz),
            filter: Quadrature::new(tuning),
            work: Vec::new(),
            envelope: Vec::new(),
            bands: Bands::default(),
            power: [vec![0.0], vec![0.0]],
            gone: 0,
        }
    }

    /// Number of working samples that went through the filters since the start.
    pub(crate) fn end(&self) -> usize {
        self.gone + self.envelope.len()
    }

    /// Takes input samples, all finite.
    pub(crate) fn push(&mut self, input: &[f32]) {
        if self.gone == 0 && self.work.is_empty() && !input.is_empty() {
            // As if the signal had always been at its first value.
            self.work.resize(self.filter.reach(), 0.0);
        }
        self.resampler.push(input, &mut self.work);
        self.filter();
    }

    /// As if the signal stayed at its last value: a beat at the very end must not be lost.
    pub(crate) fn hold(&mut self) {
        let last = self.work.last().copied().unwrap_or(0.0);
        self.work.resize(self.work.len() + self.filter.reach(), last);
        self.filter();
    }

    fn filter(&mut self) {
        let from = self.envelope.len();
        self.filter.run(&self.work[from.min(self.work.len())..], &mut self.envelope);
        let reach = self.filter.reach();
        let new = self.envelope.len() - from;
        if new == 0 {
            return;
        }
        let around = &self.work[from + reach - 2..from + reach + 2 + new];
        self.bands[0].extend(around.windows(5).map(|w| w[4] - w[0] + 2.0 * (w[3] - w[1])));
        self.bands[1].extend(around.windows(5).map(|w| 2.0 * w[2] - w[0] - w[4]));
        for (power, band) in self.power.iter_mut().zip(&self.bands) {
            let mut sum = power.last().copied().unwrap_or(0.0);
            power.extend(band[from..].iter().map(|value| {
                sum += f64::from(*value) * f64::from(*value);
                sum
            }));
        }
    }

    /// Energy of both bands from `low` to `high`, counted from the first sample kept.
    pub(crate) fn energy(&self, low: usize, high: usize) -> [f64; 2] {
        [0, 1].map(|band| self.power[band][high] - self.power[band][low])
    }

    pub(crate) fn forget(&mut self, samples: usize) {
        self.work.drain(..samples);
        self.envelope.drain(..samples);
        for band in 0..2 {
            self.bands[band].drain(..samples);
            self.power[band].drain(..samples);
        }
        self.gone += samples;
    }
}
