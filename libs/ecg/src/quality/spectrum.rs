//! Power spectrum of a segment by Welch's method.

use std::f32::consts::TAU;
use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples per transform: 4 s at 125 Hz, a resolution of 0.25 Hz.
const LENGTH: usize = 512;

/// Hann window of full length.
static HANN: LazyLock<[f32; LENGTH]> = LazyLock::new(|| std::array::from_fn(|index| hann(index, LENGTH)));

/// The transform of one piece. Planning it computes the twiddle factors, so it is planned once.
static FFT: LazyLock<Arc<dyn RealToComplex<f32>>> =
    LazyLock::new(|| RealFftPlanner::new().plan_fft_forward(LENGTH));

/// Power density by Welch's method (IEEE Trans Audio Electroacoust 15(2), 1967): the sum over pieces that overlap by half.
/// The scale is arbitrary; only ratios of powers are meaningful.
pub(super) struct Spectrum {
    density: Vec<f64>,
    step_hz: f64,
}

impl Spectrum {
    /// Spectrum of `samples` at `rate` samples per second. A segment shorter than one transform is padded with zeros.
    pub(super) fn new(samples: &[f32], rate: f64) -> Self {
        let mean = samples.iter().sum::<f32>() / samples.len().max(1) as f32;
        let mut density = vec![0.0; LENGTH / 2];
        let last = samples.len().saturating_sub(LENGTH);
        let pieces = last.div_ceil(LENGTH / 2) + 1;
        let mut input = [0.0_f32; LENGTH];
        let mut output = [Complex::new(0.0_f32, 0.0); LENGTH / 2 + 1];
        let mut scratch = FFT.make_scratch_vec();
        for index in 0..pieces {
            let start = (index * LENGTH / 2).min(last);
            let piece = &samples[start..(start + LENGTH).min(samples.len())];
            input.fill(0.0);
            for (index, (out, value)) in input.iter_mut().zip(piece).enumerate() {
                let weight = if piece.len() == LENGTH { HANN[index] } else { hann(index, piece.len()) };
                *out = weight * (value - mean);
            }
            // The lengths are those of the plan, the only condition of the transform.
            if FFT.process_with_scratch(&mut input, &mut output, &mut scratch).is_ok() {
                for (density, value) in density.iter_mut().zip(&output) {
                    *density += f64::from(value.norm_sqr());
                }
            }
        }
        Spectrum { density, step_hz: rate / LENGTH as f64 }
    }

    /// Power from `from` up to, not including, `to` hertz.
    pub(super) fn power(&self, from: f64, to: f64) -> f64 {
        let index = |hertz: f64| ((hertz / self.step_hz).round() as usize).min(self.density.len());
        self.density[index(from)..index(to).max(index(from))].iter().sum::<f64>()
    }

    /// Largest share of the power above 1 Hz that lies in five adjacent bins.
    pub(super) fn tone(&self) -> f64 {
        let from = (1.0 / self.step_hz).ceil() as usize;
        let above = &self.density[from.min(self.density.len())..];
        let all = above.iter().sum::<f64>();
        above.windows(5).map(|line| line.iter().sum::<f64>()).fold(0.0, f64::max) / all
    }
}

/// Weight of sample `index` in a Hann window of `length` samples.
fn hann(index: usize, length: usize) -> f32 {
    0.5 - 0.5 * (TAU * (index as f32 + 0.5) / length as f32).cos()
}
