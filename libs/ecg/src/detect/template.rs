//! The shapes that beats of this signal have.

use super::tuning::work_samples;

/// Half the length of a shape.
pub(crate) const HALF: usize = work_samples(0.12);
const LENGTH: usize = 2 * HALF + 1;
/// A peak of the envelope may lie this far from the place where the shape fits best.
const SLACK: usize = 3;
/// Normal beats, two kinds of ectopic ones, and one to spare.
const SHAPES: usize = 4;

/// What has been learned of one shape.
#[derive(Debug, Clone)]
struct Shape {
    /// Of length one.
    wave: [f32; LENGTH],
    /// Beats it was learned from, forgotten slowly.
    weight: f32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    shapes: Vec<Shape>,
}

/// How well a place fits a shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) shape: usize,
    pub(crate) correlation: f32,
    /// Where it fits best, relative to the place.
    pub(crate) lag: isize,
}

impl Shapes {
    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// The best fit around `at`.
    pub(crate) fn fit(&self, band: &[f32], at: usize) -> Option<Fit> {
        let low = at.checked_sub(HALF + SLACK)?;
        let around = band.get(low..at + HALF + SLACK + 1)?;
        let mut best: Option<Fit> = None;
        let mut energy: f32 = around[..LENGTH].iter().map(|value| value * value).sum();
        for offset in 0..=2 * SLACK {
            if offset > 0 {
                energy += around[offset + LENGTH - 1].powi(2) - around[offset - 1].powi(2);
            }
            let scale = 1.0 / energy.max(f32::MIN_POSITIVE).sqrt();
            for (shape, learned) in self.shapes.iter().enumerate() {
                let correlation = dot(&learned.wave, &around[offset..offset + LENGTH]) * scale;
                if best.is_none_or(|best| correlation > best.correlation) {
                    best = Some(Fit { shape, correlation, lag: offset as isize - SLACK as isize });
                }
            }
        }
        best
    }

    /// Learns from a beat.
    pub(crate) fn learn(&mut self, band: &[f32], at: usize, confidence: f32) {
        let fit = self.fit(band, at);
        let place =
            fit.map_or(at, |fit| if fit.correlation > 0.8 { at.saturating_add_signed(fit.lag) } else { at });
        let Some(wave) = place.checked_sub(HALF).and_then(|low| band.get(low..low + LENGTH)) else { return };
        let norm = dot(wave, wave).sqrt();
        if norm <= 0.0 {
            return;
        }
        for shape in &mut self.shapes {
            shape.weight *= 0.995;
        }
        match fit {
            Some(fit) if fit.correlation > 0.8 => {
                let shape = &mut self.shapes[fit.shape];
                shape.weight += confidence;
                let gain = confidence / shape.weight.min(20.0);
                for (old, new) in shape.wave.iter_mut().zip(wave) {
                    *old += gain * (new / norm - *old);
                }
                let length = dot(&shape.wave, &shape.wave).sqrt();
                shape.wave.iter_mut().for_each(|value| *value /= length);
            }
            _ => {
                let mut new = [0.0; LENGTH];
                for (new, value) in new.iter_mut().zip(wave) {
                    *new = value / norm;
                }
                let new = Shape { wave: new, weight: confidence };
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
