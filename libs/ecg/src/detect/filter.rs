//! The band of the QRS complex, and its envelope.

use super::tuning::{Tuning, WORK_HZ};

/// Two filters in quadrature: the same band, a quarter of a period apart, so that the root of the sum of their squares
/// is one smooth hump for each QRS complex, whatever its shape and polarity.
#[derive(Debug, Clone)]
pub(crate) struct Quadrature {
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl Quadrature {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let half = (3.0 * tuning.sigma_s * WORK_HZ).ceil() as i32;
        let wave = |phase: f64| -> Vec<f64> {
            (-half..=half)
                .map(|n| {
                    let t = f64::from(n) / WORK_HZ;
                    let angle = 2.0 * std::f64::consts::PI * tuning.center_hz * t;
                    (-t * t / (2.0 * tuning.sigma_s * tuning.sigma_s)).exp() * (angle + phase).cos()
                })
                .collect()
        };
        let mut even = wave(0.0);
        let mut odd = wave(-std::f64::consts::FRAC_PI_2);
        // The even one must not see a constant: take out as much of the bell as it holds.
        let bell: Vec<f64> = (-half..=half)
            .map(|n| (-(f64::from(n) / WORK_HZ).powi(2) / (2.0 * tuning.sigma_s * tuning.sigma_s)).exp())
            .collect();
        let share = even.iter().sum::<f64>() / bell.iter().sum::<f64>();
        even.iter_mut().zip(&bell).for_each(|(tap, bell)| *tap -= share * bell);
        for _ in 0..tuning.differences {
            // (x[n+1] - x[n-1]) / 2 keeps the middle in the middle.
            for taps in [&mut even, &mut odd] {
                let mut next = vec![0.0; taps.len() + 2];
                for (at, tap) in taps.iter().enumerate() {
                    next[at] += tap / 2.0;
                    next[at + 2] -= tap / 2.0;
                }
                *taps = next;
            }
        }
        // A sine of the center frequency and amplitude 1 has the envelope 1.
        let gain = |taps: &[f64]| {
            let (mut re, mut im) = (0.0, 0.0);
            for (at, tap) in taps.iter().enumerate() {
                let angle = 2.0 * std::f64::consts::PI * tuning.center_hz * at as f64 / WORK_HZ;
                re += tap * angle.cos();
                im += tap * angle.sin();
            }
            f64::hypot(re, im)
        };
        let scaled = |taps: Vec<f64>| -> Vec<f32> {
            let gain = gain(&taps);
            taps.iter().map(|tap| (tap / gain) as f32).collect()
        };
        Quadrature { even: scaled(even), odd: scaled(odd) }
    }

    /// Samples on each side that an output depends on.
    pub(crate) fn reach(&self) -> usize {
        self.even.len() / 2
    }

    /// Appends to `band` (the even output) and `envelope` for every input that has its neighbourhood in `input`:
    /// `input.len() - 2 * reach` values.
    pub(crate) fn run(&self, input: &[f32], band: &mut Vec<f32>, envelope: &mut Vec<f32>) {
        const BLOCK: usize = 64;
        let taps = self.even.len();
        let outputs = (input.len() + 1).saturating_sub(taps);
        let mut start = 0;
        while start < outputs {
            let length = BLOCK.min(outputs - start);
            let (mut even, mut odd) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
            for (at, (even_tap, odd_tap)) in self.even.iter().zip(&self.odd).enumerate() {
                let source = &input[start + at..start + at + length];
                for ((even, odd), value) in even.iter_mut().zip(odd.iter_mut()).zip(source) {
                    *even += even_tap * value;
                    *odd += odd_tap * value;
                }
            }
            band.extend_from_slice(&even[..length]);
            envelope
                .extend(even[..length].iter().zip(&odd).map(|(even, odd)| (even * even + odd * odd).sqrt()));
            start += length;
        }
    }
}
