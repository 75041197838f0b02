//! The detector: samples in, beats out a few seconds later.

use super::candidates::{self, Candidate};
use super::scorer::{Scored, Scorer};
use super::signal::Signal;
use super::tuning::{TUNING, Tuning, work_samples};

/// Beats are decided in steps of this length ...
const HOP: usize = work_samples(4.0);
/// ... with a look ahead of this length ...
const AHEAD: usize = work_samples(5.0);
/// ... and a look back of this length for what is typical.
const BACK: usize = work_samples(6.0);
/// Candidates wait this long for what follows them.
const MARGIN: usize = work_samples(0.3);
/// The R peak lies this close to the peak of the envelope.
const PEAK_REACH_S: f64 = 0.06;
/// Input is taken in pieces of this length, so that a long one needs no second copy of itself.
const PIECE: usize = 4096;
/// Rates outside are no rates of an ECG; they are taken as the nearest of these, so that memory stays bounded.
const RATES_HZ: (f64, f64) = (10.0, 100_000.0);
/// Larger magnitudes would overflow when squared; no ECG has them, whatever its unit.
const LARGEST: f32 = 1e15;

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
    /// How much it looks like earlier beats: a correlation, -1 to 1; nothing for the first beats.
    pub correlation: Option<f32>,
}

/// Finds beats in a signal that comes piece by piece. Memory and delay are bounded (see [`Detector::MAX_DELAY_S`]).
///
/// Millivolts are usual, but only ratios of amplitudes matter. The beats do not depend on how the signal is cut into
/// pieces.
#[derive(Debug, Clone)]
pub struct Detector {
    tuning: Tuning,
    rate: f64,
    /// Input samples kept to find the R peak in, and how many are dropped.
    input: Vec<f32>,
    input_dropped: u64,
    last_finite: f32,
    signal: Signal,
    /// Working samples up to here have been analysed, and searched for candidates.
    analysed: usize,
    searched: usize,
    candidates: Vec<Candidate>,
    scorer: Scorer,
    out: Vec<Detection>,
}

/// Finds the beats of a whole signal of `sample_rate_hz` samples per second.
#[must_use]
pub fn detect(samples: &[f32], sample_rate_hz: f64) -> Vec<Detection> {
    detect_with(samples, sample_rate_hz, Tuning::default())
}

/// The same with other constants than the ones that were chosen.
#[must_use]
pub fn detect_with(samples: &[f32], sample_rate_hz: f64, tuning: Tuning) -> Vec<Detection> {
    let mut detector = Detector::new(sample_rate_hz);
    detector.tuning = tuning;
    let mut beats = detector.push(samples);
    beats.extend(detector.finish());
    beats
}

impl Detector {
    /// A beat is reported at most this long after its R peak.
    pub const MAX_DELAY_S: f64 = 11.0;

    /// A detector for a signal of `sample_rate_hz` samples per second (50 to 2000 are sensible).
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

    /// Takes the next samples and returns the beats that are decided by now. Samples that are not finite count as the
    /// last finite one before them.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Detection> {
        for piece in samples.chunks(PIECE) {
            // Without an early end the test is SIMD code.
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

    /// Ends the signal and returns the last beats.
    #[must_use]
    pub fn finish(mut self) -> Vec<Detection> {
        if !self.input.is_empty() {
            self.signal.hold();
            let end = self.signal.end();
            self.step(end, end, end);
        }
        self.out
    }

    /// Analyses what is visible before `end`: finds candidates before `search`, decides on beats before `commit`.
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

    /// The R peak: the sample farthest from the straight line under the QRS complex.
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

    /// Drops what no later decision looks at.
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
