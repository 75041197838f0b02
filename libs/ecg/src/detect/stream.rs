//! The detector: samples in, beats out a few seconds later.

use super::candidates::{self, Candidate};
use super::decide::{self, Rhythm, Scored};
use super::filter::Quadrature;
use super::resample::Resampler;
use super::template::Shapes;
use super::tuning::{TUNING, Tuning, work_samples};

/// Beats are decided in steps of this length ...
const HOP: usize = work_samples(2.0);
/// ... with a look ahead of this length ...
const AHEAD: usize = work_samples(6.0);
/// ... and a look back of this length for what is typical.
const BACK: usize = work_samples(6.0);
/// Beats wait this long for their surroundings.
const MARGIN: usize = work_samples(0.3);
/// Stretches in each of which a beat is expected, for the typical height of a beat.
const BIN: usize = work_samples(1.5);

/// A beat that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index of the sample of its R peak, counted from the first sample pushed.
    pub sample: u64,
    /// 0 (doubtful) to 1 (certain).
    pub confidence: f32,
    /// Height of its QRS complex in the band that is looked at, in the unit of the input.
    pub height: f32,
    /// Height over what the band typically holds in the second before and after.
    pub contrast: f32,
    /// How much it looks like earlier beats: a correlation, -1 to 1; 0 for the first beats.
    pub likeness: f32,
}

/// Finds beats in a signal that comes piece by piece. Memory and delay are bounded (see [`Detector::MAX_DELAY_S`]).
///
/// Millivolts are usual, but only ratios of amplitudes matter. The beats do not depend on how the signal is cut into
/// pieces.
#[derive(Debug, Clone)]
pub struct Detector {
    tuning: Tuning,
    resampler: Resampler,
    filter: Quadrature,
    /// Input samples kept to find the R peak in, and how many are gone.
    input: Vec<f32>,
    input_gone: u64,
    last_finite: f32,
    input_rate: f64,
    /// Working samples; the filter outputs belong to the same positions. `gone` of them are dropped.
    work: Vec<f32>,
    band: Vec<f32>,
    envelope: Vec<f32>,
    gone: usize,
    /// Working samples up to here have been analysed.
    analysed: usize,
    candidates: Vec<Candidate>,
    candidates_to: usize,
    last: Option<Candidate>,
    intervals: Vec<f32>,
    level: Option<f32>,
    shapes: Shapes,
    out: Vec<Detection>,
}

/// Finds the beats of a whole signal.
#[must_use]
pub fn detect(samples: &[f32], sample_rate_hz: f64) -> Vec<Detection> {
    let mut detector = Detector::new(sample_rate_hz);
    let mut beats = detector.push(samples);
    beats.extend(detector.finish());
    beats
}

impl Detector {
    /// A beat is reported at most this long after its R peak.
    pub const MAX_DELAY_S: f64 = 10.0;

    /// A detector for a signal of `sample_rate_hz` samples per second (50 to 2000 are sensible).
    #[must_use]
    pub fn new(sample_rate_hz: f64) -> Self {
        Self::with_tuning(sample_rate_hz, TUNING)
    }

    pub(crate) fn with_tuning(sample_rate_hz: f64, tuning: Tuning) -> Self {
        let rate = if sample_rate_hz.is_finite() { sample_rate_hz.clamp(10.0, 100_000.0) } else { 250.0 };
        let filter = Quadrature::new(&tuning);
        Detector {
            resampler: Resampler::new(rate),
            filter,
            tuning,
            input: Vec::new(),
            input_gone: 0,
            last_finite: 0.0,
            input_rate: rate,
            work: Vec::new(),
            band: Vec::new(),
            envelope: Vec::new(),
            gone: 0,
            analysed: 0,
            candidates: Vec::new(),
            candidates_to: 0,
            last: None,
            intervals: Vec::new(),
            level: None,
            shapes: Shapes::default(),
            out: Vec::new(),
        }
    }

    /// Takes the next samples and returns the beats that are decided by now. Samples that are not finite count as the
    /// last finite one before them.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Detection> {
        for piece in samples.chunks(4096) {
            let start = self.input.len();
            if piece.iter().all(|value| value.is_finite()) {
                self.input.extend_from_slice(piece);
            } else {
                for value in piece {
                    if value.is_finite() {
                        self.last_finite = *value;
                    }
                    self.input.push(self.last_finite);
                }
            }
            self.last_finite = self.input.last().copied().unwrap_or(0.0);
            if self.work.is_empty() && self.gone == 0 && !piece.is_empty() {
                self.work.resize(self.filter.reach(), 0.0);
            }
            self.resampler.push(&self.input[start..], &mut self.work);
            self.filter_new();
            while self.envelope.len() + self.gone >= self.analysed + HOP {
                self.analysed += HOP;
                self.step(self.analysed, false);
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the signal and returns the last beats.
    pub fn finish(mut self) -> Vec<Detection> {
        // As if the signal stayed where it is: a beat at the very end must not be lost.
        let hold = self.work.last().copied().unwrap_or(0.0);
        self.work.resize(self.work.len() + self.filter.reach(), hold);
        self.filter_new();
        let end = self.gone + self.envelope.len();
        self.step(end, true);
        self.out
    }

    fn filter_new(&mut self) {
        // `work` runs ahead of its outputs by the reach of the filter, on both sides.
        let from = self.envelope.len();
        self.filter.run(&self.work[from.min(self.work.len())..], &mut self.band, &mut self.envelope);
    }

    fn step(&mut self, end: usize, last_step: bool) {
        let to = if last_step { end } else { end.saturating_sub(MARGIN) };
        if to > self.candidates_to {
            let visible = &self.envelope[..end - self.gone];
            candidates::find(
                visible,
                self.gone,
                self.candidates_to - self.gone,
                to - self.gone,
                &mut self.candidates,
            );
            self.candidates_to = to;
        }
        let commit = if last_step { end } else { end.saturating_sub(AHEAD) };
        if commit > 0 {
            self.decide(end, commit);
        }
        self.forget(commit.saturating_sub(BACK));
    }

    /// The typical height of a beat: the median of the highest peaks of short stretches.
    fn window_level(&self, end: usize) -> f32 {
        let visible = &self.envelope[..end - self.gone];
        let mut highest: Vec<f32> =
            visible.chunks(BIN).map(|bin| bin.iter().fold(0.0_f32, |high, value| high.max(*value))).collect();
        if highest.is_empty() {
            return 0.0;
        }
        highest.sort_unstable_by(f32::total_cmp);
        highest[highest.len() / 2]
    }

    fn decide(&mut self, end: usize, commit: usize) {
        let tuning = self.tuning.clone();
        let window = self.window_level(end);
        let mut level = match self.level {
            Some(known) => (known * window).sqrt(),
            None => window,
        };
        if level <= 0.0 {
            return;
        }
        let mut picked = Vec::new();
        let mut scored: Vec<Scored> = Vec::new();
        let mut times: Vec<usize> = Vec::new();
        for pass in 0..2 {
            scored.clear();
            for candidate in &self.candidates {
                if self.last.is_some_and(|last| candidate.at <= last.at) {
                    continue;
                }
                let relative = (candidate.height / (tuning.theta * level)).ln();
                if relative < -2.0 {
                    continue;
                }
                let contrast = (candidate.height / (tuning.contrast * candidate.background.max(1e-9))).ln();
                let fit = if self.shapes.is_empty() {
                    None
                } else {
                    self.shapes.fit(&self.band, candidate.at - self.gone)
                };
                let correlation = fit.map_or(tuning.shape_zero, |fit| fit.correlation);
                let score = tuning.bias
                    + tuning.k_level * relative.min(tuning.level_max)
                    + tuning.k_contrast * contrast.clamp(-2.0, 1.0)
                    + tuning.k_shape * (correlation - tuning.shape_zero);
                scored.push(Scored { candidate: *candidate, score, correlation });
            }
            let rhythm = self.rhythm(&times);
            decide::decide(&scored, self.last, rhythm, &tuning, &mut picked);
            times.clear();
            times.extend(picked.iter().map(|index| scored[*index].candidate.at));
            if pass == 0 && picked.len() >= 3 {
                let mut heights: Vec<f32> =
                    picked.iter().map(|index| scored[*index].candidate.height).collect();
                heights.sort_unstable_by(f32::total_cmp);
                let median = heights[heights.len() / 2];
                level = match self.level {
                    Some(known) => (known * median).sqrt(),
                    None => median,
                };
            }
        }
        for index in &picked {
            let Scored { candidate, score, correlation } = scored[*index];
            if candidate.at >= commit {
                break;
            }
            self.commit(candidate, score, correlation);
        }
    }

    fn rhythm(&self, times: &[usize]) -> Option<Rhythm> {
        let mut intervals: Vec<f32> = self.intervals.clone();
        intervals.extend(times.windows(2).map(|pair| (pair[1] - pair[0]) as f32));
        if intervals.len() < 3 {
            return None;
        }
        intervals.sort_unstable_by(f32::total_cmp);
        let median = intervals[intervals.len() / 2];
        let spread = intervals.iter().filter(|interval| (**interval / median - 1.0).abs() > 0.15).count()
            as f32
            / intervals.len() as f32;
        Some(Rhythm { interval: median, weight: 1.0 - 0.7 * spread })
    }

    fn commit(&mut self, candidate: Candidate, score: f32, likeness: f32) {
        let confidence = 1.0 / (1.0 + (-score).exp());
        if let Some(last) = self.last {
            let interval = (candidate.at - last.at) as f32;
            if interval < work_samples(3.0) as f32 {
                if self.intervals.len() >= 8 {
                    self.intervals.remove(0);
                }
                self.intervals.push(interval);
            }
        }
        self.last = Some(candidate);
        let level = self.level.unwrap_or(candidate.height);
        let step = (candidate.height / level).ln().clamp(-0.7, 0.7) * 0.12 * confidence;
        self.level = Some(level * step.exp());
        self.shapes.learn(&self.band, candidate.at - self.gone, confidence);
        let sample = self.peak(candidate.at);
        self.out.push(Detection {
            sample,
            confidence,
            height: candidate.height,
            contrast: candidate.height / candidate.background,
            likeness,
        });
    }

    /// The R peak: the sample farthest from the straight line under the QRS complex.
    fn peak(&self, at: usize) -> u64 {
        let center = self.resampler.input_position(at as f64).max(0.0);
        let reach = 0.06 * self.input_rate;
        let low = ((center - reach).ceil().max(0.0) as u64).max(self.input_gone);
        let high =
            ((center + reach).floor().max(0.0) as u64).min(self.input_gone + self.input.len() as u64 - 1);
        let piece =
            &self.input[(low - self.input_gone) as usize..=(high.max(low) - self.input_gone) as usize];
        let (first, last) = (piece[0], piece[piece.len() - 1]);
        let slope = (last - first) / (piece.len() as f32);
        let mut best = (0, -1.0_f32);
        for (index, value) in piece.iter().enumerate() {
            let off = (value - first - slope * index as f32).abs();
            if off > best.1 {
                best = (index, off);
            }
        }
        low + best.0 as u64
    }

    /// Drops what no later decision looks at.
    fn forget(&mut self, before: usize) {
        let drop = before.saturating_sub(self.gone);
        if drop < HOP {
            return;
        }
        self.work.drain(..drop);
        self.band.drain(..drop);
        self.envelope.drain(..drop);
        self.gone += drop;
        let gone = self.gone;
        self.candidates.retain(|candidate| candidate.at >= gone);
        let keep_from = (self.resampler.input_position(gone as f64) - self.input_rate).max(0.0) as u64;
        let drop = keep_from.saturating_sub(self.input_gone) as usize;
        self.input.drain(..drop.min(self.input.len()));
        self.input_gone += drop as u64;
    }
}
