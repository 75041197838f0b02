//! Templates of the QRS complexes of a signal, and how well a position fits them.
//!
//! A matched filter that estimates its own error. Templates are compared in two bands (first and second
//! differences, about 5-30 Hz and 15-45 Hz), each against the noise in that band. Movement artefacts occupy
//! the lower band and leave the upper one usable; muscle noise does the opposite.

use super::logarithm::ln;
use super::signal::Signal;
use super::tuning::{Tuning, work_samples};

/// Half the length of a template.
pub(crate) const HALF: usize = work_samples(0.1);
/// Length of a template.
pub(crate) const LENGTH: usize = 2 * HALF + 1;
/// Length in whole SIMD registers.
const PADDED: usize = LENGTH.next_multiple_of(4);
/// Largest distance between the peak of the envelope and the position of best fit.
const SLACK: usize = work_samples(0.024);
const PLACES: usize = 2 * SLACK + 1;
/// Number of templates: normal beats, two kinds of ectopic beats, and one spare.
const TEMPLATES: usize = 4;
/// Decay of the weight of a template per beat. Unused templates are replaced first.
const FORGET: f32 = 0.995;
/// Usual range of amplitudes relative to the template, due to breathing and posture.
const USUAL_AMPLITUDE: (f32, f32) = (0.7, 1.4);
/// Lowest amplitude of a beat that matches a template.
const LOWEST_AMPLITUDE: f32 = 0.2;
/// Penalty of such a beat per unit of noise.
const LOW_IN_NOISE: f32 = 5.0;
/// Above this correlation a beat belongs to a template whatever its amplitude.
const SAME_SHAPE: f32 = 0.9;

/// The signal in two bands.
pub(crate) type Bands = [Vec<f32>; 2];

/// One value per template, so that all templates are processed together as SIMD code.
type Lanes = [f32; TEMPLATES];

/// The learned templates.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    known: usize,
    /// Lower band: samples of all templates interleaved, padded on both sides by the number of positions
    /// minus one.
    lower: [Lanes; LENGTH + 2 * (PLACES - 1)],
    upper: [[f32; PADDED]; TEMPLATES],
    /// Energy in each band, and its inverse; 0 for unused templates.
    energy: [Lanes; 2],
    inverse: [Lanes; 2],
    /// Uncertainty of a template relative to its energy.
    doubt: Lanes,
    /// Number of beats it was learned from, with decay.
    weight: Lanes,
}

/// Inner product of each template with the signal at its best position, and energy of the signal there, in
/// each band.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Products {
    known: usize,
    product: [Lanes; 2],
    energy: [Lanes; 2],
    place: [u32; TEMPLATES],
}

/// Fit of the best template at a position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    template: usize,
    /// Offset of the best fit from the position.
    lag: isize,
    /// Correlation with the template in the lower band.
    pub(crate) correlation: f32,
    /// Noise relative to the template in the band with less noise.
    pub(crate) noise: f32,
    /// Log-likelihood ratio of "this template plus noise" against "noise".
    pub(crate) evidence: f32,
    /// Energy that the template does not explain, in each band.
    pub(crate) residual: [f32; 2],
}

impl Default for Templates {
    fn default() -> Self {
        let none = [0.0; TEMPLATES];
        Templates {
            known: 0,
            lower: [none; LENGTH + 2 * (PLACES - 1)],
            upper: [[0.0; PADDED]; TEMPLATES],
            energy: [none; 2],
            inverse: [none; 2],
            doubt: none,
            weight: none,
        }
    }
}

impl Templates {
    /// Computes the products of all templates around `at`, counted from the first sample kept.
    pub(crate) fn products(&self, signal: &Signal, at: usize) -> Products {
        let mut out = Products::default();
        let Some(low) = at.checked_sub(HALF + SLACK) else { return out };
        let range = low..low + LENGTH + PLACES - 1;
        let (Some(lower), Some(upper)) = (signal.bands[0].get(range.clone()), signal.bands[1].get(range))
        else {
            return out;
        };
        out.known = self.known;
        // The lower band determines the position. Each sample is multiplied with the template samples it
        // meets at the different positions.
        let mut products = [[0.0_f32; TEMPLATES]; PLACES];
        for (value, templates) in lower.iter().zip(self.lower.windows(PLACES)) {
            for (product, template) in products.iter_mut().rev().zip(templates) {
                for lane in 0..TEMPLATES {
                    product[lane] += value * template[lane];
                }
            }
        }
        let (mut best, mut place) = ([f32::NEG_INFINITY; TEMPLATES], [0; TEMPLATES]);
        for (at, product) in (0..).zip(&products) {
            for lane in 0..TEMPLATES {
                place[lane] = if product[lane] > best[lane] { at } else { place[lane] };
                best[lane] = higher(product[lane], best[lane]);
            }
        }
        out.product[0] = best;
        out.place = place;
        let mut padded = [0.0; PADDED + PLACES];
        padded[..upper.len()].copy_from_slice(upper);
        for template in 0..self.known {
            let place = place[template] as usize;
            let energy = signal.energy(low + place, low + place + LENGTH);
            let around = &padded[place..place + PADDED];
            out.product[1][template] = dot(around.as_chunks().0, self.upper[template].as_chunks().0);
            for (out, energy) in out.energy.iter_mut().zip(energy) {
                out[template] = energy as f32;
            }
        }
        out
    }

    /// Returns the best fit. `None` while there is no template.
    pub(crate) fn fit(&self, products: &Products, noise: [f32; 2], tuning: &Tuning) -> Option<Fit> {
        let mut evidence = [0.0; TEMPLATES];
        let mut evidence_low = [-tuning.low_beat; TEMPLATES];
        let mut relative = [[0.0; TEMPLATES]; 2];
        let mut residual = [[0.0; TEMPLATES]; 2];
        let weights = [1.0, tuning.upper_band];
        let (least, most) = USUAL_AMPLITUDE;
        for band in 0..2 {
            for lane in 0..TEMPLATES {
                let inverse = self.inverse[band][lane];
                let gain = products.product[band][lane] * inverse;
                let energy = products.energy[band][lane] * inverse;
                let amplitude = higher(lower(gain, most), least);
                let left = higher(energy - 2.0 * amplitude * gain + amplitude * amplitude, 0.0);
                relative[band][lane] = noise[band] * inverse;
                // A ratio of sums instead of a difference: noise has heavy tails, and a peak much too large
                // for this template must not count as evidence for it.
                let doubt = relative[band][lane] + self.doubt[lane] + tuning.variability;
                evidence[lane] += weights[band] * ln((doubt + energy) / (doubt + left));
                // The same template at a low amplitude; its variability scales with it.
                let amplitude = higher(lower(gain, least), LOWEST_AMPLITUDE);
                let square = amplitude * amplitude;
                let left_low = higher(energy - 2.0 * amplitude * gain + square, 0.0);
                let doubt = relative[band][lane] + (self.doubt[lane] + tuning.variability) * square;
                evidence_low[lane] += weights[band] * ln((doubt + energy) / (doubt + left_low));
                residual[band][lane] = lower(left, tuning.residual_cap) * self.energy[band][lane];
            }
        }
        for (lane, evidence) in evidence.iter_mut().enumerate() {
            // Noise resembles low beats of any template.
            let noise = lower(relative[0][lane], relative[1][lane]);
            *evidence = higher(*evidence, evidence_low[lane] - LOW_IN_NOISE * noise);
        }
        let template = (0..products.known)
            .reduce(|best, template| if evidence[template] > evidence[best] { template } else { best })?;
        let norm = (self.energy[0][template] * products.energy[0][template]).sqrt().max(f32::MIN_POSITIVE);
        Some(Fit {
            template,
            lag: products.place[template] as isize - SLACK as isize,
            correlation: (products.product[0][template] / norm).min(1.0),
            noise: relative[0][template].min(relative[1][template]),
            evidence: evidence[template],
            residual: residual.map(|residual| residual[template]),
        })
    }

    /// Learns from a beat with a Kalman gain: less with more noise and with a more certain template.
    pub(crate) fn learn(
        &mut self,
        signal: &Signal,
        at: usize,
        confidence: f32,
        noise: [f32; 2],
        tuning: &Tuning,
    ) {
        let fit = self
            .fit(&self.products(signal, at), noise, tuning)
            .filter(|fit| fit.evidence > tuning.learn_from || fit.correlation > SAME_SHAPE);
        let place = fit.map_or(at, |fit| at.saturating_add_signed(fit.lag));
        let Some(low) = place.checked_sub(HALF) else { return };
        let mut waves = [[0.0; LENGTH]; 2];
        for (wave, band) in waves.iter_mut().zip(&signal.bands) {
            let Some(piece) = band.get(low..low + LENGTH) else { return };
            wave.copy_from_slice(piece);
        }
        let energy = waves.map(|wave| wave.iter().map(|value| value * value).sum::<f32>());
        let usable = |energy: f32| energy > f32::MIN_POSITIVE && energy.is_finite();
        if !energy.into_iter().all(usable) {
            return;
        }
        for weight in &mut self.weight {
            *weight *= FORGET;
        }
        if let Some(fit) = fit {
            let doubt = &mut self.doubt[fit.template];
            self.weight[fit.template] += confidence;
            let uncertain = tuning.caution * fit.noise + tuning.variability;
            let gain = confidence * *doubt / (*doubt + uncertain);
            *doubt = *doubt * (1.0 - gain) + tuning.drift;
            self.approach(fit.template, &waves, gain);
        } else {
            // Large noise looks clean relative to itself, so it is compared with the best known template.
            let by_weight = |left: &usize, right: &usize| self.weight[*left].total_cmp(&self.weight[*right]);
            let best = (0..self.known).max_by(by_weight);
            let relative = noise[0] / best.map_or(energy[0], |best| self.energy[0][best].min(energy[0]));
            if relative > tuning.new_noise && self.known > 0 {
                return;
            }
            let new = if self.known < TEMPLATES {
                self.known += 1;
                self.known - 1
            } else {
                (0..TEMPLATES).min_by(by_weight).unwrap_or(0)
            };
            self.doubt[new] = relative + tuning.new_doubt;
            self.weight[new] = confidence;
            self.approach(new, &waves, 1.0);
        }
    }

    /// Moves a template by the share `gain` towards the observation.
    fn approach(&mut self, template: usize, seen: &[[f32; LENGTH]; 2], gain: f32) {
        let mut energy = [0.0; 2];
        for (old, new) in self.lower[PLACES - 1..].iter_mut().zip(&seen[0]) {
            old[template] += gain * (new - old[template]);
            energy[0] += old[template] * old[template];
        }
        for (old, new) in self.upper[template].iter_mut().zip(&seen[1]) {
            *old += gain * (new - *old);
            energy[1] += *old * *old;
        }
        for (band, energy) in energy.into_iter().enumerate() {
            self.energy[band][template] = energy.max(f32::MIN_POSITIVE);
            self.inverse[band][template] = 1.0 / self.energy[band][template];
        }
    }
}

/// `f32::min` and `f32::max` handle NaN and take more than one instruction; these do not.
fn lower(left: f32, right: f32) -> f32 {
    if left < right { left } else { right }
}

fn higher(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

fn dot(left: &[[f32; 4]], right: &[[f32; 4]]) -> f32 {
    let mut sums = [0.0_f32; 4];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..4 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
