//! One lead as a stream: parts without gaps and without lead-off, pacemaker pulses, and beats.
//!
//! [`crate::analyze()`] and [`crate::Stream`] both use [`Lead`], so a recording has the same beats in both. A part
//! ends where samples are missing for half a second or where the lead is off; the next part starts with a new
//! detector. Shorter gaps are filled with the last value before them.
//!
//! Memory is bounded. The decisions do not depend on how the samples are divided into pieces.

use crate::detect::{Change, Detection, Detector, supported_rate};
use crate::lead_off::{LeadOff, LeadState, MIN_FLAT_S};
use crate::pacing::PulseRemover;

/// Largest delay in seconds between an R peak and its provisional report, without the length of a push.
pub(crate) const PROVISIONAL_DELAY_S: f64 = 0.3;

/// Something that happened in a lead. Samples are counted from the start of the lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LeadEvent {
    /// A part starts with this sample.
    Start(u64),
    /// The part ended before this sample. All of its beats are final.
    End(u64),
    /// A pacemaker pulse.
    Pulse(u64),
    /// A decision about a beat.
    Beat(Change),
}

/// One lead.
#[derive(Debug, Clone)]
pub(crate) struct Lead {
    rate: f64,
    provisional: bool,
    lead_off: LeadOff,
    part: Option<Part>,
    /// Number of samples pushed, the number of missing samples at the end of them, and the last value before those.
    count: u64,
    missing: usize,
    last: f32,
    longest_missing: usize,
    fill: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Part {
    start: u64,
    pacing: PulseRemover,
    detector: Detector,
}

impl Lead {
    /// A lead with `rate` samples per second. Provisional beats are reported if `provisional` is set.
    pub(crate) fn new(rate: f64, provisional: bool) -> Self {
        let rate = supported_rate(rate);
        Lead {
            rate,
            provisional,
            lead_off: LeadOff::new(rate),
            part: None,
            count: 0,
            missing: 0,
            last: 0.0,
            longest_missing: ((MIN_FLAT_S * rate) as usize).max(1),
            fill: Vec::new(),
        }
    }

    /// Whether the lead records at present.
    pub(crate) fn is_on(&self) -> bool {
        self.part.is_some()
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let part = self.part.as_ref().map_or(0, |part| part.pacing.heap_bytes() + part.detector.heap_bytes());
        part + self.lead_off.heap_bytes() + 4 * self.fill.capacity()
    }

    /// Processes samples. A sample that is not finite is missing.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<LeadEvent>) {
        // The samples from `from` on are checked but not processed yet.
        let mut from = 0;
        for (index, value) in samples.iter().enumerate() {
            if !value.is_finite() {
                self.feed(&samples[from..index], out);
                from = index + 1;
                self.count += 1;
                self.missing += 1;
                if self.missing == self.longest_missing {
                    self.gap(out);
                }
                continue;
            }
            if self.missing > 0 {
                self.bridge(out);
                from = index;
            }
            self.count += 1;
            match self.lead_off.push(*value) {
                LeadState::On if self.part.is_some() => {}
                LeadState::On | LeadState::Back => {
                    self.start(self.count - 1, out);
                    from = index;
                }
                LeadState::Lost(run) => {
                    self.feed(&samples[from..=index], out);
                    from = index + 1;
                    self.end_before(self.count - run as u64, out);
                }
                LeadState::Off => from = index + 1,
            }
            self.last = *value;
        }
        self.feed(&samples[from..], out);
    }

    /// Ends the recording.
    pub(crate) fn finish(&mut self, out: &mut Vec<LeadEvent>) {
        if self.part.is_some() {
            self.gap(out);
        }
    }

    /// Fills missing samples before the present one if the part continues.
    fn bridge(&mut self, out: &mut Vec<LeadEvent>) {
        let missing = std::mem::take(&mut self.missing);
        if self.part.is_none() {
            return;
        }
        let mut fill = std::mem::take(&mut self.fill);
        fill.clear();
        fill.resize(missing, self.last);
        let before = self.count - missing as u64;
        if let Some(part) = &mut self.part {
            let delay = (PROVISIONAL_DELAY_S * self.rate) as u64;
            part.detector.withhold_before((self.count + 1).saturating_sub(part.start + delay));
        }
        let mut fed = 0;
        for index in 0..missing {
            if let LeadState::Lost(run) = self.lead_off.push(self.last) {
                self.feed(&fill[..=index], out);
                fed = missing;
                self.end_before(before + index as u64 + 1 - run as u64, out);
            }
        }
        self.feed(&fill[fed..], out);
        self.fill = fill;
    }

    fn start(&mut self, start: u64, out: &mut Vec<LeadEvent>) {
        let detector = match self.provisional {
            true => Detector::with_provisional_beats(self.rate),
            false => Detector::new(self.rate),
        };
        self.part = Some(Part { start, pacing: PulseRemover::new(self.rate), detector });
        out.push(LeadEvent::Start(start));
    }

    fn feed(&mut self, samples: &[f32], out: &mut Vec<LeadEvent>) {
        let Some(part) = self.part.as_mut().filter(|_| !samples.is_empty()) else { return };
        let Part { pacing, detector, .. } = part;
        pacing.push(samples, |samples| detector.advance(samples));
        part.report(out);
    }

    /// Ends the part where the missing samples begin.
    fn gap(&mut self, out: &mut Vec<LeadEvent>) {
        self.lead_off = LeadOff::new(self.rate);
        let Some(mut part) = self.part.take() else { return };
        let Part { pacing, detector, .. } = &mut part;
        detector.withhold_before(u64::MAX);
        pacing.end(|samples| detector.advance(samples));
        detector.end();
        part.report(out);
        out.push(LeadEvent::End(self.count - self.missing as u64));
    }

    /// Ends the part before the sample `end`.
    fn end_before(&mut self, end: u64, out: &mut Vec<LeadEvent>) {
        let Some(mut part) = self.part.take() else { return };
        let length = end.saturating_sub(part.start);
        let Part { pacing, detector, .. } = &mut part;
        detector.withhold_before(u64::MAX);
        pacing.end_before(length, |samples| detector.advance(samples));
        detector.end_before(length);
        part.report(out);
        out.push(LeadEvent::End(end));
    }
}

impl Part {
    /// Moves what was found to `out`.
    fn report(&mut self, out: &mut Vec<LeadEvent>) {
        let start = self.start;
        out.extend(self.pacing.found().map(|pulse| LeadEvent::Pulse(start + pulse)));
        let shifted = |beat: Detection| Detection { sample: start + beat.sample, ..beat };
        out.extend(self.detector.changes().map(|change| {
            LeadEvent::Beat(match change {
                Change::Provisional(beat) => Change::Provisional(shifted(beat)),
                Change::Retracted(sample) => Change::Retracted(start + sample),
                Change::Final(beat) => Change::Final(shifted(beat)),
            })
        }));
    }
}
