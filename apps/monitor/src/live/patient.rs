//! The live streams of one patient.

use std::collections::HashSet;
use std::sync::Arc;

use client::{ReceivedColumns, ReceivedFrame};
use proto_json::{Channel, LiveMode, StreamDescription, StreamId, Vitals};
use ui::trace::{History, Playout};

/// The maximum number of streams of a patient. A stream that has stopped makes room for a new one.
const MAX_STREAMS: usize = 8;
/// Time without samples after which a channel has no signal, in microseconds.
pub(crate) const STOP_US: i64 = 2_000_000;
/// Samples that are later than this after the current time are ignored: a wrong clock must not clear the trace. In microseconds.
const MAX_AHEAD_US: i64 = 10_000_000;
/// The age after which vitals are no longer live, in milliseconds.
pub(crate) const VITALS_MS: i64 = 5_000;

/// What a channel measures. It determines colour and scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelKind {
    /// An ECG lead.
    Ecg,
    /// The pulse wave of an oximeter.
    Pleth,
    /// Respiration: impedance, flow or carbon dioxide.
    Respiration,
    /// An invasive pressure.
    Pressure,
    /// Anything else.
    Other,
}

impl ChannelKind {
    /// The kind of a channel by its ISO/IEEE 11073-10101 code.
    #[must_use]
    pub fn of(channel: &Channel) -> Self {
        let code = channel.code.as_str();
        let has = |part: &str| code.contains(part);
        if channel.is_ecg() {
            ChannelKind::Ecg
        } else if has("PLETH") || has("PULS_OXIM") {
            ChannelKind::Pleth
        } else if has("RESP") || has("TTHOR") || has("CO2") || has("AWAY") {
            ChannelKind::Respiration
        } else if has("PRESS") {
            ChannelKind::Pressure
        } else {
            ChannelKind::Other
        }
    }
}

/// The state of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalState {
    /// No sample has arrived yet.
    Waiting,
    /// Samples arrive.
    Live,
    /// The electrode or sensor is disconnected.
    LeadOff,
    /// No samples arrive since this time, in microseconds since 1970.
    Stopped(i64),
}

/// One channel of a stream with its recent samples.
#[derive(Debug)]
pub struct LiveChannel {
    /// The recent samples.
    pub history: History,
    /// When the newest sample arrived, in microseconds since 1970.
    arrived_us: i64,
}

/// One stream of the patient.
#[derive(Debug)]
pub struct LiveStream {
    /// Channels and device.
    pub description: Arc<StreamDescription>,
    /// The channels in the order of the description.
    pub channels: Vec<LiveChannel>,
    /// The jitter buffer.
    pub playout: Playout,
}

/// The streams and vitals of one patient.
#[derive(Debug)]
pub struct LivePatient {
    mode: LiveMode,
    kept_s: f64,
    streams: Vec<LiveStream>,
    vitals: Option<Vitals>,
    is_connected: bool,
}

impl LivePatient {
    /// A patient without streams. Keeps the samples of `kept_s` seconds.
    #[must_use]
    pub fn new(mode: LiveMode, kept_s: f64) -> Self {
        LivePatient { mode, kept_s, streams: Vec::new(), vitals: None, is_connected: true }
    }

    /// The mode of the subscription.
    #[must_use]
    pub fn mode(&self) -> LiveMode {
        self.mode
    }

    /// The streams, the oldest first.
    #[must_use]
    pub fn streams(&self) -> &[LiveStream] {
        &self.streams
    }

    /// The streams, the oldest first.
    pub fn streams_mut(&mut self) -> &mut [LiveStream] {
        &mut self.streams
    }

    /// A stream is new, or its description has changed. Returns whether the channels have changed.
    pub fn describe(&mut self, description: &Arc<StreamDescription>) -> bool {
        let mut channels = self.mode_channels(description);
        if let Some(known) = self.stream_mut(description.stream) {
            let has_changed = known.description.channels != description.channels;
            known.description = Arc::clone(description);
            if has_changed {
                known.channels = channels;
            }
            return has_changed;
        }
        // A device that starts a new stream continues the traces of its channels.
        let labels: HashSet<&str> =
            description.channels.iter().map(|channel| channel.label.as_str()).collect();
        let replaced = self.streams.iter().position(|stream| {
            stream.description.channels.iter().any(|channel| labels.contains(channel.label.as_str()))
        });
        if let Some(position) = replaced {
            let before = self.streams.remove(position);
            for (old, kept) in before.description.channels.iter().zip(before.channels) {
                if let Some(at) = description.channels.iter().position(|new| new == old) {
                    channels[at] = kept;
                }
            }
        }
        if self.streams.len() >= MAX_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(LiveStream {
            description: Arc::clone(description),
            channels,
            playout: Playout::default(),
        });
        true
    }

    fn mode_channels(&self, description: &StreamDescription) -> Vec<LiveChannel> {
        let history = |channel: &Channel| match self.mode {
            LiveMode::Full => History::of_samples(channel, self.kept_s),
            LiveMode::Overview => History::of_columns(channel, self.kept_s),
        };
        let channel = |channel| LiveChannel { history: history(channel), arrived_us: 0 };
        description.channels.iter().map(channel).collect()
    }

    /// A frame has arrived. Returns whether the channels have changed.
    pub fn frame(&mut self, received: &ReceivedFrame, now_us: i64) -> bool {
        if self.mode != LiveMode::Full || received.time_us > now_us + MAX_AHEAD_US {
            return false;
        }
        let has_changed = self.describe_if_new(&received.stream);
        let Some(stream) = self.stream_mut(received.stream.stream) else { return has_changed };
        for (time_us, segment) in received.frame.timed_segments(received.time_us, &received.stream.channels) {
            if let Some(channel) = stream.channels.get_mut(usize::from(segment.channel)) {
                channel.add(now_us, |history| {
                    history.push_samples(time_us, segment.first, segment.lead_off, &segment.samples);
                });
            }
        }
        stream.playout.received(received.time_us, received.end_us(), now_us);
        has_changed
    }

    /// Columns of an overview have arrived. Returns whether the channels have changed.
    pub fn columns(&mut self, received: &ReceivedColumns, now_us: i64) -> bool {
        let Some((from, to)) = received.time() else { return false };
        if self.mode != LiveMode::Overview || from > now_us + MAX_AHEAD_US {
            return false;
        }
        let has_changed = self.describe_if_new(&received.stream);
        let Some(stream) = self.stream_mut(received.stream.stream) else { return has_changed };
        for block in &received.blocks {
            if let Some(channel) = stream.channels.get_mut(usize::from(block.channel)) {
                channel.add(now_us, |history| {
                    history.push_columns(block.first, block.lead_off, &block.columns);
                });
            }
        }
        stream.playout.received(from, to, now_us);
        has_changed
    }

    fn describe_if_new(&mut self, description: &Arc<StreamDescription>) -> bool {
        self.stream_mut(description.stream).is_none() && self.describe(description)
    }

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut LiveStream> {
        self.streams.iter_mut().find(|stream| stream.description.stream == id)
    }

    /// Vitals have arrived. Older ones are ignored.
    pub fn set_vitals(&mut self, vitals: Vitals) {
        if self.vitals.as_ref().is_none_or(|known| known.time <= vitals.time) {
            self.vitals = Some(vitals);
        }
    }

    /// The latest vitals.
    #[must_use]
    pub fn vitals(&self) -> Option<&Vitals> {
        self.vitals.as_ref()
    }

    /// The latest vitals, unless they are too old to be live.
    #[must_use]
    pub fn live_vitals(&self, now_us: i64) -> Option<&Vitals> {
        let is_live = |vitals: &&Vitals| now_us / 1000 - vitals.time.as_millis() <= VITALS_MS;
        self.vitals.as_ref().filter(|_| self.is_connected).filter(is_live)
    }

    /// Whether the connection to the server works. Without it, all channels stop at once.
    pub fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
    }

    /// The state of a channel.
    #[must_use]
    pub fn state(&self, stream: usize, channel: usize, now_us: i64) -> SignalState {
        let Some(stream) = self.streams.get(stream) else { return SignalState::Waiting };
        let Some(channel) = stream.channels.get(channel) else { return SignalState::Waiting };
        let Some(end_us) = channel.history.end_us() else { return SignalState::Waiting };
        if !self.is_connected || now_us - channel.arrived_us >= STOP_US {
            return SignalState::Stopped(end_us);
        }
        let shown_us = now_us - stream.playout.delay_us();
        if channel.history.is_lead_off(shown_us as f64 * 1e-6) {
            SignalState::LeadOff
        } else {
            SignalState::Live
        }
    }

    /// Whether any channel has or had samples.
    #[must_use]
    pub fn has_signal(&self) -> bool {
        self.streams
            .iter()
            .flat_map(|stream| &stream.channels)
            .any(|channel| channel.history.end_us().is_some())
    }

    /// The channels in the order in which they are shown: ECG leads first, lead II before the others. Position of the stream and
    /// of the channel.
    #[must_use]
    pub fn shown_channels(&self) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for (at, stream) in self.streams.iter().enumerate() {
            all.extend((0..stream.channels.len()).map(|channel| (at, channel)));
        }
        all.sort_by_key(|(stream, channel)| {
            let channel = &self.streams[*stream].description.channels[*channel];
            let kind = ChannelKind::of(channel);
            (kind, kind == ChannelKind::Ecg && channel.label != "II")
        });
        all
    }

    /// Memory of all samples in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.streams.iter().flat_map(|stream| &stream.channels).map(|channel| channel.history.bytes()).sum()
    }
}

impl LiveChannel {
    fn add(&mut self, now_us: i64, push: impl FnOnce(&mut History)) {
        let before = self.history.end_us();
        push(&mut self.history);
        if self.history.end_us() != before {
            self.arrived_us = now_us;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proto_json::{Column, ColumnBlock, Device, Frame, Mrn, SampleRate, Segment, Timestamp};

    use super::*;

    pub(crate) const START: i64 = 1_790_000_000_000_000;

    pub(crate) fn channel(label: &str, code: &str, rate: u32) -> Channel {
        Channel {
            label: label.to_owned(),
            code: code.to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate { numerator: rate, denominator: 1 },
            scale: 0.001,
            offset: 0.0,
        }
    }

    pub(crate) fn stream(id: u8, channels: Vec<Channel>) -> Arc<StreamDescription> {
        Arc::new(StreamDescription {
            stream: format!("0198c0de-0000-7000-8000-0000000000{id:02x}").parse().unwrap(),
            mrn: Mrn::new(7).unwrap(),
            device: Device { name: "Simulator".to_owned(), serial: "1".to_owned() },
            channels,
            opened_at: Timestamp::from_millis(START / 1000).unwrap(),
            clock: None,
        })
    }

    /// The frame number `number` of 200 ms with a value per channel; `None` is a disconnected sensor.
    pub(crate) fn frame(
        stream: &Arc<StreamDescription>,
        number: u64,
        values: &[Option<i16>],
    ) -> ReceivedFrame {
        let segments = (0..).zip(&stream.channels).zip(values).map(|((at, channel), value)| {
            let count = u64::from(channel.rate.numerator / 5);
            let samples = vec![value.unwrap_or(0); count as usize];
            Segment { channel: at, first: number * count, lead_off: value.is_none(), samples }
        });
        ReceivedFrame {
            time_us: START + number as i64 * 200_000,
            frame: Frame { sequence: number, device_time_us: 0, segments: segments.collect() },
            stream: Arc::clone(stream),
        }
    }

    #[test]
    fn channel_stops_after_two_seconds_without_samples_and_says_since_when() {
        let stream = stream(
            1,
            vec![channel("II", "MDC_ECG_LEAD_II", 250), channel("Pleth", "MDC_PULS_OXIM_PLETH", 125)],
        );
        let mut patient = LivePatient::new(LiveMode::Full, 60.0);
        assert!(patient.describe(&stream));
        assert_eq!(patient.state(0, 0, START), SignalState::Waiting);
        let arrived = START + 250_000;
        patient.frame(&frame(&stream, 0, &[Some(1), None]), arrived);
        assert_eq!(patient.state(0, 0, arrived + 1_999_999), SignalState::Live);
        assert_eq!(patient.state(0, 1, arrived + 300_000), SignalState::LeadOff);
        let SignalState::Stopped(since) = patient.state(0, 0, arrived + 2_000_000) else {
            panic!("it has stopped")
        };
        assert!((since - (START + 200_000)).abs() < 5_000, "{since}");
        patient.frame(&frame(&stream, 60, &[Some(1), Some(1)]), START + 12_250_000);
        assert_eq!(patient.state(0, 0, START + 12_260_000), SignalState::Live);
        patient.set_connected(false);
        assert!(matches!(patient.state(0, 0, START + 12_260_000), SignalState::Stopped(_)), "at once");
    }

    #[test]
    fn new_stream_of_the_same_channels_continues_their_traces() {
        let lead = || channel("II", "MDC_ECG_LEAD_II", 250);
        let (one, two) =
            (stream(1, vec![lead()]), stream(2, vec![channel("I", "MDC_ECG_LEAD_I", 250), lead()]));
        let mut patient = LivePatient::new(LiveMode::Full, 60.0);
        patient.frame(&frame(&one, 0, &[Some(100)]), START + 250_000);
        assert!(patient.frame(&frame(&two, 10, &[Some(5), Some(7)]), START + 2_250_000), "other channels");
        assert_eq!(patient.streams().len(), 1);
        let history = &patient.streams()[0].channels[1].history;
        let at = |ms: i64| history.cell(history.number_at((START + ms * 1000) as f64 * 1e-6 + 1e-4)).low;
        assert_eq!((at(100), at(2100)), (100, 7));
        assert_eq!(at(1000), proto_json::MISSING_SAMPLE, "the time between them is a gap");
        assert_eq!(patient.shown_channels(), [(0, 1), (0, 0)], "lead II comes first");
    }

    #[test]
    fn frames_from_the_future_are_ignored_and_memory_is_bounded() {
        let stream = stream(1, vec![channel("II", "MDC_ECG_LEAD_II", 500)]);
        let mut patient = LivePatient::new(LiveMode::Full, 70.0);
        let mut far = frame(&stream, 0, &[Some(1)]);
        far.time_us += 3_600_000_000;
        patient.frame(&far, START);
        assert!(!patient.has_signal());
        patient.frame(&frame(&stream, 0, &[Some(1)]), START + 250_000);
        let bytes = patient.bytes();
        for number in 1..2000 {
            patient.frame(&frame(&stream, number, &[Some(1)]), START + number as i64 * 200_000 + 250_000);
        }
        assert_eq!(patient.bytes(), bytes);
        assert!(bytes < 400_000, "{bytes}");
    }

    #[test]
    fn overview_takes_columns_and_no_frames() {
        let stream = stream(1, vec![channel("II", "MDC_ECG_LEAD_II", 250)]);
        let mut patient = LivePatient::new(LiveMode::Overview, 10.0);
        patient.frame(&frame(&stream, 0, &[Some(1)]), START + 250_000);
        assert!(!patient.has_signal());
        let block = ColumnBlock {
            channel: 0,
            lead_off: false,
            first: Column::at(START),
            columns: vec![Column { min: -1, max: 4 }; 12],
        };
        let received = ReceivedColumns { stream, time_us: START, blocks: vec![block] };
        patient.columns(&received, START + 250_000);
        assert_eq!(patient.state(0, 0, START + 260_000), SignalState::Live);
    }
}
