//! The streaming detector.
//!
//! Memory and delay are bounded. The beats do not depend on how the input is divided into pieces.

use super::candidates::{self, Candidate};
use super::scorer::{Scored, Scorer};
use super::signal::Signal;
use super::tuning::{TUNING, Tuning, work_samples};

/// Beats are selected in steps of this length.
const HOP: usize = work_samples(4.0);
/// Look-ahead of a selection.
const AHEAD: usize = work_samples(5.0);
/// Look-back of a selection, for typical values.
const BACK: usize = work_samples(6.0);
/// A candidate is searched only when this much signal after it is known.
const MARGIN: usize = work_samples(0.3);
/// Largest distance of the R peak from the peak of the envelope.
const PEAK_REACH_S: f64 = 0.06;
/// Input is processed in pieces of this length, so that a long signal is not copied as a whole.
const PIECE: usize = 4096;
/// Supported sampling rates. Others are clamped, so that memory stays bounded.
const RATES_HZ: (f64, f64) = (10.0, 100_000.0);
/// Larger magnitudes are clamped because their squares would overflow.
const LARGEST: f32 = 1e15;

/// A detected beat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Sample index of the R peak, counted from the first sample pushed.
    pub sample: u64,
    /// Confidence, from 0 (doubtful) to 1 (certain).
    pub confidence: f32,
    /// Height of the QRS complex in the QRS band, in the unit of the input.
    pub height: f32,
    /// Height divided by the typical level of that band within one second.
    pub contrast: f32,
    /// Correlation with the learned templates, from -1 to 1. `None` for the first beats.
    pub correlation: Option<f32>,
}

/// Detects beats in a signal that arrives in pieces. Memory and delay are bounded; see
/// [`Detector::MAX_DELAY_S`].
///
/// The input is usually in millivolts, but only ratios of amplitudes matter.
#[derive(Debug, Clone)]
pub struct Detector {
    tuning: Tuning,
    rate: f64,
    /// Input kept for locating R peaks, and the number of samples dropped before it.
    input: Vec<f32>,
    input_dropped: u64,
    last_finite: f32,
    signal: Signal,
    /// Number of working samples analysed, and number searched for candidates.
    analysed: usize,
    searched: usize,
    candidates: Vec<Candidate>,
    scorer: Scorer,
    out: Vec<Detection>,
}

/// Detects the beats of a whole signal of `sample_rate_hz` samples per second.
#[must_use]
pub fn detect(samples: &[f32], sample_rate_hz: f64) -> Vec<Detection> {
    detect_with(samples, sample_rate_hz, Tuning::default())
}

/// Like [`detect`], with other constants.
#[must_use]
pub fn detect_with(samples: &[f32], sample_rate_hz: f64, tuning: Tuning) -> Vec<Detection> {
    let mut detector = Detector::new(sample_rate_hz);
    detector.tuning = tuning;
    let mut beats = detector.push(samples);
    beats.extend(detector.finish());
    beats
}

impl Detector {
    /// Largest delay between an R peak and its report.
    pub const MAX_DELAY_S: f64 = 11.0;

    /// Creates a detector for `sample_rate_hz` samples per second. 50 to 2000 are typical.
    #[must_use]
    pub fn new(sample_rate_hz: f64) -> Self {
        let rate = if sample_rate_hz.is_nan() { 250.0 } else { sample_rate_hz.clamp(RATES_HZ.0, RATES_HZ.1) };
        Detector {
            tuning: TUNING,
            rate,
            input: Vec::new(),
            input_dropped: 0,
            last_finite: 0.0,
            signal: Signal::new(rate, &TUNING),
            analysed: 0,
            searched: 0,
            candidates: Vec::new(),
            scorer: Scorer::default(),
            out: Vec::new(),
        }
    }

    /// Processes samples and returns the beats that are final. A sample that is not finite is replaced by the
    /// last finite one.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Detection> {
        for piece in samples.chunks(PIECE) {
            // No early exit, so that the loop becomes SIMD code.
            if piece.iter().fold(true, |all, value| all & (value.abs() <= LARGEST)) {
                self.input.extend_from_slice(piece);
            } else {
                for value in piece {
                    if value.is_finite() {
                        self.last_finite = value.clamp(-LARGEST, LARGEST);
                    }
                    self.input.push(self.last_finite);
                }
            }
            self.last_finite = self.input.last().copied().unwrap_or(0.0);
            self.signal.push(&self.input, self.input_dropped);
            while self.signal.end() >= self.analysed + HOP {
                self.analysed += HOP;
                let end = self.analysed;
                self.step(end, end.saturating_sub(MARGIN), end.saturating_sub(AHEAD));
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the signal and returns the remaining beats.
    #[must_use]
    pub fn finish(mut self) -> Vec<Detection> {
        if !self.input.is_empty() {
            self.signal.hold();
            let end = self.signal.end();
            self.step(end, end, end);
        }
        self.out
    }

    /// Processes the signal up to `end`: searches candidates up to `search` and reports beats before
    /// `commit`.
    fn step(&mut self, end: usize, search: usize, commit: usize) {
        if search > self.searched {
            candidates::find(&self.signal, self.searched, search, end, &self.tuning, &mut self.candidates);
            self.searched = search;
        }
        if commit > 0 {
            let beats = self.scorer.select(&self.signal, &self.candidates, end, &self.tuning);
            for beat in beats.iter().take_while(|beat| beat.candidate.at < commit) {
                self.scorer.accept(&self.signal, beat, &self.tuning);
                let detection = self.detection(beat);
                self.out.push(detection);
            }
        }
        self.forget(commit.saturating_sub(BACK));
    }

    fn detection(&self, beat: &Scored) -> Detection {
        Detection {
            sample: self.peak(beat.candidate.at),
            confidence: beat.confidence(),
            height: beat.candidate.height,
            contrast: beat.candidate.height / beat.candidate.background,
            correlation: beat.fit.map(|fit| fit.correlation),
        }
    }

    /// R peak: the sample with the largest distance from the line through the ends of the QRS complex.
    fn peak(&self, at: usize) -> u64 {
        let center = self.signal.resampler.input_position(at as f64);
        let last = self.input.len().saturating_sub(1);
        let index = |position: f64| {
            ((position.max(0.0) as u64).saturating_sub(self.input_dropped) as usize).min(last)
        };
        let low = index((center - PEAK_REACH_S * self.rate).ceil());
        let high = index((center + PEAK_REACH_S * self.rate).floor()).max(low);
        let piece = &self.input[low..=high];
        let (first, slope) = (piece[0], (piece[piece.len() - 1] - piece[0]) / piece.len() as f32);
        let mut best = (0, -1.0_f32);
        for (index, value) in piece.iter().enumerate() {
            let off = (value - first - slope * index as f32).abs();
            if off > best.1 {
                best = (index, off);
            }
        }
        self.input_dropped + (low + best.0) as u64
    }

    /// Drops everything that later steps do not need.
    fn forget(&mut self, before: usize) {
        let drop = before.saturating_sub(self.signal.dropped);
        if drop < 4 * HOP {
            return;
        }
        self.signal.forget(drop);
        let dropped = self.signal.dropped;
        self.candidates.retain(|candidate| candidate.at >= dropped);
        let keep = (self.signal.resampler.input_position(dropped as f64) - self.rate).max(0.0) as u64;
        let drop = (keep.saturating_sub(self.input_dropped) as usize).min(self.input.len());
        self.input.drain(..drop);
        self.input_dropped += drop as u64;
    }
}
