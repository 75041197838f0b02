//! Band-pass filter for the QRS complex, and its envelope.

use super::tuning::{TUNING, Tuning, WORK_HZ};

/// Working samples on each side that an output depends on: three standard deviations of the window, plus one
/// for the difference.
pub(crate) const REACH: usize = (3.0 * TUNING.sigma_s * WORK_HZ).ceil() as usize + 1;
/// Outputs computed together, so that the compiler emits SIMD code.
const LANES: usize = 16;

/// Two filters in quadrature: the same band, a quarter of a period apart. The root of the sum of their
/// squares is one smooth peak per QRS complex, whatever its shape and polarity. Each filter is a
/// Gaussian-windowed wave (Gabor 1946), differentiated once to reject baseline drift.
#[derive(Debug, Clone)]
pub(crate) struct Quadrature {
    /// Weights of x[n + k] - x[n - k] and of x[n + k] + x[n - k]: one filter is odd, the other even.
    differences: [f32; REACH + 1],
    sums: [f32; REACH + 1],
}

impl Quadrature {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let half = REACH as i32 - 1;
        let radians = 2.0 * std::f64::consts::PI * tuning.center_hz / WORK_HZ;
        let window: Vec<f64> = (-half..=half)
            .map(|n| (-(f64::from(n) / WORK_HZ / tuning.sigma_s).powi(2) / 2.0).exp())
            .collect();
        let wave = |of: fn(f64) -> f64| -> Vec<f64> {
            (-half..=half).zip(&window).map(|(n, window)| window * of(radians * f64::from(n))).collect()
        };
        let (mut even, odd) = (wave(f64::cos), wave(f64::sin));
        // The even filter must reject a constant, so the share of the window it contains is subtracted.
        let share = even.iter().sum::<f64>() / window.iter().sum::<f64>();
        even.iter_mut().zip(&window).for_each(|(tap, window)| *tap -= share * window);
        // Differentiation makes the even filter odd and the odd filter even.
        let finish = |taps: Vec<f64>| -> [f32; REACH + 1] {
            let taps = differentiated(&taps);
            // Scale: a sine of amplitude 1 at the center frequency has the envelope 1.
            let (mut re, mut im) = (0.0, 0.0);
            for (at, tap) in taps.iter().enumerate() {
                re += tap * (radians * at as f64).cos();
                im += tap * (radians * at as f64).sin();
            }
            std::array::from_fn(|k| (taps[REACH + k] / f64::hypot(re, im)) as f32)
        };
        let (differences, mut sums) = (finish(even), finish(odd));
        // The middle tap is added to itself.
        sums[0] /= 2.0;
        Quadrature { differences, sums }
    }

    /// Appends the envelope for every input with complete surroundings: `input.len() - 2 * REACH` values.
    pub(crate) fn run(&self, input: &[f32], envelope: &mut Vec<f32>) {
        const WINDOW: usize = LANES + 2 * REACH;
        let outputs = input.len().saturating_sub(2 * REACH);
        envelope.reserve(outputs);
        for start in (0..outputs).step_by(LANES) {
            if let Some((window, _)) = input[start..].split_first_chunk::<WINDOW>() {
                envelope.extend_from_slice(&self.block(window));
            } else {
                let mut window = [0.0; WINDOW];
                let rest = &input[start..];
                window[..rest.len()].copy_from_slice(rest);
                envelope.extend_from_slice(&self.block(&window)[..outputs - start]);
            }
        }
    }

    fn block(&self, window: &[f32; LANES + 2 * REACH]) -> [f32; LANES] {
        let (mut odd, mut even) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for (k, (difference, sum)) in self.differences.iter().zip(&self.sums).enumerate() {
            let after: &[f32] = &window[REACH + k..REACH + k + LANES];
            let before: &[f32] = &window[REACH - k..REACH - k + LANES];
            for lane in 0..LANES {
                odd[lane] += difference * (after[lane] - before[lane]);
                even[lane] += sum * (after[lane] + before[lane]);
            }
        }
        std::array::from_fn(|lane| (odd[lane] * odd[lane] + even[lane] * even[lane]).sqrt())
    }
}

/// Convolution with (x[n+1] - x[n-1]) / 2, which keeps the center in place.
fn differentiated(taps: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; taps.len() + 2];
    for (at, tap) in taps.iter().enumerate() {
        out[at] += tap / 2.0;
        out[at + 2] -= tap / 2.0;
    }
    out
}
