//! The signal at the working rate, and its filtered versions.

use super::filter::{Quadrature, REACH};
use super::resample::Resampler;
use super::templates::Bands;
use super::tuning::{Tuning, work_samples};

/// Length of the bins whose maxima give the typical height of a beat: each contains one.
pub(crate) const BIN: usize = work_samples(1.5);

/// The most recent part of the signal; `dropped` samples before it were dropped.
#[derive(Debug, Clone)]
pub(crate) struct Signal {
    pub(crate) resampler: Resampler,
    filter: Quadrature,
    /// Ahead of all other fields by the reach of the filter on both sides.
    work: Vec<f32>,
    pub(crate) envelope: Vec<f32>,
    pub(crate) bands: Bands,
    /// Running sums of the squares of the bands and of the square root of the envelope; one value longer than
    /// those.
    sums: Vec<[f64; 3]>,
    /// Maximum of the envelope in each whole bin.
    highest: Vec<f32>,
    /// Working samples dropped, a whole number of bins.
    pub(crate) dropped: usize,
}

impl Signal {
    pub(crate) fn new(sample_rate_hz: f64, tuning: &Tuning) -> Self {
        Signal {
            resampler: Resampler::new(sample_rate_hz),
            filter: Quadrature::new(tuning),
            work: Vec::new(),
            envelope: Vec::new(),
            bands: Bands::default(),
            sums: vec![[0.0; 3]],
            highest: Vec::new(),
            dropped: 0,
        }
    }

    /// Number of working samples filtered since the start.
    pub(crate) fn end(&self) -> usize {
        self.dropped + self.envelope.len()
    }

    /// Processes the new part of `input`, which is all finite and of which `input_dropped` samples were
    /// dropped.
    pub(crate) fn push(&mut self, input: &[f32], input_dropped: u64) {
        if self.dropped == 0 && self.work.is_empty() && !input.is_empty() {
            // Before its start the signal has its first value.
            self.work.resize(REACH, 0.0);
        }
        self.resampler.run(input, input_dropped, &mut self.work);
        self.filter();
    }

    /// Extends the signal with its last value, so that a beat at the very end is not lost.
    pub(crate) fn hold(&mut self) {
        let last = self.work.last().copied().unwrap_or(0.0);
        self.work.resize(self.work.len() + REACH, last);
        self.filter();
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let values = self.work.capacity()
            + self.envelope.capacity()
            + self.bands.iter().map(Vec::capacity).sum::<usize>()
            + self.highest.capacity();
        4 * values + size_of::<[f64; 3]>() * self.sums.capacity() + self.resampler.heap_bytes()
    }

    /// Removes the working samples from `end` on, as if the signal had ended before them.
    pub(crate) fn truncate(&mut self, end: usize) {
        self.work.truncate((end + REACH).saturating_sub(self.dropped));
        let filtered = self.work.len().saturating_sub(2 * REACH);
        self.envelope.truncate(filtered);
        for band in &mut self.bands {
            band.truncate(filtered);
        }
        self.sums.truncate(filtered + 1);
        self.highest.truncate(filtered / BIN);
    }

    fn filter(&mut self) {
        let from = self.envelope.len();
        self.filter.run(&self.work[from.min(self.work.len())..], &mut self.envelope);
        let new = self.envelope.len() - from;
        if new == 0 {
            return;
        }
        let shifted = |by: usize| self.work[from + REACH - 2 + by..].iter().take(new);
        let far = shifted(0).zip(shifted(4));
        let near = shifted(1).zip(shifted(3));
        self.bands[0].extend(far.clone().zip(near).map(|((a, e), (b, d))| e - a + 2.0 * (d - b)));
        self.bands[1].extend(far.zip(shifted(2)).map(|((a, e), c)| 2.0 * c - a - e));
        self.sum(from);
        for bin in self.envelope[BIN * self.highest.len()..].chunks_exact(BIN) {
            self.highest.push(highest(bin));
        }
    }

    /// Continues the running sums from the sample `from`.
    fn sum(&mut self, from: usize) {
        let mut sums = self.sums.last().copied().unwrap_or_default();
        let bands = self.bands[0][from..].iter().zip(&self.bands[1][from..]);
        self.sums.extend(bands.zip(&self.envelope[from..]).map(|((lower, upper), envelope)| {
            sums[0] += f64::from(lower * lower);
            sums[1] += f64::from(upper * upper);
            sums[2] += f64::from(envelope.sqrt());
            sums
        }));
    }

    /// Energy of both bands from `low` to `high`, counted from the first sample kept.
    pub(crate) fn energy(&self, low: usize, high: usize) -> [f64; 2] {
        let (low, high) = (&self.sums[low], &self.sums[high]);
        [high[0] - low[0], high[1] - low[1]]
    }

    /// Typical height of the envelope from `low` to `high`, counted from the first sample kept. The squared
    /// mean root is robust against the few high values of a QRS complex.
    pub(crate) fn background(&self, low: usize, high: usize) -> f32 {
        let mean = ((self.sums[high][2] - self.sums[low][2]) / (high - low) as f64) as f32;
        mean * mean
    }

    /// Maxima of the envelope in all bins before `end`.
    pub(crate) fn heights(&self, end: usize) -> Vec<f32> {
        let visible = &self.envelope[..end - self.dropped];
        let whole = visible.len() / BIN;
        let mut heights = self.highest[..whole].to_vec();
        let rest = &visible[whole * BIN..];
        if !rest.is_empty() {
            heights.push(highest(rest));
        }
        heights
    }

    /// Drops at most `samples` samples.
    pub(crate) fn forget(&mut self, samples: usize) {
        let bins = samples / BIN;
        let samples = bins * BIN;
        self.highest.drain(..bins);
        self.work.drain(..samples);
        self.envelope.drain(..samples);
        self.sums.drain(..samples);
        for band in 0..2 {
            self.bands[band].drain(..samples);
        }
        self.dropped += samples;
    }
}

fn highest(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(0.0, |high, value| if *value > high { *value } else { high })
}
