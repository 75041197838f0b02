//! The power spectrum of a stretch.

use std::f32::consts::TAU;
use std::sync::LazyLock;

/// Samples of each piece that is transformed: 4 s at 125 Hz, so that 1 Hz can be told from 0.
const LENGTH: usize = 512;

/// Power density by Welch's method (IEEE Trans Audio Electroacoust 15(2), 1967): the mean over pieces that overlap by half.
pub(super) struct Spectrum {
    density: Vec<f64>,
    step_hz: f64,
}

impl Spectrum {
    pub(super) fn new(samples: &[f32], rate: f64) -> Self {
        let mean = samples.iter().sum::<f32>() / samples.len().max(1) as f32;
        let mut density = vec![0.0; LENGTH / 2];
        let last = samples.len().saturating_sub(LENGTH);
        let pieces = last.div_ceil(LENGTH / 2) + 1;
        for piece in 0..pieces {
            let start = (piece * LENGTH / 2).min(last);
            let piece = &samples[start..(start + LENGTH).min(samples.len())];
            let mut re = [0.0_f32; LENGTH];
            let mut im = [0.0_f32; LENGTH];
            for (index, value) in piece.iter().enumerate() {
                let bell = if piece.len() == LENGTH { BELL[index] } else { bell(index, piece.len()) };
                re[index] = bell * (value - mean);
            }
            transform(&mut re, &mut im);
            for (density, (re, im)) in density.iter_mut().zip(re.iter().zip(&im)) {
                *density += f64::from(re * re + im * im);
            }
        }
        Spectrum { density, step_hz: rate / LENGTH as f64 }
    }

    /// Power from `from` up to, not including, `to` hertz.
    pub(super) fn power(&self, from: f64, to: f64) -> f64 {
        let index = |hertz: f64| ((hertz / self.step_hz).round() as usize).min(self.density.len());
        self.density[index(from)..index(to).max(index(from))].iter().sum::<f64>()
    }

    /// The largest share of the power above 1 Hz that one narrow line has.
    pub(super) fn tone(&self) -> f64 {
        let from = (1.0 / self.step_hz).ceil() as usize;
        let above = &self.density[from.min(self.density.len())..];
        let all = above.iter().sum::<f64>();
        above.windows(5).map(|line| line.iter().sum::<f64>()).fold(0.0, f64::max) / all
    }
}

/// The weight of a sample in a piece (Hann).
fn bell(index: usize, length: usize) -> f32 {
    0.5 - 0.5 * (TAU * (index as f32 + 0.5) / length as f32).cos()
}

/// The weights in a piece of full length.
static BELL: LazyLock<[f32; LENGTH]> = LazyLock::new(|| std::array::from_fn(|index| bell(index, LENGTH)));

/// Sine and cosine of each turn of each step of the transform; those of the step with `half` start at `half`.
static TURNS: LazyLock<[(f32, f32); LENGTH]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let half = 1 << index.max(1).ilog2();
        let turn = index.max(1) - half;
        (-TAU * turn as f32 / (2 * half) as f32).sin_cos()
    })
});

/// The discrete Fourier transform, in place (Cooley and Tukey 1965, radix 2).
fn transform(re: &mut [f32; LENGTH], im: &mut [f32; LENGTH]) {
    let bits = LENGTH.trailing_zeros();
    for index in 0..LENGTH {
        let mirrored = index.reverse_bits() >> (usize::BITS - bits);
        if mirrored > index {
            re.swap(index, mirrored);
            im.swap(index, mirrored);
        }
    }
    let mut half = 1;
    while half < LENGTH {
        for turn in 0..half {
            let (sin, cos) = TURNS[half + turn];
            for even in (turn..LENGTH).step_by(2 * half) {
                let odd = even + half;
                let (odd_re, odd_im) = (re[odd] * cos - im[odd] * sin, re[odd] * sin + im[odd] * cos);
                (re[odd], im[odd]) = (re[even] - odd_re, im[even] - odd_im);
                re[even] += odd_re;
                im[even] += odd_im;
            }
        }
        half *= 2;
    }
}
