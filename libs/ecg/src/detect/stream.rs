//! The streaming detector.
//!
//! Memory and delay are bounded. The beats do not depend on how the input is divided into pieces: every decision is made
//! for a fixed number of working samples, whatever else is already known.

use super::candidates::{self, Candidate, SURROUNDINGS};
use super::scorer::{Scored, Scorer};
use super::signal::Signal;
use super::tuning::{TUNING, Tuning, work_samples};
use super::viterbi::REFRACTORY;

/// Beats are selected in steps of this length.
const HOP: usize = work_samples(1.0);
/// Look-ahead of a selection: later beats are not final yet.
const AHEAD: usize = work_samples(3.6);
/// The detector learns in every fourth step, from beats with more look-ahead than the final ones have. A wrong decision for
/// lack of look-ahead then affects one beat and not what is learned.
const LEARN_STEPS: usize = 4;
const LEARN_AHEAD: usize = work_samples(6.0);
/// Look-back of a selection, for typical values.
const BACK: usize = work_samples(6.0);
/// Old signal is dropped in pieces of at least this length.
const FORGET: usize = work_samples(16.0);
/// A candidate is used once this much signal after it is known: what its comparison with the templates needs.
const MARGIN: usize = work_samples(0.136);
/// Largest distance of the R peak from the peak of the envelope.
const PEAK_REACH_S: f64 = 0.06;
/// Input is processed in pieces of this length, so that a long signal is not copied as a whole.
const PIECE: usize = 4096;
/// Supported sampling rates.
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

/// A decision of the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// A beat that may still be retracted.
    Provisional(Detection),
    /// The provisional beat with this R peak is not a beat.
    Retracted(u64),
    /// A beat that is final, whether it was provisional or not.
    Final(Detection),
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
    /// Number of working samples analysed, and number searched for peaks.
    analysed: usize,
    steps: usize,
    searched: usize,
    /// Peaks whose surroundings are not complete yet.
    peaks: Vec<usize>,
    /// Candidates; the first `settled` of them have complete surroundings.
    candidates: Vec<Candidate>,
    settled: usize,
    scorer: Scorer,
    /// Earliest position of the next final beat.
    next_final: usize,
    /// Provisional beats that are neither final nor retracted, in order of time. `None` if they are not wanted.
    provisional: Option<Vec<Reported>>,
    out: Vec<Change>,
}

impl Change {
    fn final_beat(self) -> Option<Detection> {
        match self {
            Change::Final(detection) => Some(detection),
            Change::Provisional(_) | Change::Retracted(_) => None,
        }
    }
}

/// A provisional beat.
#[derive(Debug, Clone, Copy)]
struct Reported {
    /// Position in working samples.
    at: usize,
    /// Input sample of the R peak.
    sample: u64,
}

/// Clamps a rate to the supported ones, so that memory stays bounded.
pub(crate) fn supported_rate(rate: f64) -> f64 {
    if rate.is_nan() { 250.0 } else { rate.clamp(RATES_HZ.0, RATES_HZ.1) }
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
    pub const MAX_DELAY_S: f64 = 4.8;

    /// Creates a detector for `sample_rate_hz` samples per second. 50 to 2000 are typical.
    #[must_use]
    pub fn new(sample_rate_hz: f64) -> Self {
        let rate = supported_rate(sample_rate_hz);
        Detector {
            tuning: TUNING,
            rate,
            input: Vec::new(),
            input_dropped: 0,
            last_finite: 0.0,
            signal: Signal::new(rate, &TUNING),
            analysed: 0,
            steps: 0,
            next_final: 0,
            searched: 0,
            peaks: Vec::new(),
            candidates: Vec::new(),
            settled: 0,
            scorer: Scorer::default(),
            provisional: None,
            out: Vec::new(),
        }
    }

    /// Like [`Detector::new`], with provisional beats.
    pub(crate) fn with_provisional_beats(sample_rate_hz: f64) -> Self {
        Detector { provisional: Some(Vec::new()), ..Detector::new(sample_rate_hz) }
    }

    /// Processes samples and returns the beats that are final. A sample that is not finite is replaced by the
    /// last finite one.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Detection> {
        self.advance(samples);
        self.out.drain(..).filter_map(Change::final_beat).collect()
    }

    /// Ends the signal and returns the remaining beats.
    #[must_use]
    pub fn finish(mut self) -> Vec<Detection> {
        self.end();
        self.out.drain(..).filter_map(Change::final_beat).collect()
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        4 * self.input.capacity()
            + self.signal.heap_bytes()
            + size_of::<usize>() * self.peaks.capacity()
            + size_of::<Candidate>() * self.candidates.capacity()
            + size_of::<Change>() * self.out.capacity()
            + self.scorer.heap_bytes()
    }

    /// Decisions since the last call.
    pub(crate) fn changes(&mut self) -> std::vec::Drain<'_, Change> {
        self.out.drain(..)
    }

    /// Processes samples.
    pub(crate) fn advance(&mut self, samples: &[f32]) {
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
                self.steps += 1;
                let end = self.analysed;
                self.judge(end);
                let learn = if self.steps % LEARN_STEPS == 0 { end.saturating_sub(LEARN_AHEAD) } else { 0 };
                self.step(end, (end + 1).saturating_sub(MARGIN), end.saturating_sub(AHEAD), learn);
            }
            self.judge(self.signal.end());
        }
    }

    /// Ends the signal.
    pub(crate) fn end(&mut self) {
        if !self.input.is_empty() {
            self.signal.hold();
            let end = self.signal.end();
            self.step(end, end, end, 0);
        }
    }

    /// Ends the signal before the input sample `end`: what follows it is not part of the signal. `end` is at most 6 s old; the
    /// signal before it is still known then.
    pub(crate) fn end_before(&mut self, end: u64) {
        self.input.truncate(end.saturating_sub(self.input_dropped) as usize);
        let work_end = self.signal.resampler.outputs_of(end);
        if work_end > self.signal.dropped {
            self.signal.truncate(work_end);
            // Near the end, what is searched has changed.
            let valid = self.signal.end().saturating_sub(SURROUNDINGS).max(self.signal.dropped);
            self.searched = self.searched.min(valid);
            self.peaks.retain(|at| *at < valid);
            self.candidates.truncate(self.candidates.partition_point(|candidate| candidate.at < valid));
            self.settled = self.settled.min(self.candidates.len());
            self.end();
        }
        let rest = self.provisional.iter_mut().flat_map(|reported| reported.drain(..));
        self.out.extend(rest.map(|reported| Change::Retracted(reported.sample)));
    }

    /// Searches peaks in the signal up to `search`, which is known up to `end`.
    fn find(&mut self, search: usize, end: usize) {
        if search > self.searched {
            candidates::find(&self.signal, self.searched, search, end, &mut self.peaks);
            self.searched = search;
        }
    }

    /// Determines the candidates before `search` in a signal that is known up to `end`.
    fn gather(&mut self, search: usize, end: usize) {
        self.candidates.truncate(self.settled);
        let mut complete = 0;
        for at in self.peaks.iter().take_while(|at| **at < search) {
            self.candidates.extend(Candidate::new(&self.signal, *at, end, &self.tuning));
            if at + SURROUNDINGS <= end {
                complete += 1;
                self.settled = self.candidates.len();
            }
        }
        self.peaks.drain(..complete);
    }

    /// Processes the signal up to `end`: searches candidates up to `search`, reports beats before `commit` and learns from
    /// those before `learn`.
    fn step(&mut self, end: usize, search: usize, commit: usize, learn: usize) {
        self.find(search, end);
        self.gather(search, end);
        self.scorer.select(&self.signal, &self.candidates, end, &self.tuning);
        self.retract_unselected();
        for index in 0..self.scorer.selected_count() {
            let beat = self.scorer.selected_at(index);
            let at = beat.candidate.at;
            if at >= commit {
                break;
            }
            if at >= self.next_final {
                self.next_final = at + REFRACTORY;
                self.report(&beat);
            } else if let Some(sample) = self.take_reported(at) {
                // The selection has changed since the last final beat, which is too close.
                self.out.push(Change::Retracted(sample));
            }
        }
        for index in 0..self.scorer.selected_count() {
            let beat = self.scorer.selected_at(index);
            if beat.candidate.at >= learn {
                break;
            }
            self.scorer.accept(&self.signal, &beat, &self.tuning);
        }
        self.forget(end.saturating_sub(LEARN_AHEAD + BACK));
    }

    /// Removes a provisional beat. Returns its R peak.
    fn take_reported(&mut self, at: usize) -> Option<u64> {
        let reported = self.provisional.as_mut()?;
        let index = reported.iter().position(|reported| reported.at == at)?;
        Some(reported.remove(index).sample)
    }

    fn report(&mut self, beat: &Scored) {
        let detection = self.detection(beat);
        let reported = self.take_reported(beat.candidate.at);
        if let Some(sample) = reported.filter(|sample| *sample != detection.sample) {
            self.out.push(Change::Retracted(sample));
        }
        self.out.push(Change::Final(detection));
    }

    /// Decides on the new peaks of a signal that is known up to `end`, each as soon as its margin is known.
    fn judge(&mut self, end: usize) {
        if self.provisional.is_none() {
            return;
        }
        let old = self.peaks.len();
        self.find((end + 1).saturating_sub(MARGIN), end);
        for index in old..self.peaks.len() {
            let at = self.peaks[index];
            let end = at + MARGIN;
            let Some(candidate) = Candidate::new(&self.signal, at, end, &self.tuning) else { continue };
            self.candidates.push(candidate);
            if !self.scorer.add(&self.signal, &self.candidates, end, &self.tuning) {
                continue;
            }
            self.retract_unselected();
            if let Some(beat) = self.scorer.last_selected().filter(|beat| beat.candidate.at == at) {
                let detection = self.detection(&beat);
                if let Some(reported) = &mut self.provisional {
                    reported.push(Reported { at, sample: detection.sample });
                }
                self.out.push(Change::Provisional(detection));
            }
        }
    }

    /// Retracts the provisional beats that are no longer selected.
    fn retract_unselected(&mut self) {
        let Some(reported) = &mut self.provisional else { return };
        let (scorer, out) = (&self.scorer, &mut self.out);
        reported.retain(|reported| {
            let selected = scorer.selected().any(|beat| beat.candidate.at == reported.at);
            if !selected {
                out.push(Change::Retracted(reported.sample));
            }
            selected
        });
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
        if drop < FORGET {
            return;
        }
        self.signal.forget(drop);
        let dropped = self.signal.dropped;
        let old = self.candidates.partition_point(|candidate| candidate.at < dropped);
        self.candidates.drain(..old);
        self.settled -= old.min(self.settled);
        let keep = (self.signal.resampler.input_position(dropped as f64) - self.rate).max(0.0) as u64;
        let drop = (keep.saturating_sub(self.input_dropped) as usize).min(self.input.len());
        self.input.drain(..drop);
        self.input_dropped += drop as u64;
    }
}
