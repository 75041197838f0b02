//! The streaming detector.
//!
//! Memory and delay are bounded. The beats do not depend on how the input is divided into pieces: every decision is
//! made for a fixed number of working samples, whatever else is already known.

use super::candidates::{self, Candidate, SURROUNDINGS};
use super::scorer::{Scored, Scorer};
use super::signal::Signal;
use super::tuning::{TUNING, Tuning, work_samples};
use super::viterbi::REFRACTORY;

/// Beats are selected in steps of this length.
const HOP: usize = work_samples(1.0);
/// Look-ahead of a selection: later beats are not final yet.
const AHEAD: usize = work_samples(3.6);
/// The detector learns in every fourth step, from beats with more look-ahead than the final ones have. A wrong
/// decision for lack of look-ahead then affects one beat and not what is learned.
const LEARN_STEPS: usize = 4;
const LEARN_AHEAD: usize = work_samples(6.0);
/// Look-back of a selection, for typical values.
const BACK: usize = work_samples(6.0);
/// Old signal is dropped in pieces of at least this length.
const FORGET: usize = work_samples(16.0);
/// A candidate is used once this much signal after it is known: what its comparison with the templates needs.
const MARGIN: usize = work_samples(0.136);
/// Change of the margin of a provisional beat with each wrong one, and its largest value.
const MARGIN_STEP: f32 = 0.2;
const MAX_MARGIN: f32 = 3.0;
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
    /// Number of working samples analysed, number of steps, and number of working samples searched for peaks.
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
    /// `None` if provisional beats are not wanted.
    provisional: Option<Provisional>,
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

/// Provisional beats, and the margin that they need. What a P wave or a T wave reaches without the signal after it
/// differs between hearts, so the margin is learned from the beats that turned out to be wrong, and from those that
/// were withheld.
#[derive(Debug, Clone, Default)]
struct Provisional {
    /// Candidates that were selected when they were new and are not final yet, in order of time.
    tentative: Vec<Tentative>,
    least_margin: f32,
    /// Beats whose R peak is before this input sample are not reported.
    earliest: u64,
}

/// A candidate that was selected when it was new.
#[derive(Debug, Clone, Copy)]
struct Tentative {
    /// Position in working samples.
    at: usize,
    /// Input sample of the R peak of a reported beat that has not been retracted.
    reported: Option<u64>,
    was_reported: bool,
}

impl Provisional {
    /// Learns from the candidates before `commit`, for which the decision is final.
    fn learn(&mut self, commit: usize, is_final: impl Fn(usize) -> bool) {
        let decided = self.tentative.partition_point(|tentative| tentative.at < commit);
        for tentative in self.tentative.drain(..decided) {
            match (tentative.was_reported, is_final(tentative.at)) {
                (true, false) => self.least_margin += MARGIN_STEP,
                (false, true) => self.least_margin -= MARGIN_STEP,
                _ => {}
            }
            self.least_margin = self.least_margin.clamp(0.0, MAX_MARGIN);
        }
    }
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
    /// Largest delay between an R peak and its report, without the length of a push.
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
        Detector { provisional: Some(Provisional::default()), ..Detector::new(sample_rate_hz) }
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

    /// From now on, beats whose R peak is before the input sample `earliest` are reported as final only, because it is
    /// too late for a provisional report.
    pub(crate) fn withhold_before(&mut self, earliest: u64) {
        if let Some(provisional) = &mut self.provisional {
            provisional.earliest = provisional.earliest.max(earliest);
        }
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
                let learn =
                    if self.steps.is_multiple_of(LEARN_STEPS) { end.saturating_sub(LEARN_AHEAD) } else { 0 };
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

    /// Ends the signal before the input sample `end`: what follows it is not part of the signal. `end` is at most 6 s
    /// old; the signal before it is still known then.
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
            self.scorer.forget_products();
            self.end();
        }
        let rest = self.provisional.iter_mut().flat_map(|provisional| provisional.tentative.drain(..));
        self.out.extend(rest.filter_map(|tentative| tentative.reported).map(Change::Retracted));
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

    /// Processes the signal up to `end`: searches candidates up to `search`, reports beats before `commit` and learns
    /// from those before `learn`.
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
        self.next_final = self.next_final.max(commit);
        if let Some(provisional) = &mut self.provisional {
            let selected = |at| self.scorer.selected().any(|beat| beat.candidate.at == at);
            provisional.learn(commit, selected);
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
        let tentative = &mut self.provisional.as_mut()?.tentative;
        tentative.iter_mut().find(|tentative| tentative.at == at)?.reported.take()
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
                let margin = self.scorer.margin(&self.tuning);
                let Some(provisional) = &mut self.provisional else { return };
                if detection.sample < provisional.earliest {
                    continue;
                }
                let was_reported = margin >= provisional.least_margin;
                let reported = was_reported.then_some(detection.sample);
                provisional.tentative.push(Tentative { at, reported, was_reported });
                if was_reported {
                    self.out.push(Change::Provisional(detection));
                }
            }
        }
    }

    /// Retracts the provisional beats that are no longer selected.
    fn retract_unselected(&mut self) {
        let Some(provisional) = &mut self.provisional else { return };
        for tentative in provisional.tentative.iter_mut().filter(|tentative| tentative.reported.is_some()) {
            if !self.scorer.selected().any(|beat| beat.candidate.at == tentative.at) {
                self.out.extend(tentative.reported.take().map(Change::Retracted));
            }
        }
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
