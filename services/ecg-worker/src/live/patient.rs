//! Vitals of one patient, once per second, from all streams of the patient.
//!
//! A second is due when the samples that have arrived reach its end. While the heart is silent, vitals are due every quarter of a
//! second, so that an alarm of asystole comes in time. After 2 s without samples, the seconds that have passed
//! are due, and their vitals state no heart rate. The age of data is measured since its arrival, so different clocks of the gateway and of
//! this machine do not matter.
//!
//! Invariant: the times of the vitals increase by whole seconds, or by quarters while the heart is silent. A jump of the clock of the server or of a device can skip
//! or repeat times; subscribers drop repeated ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use bus::{WAVE_RETENTION, WaveKind, WaveMessage};
use ecg::Quality;
use proto_json::waveform::{
    BeatTimes, Frame, FrameLimits, Numeric, Numerics, StreamDescription, StreamId, StreamsState, Vitals,
    VitalsSource,
};
use proto_json::{EcgQuality, Mrn, Timestamp};

use super::signal::{EcgState, LiveEcg};

/// Without data for this long, vitals have no heart rate.
const STALE: Duration = Duration::from_secs(2);
/// A stream of which nothing is received for this long has ended: even an idle one is described every 10 s.
const FORGET: Duration = Duration::from_secs(35);
/// The ECG of an ended stream is kept this long: a device that had no gateway can resume the stream and send its backlog.
const KEEP: Duration = WAVE_RETENTION;
/// Streams of a patient, and different numerics of a stream.
const MAX_STREAMS: usize = 16;
const MAX_NUMERICS: usize = 64;
/// Vitals that are further from the data than this are not made up for: the clock has jumped, or the worker was away.
const MAX_LAG_MS: i64 = 10_000;
/// Numerics that are older than this are omitted: continuous ones, and those that are measured from time to time.
const CONTINUOUS_MS: i64 = 10_000;
const EPISODIC_MS: i64 = 15 * 60_000;

/// In this range of silence, vitals are due at this interval. A longer silence has raised its alarm already.
const SILENT_HEART_MS: Range<u32> = 1_750..30_000;
const SILENT_HEART_STEP_MS: i64 = 250;

/// Code of the heart rate.
pub(super) const HEART_RATE: &str = "MDC_ECG_HEART_RATE";
const PER_MINUTE: &str = "/min";

/// The end of the second that contains this time.
fn second_after(time_ms: i64) -> i64 {
    time_ms.div_euclid(1_000) * 1_000 + 1_000
}

/// Whether a numeric is measured from time to time: blood pressures and temperatures.
fn is_episodic(code: &str) -> bool {
    code.starts_with("MDC_PRESS_") || code.starts_with("MDC_TEMP")
}

/// A patient with live streams.
#[derive(Debug)]
pub(super) struct Patient {
    mrn: Mrn,
    streams: HashMap<StreamId, LiveStream>,
    /// End of the next second to publish, in milliseconds since 1970. `None` before the first data.
    next_ms: Option<i64>,
    /// Latest time of the data in milliseconds, and when it arrived.
    data: Option<(i64, Instant)>,
    /// No beat was found for some time.
    is_heart_silent: bool,
    /// The devices have ended all streams, and this is not published yet.
    has_ended: bool,
    /// Numerics from before this worker took over.
    carried: Vec<Numeric>,
}

#[derive(Debug)]
struct LiveStream {
    description: StreamDescription,
    limits: FrameLimits,
    ecg: Option<LiveEcg>,
    numerics: BTreeMap<String, Numeric>,
    /// Channels without ECG whose sensor is disconnected.
    off: BTreeSet<u16>,
    heard: Instant,
}

impl Patient {
    /// A patient whose last published vitals are `last`, if they are known.
    pub(super) fn new(mrn: Mrn, last: Option<&Vitals>) -> Self {
        Patient {
            mrn,
            streams: HashMap::new(),
            next_ms: last.map(|last| second_after(last.time.as_millis())),
            data: None,
            is_heart_silent: false,
            has_ended: false,
            carried: last.map(|last| last.values.clone()).unwrap_or_default(),
        }
    }

    /// Processes a message.
    ///
    /// # Errors
    /// One sentence if the message is not valid; it is ignored then.
    pub(super) fn take(&mut self, message: &WaveMessage) -> Result<(), String> {
        match message.kind {
            WaveKind::Open => self.open(message),
            WaveKind::End => {
                let was_open = self.streams.remove(&message.stream).is_some();
                self.has_ended |= was_open && self.live_streams().next().is_none();
                Ok(())
            }
            WaveKind::Frame | WaveKind::Numerics => {
                // Without a description, nothing is known about the channels. It is repeated soon.
                let Some(stream) = self.streams.get_mut(&message.stream) else { return Ok(()) };
                stream.heard = Instant::now();
                let time_us = if message.kind == WaveKind::Frame {
                    stream.take_frame(message)?
                } else {
                    stream.take_numerics(message)?
                };
                self.arrived(time_us);
                Ok(())
            }
        }
    }

    fn open(&mut self, message: &WaveMessage) -> Result<(), String> {
        let description: StreamDescription =
            serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if self.live_streams().next().is_none() {
            // The seconds since the last data are not made up for.
            self.data = None;
        }
        if let Some(known) = self.streams.get_mut(&message.stream)
            && known.description.channels == description.channels
        {
            known.heard = Instant::now();
            return Ok(());
        }
        self.has_ended = false;
        if self.streams.len() >= MAX_STREAMS
            && let Some(oldest) =
                self.streams.iter().min_by_key(|(_, stream)| stream.heard).map(|(id, _)| *id)
        {
            self.streams.remove(&oldest);
        }
        self.streams.insert(
            message.stream,
            LiveStream {
                limits: FrameLimits::of(&description.channels),
                ecg: LiveEcg::new(&description.channels),
                numerics: BTreeMap::new(),
                off: BTreeSet::new(),
                heard: Instant::now(),
                description,
            },
        );
        Ok(())
    }

    /// Notes that data up to this time has arrived.
    fn arrived(&mut self, time_us: Option<i64>) {
        // With an ECG, its time counts: numerics may be ahead.
        let ecg_us = self.live_streams().filter_map(|stream| stream.ecg.as_ref()?.until_us()).max();
        let Some(time_ms) = ecg_us.or(time_us).map(|us| us.div_euclid(1_000)) else { return };
        if self.data.is_none_or(|(known, _)| known != time_ms) {
            self.data = Some((time_ms, Instant::now()));
        }
    }

    /// Drops the seconds that end before the data that has arrived: they were published by another worker.
    pub(super) fn skip_to_data(&mut self) {
        if let Some((data_ms, _)) = self.data {
            let next = second_after(data_ms);
            self.next_ms = Some(self.next_ms.map_or(next, |known| known.max(next)));
        }
    }

    /// Returns the vitals of the next second that is due. `is_up_to_date` states that all messages of the broker were taken,
    /// so that missing data is missing. `saves_time` skips what is expensive.
    pub(super) fn next_vitals(&mut self, is_up_to_date: bool, saves_time: bool) -> Option<Vitals> {
        let (data_ms, arrived) = self.data?;
        if std::mem::take(&mut self.has_ended) {
            let next = self.next_ms.unwrap_or(0).max(second_after(data_ms));
            self.next_ms = Some(next + 1_000);
            return Some(self.ended(Timestamp::from_millis(next).ok()?));
        }
        let waited = i64::try_from(arrived.elapsed().as_millis()).unwrap_or(i64::MAX);
        let next = match self.next_ms {
            // While no samples arrive, the next second runs ahead of the data together with the clock.
            Some(next)
                if next >= data_ms - MAX_LAG_MS
                    && next <= data_ms.saturating_add(waited).saturating_add(MAX_LAG_MS) =>
            {
                next
            }
            // Continues with the second that the data has just reached.
            Some(next) if next < data_ms => second_after(data_ms) - 1_000,
            _ => second_after(data_ms),
        };
        self.next_ms = Some(next);
        let is_complete = data_ms >= next;
        let is_stale = is_up_to_date && arrived.elapsed() >= STALE && data_ms.saturating_add(waited) >= next;
        if !is_complete && !is_stale {
            return None;
        }
        self.live_streams().next()?;
        let time = Timestamp::from_millis(next).ok()?;
        let vitals = self.vitals(time, is_complete, saves_time);
        self.is_heart_silent =
            vitals.beats.as_ref().is_some_and(|beats| SILENT_HEART_MS.contains(&beats.silent_ms));
        self.next_ms =
            Some(if self.is_heart_silent { next + SILENT_HEART_STEP_MS } else { second_after(next) });
        Some(vitals)
    }

    /// The last vitals: the devices have ended all streams.
    fn ended(&self, time: Timestamp) -> Vitals {
        Vitals {
            mrn: self.mrn,
            stream: None,
            time,
            values: Vec::new(),
            rhythm: None,
            quality: EcgQuality::Unusable,
            lead_off: Vec::new(),
            source: VitalsSource::Device,
            streams: StreamsState::Ended,
            beats: None,
        }
    }

    fn live_streams(&self) -> impl Iterator<Item = &LiveStream> {
        self.streams.values().filter(|stream| stream.is_live())
    }

    /// Whether the patient has streams that are live or can be resumed.
    pub(super) fn is_kept(&mut self) -> bool {
        self.streams.retain(|_, stream| stream.heard.elapsed() < KEEP);
        !self.streams.is_empty() || self.has_ended
    }

    fn vitals(&mut self, time: Timestamp, is_complete: bool, saves_time: bool) -> Vitals {
        let mut vitals = Vitals {
            mrn: self.mrn,
            stream: None,
            time,
            values: Vec::new(),
            rhythm: None,
            quality: EcgQuality::Unusable,
            lead_off: Vec::new(),
            source: VitalsSource::Device,
            streams: if is_complete { StreamsState::Live } else { StreamsState::Silent },
            beats: None,
        };
        // The rhythm is determined at whole seconds.
        let saves_time = saves_time || time.as_millis().rem_euclid(1_000) != 0;
        // The best ECG that reaches this second.
        let mut best: Option<(StreamId, EcgState)> = None;
        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.is_live()) {
            let Some(ecg) = &mut stream.ecg else { continue };
            vitals.source = VitalsSource::Analysis;
            if !is_complete || ecg.until_us().is_none_or(|until_us| until_us < time.as_millis() * 1_000) {
                continue;
            }
            let state = ecg.state(saves_time);
            if best.as_ref().is_none_or(|(_, best)| state.quality > best.quality) {
                best = Some((*id, state));
            }
        }
        if let Some((stream, state)) = best {
            vitals.stream = Some(stream);
            vitals.quality = quality(state.quality);
            vitals.rhythm = state.rhythm.map(str::to_owned);
            vitals.beats = state.beats.and_then(|beats| {
                let last = Timestamp::from_millis(beats.last_us.div_euclid(1_000)).ok()?;
                Some(BeatTimes { last, silent_ms: beats.silent_ms, intervals_ms: beats.intervals_ms })
            });
            vitals.values.extend(state.bpm.map(|bpm| Numeric {
                code: HEART_RATE.to_owned(),
                // Further digits would exceed the accuracy of the method.
                value: (bpm * 10.0).round() / 10.0,
                unit: PER_MINUTE.to_owned(),
                time,
            }));
        }
        self.add_numerics(&mut vitals);
        vitals.lead_off = self.live_streams().flat_map(LiveStream::channels_off).collect();
        vitals.lead_off.sort_unstable();
        vitals.lead_off.dedup();
        vitals
    }

    /// Adds the latest numerics of the devices. Next to an ECG, the heart rate of a device is omitted: two
    /// rates could contradict each other.
    fn add_numerics(&self, vitals: &mut Vitals) {
        let mut latest: BTreeMap<&str, &Numeric> = BTreeMap::new();
        let of_streams = self.live_streams().flat_map(|stream| stream.numerics.values());
        for numeric in self.carried.iter().filter(|numeric| is_episodic(&numeric.code)).chain(of_streams) {
            let age_ms = vitals.time.millis_since(numeric.time);
            let limit = if is_episodic(&numeric.code) { EPISODIC_MS } else { CONTINUOUS_MS };
            if age_ms > limit || (numeric.code == HEART_RATE && vitals.source == VitalsSource::Analysis) {
                continue;
            }
            let known = latest.entry(&numeric.code).or_insert(numeric);
            if numeric.time > known.time {
                *known = numeric;
            }
        }
        vitals.values.extend(latest.into_values().cloned());
    }
}

fn quality(quality: Quality) -> EcgQuality {
    match quality {
        Quality::Good => EcgQuality::Good,
        Quality::Poor => EcgQuality::Poor,
        Quality::Unusable => EcgQuality::Unusable,
    }
}

impl LiveStream {
    fn is_live(&self) -> bool {
        self.heard.elapsed() < FORGET
    }

    /// Processes a frame. Returns the time after its last sample.
    fn take_frame(&mut self, message: &WaveMessage) -> Result<Option<i64>, String> {
        let frame = Frame::decode(&message.payload, &self.limits).map_err(|error| error.to_string())?;
        let channels = &self.description.channels;
        for segment in &frame.segments {
            if segment.lead_off {
                self.off.insert(segment.channel);
            } else {
                self.off.remove(&segment.channel);
            }
        }
        if let Some(ecg) = &mut self.ecg {
            ecg.push(&frame, message.time_us, channels);
        }
        let end_us = frame.timed_segments(message.time_us, channels).filter_map(|(time_us, segment)| {
            let channel = channels.get(usize::from(segment.channel))?;
            Some(time_us + channel.rate.micros(segment.samples.len() as u64))
        });
        Ok(end_us.max())
    }

    /// Keeps the latest numerics. Returns their time.
    fn take_numerics(&mut self, message: &WaveMessage) -> Result<Option<i64>, String> {
        let numerics: Numerics =
            serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        for numeric in numerics.values {
            match self.numerics.get(&numeric.code) {
                Some(known) if known.time > numeric.time => continue,
                None if self.numerics.len() >= MAX_NUMERICS => continue,
                _ => {}
            }
            self.numerics.insert(numeric.code.clone(), numeric);
        }
        Ok(Some(message.time_us))
    }

    /// Labels of channels whose electrode or sensor is disconnected.
    fn channels_off(&self) -> Vec<String> {
        let channels = &self.description.channels;
        let flagged =
            self.off.iter().filter_map(|index| Some(channels.get(usize::from(*index))?.label.as_str()));
        flagged.chain(self.ecg.iter().flat_map(LiveEcg::leads_off)).map(str::to_owned).collect()
    }
}
