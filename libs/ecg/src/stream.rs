//! Beats of a live recording with several leads.
//!
//! ```
//! use ecg::stream::{EventKind, Stream};
//!
//! let mut stream = Stream::new(250.0, 3);
//! // One push of 0.2 s: 50 frames of 3 samples in millivolts, NaN where a sample is missing.
//! for event in stream.push(&[0.0; 150]) {
//!     match event.kind {
//!         EventKind::Provisional(beat) => println!("lead {}: beat at frame {}", event.lead, beat.sample),
//!         EventKind::Retracted { frame } => println!("lead {}: no beat at frame {frame}", event.lead),
//!         EventKind::Final(beat) => println!("lead {}: final beat at frame {}", event.lead, beat.sample),
//!         _ => {}
//!     }
//! }
//! ```
//!
//! Each lead has its own beats; [`Stream::best_lead`] names the lead to show. Guarantees, for each lead:
//!
//! - A provisional beat is reported at most [`Stream::PROVISIONAL_DELAY_S`] after its R peak, plus the length of a
//!   push. Pacing pulses and missing samples right after the beat can delay it; a beat that is too late is reported as
//!   final only.
//! - A final beat is reported at most [`Stream::FINAL_DELAY_S`] after its R peak, plus the length of a push. It may
//!   have been provisional or not. Missing samples delay it by at most 0.5 s, until they are a gap, and a pacemaker
//!   pulse by at most 0.1 s.
//! - A provisional beat either becomes final with the same frame, or is retracted.
//! - The final beats are those that [`crate::analyze()`] finds in the whole recording, with gaps of half a second and
//!   more as the borders of its segments.
//! - The events of a lead, and their order, do not depend on how the frames are divided into pushes.
//! - Memory is bounded: see [`Stream::heap_bytes`].

use crate::detect::{Change, Detection};
use crate::parts::{self, Lead, LeadEvent};

/// Weight of a new beat in the mean confidence of a lead: about the last 16 beats count.
const CONFIDENCE_STEP: f32 = 0.06;

/// An event of one lead. Frames are counted from the first one pushed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// Index of the lead.
    pub lead: usize,
    /// What happened.
    pub kind: EventKind,
}

/// Kind of an event. The field `sample` of a beat is the frame of its R peak.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// The lead records from this frame on: at the start, after a gap, and after a lead-off.
    Started {
        /// First frame of the part.
        frame: u64,
    },
    /// A gap or a lead-off begins with this frame. All beats before it are final.
    Ended {
        /// First frame that is not part of the recording.
        frame: u64,
    },
    /// A beat that can still be retracted.
    Provisional(Detection),
    /// The provisional beat of this frame is not a beat.
    Retracted {
        /// Frame of the provisional beat.
        frame: u64,
    },
    /// A final beat.
    Final(Detection),
    /// A pacemaker pulse. Pulses are detected at 250 Hz and above.
    Pulse {
        /// Frame of the pulse.
        frame: u64,
    },
}

/// Detects the beats of several leads while they are recorded.
#[derive(Debug, Clone)]
pub struct Stream {
    leads: Vec<StreamLead>,
    /// The samples of an incomplete frame.
    incomplete: Vec<f32>,
    frames: u64,
    /// Samples of one lead of a push, and the events of one lead.
    samples: Vec<f32>,
    lead_events: Vec<LeadEvent>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct StreamLead {
    lead: Lead,
    /// Mean confidence of the latest final beats.
    confidence: f32,
}

impl Stream {
    /// Largest delay in seconds between an R peak and the report of its provisional beat, without the length of a push.
    pub const PROVISIONAL_DELAY_S: f64 = parts::PROVISIONAL_DELAY_S;
    /// Largest delay in seconds between an R peak and the report of its final beat, without the length of a push.
    pub const FINAL_DELAY_S: f64 = crate::detect::Detector::MAX_DELAY_S;

    /// A stream of `leads` leads with `sample_rate_hz` frames per second. 50 to 2000 are typical; others are clamped
    /// to 10 to 100000.
    #[must_use]
    pub fn new(sample_rate_hz: f64, leads: usize) -> Self {
        let lead = StreamLead { lead: Lead::new(sample_rate_hz, true), confidence: 0.0 };
        Stream {
            leads: vec![lead; leads],
            incomplete: Vec::new(),
            frames: 0,
            samples: Vec::new(),
            lead_events: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Processes samples in millivolts and returns the new events, ordered by lead and then as they happened. The
    /// samples of a frame are adjacent: lead 0, lead 1, and so on. A sample that is not finite is missing. The last
    /// frame may be incomplete; the next push completes it.
    pub fn push(&mut self, samples: &[f32]) -> &[Event] {
        self.events.clear();
        let count = self.leads.len();
        if count == 0 {
            return &self.events;
        }
        let mut rest = samples;
        if !self.incomplete.is_empty() {
            let (first, others) = rest.split_at((count - self.incomplete.len()).min(rest.len()));
            self.incomplete.extend_from_slice(first);
            rest = others;
            if self.incomplete.len() == count {
                let frame = std::mem::take(&mut self.incomplete);
                self.process(&frame);
                self.incomplete = frame;
                self.incomplete.clear();
            }
        }
        let (whole, tail) = rest.split_at(rest.len() - rest.len() % count);
        self.process(whole);
        self.incomplete.extend_from_slice(tail);
        &self.events
    }

    /// The events of the last push.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Ends the recording and returns the remaining events.
    #[must_use]
    pub fn finish(mut self) -> Vec<Event> {
        self.events.clear();
        for index in 0..self.leads.len() {
            self.leads[index].lead.finish(&mut self.lead_events);
            self.report(index);
        }
        self.events
    }

    /// Number of complete frames pushed.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The lead to show: of the leads that record at present, the one whose latest final beats have the highest mean
    /// confidence. `None` if no lead records.
    #[must_use]
    pub fn best_lead(&self) -> Option<usize> {
        let mut best: Option<(usize, f32)> = None;
        for (index, lead) in self.leads.iter().enumerate().filter(|(_, lead)| lead.lead.is_on()) {
            if best.is_none_or(|(_, confidence)| lead.confidence > confidence) {
                best = Some((index, lead.confidence));
            }
        }
        best.map(|(index, _)| index)
    }

    /// Memory on the heap in bytes. It does not grow with the length of the recording.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.leads.iter().map(|lead| size_of::<StreamLead>() + lead.lead.heap_bytes()).sum::<usize>()
            + 4 * (self.incomplete.capacity() + self.samples.capacity())
            + size_of::<LeadEvent>() * self.lead_events.capacity()
            + size_of::<Event>() * self.events.capacity()
    }

    /// Processes complete frames.
    fn process(&mut self, frames: &[f32]) {
        let count = self.leads.len();
        self.frames += (frames.len() / count) as u64;
        for index in 0..count {
            if count == 1 {
                self.leads[index].lead.push(frames, &mut self.lead_events);
            } else {
                self.samples.clear();
                self.samples.extend(frames.iter().skip(index).step_by(count));
                self.leads[index].lead.push(&self.samples, &mut self.lead_events);
            }
            self.report(index);
        }
    }

    /// Moves the events of a lead to the events of the push.
    fn report(&mut self, index: usize) {
        let lead = &mut self.leads[index];
        for event in self.lead_events.drain(..) {
            let kind = match event {
                LeadEvent::Start(frame) => {
                    lead.confidence = 0.0;
                    EventKind::Started { frame }
                }
                LeadEvent::End(frame) => EventKind::Ended { frame },
                LeadEvent::Pulse(frame) => EventKind::Pulse { frame },
                LeadEvent::Beat(Change::Provisional(beat)) => EventKind::Provisional(beat),
                LeadEvent::Beat(Change::Retracted(frame)) => EventKind::Retracted { frame },
                LeadEvent::Beat(Change::Final(beat)) => {
                    lead.confidence += CONFIDENCE_STEP * (beat.confidence - lead.confidence);
                    EventKind::Final(beat)
                }
            };
            self.events.push(Event { lead: index, kind });
        }
    }
}
