//! From any sampling rate to the one working rate.
//!
//! Faster signals are averaged with a triangular weight of two working samples' width (its zeros at the multiples of the
//! working rate keep aliases away from the QRS band); slower ones are interpolated linearly.

use super::tuning::WORK_HZ;

#[derive(Debug, Clone)]
pub(crate) struct Resampler {
    /// Working samples per input sample.
    step: f64,
    /// Position of the next input sample between the open output sample and the one after it, 0 to 1.
    phase: f64,
    /// Weighted sums of the open output sample and the next one, and their weights.
    sums: [f32; 2],
    weights: [f32; 2],
    /// What is subtracted from all input, so that a large offset costs no precision.
    offset: Option<f32>,
    last: f32,
}

impl Resampler {
    pub(crate) fn new(sample_rate_hz: f64) -> Self {
        Resampler {
            step: WORK_HZ / sample_rate_hz,
            phase: 0.0,
            sums: [0.0; 2],
            weights: [0.0; 2],
            offset: None,
            last: 0.0,
        }
    }

    /// Appends the working samples that `input` completes. `input` must be finite.
    pub(crate) fn push(&mut self, input: &[f32], out: &mut Vec<f32>) {
        let Some(first) = input.first() else { return };
        let offset = *self.offset.get_or_insert(*first);
        if self.step < 1.0 {
            let (mut phase, mut sums, mut weights) = (self.phase, self.sums, self.weights);
            for value in input {
                if phase >= 1.0 {
                    out.push(sums[0] / weights[0]);
                    (sums, weights) = ([sums[1], 0.0], [weights[1], 0.0]);
                    phase -= 1.0;
                }
                let value = value - offset;
                let late = phase as f32;
                sums[0] += (1.0 - late) * value;
                sums[1] += late * value;
                weights[0] += 1.0 - late;
                weights[1] += late;
                phase += self.step;
            }
            (self.phase, self.sums, self.weights) = (phase, sums, weights);
        } else {
            // `phase` is how far the next output lies behind the last input, in output samples.
            for value in input {
                let value = value - offset;
                while self.phase <= self.step {
                    let part = (self.phase / self.step) as f32;
                    out.push(self.last + (value - self.last) * part);
                    self.phase += 1.0;
                }
                self.phase -= self.step;
                self.last = value;
            }
        }
    }

    /// Position of a working sample among the input samples.
    pub(crate) fn input_position(&self, work: f64) -> f64 {
        // While interpolating, the first input sample has a made-up one before it.
        if self.step < 1.0 { work / self.step } else { work / self.step - 1.0 }
    }
}
