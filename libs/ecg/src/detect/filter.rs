//! The band of the QRS complex, and its envelope.

use super::tuning::{Tuning, WORK_HZ};

/// Two filters in quadrature: the same band, a quarter of a period apart, so that the root of the sum of their squares
/// is one smooth hump for each QRS complex, whatever its shape and polarity. Each is a wave under a bell (Gabor 1946),
/// differentiated once to be deaf to the wandering baseline.
#[derive(Debug, Clone)]
pub(crate) struct Quadrature {
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl Quadrature {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let half = (3.0 * tuning.sigma_s * WORK_HZ).ceil() as i32;
        let radians = 2.0 * std::f64::consts::PI * tuning.center_hz / WORK_HZ;
        let bell: Vec<f64> = (-half..=half)
            .map(|n| (-(f64::from(n) / WORK_HZ / tuning.sigma_s).powi(2) / 2.0).exp())
            .collect();
        let wave = |of: fn(f64) -> f64| -> Vec<f64> {
            (-half..=half).zip(&bell).map(|(n, bell)| bell * of(radians * f64::from(n))).collect()
        };
        let (mut even, odd) = (wave(f64::cos), wave(f64::sin));
        // The even one must not see a constant: take out as much of the bell as it holds.
        let share = even.iter().sum::<f64>() / bell.iter().sum::<f64>();
        even.iter_mut().zip(&bell).for_each(|(tap, bell)| *tap -= share * bell);
        let finish = |taps: Vec<f64>| -> Vec<f32> {
            let taps = differentiated(&taps);
            // A sine of the center frequency and amplitude 1 has the envelope 1.
            let (mut re, mut im) = (0.0, 0.0);
            for (at, tap) in taps.iter().enumerate() {
                re += tap * (radians * at as f64).cos();
                im += tap * (radians * at as f64).sin();
            }
            taps.iter().map(|tap| (tap / f64::hypot(re, im)) as f32).collect()
        };
        Quadrature { even: finish(even), odd: finish(odd) }
    }

    /// Samples on each side that an output depends on.
    pub(crate) fn reach(&self) -> usize {
        self.even.len() / 2
    }

    /// Appends the envelope for every input that has its neighbourhood in `input`: `input.len() - 2 * reach` values.
    pub(crate) fn run(&self, input: &[f32], envelope: &mut Vec<f32>) {
        // Block by block, tap by tap: the innermost loop has no dependences and becomes SIMD code.
        const BLOCK: usize = 64;
        let outputs = (input.len() + 1).saturating_sub(self.even.len());
        let mut start = 0;
        while start < outputs {
            let length = BLOCK.min(outputs - start);
            let (mut even, mut odd) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
            for (at, (even_tap, odd_tap)) in self.even.iter().zip(&self.odd).enumerate() {
                let source = &input[start + at..start + at + length];
                for ((even, odd), value) in even.iter_mut().zip(&mut odd).zip(source) {
                    *even += even_tap * value;
                    *odd += odd_tap * value;
                }
            }
            envelope
                .extend(even[..length].iter().zip(&odd).map(|(even, odd)| (even * even + odd * odd).sqrt()));
            start += length;
        }
    }
}

/// Convolved with (x[n+1] - x[n-1]) / 2, which keeps the middle in the middle.
fn differentiated(taps: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; taps.len() + 2];
    for (at, tap) in taps.iter().enumerate() {
        out[at] += tap / 2.0;
        out[at + 2] -= tap / 2.0;
    }
    out
}
