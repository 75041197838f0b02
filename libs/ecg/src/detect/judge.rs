//! How much each candidate speaks for being a beat, and what is learned from those that are.

use super::candidates::Candidate;
use super::decide::{self, Rhythm};
use super::logarithm::ln;
use super::shapes::{Fit, HALF, LENGTH, Products, Shapes};
use super::signal::Signal;
use super::tuning::{Tuning, work_samples};

/// Half the stretch whose noise counts for a candidate.
const NOISE_REACH: usize = work_samples(1.2);
/// How fast the known height follows the beats, and the largest change (natural logarithm) one beat can ask for.
const LEVEL_STEP: f32 = 0.12;
const LEVEL_CHANGE: f32 = 0.7;
/// Intervals the rhythm is made of, and the longest of them.
const INTERVALS: usize = 8;
const LONGEST_INTERVAL: usize = work_samples(3.0);
/// An interval off the usual one by more than this share is irregular.
const IRREGULAR: f32 = 0.15;
/// The first decision knows no beats yet, the second one knows those of the first.
const PASSES: usize = 2;
/// Noise in the two bands per square of the envelope's background, before beats are known.
const FIRST_NOISE: [f32; 2] = [8.4, 1.2];
/// Beats remembered for taking them out of the noise: those of the look back at the fastest heart.
const REMEMBERED: usize = 60;
/// How far below the known height a candidate can lose points (natural logarithm).
const LOWEST_LEVEL: f32 = -2.0;

/// A candidate with its own score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored {
    pub(crate) candidate: Candidate,
    pub(crate) score: f32,
    pub(crate) fit: Option<Fit>,
    noise: [f32; 2],
}

/// A beat, for taking it out of the noise: its place, and what no shape explains of it in the two bands.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: usize,
    residual: [f32; 2],
}

impl Known {
    fn new(scored: &Scored) -> Self {
        Known { at: scored.candidate.at, residual: scored.fit.map_or([0.0; 2], |fit| fit.residual) }
    }
}

/// What has been learned of the signal so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judge {
    last: Option<Candidate>,
    intervals: Vec<f32>,
    level: Option<f32>,
    shapes: Shapes,
    recent: Vec<Known>,
}

impl Judge {
    /// The most plausible beats among the candidates after the last accepted beat. `end` is where the visible signal ends.
    pub(crate) fn judge(
        &self,
        signal: &Signal,
        candidates: &[Candidate],
        end: usize,
        tuning: &Tuning,
    ) -> Vec<Scored> {
        let mut heights = signal.heights(end);
        let window = if heights.is_empty() { 0.0 } else { median(&mut heights) };
        let mut level = self.level.map_or(window, |known| (known * window).sqrt());
        if level <= 0.0 || !level.is_finite() {
            return Vec::new();
        }
        let decided =
            self.last.map_or(0, |last| candidates.partition_point(|candidate| candidate.at <= last.at));
        let open: Vec<(Candidate, Products)> = candidates[decided..]
            .iter()
            .filter(|candidate| candidate.height > tuning.floor * level)
            .map(|candidate| (*candidate, self.shapes.products(signal, candidate.at - signal.gone)))
            .collect();
        let last = self.last.map(|last| (last.at, last.ln_height));
        let mut scored: Vec<Scored> = Vec::with_capacity(open.len());
        let mut picked = Vec::new();
        let mut beats: Vec<Known> = Vec::new();
        let mut known = self.recent.clone();
        for pass in 0..PASSES {
            scored.clear();
            let ln_level = ln(level);
            known.truncate(self.recent.len());
            known.extend_from_slice(&beats);
            let mut first = 0;
            for (candidate, products) in &open {
                let noise = if pass == 0 {
                    FIRST_NOISE.map(|factor| factor * candidate.background.powi(2) * LENGTH as f32)
                } else {
                    first += known[first..]
                        .iter()
                        .take_while(|known| known.at + HALF + NOISE_REACH <= candidate.at)
                        .count();
                    noise_around(candidate.at, signal, &known[first..])
                };
                let fit = self.shapes.fit(products, noise, tuning);
                let score = score(candidate, candidate.ln_height - ln_level, fit, tuning);
                scored.push(Scored { candidate: *candidate, score, fit, noise });
            }
            decide::decide(&scored, last, self.rhythm(&beats, tuning), tuning, &mut picked);
            beats.clear();
            beats.extend(picked.iter().map(|index| Known::new(&scored[*index])));
            if pass == 0 && picked.len() >= 3 {
                let mut heights: Vec<f32> =
                    picked.iter().map(|index| scored[*index].candidate.height).collect();
                let median = median(&mut heights);
                level = self.level.map_or(median, |known| (known * median).sqrt());
            }
        }
        picked.iter().map(|index| scored[*index]).collect()
    }

    /// Takes a beat as decided and learns from it.
    pub(crate) fn accept(&mut self, signal: &Signal, beat: &Scored, tuning: &Tuning) {
        let Scored { candidate, fit, noise, .. } = beat;
        if let Some(last) = self.last.filter(|last| candidate.at - last.at < LONGEST_INTERVAL) {
            if self.intervals.len() >= INTERVALS {
                self.intervals.remove(0);
            }
            self.intervals.push((candidate.at - last.at) as f32);
        }
        self.last = Some(*candidate);
        if self.recent.len() >= REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(Known::new(beat));
        let level = self.level.unwrap_or(candidate.height);
        let confidence = beat.confidence();
        let change = ln(candidate.height / level).clamp(-LEVEL_CHANGE, LEVEL_CHANGE);
        let caution = 1.0 + 3.0 * fit.map_or(0.0, |fit| fit.noise);
        self.level = Some(level * (change * LEVEL_STEP * confidence / caution).exp());
        self.shapes.learn(signal, candidate.at - signal.gone, confidence, *noise, tuning);
    }

    fn rhythm(&self, beats: &[Known], tuning: &Tuning) -> Option<Rhythm> {
        let mut intervals = self.intervals.clone();
        intervals.extend(beats.windows(2).map(|pair| (pair[1].at - pair[0].at) as f32));
        if intervals.len() < 3 {
            return None;
        }
        let interval = median(&mut intervals);
        let off = intervals.iter().filter(|other| (**other / interval - 1.0).abs() > IRREGULAR).count();
        Some(Rhythm { interval, weight: 1.0 - tuning.irregular * off as f32 / intervals.len() as f32 })
    }
}

impl Scored {
    /// 0 to 1: the score as a probability.
    pub(crate) fn confidence(&self) -> f32 {
        1.0 / (1.0 + (-self.score).exp())
    }
}

fn score(candidate: &Candidate, ln_relative: f32, fit: Option<Fit>, tuning: &Tuning) -> f32 {
    let clean = 1.0 / (1.0 + tuning.noise_damping * fit.map_or(0.0, |fit| fit.noise));
    let evidence = fit.map_or(0.0, |fit| fit.evidence.clamp(-tuning.evidence_min, tuning.evidence_max));
    let standing_out = tuning.bias
        + tuning.k_level * ln_relative.clamp(LOWEST_LEVEL, tuning.level_max)
        + tuning.k_contrast * candidate.ln_contrast.clamp(0.0, tuning.contrast_max);
    clean * standing_out + (1.0 - clean) * tuning.bias_in_noise + tuning.k_evidence * evidence
}

/// Energy of what is no beat around `at`, over the length of a shape, in both bands. The beats are in order of time.
fn noise_around(at: usize, signal: &Signal, beats: &[Known]) -> [f32; 2] {
    let at = at - signal.gone;
    let low = at.saturating_sub(NOISE_REACH);
    let high = (at + NOISE_REACH).min(signal.envelope.len());
    let mut sum = signal.energy(low, high);
    let mut count = high - low;
    let mut covered = low;
    for known in beats {
        let Some(place) = known.at.checked_sub(signal.gone) else { continue };
        if place >= high + HALF {
            break;
        }
        let (from, to) = (place.saturating_sub(HALF).max(covered), (place + HALF).min(high));
        if from >= to {
            continue;
        }
        // The beat goes, but what no shape explains of it stays.
        let inside = signal.energy(from, to);
        for band in 0..2 {
            sum[band] -= (inside[band] - f64::from(known.residual[band])).max(0.0);
        }
        if known.residual[0] == 0.0 {
            count -= to - from;
        }
        covered = to;
    }
    sum.map(|sum| (sum.max(0.0) / count.max(1) as f64 * LENGTH as f64) as f32)
}

/// The upper median; `values` must not be empty.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}
