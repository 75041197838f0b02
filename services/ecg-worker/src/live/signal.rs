//! The ECG of one waveform stream: detector, quality, heart rate and rhythm.
//!
//! All ECG leads with the most common sample rate of the stream are analysed together. A heart rate needs the same
//! evidence as that of a strip: the latest 10 s of one lead are judged by the rules for a segment of a strip, and a lead that is off or
//! whose signal is unusable gives no rate. Beats on both sides of a gap of half a second or more form no interval.
//!
//! A statement that there is no beat needs a lead that had beats. This knowledge survives a gap of missing samples of at most 30 s
//! and the restart of a gateway, but not a lead-off: an asystole that begins before an interruption is found after it. What happened
//! in the gap is unknown, so the silence is counted from its end.
//!
//! Invariants: memory is bounded. Samples are processed in the order of their indices; samples that arrive late are ignored.
//! The result depends on the samples alone, not on how they are divided into frames, except that it is determined when the
//! frame with the last sample of a second has arrived.

use std::collections::VecDeque;

use ecg::stream::EventKind;
use ecg::{Detection, Quality, Stream, Strip};
use proto_json::waveform::{Channel, Frame, MISSING_SAMPLE, SampleRate};

/// Leads that are analysed. A recording of more ECG leads uses the first ones.
const MAX_LEADS: usize = 12;
/// A gap up to this length is filled with missing samples; after a longer one, the detector starts again. As long as
/// [`EVIDENCE_S`].
const MAX_GAP_US: i64 = 30_000_000;
/// Longest frame that is analysed.
const MAX_FRAME_S: f64 = 60.0;
/// A frame may start later than the number of samples before it states. Above this difference, the device was paused and there is a
/// gap. A frame that starts earlier continues without a gap.
const MAX_DRIFT_US: i64 = 200_000;
/// Signal that is kept for the rhythm, and for the quality.
const RHYTHM_S: f64 = 30.0;
const QUALITY_S: f64 = 10.0;
/// A shorter signal has no quality, and a shorter one no rhythm.
const MIN_QUALITY_S: f64 = 3.0;
const MIN_RHYTHM_S: f64 = 10.0;
/// The evidence of a part of the signal holds for this long.
const EVIDENCE_S: f64 = 30.0;
/// The leads are judged at least this often, also while no state is wanted: in a warm-up, and while many samples
/// arrive at once.
const MAX_UNJUDGED_S: f64 = 1.5;
/// The heart rate is the mean over this many of the latest intervals, at least this many, within [`QUALITY_S`].
const MAX_INTERVALS: usize = 8;
const MIN_INTERVALS: usize = 3;
/// A beat below this confidence is doubtful. With more than the first share of doubtful beats, the rate is marked as poor;
/// with more than the second, there is none. The quality of the whole window reacts later when noise begins.
const DOUBTFUL: f32 = 0.8;
const MAX_DOUBTFUL_OF_GOOD: f64 = 0.2;
const MAX_DOUBTFUL: f64 = 0.5;
/// Without a beat for this long, and for twice the longest interval before, there is no heart rate.
const MAX_OPEN_S: f64 = 3.0;
/// An interval longer than this is a pause. As in the findings of strips.
const PAUSE_S: f64 = 2.0;
/// Without a beat on the current lead for this long, the other leads are asked.
const ASK_OTHERS_MS: u32 = 1_500;
/// From this time without a beat on, the quality of the lead is the one before: the rules for the quality of a signal expect beats.
const SILENT_S: f64 = 2.0;
/// Part of the silence after the last beat in which the T wave can be.
const T_WAVE_S: f64 = 0.5;
/// Parts into which a silence is divided, and half of the length of a QRS complex with its slopes.
const SILENT_PART_S: f64 = 0.2;
const HALF_BEAT_S: f64 = 0.1;
/// In a long silence and after a gap, the detector can take noise for beats. There, a beat has at least this share of the height of
/// those before.
const MIN_BEAT_HEIGHT: f32 = 0.25;
/// A silence in which the signal moves by more than this share of the height of the beats may contain beats.
const MAX_SILENT_RANGE: f32 = 0.5;
/// Intervals of this mean length and shorter are fast: a ventricular run begins with three of them.
const FAST_S: f64 = 0.6;
const FAST_INTERVALS: usize = 3;
/// For this long after the rate has become fast, the rhythm is determined every second.
const FAST_ONSET_S: f64 = 10.0;
/// Interval of the rhythm, in seconds; it costs more than everything else.
const RHYTHM_INTERVAL: u64 = 5;
/// A finding of the rhythm that ended before this much of the signal is not current.
const CURRENT_S: f64 = 10.0;

/// Codes of findings in the order in which they are shown: what requires attention first.
const BY_IMPORTANCE: [&str; 11] = [
    "ventricular_run",
    "atrial_fibrillation",
    "supraventricular_run",
    "bigeminy",
    "trigeminy",
    "couplet",
    "pause",
    "paced",
    "sinus_tachycardia",
    "sinus_bradycardia",
    "sinus_rhythm",
];

/// State of the ECG at a second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EcgState {
    /// Heart rate in beats per minute. `None` if the signal does not support one.
    pub(super) bpm: Option<f64>,
    pub(super) quality: Quality,
    /// Code of a finding.
    pub(super) rhythm: Option<&'static str>,
    /// The latest beats; `None` if the signal supports no statement about beats.
    pub(super) beats: Option<LatestBeats>,
}

/// The latest beats of a lead.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LatestBeats {
    /// Server time of the last beat in microseconds.
    pub(super) last_us: i64,
    /// Milliseconds after it in which there certainly is no beat.
    pub(super) silent_ms: u32,
    /// Intervals in milliseconds, newest first.
    pub(super) intervals_ms: Vec<u32>,
}

/// What the signal of a lead states about its latest beats.
enum BeatStatement {
    /// These are the latest beats; after them, the signal is quiet.
    Beats(LatestBeats),
    /// After the latest known beat, the signal moves as beats do.
    NotQuiet,
    /// The lead is off, or had no beats that are still known.
    Unknown,
}

/// The ECG of one stream.
#[derive(Debug)]
pub(super) struct LiveEcg {
    channels: Vec<u16>,
    /// Factor and offset from a sample to millivolts, of each lead.
    scales: Vec<(f64, f64)>,
    rate: SampleRate,
    rate_hz: f64,
    detector: Stream,
    leads: Vec<Lead>,
    /// Index after the last sample. `None` before the first frame.
    next: Option<u64>,
    /// A sample index and its server time in microseconds.
    anchor: (u64, i64),
    /// The lead that gave the last state.
    current: usize,
    rhythm: Option<&'static str>,
    /// Number of states that were determined.
    states: u64,
    /// Frame at which the leads were judged.
    judged: u64,
    /// Frame at which the rate became fast.
    fast_since: Option<u64>,
    buffer: Vec<f32>,
}

#[derive(Debug, Default)]
struct Lead {
    label: String,
    /// First frame of the part that is being recorded. `None` if the lead is off.
    part: Option<u64>,
    /// Beats and pulses of the part that are in the kept signal, by their frames.
    beats: VecDeque<Detection>,
    pulses: VecDeque<u64>,
    /// The last samples, in millivolts; the last value is repeated for missing ones.
    samples: VecDeque<f32>,
    last: f32,
    /// Missing samples at the end.
    missing: usize,
    /// The device reports that the lead is off.
    is_off: bool,
    /// Last frame of a window with the minimum evidence, in this part.
    evidence: Option<u64>,
    /// The latest beats that were found while the signal was usable. They can precede a gap.
    known: Option<KnownBeats>,
}

/// The beats of a lead while it was usable.
#[derive(Debug, Clone, Copy)]
struct KnownBeats {
    /// Frame of the last one.
    last: u64,
    /// Typical height in millivolts.
    height: f32,
    /// Last frame of a window with the minimum evidence.
    evidence: u64,
}

impl Lead {
    fn restart(&mut self) {
        *self = Lead { label: std::mem::take(&mut self.label), is_off: self.is_off, ..Lead::default() };
    }

    fn end_part(&mut self) {
        self.part = None;
        self.evidence = None;
        self.beats.clear();
        self.pulses.clear();
    }

    /// Difference between the largest and the smallest sample of these frames. `end` is the frame after the last sample.
    fn range(&self, from: u64, to: u64, end: u64) -> f32 {
        let oldest = end - self.samples.len() as u64;
        let (from, to) = (from.max(oldest) - oldest, to.min(end) - oldest);
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for sample in self.samples.range(from as usize..to.max(from) as usize) {
            (low, high) = (low.min(*sample), high.max(*sample));
        }
        (high - low).max(0.0)
    }

    /// The last beat, also if it was before a gap. Noise in a silence is no beat.
    fn last_beat(&self, end: u64, rate: f64) -> Option<u64> {
        let Some(known) = self.known else { return self.beats.back().map(|beat| beat.sample) };
        let later = self.beats.partition_point(|beat| beat.sample <= known.last);
        // A provisional beat may have been retracted.
        let mut last = later.checked_sub(1).map_or(known.last, |last| self.beats[last].sample);
        let half = (HALF_BEAT_S * rate) as u64;
        for Detection { sample, .. } in self.beats.range(later..) {
            let follows = self.evidence.is_some() && (sample - last) as f64 <= SILENT_S * rate;
            let height = self.range(sample.saturating_sub(half), sample + half, end);
            if follows || height >= MIN_BEAT_HEIGHT * known.height {
                last = *sample;
            }
        }
        Some(last)
    }

    /// Typical height of the beats that are kept, up to `last`.
    fn beat_height(&self, last: u64, end: u64, half: u64) -> Option<f32> {
        let oldest = end - self.samples.len() as u64;
        let beats = self.beats.iter().map(|beat| beat.sample);
        let beats = beats.filter(|sample| (oldest + half..=last).contains(sample));
        median(beats.map(|sample| self.range(sample - half, sample + half, end)).collect())
    }
}

/// Millivolts per unit; `None` for units that are no voltage.
fn millivolts(unit: &str) -> Option<f64> {
    match unit {
        "V" => Some(1_000.0),
        "mV" => Some(1.0),
        "uV" => Some(0.001),
        "nV" => Some(0.000_001),
        _ => None,
    }
}

impl LiveEcg {
    /// The ECG of a stream with these channels; `None` if it has none.
    pub(super) fn new(channels: &[Channel]) -> Option<Self> {
        let leads: Vec<(u16, &Channel, f64)> = (0..)
            .zip(channels)
            .filter(|(_, channel)| channel.is_ecg())
            .filter_map(|(index, channel)| Some((index, channel, millivolts(&channel.unit)?)))
            .collect();
        let same_rate =
            |rate: SampleRate| leads.iter().filter(|(_, channel, _)| channel.rate == rate).count();
        // The first of equals.
        let rate =
            leads.iter().map(|(_, channel, _)| channel.rate).rev().max_by_key(|rate| same_rate(*rate))?;
        let leads: Vec<_> =
            leads.into_iter().filter(|(_, channel, _)| channel.rate == rate).take(MAX_LEADS).collect();
        Some(LiveEcg {
            channels: leads.iter().map(|(index, ..)| *index).collect(),
            scales: leads
                .iter()
                .map(|(_, channel, unit)| (channel.scale * unit, channel.offset * unit))
                .collect(),
            rate,
            rate_hz: rate.hz(),
            detector: Stream::new(rate.hz(), leads.len()),
            leads: leads
                .iter()
                .map(|(_, channel, _)| Lead { label: channel.label.clone(), ..Lead::default() })
                .collect(),
            next: None,
            anchor: (0, 0),
            current: 0,
            rhythm: None,
            states: 0,
            judged: 0,
            fast_since: None,
            buffer: Vec::new(),
        })
    }

    /// Server time after the last sample, in microseconds. `None` before the first one.
    pub(super) fn until_us(&self) -> Option<i64> {
        self.next.map(|next| self.time_us(next))
    }

    fn time_us(&self, index: u64) -> i64 {
        let (anchor, time_us) = self.anchor;
        time_us + self.rate.micros(index) - self.rate.micros(anchor)
    }

    /// Processes a frame whose first sample has this server time.
    pub(super) fn push(&mut self, frame: &Frame, time_us: i64, channels: &[Channel]) {
        let timed: Vec<_> = frame
            .timed_segments(time_us, channels)
            .filter_map(|(time_us, segment)| {
                let lead = self.channels.iter().position(|channel| *channel == segment.channel)?;
                Some((lead, time_us, segment))
            })
            .collect();
        let Some((_, first_us, first)) = timed.iter().min_by_key(|(_, _, segment)| segment.first) else {
            return;
        };
        let (start, start_us) = (first.first, *first_us);
        let end = timed.iter().map(|(_, _, segment)| segment.end()).max().unwrap_or(start);
        // The gateway admits no such frame.
        if (end - start) as f64 > MAX_FRAME_S * self.rate_hz {
            return;
        }
        let mut from = start;
        match self.next {
            Some(next) if end <= next => return,
            Some(next) => {
                let drift_us = start_us - self.time_us(start);
                let paused_us = if drift_us > MAX_DRIFT_US { drift_us } else { 0 };
                let gap_us = self.rate.micros(start.saturating_sub(next)).saturating_add(paused_us);
                if gap_us > MAX_GAP_US {
                    self.restart();
                } else {
                    self.skip(start.saturating_sub(next) + self.rate.index_at(paused_us));
                    from = start.max(next);
                }
            }
            None => self.restart(),
        }
        self.anchor = (start, start_us);
        let count = self.leads.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize((end - from) as usize * count, f32::NAN);
        for (lead, _, segment) in &timed {
            self.leads[*lead].is_off = segment.lead_off;
            if segment.lead_off {
                // A short lead-off does not end a part.
                if self.leads[*lead].part.is_none() {
                    self.leads[*lead].known = None;
                }
                continue;
            }
            let (scale, offset) = self.scales[*lead];
            for (index, sample) in (segment.first..).zip(&segment.samples) {
                if index >= from && *sample != MISSING_SAMPLE {
                    let value = f64::from(*sample) * scale + offset;
                    buffer[(index - from) as usize * count + lead] = value as f32;
                }
            }
        }
        self.detect(&buffer);
        self.buffer = buffer;
        self.next = Some(end);
        if (self.detector.frames() - self.judged) as f64 > MAX_UNJUDGED_S * self.rate_hz {
            self.judge_leads();
        }
    }

    /// Passes missing samples to the detector.
    fn skip(&mut self, frames: u64) {
        let count = self.leads.len();
        let second = vec![f32::NAN; frames.min(self.rate_hz.ceil() as u64) as usize * count];
        let mut missing = frames as usize * count;
        while missing > 0 {
            let part = missing.min(second.len());
            self.detect(&second[..part]);
            missing -= part;
        }
    }

    fn restart(&mut self) {
        self.detector = Stream::new(self.rate_hz, self.leads.len());
        self.judged = 0;
        self.rhythm = None;
        self.fast_since = None;
        self.leads.iter_mut().for_each(Lead::restart);
    }

    /// Passes complete frames to the detector and keeps what the states need.
    fn detect(&mut self, samples: &[f32]) {
        let kept = (RHYTHM_S * self.rate_hz) as usize;
        let count = self.leads.len();
        let first = self.detector.frames();
        for event in self.detector.push(samples) {
            let lead = &mut self.leads[event.lead];
            match event.kind {
                EventKind::Started { frame } => {
                    lead.end_part();
                    lead.part = Some(frame);
                }
                EventKind::Ended { frame } => {
                    let is_missing = match frame.checked_sub(first) {
                        Some(at) => !samples[at as usize * count + event.lead].is_finite(),
                        None => lead.missing > 0,
                    };
                    if !is_missing || lead.is_off {
                        // Also a line that is flat or saturated: the lead is off.
                        lead.known = None;
                    }
                    lead.end_part();
                }
                EventKind::Provisional(beat) | EventKind::Final(beat) => {
                    let place = lead.beats.partition_point(|earlier| earlier.sample < beat.sample);
                    match lead.beats.get_mut(place) {
                        Some(known) if known.sample == beat.sample => *known = beat,
                        _ => lead.beats.insert(place, beat),
                    }
                }
                EventKind::Retracted { frame } => lead.beats.retain(|beat| beat.sample != frame),
                EventKind::Pulse { frame } => lead.pulses.push_back(frame),
                _ => {}
            }
        }
        let end = self.detector.frames();
        for (index, lead) in self.leads.iter_mut().enumerate() {
            for sample in samples.iter().skip(index).step_by(count) {
                if sample.is_finite() {
                    lead.last = *sample;
                    lead.missing = 0;
                } else {
                    lead.missing += 1;
                }
                lead.samples.push_back(lead.last);
            }
            lead.samples.drain(..lead.samples.len().saturating_sub(kept));
            let oldest = end - lead.samples.len() as u64;
            while lead.beats.front().is_some_and(|beat| beat.sample < oldest) {
                lead.beats.pop_front();
            }
            while lead.pulses.front().is_some_and(|pulse| *pulse < oldest) {
                lead.pulses.pop_front();
            }
        }
    }

    /// Labels of leads that are off: reported by the device, or a flat or saturated line.
    pub(super) fn leads_off(&self) -> impl Iterator<Item = &str> {
        let is_off = |lead: &&Lead| {
            lead.is_off || (lead.part.is_none() && lead.missing == 0 && !lead.samples.is_empty())
        };
        self.leads.iter().filter(is_off).map(|lead| lead.label.as_str())
    }

    /// Determines the state after the last sample. `saves_time` skips the rhythm; it keeps its last value.
    pub(super) fn state(&mut self, saves_time: bool) -> EcgState {
        self.states += u64::from(!saves_time);
        let best = self.judge_leads();
        if best.quality == Quality::Unusable {
            self.rhythm = None;
        } else if !saves_time && (self.is_fast_onset() || self.states.is_multiple_of(RHYTHM_INTERVAL)) {
            self.rhythm = self.find_rhythm();
        }
        let rhythm = if best.is_pause { Some("pause") } else { self.rhythm };
        EcgState { bpm: best.bpm, quality: best.quality, rhythm, beats: self.latest_beats() }
    }

    /// Judges the current lead, and the others if it is not good. Returns the best judgement; its lead becomes the current one.
    fn judge_leads(&mut self) -> Judgement {
        self.judged = self.detector.frames();
        let mut best = self.judge(self.current);
        if best.quality < Quality::Good {
            let current = self.current;
            for lead in (0..self.leads.len()).filter(|lead| *lead != current) {
                let other = self.judge(lead);
                if (other.quality, other.bpm.is_some()) > (best.quality, best.bpm.is_some()) {
                    best = other;
                }
            }
        }
        if best.lead != self.current {
            self.current = best.lead;
            self.rhythm = None;
        }
        best
    }

    /// Whether the rate has become fast a short time ago.
    fn is_fast_onset(&mut self) -> bool {
        let frames = self.detector.frames();
        let beats = &self.leads[self.current].beats;
        let first = beats.len().checked_sub(FAST_INTERVALS + 1).and_then(|first| beats.get(first));
        let is_fast = first.zip(beats.back()).is_some_and(|(first, last)| {
            (last.sample - first.sample) as f64 <= FAST_S * FAST_INTERVALS as f64 * self.rate_hz
        });
        if !is_fast {
            self.fast_since = None;
            return false;
        }
        let since = *self.fast_since.get_or_insert(frames);
        (frames - since) as f64 <= FAST_ONSET_S * self.rate_hz
    }

    /// The latest beats of the current lead, or of another usable lead if that one has a later beat or the current lead supports
    /// no statement.
    fn latest_beats(&mut self) -> Option<LatestBeats> {
        let mut latest = match self.beats_of(self.current) {
            BeatStatement::Beats(latest) => Some(latest),
            BeatStatement::Unknown => None,
            BeatStatement::NotQuiet => return None,
        };
        if latest.as_ref().is_none_or(|latest| latest.silent_ms >= ASK_OTHERS_MS) {
            let current = self.current;
            for lead in (0..self.leads.len()).filter(|lead| *lead != current) {
                // This lead was not judged for this state.
                let _ = self.judge(lead);
                if let BeatStatement::Beats(other) = self.beats_of(lead)
                    && latest.as_ref().is_none_or(|latest| other.silent_ms < latest.silent_ms)
                {
                    latest = Some(other);
                }
            }
        }
        latest
    }

    /// What the signal of a lead states about its latest beats.
    fn beats_of(&self, index: usize) -> BeatStatement {
        let (rate, end) = (self.rate_hz, self.detector.frames());
        let (Some(lead), Some(until_us)) = (self.leads.get(index), self.until_us()) else {
            return BeatStatement::Unknown;
        };
        let Some(part) = lead.part.filter(|_| !lead.is_off) else { return BeatStatement::Unknown };
        let Some((known, last)) = lead.known.zip(lead.last_beat(end, rate)) else {
            return BeatStatement::Unknown;
        };
        // What was in a gap is not known.
        let since = last.max(part);
        // Evidence holds for 30 s. It holds until the end of a silence that began at most 10 s after it, or with the end of a gap at
        // most 30 s after it.
        let onset_s = if part > last { EVIDENCE_S } else { QUALITY_S };
        let evidence = lead.evidence.unwrap_or(known.evidence);
        let age_s = |frame: u64| frame.saturating_sub(evidence) as f64 / rate;
        if age_s(end) > EVIDENCE_S && age_s(since) > onset_s {
            return BeatStatement::Unknown;
        }
        let open_s = (end - since) as f64 / rate;
        if open_s > SILENT_S {
            let half = (HALF_BEAT_S * rate) as u64;
            let height =
                lead.evidence.and_then(|_| lead.beat_height(last, end, half)).unwrap_or(known.height);
            if !self.is_quiet_since(lead, since, height) {
                return BeatStatement::NotQuiet;
            }
        }
        // A beat that has just happened is reported a little later.
        let silent_s = (open_s - Stream::PROVISIONAL_DELAY_S).max(0.0);
        let milliseconds = |frames: u64| (frames as f64 / rate * 1_000.0).round() as u32;
        // Like a rate, intervals need the evidence of their own part.
        let intervals = if lead.evidence.is_some() { MAX_INTERVALS } else { 0 };
        let intervals_ms = lead
            .beats
            .iter()
            .zip(lead.beats.iter().skip(1))
            .rev()
            .take(intervals)
            .map(|(earlier, later)| milliseconds(later.sample - earlier.sample))
            .collect();
        let last_us = until_us - self.rate.micros(end - last);
        BeatStatement::Beats(LatestBeats { last_us, silent_ms: (silent_s * 1_000.0) as u32, intervals_ms })
    }

    /// Whether the signal since a frame is quiet, compared with the height of the beats: otherwise there may be beats in it.
    fn is_quiet_since(&self, lead: &Lead, since: u64, height: f32) -> bool {
        let (rate, end) = (self.rate_hz, self.detector.frames());
        let frames = |seconds: f64| (seconds * rate) as u64;
        let mut parts = Vec::new();
        let mut from = (since + frames(T_WAVE_S)).max(end - lead.samples.len() as u64);
        while from + frames(SILENT_PART_S) <= end {
            parts.push(lead.range(from, from + frames(SILENT_PART_S), end));
            from += frames(SILENT_PART_S).max(1);
        }
        median(parts).is_some_and(|part| part <= MAX_SILENT_RANGE * height)
    }

    /// Judges the latest seconds of a lead.
    fn judge(&mut self, index: usize) -> Judgement {
        let nothing = Judgement { lead: index, quality: Quality::Unusable, bpm: None, is_pause: false };
        let (rate, end) = (self.rate_hz, self.detector.frames());
        let Some(lead) = self.leads.get_mut(index) else { return nothing };
        let Some(part) = lead.part.filter(|_| !lead.is_off) else { return nothing };
        let length = (end.saturating_sub(part)).min((QUALITY_S * rate) as u64).min(lead.samples.len() as u64);
        if (length as f64) < MIN_QUALITY_S * rate {
            return nothing;
        }
        let start = end - length;
        let samples: Vec<f32> = lead.samples.range(lead.samples.len() - length as usize..).copied().collect();
        let first = lead.beats.partition_point(|beat| beat.sample < start);
        let beats: Vec<Detection> = lead
            .beats
            .range(first..)
            .map(|beat| Detection { sample: beat.sample - start, ..*beat })
            .collect();
        let pulses: Vec<usize> = lead
            .pulses
            .iter()
            .filter(|pulse| **pulse >= start)
            .map(|pulse| (pulse - start) as usize)
            .collect();
        let window = ecg::quality::window(&samples, rate, &beats, &pulses);
        if window.has_evidence {
            lead.evidence = Some(end);
        }
        let holds = |evidence: &u64| (end - evidence) as f64 <= EVIDENCE_S * rate;
        let is_sound = window.quality > Quality::Unusable;
        let last = beats.last().map_or(0, |beat| beat.sample);
        let half = (HALF_BEAT_S * rate) as u64;
        let last_beat = match window.has_evidence {
            true => lead.beats.back().map(|beat| beat.sample),
            false => lead.last_beat(end, rate),
        };
        if let Some(last) = last_beat
            && (end - last) as f64 <= SILENT_S * rate
        {
            // After a gap, what is known from before it is used until the new part has evidence.
            let before = lead.known.filter(|_| lead.evidence.is_none());
            let evidence = lead.evidence.or(before.map(|known| known.evidence)).filter(holds);
            let height = before.map(|known| known.height).or_else(|| lead.beat_height(last, end, half));
            // An artefact after a gap does not change what is known from before it.
            if is_sound || before.is_none() {
                lead.known = evidence.filter(|_| is_sound).zip(height).map(|(evidence, height)| KnownBeats {
                    last,
                    height,
                    evidence,
                });
            }
        }
        if !is_sound || !lead.evidence.as_ref().is_some_and(holds) {
            return nothing;
        }
        let intervals: Vec<f64> = beats
            .windows(2)
            .rev()
            .take(MAX_INTERVALS)
            .map(|pair| (pair[1].sample - pair[0].sample) as f64 / rate)
            .collect();
        let of_rate = &beats[beats.len().saturating_sub(intervals.len() + 1)..];
        let doubtful = of_rate.iter().filter(|beat| beat.confidence < DOUBTFUL).count();
        let doubtful = doubtful as f64 / of_rate.len().max(1) as f64;
        let quality =
            if doubtful > MAX_DOUBTFUL_OF_GOOD { window.quality.min(Quality::Poor) } else { window.quality };
        // A beat that has just happened is reported a little later.
        let open_s = (length - last) as f64 / rate - Stream::PROVISIONAL_DELAY_S;
        let longest = intervals.iter().copied().fold(0.0, f64::max);
        let has_stopped = open_s > MAX_OPEN_S.max(2.0 * longest);
        let mean = intervals.iter().sum::<f64>() / intervals.len().max(1) as f64;
        let bpm = (intervals.len() >= MIN_INTERVALS && !has_stopped && doubtful <= MAX_DOUBTFUL)
            .then(|| 60.0 / mean);
        let is_pause =
            open_s > PAUSE_S.max(1.5 * longest) || intervals.first().is_some_and(|rr| *rr > PAUSE_S);
        Judgement { lead: index, quality, bpm, is_pause }
    }

    /// The most important finding of the latest seconds of the current lead.
    fn find_rhythm(&self) -> Option<&'static str> {
        let lead = &self.leads[self.current];
        let length = (self.detector.frames() - lead.part?).min(lead.samples.len() as u64) as usize;
        let length_s = length as f64 / self.rate_hz;
        if length_s < MIN_RHYTHM_S {
            return None;
        }
        let samples = lead.samples.range(lead.samples.len() - length..).copied().collect();
        let strip = Strip::from_samples(self.rate_hz, samples);
        let analysis = ecg::analyze(&strip);
        let waves = ecg::waves::delineate(&strip, &analysis.beats);
        let types = ecg::beat_types::classify(&strip, &analysis, &waves);
        let findings = ecg::rhythm::findings(&strip, &analysis, &waves, &types);
        let is_current = |code: &&&str| {
            findings.iter().any(|finding| finding.code == **code && finding.end_s >= length_s - CURRENT_S)
        };
        BY_IMPORTANCE.iter().find(is_current).copied()
    }
}

/// Judgement of a lead.
struct Judgement {
    lead: usize,
    quality: Quality,
    bpm: Option<f64>,
    is_pause: bool,
}

fn median(mut values: Vec<f32>) -> Option<f32> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
}
