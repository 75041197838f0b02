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
        let piece = |index: usize, out: &mut [f32; LENGTH]| {
            let start = (index * LENGTH / 2).min(last);
            let piece = &samples[start..(start + LENGTH).min(samples.len())];
            for (index, (out, value)) in out.iter_mut().zip(piece).enumerate() {
                let bell = if piece.len() == LENGTH { BELL[index] } else { bell(index, piece.len()) };
                *out = bell * (value - mean);
            }
        };
        for pair in (0..pieces).step_by(2) {
            // Two real pieces go through one complex transform; the sum of their powers is what both halves of it hold.
            let mut re = [0.0_f32; LENGTH];
            let mut im = [0.0_f32; LENGTH];
            piece(pair, &mut re);
            if pair + 1 < pieces {
                piece(pair + 1, &mut im);
            }
            transform(&mut re, &mut im);
            let power = |index: usize| f64::from(re[index] * re[index] + im[index] * im[index]);
            for (index, density) in density.iter_mut().enumerate() {
                *density += (power(index) + power((LENGTH - index) % LENGTH)) / 2.0;
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

/// Sines and cosines of each turn of each step of the transform; those of the step with `half` start at `half`.
static TURNS: LazyLock<([f32; LENGTH], [f32; LENGTH])> = LazyLock::new(|| {
    let angle = |index: usize| {
        let half = 1 << index.max(1).ilog2();
        -TAU * (index.max(1) - half) as f32 / (2 * half) as f32
    };
    (std::array::from_fn(|index| angle(index).sin()), std::array::from_fn(|index| angle(index).cos()))
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
    let (sines, cosines) = &*TURNS;
    let mut half = 1;
    while half < LENGTH {
        let (sines, cosines) = (&sines[half..2 * half], &cosines[half..2 * half]);
        for (re, im) in re.chunks_exact_mut(2 * half).zip(im.chunks_exact_mut(2 * half)) {
            let ((even_re, odd_re), (even_im, odd_im)) = (re.split_at_mut(half), im.split_at_mut(half));
            let even = even_re.iter_mut().zip(even_im);
            let odd = odd_re.iter_mut().zip(odd_im);
            for (((even_re, even_im), (odd_re, odd_im)), (sin, cos)) in
                even.zip(odd).zip(sines.iter().zip(cosines))
            {
                let turned_re = *odd_re * cos - *odd_im * sin;
                let turned_im = *odd_re * sin + *odd_im * cos;
                (*odd_re, *odd_im) = (*even_re - turned_re, *even_im - turned_im);
                *even_re += turned_re;
                *even_im += turned_im;
            }
        }
        half *= 2;
    }
}
