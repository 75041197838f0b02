//! The shapes that beats of this signal have, and how well a place fits them.
//!
//! A matched filter with an estimate of its own error. Shapes are compared in two bands (first and second differences,
//! about 5-30 Hz and 15-45 Hz), each against the noise in that band: movement artefacts fill the lower one and leave the
//! upper one usable, muscle noise does the opposite.

use super::tuning::{Tuning, work_samples};

/// Half the length of a shape.
pub(crate) const HALF: usize = work_samples(0.1);
/// Length of a shape.
pub(crate) const LENGTH: usize = 2 * HALF + 1;
/// A peak of the envelope may lie this far from the place where the shape fits best.
const SLACK: usize = work_samples(0.024);
const PLACES: usize = 2 * SLACK + 1;
/// Normal beats, two kinds of ectopic ones, and one to spare.
const SHAPES: usize = 4;
/// What a shape weighs less with each beat: unused ones are replaced first.
const FORGET: f32 = 0.995;
/// Amplitudes relative to the shape that breathing and posture make usual.
const USUAL_AMPLITUDE: (f32, f32) = (0.7, 1.4);
/// From this correlation on, amplitude does not matter for which shape a beat has.
const SAME_SHAPE: f32 = 0.9;

/// The signal in two bands.
pub(crate) type Bands = [Vec<f32>; 2];

/// What has been learned of one shape.
#[derive(Debug, Clone)]
struct Shape {
    waves: [[f32; LENGTH]; 2],
    energy: [f32; 2],
    /// Energy of what is not known of it yet, relative to its own.
    doubt: f32,
    /// Beats it was learned from, forgotten slowly.
    weight: f32,
}

/// All shapes known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    shapes: Vec<Shape>,
}

/// How each shape fits at a place, whatever the noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Products {
    of: [Product; SHAPES],
}

/// Inner product with a shape and energy of the signal at the best lag, in each band.
#[derive(Debug, Clone, Copy, Default)]
struct Product {
    product: [f32; 2],
    energy: [f32; 2],
    lag: isize,
    known: bool,
}

/// How well a place fits the shape it fits best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    shape: usize,
    /// Where it fits best, relative to the place.
    lag: isize,
    /// Correlation with the shape in the lower band.
    pub(crate) correlation: f32,
    /// Noise relative to the shape, in the band where it is less.
    pub(crate) noise: f32,
    /// Logarithm of how much better "this shape and noise" explains the signal than "noise" does.
    pub(crate) evidence: f32,
    /// Energy that the shape does not explain, in each band.
    pub(crate) residual: [f32; 2],
}

impl Shapes {
    /// How each shape fits around `at`.
    pub(crate) fn products(&self, bands: &Bands, at: usize) -> Products {
        let mut out = Products { of: [Product::default(); SHAPES] };
        let Some(low) = at.checked_sub(HALF + SLACK) else { return out };
        let range = low..low + LENGTH + 2 * SLACK;
        let (Some(lower), Some(upper)) = (bands[0].get(range.clone()), bands[1].get(range)) else {
            return out;
        };
        let energies = [energies(lower), energies(upper)];
        for (shape, out) in self.shapes.iter().zip(&mut out.of) {
            // The lower band finds the place, the upper one follows.
            let mut best = (f32::NEG_INFINITY, 0);
            for place in 0..PLACES {
                let product = dot(&shape.waves[0], &lower[place..place + LENGTH]);
                if product > best.0 {
                    best = (product, place);
                }
            }
            let place = best.1;
            *out = Product {
                product: [best.0, dot(&shape.waves[1], &upper[place..place + LENGTH])],
                energy: [energies[0][place], energies[1][place]],
                lag: place as isize - SLACK as isize,
                known: best.0.is_finite(),
            };
        }
        out
    }

    /// The best fit; nothing while no shape is known.
    pub(crate) fn fit(&self, products: &Products, noise: [f32; 2], tuning: &Tuning) -> Option<Fit> {
        let mut best: Option<Fit> = None;
        for (index, (shape, at)) in self.shapes.iter().zip(&products.of).enumerate() {
            if !at.known {
                continue;
            }
            let mut relative = [0.0; 2];
            let mut residual = [0.0; 2];
            let mut evidence = 0.0;
            let weights = [1.0, tuning.upper_band];
            for band in 0..2 {
                let gain = at.product[band] / shape.energy[band];
                let energy = at.energy[band] / shape.energy[band];
                let amplitude = gain.clamp(USUAL_AMPLITUDE.0, USUAL_AMPLITUDE.1);
                let left = (energy - 2.0 * amplitude * gain + amplitude * amplitude).max(0.0);
                relative[band] = noise[band] / shape.energy[band];
                // A ratio of two sums instead of a difference: noise has heavy tails, and what is far too large for a
                // beat of this shape must not count for one.
                let doubt = relative[band] + shape.doubt + tuning.variability;
                evidence += weights[band] * ((doubt + energy) / (doubt + left)).ln();
                residual[band] = left.min(tuning.residual_cap) * shape.energy[band];
            }
            if best.is_none_or(|best| evidence > best.evidence) {
                let norm = (shape.energy[0] * at.energy[0]).sqrt().max(f32::MIN_POSITIVE);
                best = Some(Fit {
                    shape: index,
                    lag: at.lag,
                    correlation: (at.product[0] / norm).min(1.0),
                    noise: relative[0].min(relative[1]),
                    evidence,
                    residual,
                });
            }
        }
        best
    }

    /// Learns from a beat; the less, the more noise there is and the surer the shape is already (a Kalman filter).
    pub(crate) fn learn(
        &mut self,
        bands: &Bands,
        at: usize,
        confidence: f32,
        noise: [f32; 2],
        tuning: &Tuning,
    ) {
        let fit = self
            .fit(&self.products(bands, at), noise, tuning)
            .filter(|fit| fit.evidence > tuning.learn_from || fit.correlation > SAME_SHAPE);
        let place = fit.map_or(at, |fit| at.saturating_add_signed(fit.lag));
        let Some(low) = place.checked_sub(HALF) else { return };
        let mut waves = [[0.0; LENGTH]; 2];
        for (wave, band) in waves.iter_mut().zip(bands) {
            let Some(piece) = band.get(low..low + LENGTH) else { return };
            wave.copy_from_slice(piece);
        }
        let energy = [dot(&waves[0], &waves[0]), dot(&waves[1], &waves[1])];
        let usable = |energy: f32| energy > f32::MIN_POSITIVE && energy.is_finite();
        if !energy.into_iter().all(usable) {
            return;
        }
        for shape in &mut self.shapes {
            shape.weight *= FORGET;
        }
        if let Some(fit) = fit {
            let shape = &mut self.shapes[fit.shape];
            shape.weight += confidence;
            let uncertain = tuning.caution * fit.noise + tuning.variability;
            let gain = confidence * shape.doubt / (shape.doubt + uncertain);
            for (band, wave) in waves.iter().enumerate() {
                for (old, new) in shape.waves[band].iter_mut().zip(wave) {
                    *old += gain * (new - *old);
                }
                shape.energy[band] = dot(&shape.waves[band], &shape.waves[band]).max(f32::MIN_POSITIVE);
            }
            shape.doubt = shape.doubt * (1.0 - gain) + tuning.drift;
        } else {
            // Large noise looks clean beside itself: compare it with what is known best.
            let known = self.shapes.iter().max_by(|left, right| left.weight.total_cmp(&right.weight));
            let relative = noise[0] / known.map_or(energy[0], |shape| shape.energy[0].min(energy[0]));
            if relative > tuning.new_noise && !self.shapes.is_empty() {
                return;
            }
            let new = Shape { waves, energy, doubt: relative + tuning.new_doubt, weight: confidence };
            if self.shapes.len() < SHAPES {
                self.shapes.push(new);
            } else if let Some(least) =
                self.shapes.iter_mut().min_by(|left, right| left.weight.total_cmp(&right.weight))
            {
                *least = new;
            }
        }
    }
}

/// Energy of each stretch of a shape's length.
fn energies(around: &[f32]) -> [f32; PLACES] {
    let mut out = [0.0; PLACES];
    let mut energy = dot(&around[..LENGTH], &around[..LENGTH]);
    out[0] = energy;
    for place in 1..PLACES {
        energy += around[place + LENGTH - 1].powi(2) - around[place - 1].powi(2);
        out[place] = energy.max(0.0);
    }
    out
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    // Eight sums that do not wait for each other become SIMD lanes.
    let mut sums = [0.0_f32; 8];
    let (left_chunks, right_chunks) = (left.chunks_exact(8), right.chunks_exact(8));
    let rest: f32 =
        left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(left, right)| left * right).sum();
    for (left, right) in left_chunks.zip(right_chunks) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
