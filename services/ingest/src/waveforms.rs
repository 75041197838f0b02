//! Stores live waveforms: consumes the group "storage" of the waveform log, seals chunks and deletes old ones.
//!
//! Each partition has a task. It collects frames for [`FLUSH_AFTER`], appends them to the store in one call, and then
//! acknowledges them. So a sample is acknowledged only when it is durable in the store. If the store fails, the task
//! repeats the call and reads nothing meanwhile; the log keeps the messages. A redelivered frame adds nothing, because
//! the store identifies samples by their index.
//!
//! The process that is the active consumer of a partition also seals its streams, and that of partition 0 deletes what
//! is older than `--keep-waveforms`, in small batches with pauses.
//!
//! A message that cannot be read is counted, logged and skipped: the gateway has checked it before, so it comes from
//! another version or is damaged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{PartitionEvent, WaveDelivery, WaveGroup, WaveKind, WaveMessage};
use futures::StreamExt;
use futures::future::join_all;
use proto_json::Timestamp;
use proto_json::waveform::{Frame, FrameLimits, PARTITIONS, StreamDescription, StreamId};
use runtime::Shutdown;
use store::waveforms::{NewPiece, Run};
use store::{StoreError, WaveformStore};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{Config, Ports};

/// Messages of a partition that are not acknowledged: more than 1,000 patients send in [`FLUSH_AFTER`] with frames of
/// 200 ms, distributed over all partitions.
const MAX_IN_FLIGHT: usize = 2_048;
/// Longest time that a frame waits for others before they are stored.
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Bytes of samples after which a batch is stored at once.
const FLUSH_BYTES: usize = 4 << 20;
/// Bytes of samples of one stream in a piece. A document of the store is smaller than 16 MB.
const PIECE_BYTES: usize = 4 << 20;

/// Time between two attempts while broker or store fail.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// Descriptions that a partition remembers. Others are read from the store.
const MAX_STREAMS: usize = 4_096;

/// Time between two searches for chunks to seal, and streams that are sealed in one call.
const SEAL_EVERY: Duration = Duration::from_secs(10);
const SEAL_BATCH: usize = 16;

/// Time between two searches for chunks to delete, chunks that are deleted in one call, and the pause between two
/// calls.
const DELETE_EVERY: Duration = Duration::from_secs(60);
const DELETE_BATCH: usize = 64;
const DELETE_PAUSE: Duration = Duration::from_millis(50);

/// Whether this process is the active consumer of each partition.
type Active = Arc<[AtomicBool; PARTITIONS as usize]>;

/// Consumes all partitions, seals and deletes, until the shutdown begins. Stores what was received by then.
pub(crate) async fn run(config: &Config, ports: &Ports, shutdown: &Shutdown) {
    let active: Active = Arc::new(std::array::from_fn(|_| AtomicBool::new(false)));
    let consume = join_all((0..PARTITIONS).map(|partition| {
        let (ports, active, shutdown) = (ports.clone(), active.clone(), shutdown.clone());
        tokio::spawn(async move { consume(&ports, partition, &active, &shutdown).await })
    }));
    let maintain = shutdown.unless_begun(futures::future::join(
        seal_periodically(&*ports.waveforms, &active),
        delete_periodically(&*ports.waveforms, &active, config.keep_waveforms),
    ));
    for ended in tokio::join!(consume, maintain).0 {
        if let Err(error) = ended {
            tracing::error!(%error, "a consumer of waveforms ended");
        }
    }
}

/// Consumes one partition until the shutdown begins.
async fn consume(ports: &Ports, partition: u16, active: &Active, shutdown: &Shutdown) {
    let active = &active[usize::from(partition)];
    let mut wait = FIRST_RETRY;
    while !shutdown.has_begun() {
        match ports.bus.waves.consume_waves(WaveGroup::Storage, partition, MAX_IN_FLIGHT).await {
            Ok(events) => {
                wait = FIRST_RETRY;
                store_events(&*ports.waveforms, events, active, shutdown).await;
                active.store(false, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, partition, "waveforms cannot be consumed; this is repeated"),
        }
        if shutdown.unless_begun(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(MAX_RETRY);
    }
}

async fn store_events(
    store: &dyn WaveformStore,
    mut events: futures::stream::BoxStream<'static, PartitionEvent>,
    active: &AtomicBool,
    shutdown: &Shutdown,
) {
    let mut streams = Streams::default();
    let mut batch = Batch::default();
    loop {
        let flush_at = batch.since.map(|since| since + FLUSH_AFTER);
        let event = tokio::select! {
            biased;
            () = shutdown.begun() => None,
            () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                batch.flush(store, shutdown).await;
                continue;
            }
            event = events.next() => event,
        };
        match event {
            None => {
                batch.flush(store, shutdown).await;
                return;
            }
            Some(PartitionEvent::Acquired) => {
                active.store(true, Ordering::Relaxed);
                (streams, batch) = Default::default();
            }
            Some(PartitionEvent::Released) => {
                active.store(false, Ordering::Relaxed);
                // Its successor receives what was not acknowledged, descriptions included.
                (streams, batch) = Default::default();
            }
            Some(PartitionEvent::Replayed(_)) => {}
            Some(PartitionEvent::Delivery(delivery)) => {
                batch.take(store, &mut streams, delivery, shutdown).await;
                if batch.bytes >= FLUSH_BYTES || batch.messages >= MAX_IN_FLIGHT / 2 {
                    batch.flush(store, shutdown).await;
                }
            }
        }
    }
}

/// A stream whose frames can be read.
#[derive(Debug, Clone)]
struct Known {
    description: Arc<StreamDescription>,
    limits: Arc<FrameLimits>,
}

impl Known {
    fn of(description: StreamDescription) -> Self {
        let limits = Arc::new(FrameLimits::of(&description.channels));
        Known { description: Arc::new(description), limits }
    }
}

/// The streams of a partition.
#[derive(Debug, Default)]
struct Streams(HashMap<StreamId, Known>);

impl Streams {
    fn insert(&mut self, known: Known) {
        if self.0.len() >= MAX_STREAMS {
            self.0.clear();
        }
        self.0.insert(known.description.stream, known);
    }

    /// Finds a stream; its description is stored before the message with it is acknowledged.
    async fn find(
        &mut self,
        store: &dyn WaveformStore,
        stream: StreamId,
        shutdown: &Shutdown,
    ) -> Option<Known> {
        if let Some(known) = self.0.get(&stream) {
            return Some(known.clone());
        }
        let mut wait = FIRST_RETRY;
        let found = loop {
            match store.waveform_stream(stream).await {
                Ok(found) => break found?,
                Err(error) => tracing::warn!(%error, "a waveform stream cannot be read; this is repeated"),
            }
            shutdown.unless_begun(tokio::time::sleep(wait)).await?;
            wait = (wait * 2).min(MAX_RETRY);
        };
        let known = Known::of(found.description);
        self.insert(known.clone());
        Some(known)
    }
}

/// Messages that are not stored yet.
#[derive(Debug, Default)]
struct Batch {
    opened: Vec<Arc<StreamDescription>>,
    streams: HashMap<StreamId, Collected>,
    /// The last message. Its acknowledgement includes all before it.
    last: Option<WaveDelivery>,
    since: Option<Instant>,
    bytes: usize,
    messages: usize,
}

/// Samples of one stream.
#[derive(Debug)]
struct Collected {
    description: Arc<StreamDescription>,
    runs: Vec<Run>,
}

impl Batch {
    async fn take(
        &mut self,
        store: &dyn WaveformStore,
        streams: &mut Streams,
        delivery: WaveDelivery,
        shutdown: &Shutdown,
    ) {
        if let Err(cause) = self.read(store, streams, &delivery.message, shutdown).await {
            // The shutdown ends a search for the stream. The message is delivered again.
            if shutdown.has_begun() {
                return;
            }
            metrics::counter!("bedside_waveform_messages_rejected_total").increment(1);
            let WaveMessage { stream, kind, sequence, .. } = delivery.message;
            tracing::error!(%stream, ?kind, sequence, cause, "a message of a waveform cannot be read and is skipped");
        }
        self.last = Some(delivery);
        self.messages += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    async fn read(
        &mut self,
        store: &dyn WaveformStore,
        streams: &mut Streams,
        message: &WaveMessage,
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        match message.kind {
            WaveKind::Open => {
                let description: StreamDescription =
                    serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
                if description.stream != message.stream || description.mrn != message.mrn {
                    return Err("the description is of another stream".to_owned());
                }
                if !streams.0.contains_key(&message.stream) {
                    let known = Known::of(description);
                    self.opened.push(known.description.clone());
                    streams.insert(known);
                }
            }
            WaveKind::Frame => {
                let known = streams.find(store, message.stream, shutdown).await;
                let Known { description, limits } = known.ok_or("the stream is unknown")?;
                let frame = Frame::decode(&message.payload, &limits).map_err(|error| error.to_string())?;
                self.bytes += message.payload.len();
                let collected = self
                    .streams
                    .entry(message.stream)
                    .or_insert_with(|| Collected { description, runs: Vec::new() });
                collected.add(&frame, message.time_us);
            }
            WaveKind::End => drop(streams.0.remove(&message.stream)),
            // Values once per second are vitals, not waveforms.
            WaveKind::Numerics => {}
        }
        Ok(())
    }

    /// Stores everything, repeats this while the store fails, and acknowledges. Everything is stored even if the
    /// partition was released meanwhile: a later acknowledgement includes these messages. Ends early only if the
    /// shutdown begins while the store fails: the messages are delivered again.
    async fn flush(&mut self, store: &dyn WaveformStore, shutdown: &Shutdown) {
        let Batch { opened, streams, last, .. } = std::mem::take(self);
        let Some(last) = last else { return };
        let pieces: Vec<NewPiece> = streams.into_values().flat_map(Collected::pieces).collect();
        let samples: usize = pieces.iter().flat_map(|piece| &piece.runs).map(|run| run.samples.len()).sum();
        let mut wait = FIRST_RETRY;
        loop {
            match append(store, &opened, &pieces).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "waveforms cannot be stored; this is repeated");
                    let waited = shutdown.unless_begun(tokio::time::sleep(wait)).await;
                    if waited.is_none() {
                        return;
                    }
                    wait = (wait * 2).min(MAX_RETRY);
                }
            }
        }
        metrics::counter!("bedside_waveform_samples_stored_total").increment(samples as u64);
        if last.is_active()
            && let Err(error) = last.ack_through().await
        {
            tracing::warn!(%error, "waveforms were not acknowledged; they are delivered again");
        }
    }
}

async fn append(
    store: &dyn WaveformStore,
    opened: &[Arc<StreamDescription>],
    pieces: &[NewPiece],
) -> Result<(), StoreError> {
    for description in opened {
        store.open_waveform(description).await?;
    }
    if pieces.is_empty() { Ok(()) } else { store.append_waveforms(pieces.to_vec(), Timestamp::now()).await }
}

/// Frames whose time lines differ by less than this continue each other, in microseconds.
const SAME_LINE_US: u64 = 1_000;

impl Collected {
    /// Adds the samples of a frame. Contiguous segments of a channel become one run.
    fn add(&mut self, frame: &Frame, time_us: i64) {
        let channels = &self.description.channels;
        for (time_us, segment) in frame.timed_segments(time_us, channels) {
            let Some(channel) = channels.get(usize::from(segment.channel)) else { continue };
            let zero_us = time_us.saturating_sub(channel.rate.micros(segment.first));
            // The last run of the channel is among the last ones.
            let recent = self.runs.len().saturating_sub(channels.len());
            let last = self.runs[recent..].iter_mut().rfind(|run| run.channel == segment.channel);
            match last {
                Some(run)
                    if run.first + run.samples.len() as u64 == segment.first
                        && run.zero_us.abs_diff(zero_us) <= SAME_LINE_US
                        && run.lead_off == segment.lead_off =>
                {
                    run.samples.extend_from_slice(&segment.samples);
                }
                _ => self.runs.push(Run {
                    channel: segment.channel,
                    first: segment.first,
                    zero_us,
                    lead_off: segment.lead_off,
                    samples: segment.samples.clone(),
                }),
            }
        }
    }

    /// Pieces of a limited size.
    fn pieces(self) -> Vec<NewPiece> {
        let mut pieces: Vec<NewPiece> = Vec::new();
        let mut bytes = usize::MAX;
        for run in self.runs {
            let length = run.samples.len() * 2;
            match pieces.last_mut() {
                Some(piece) if bytes.saturating_add(length) <= PIECE_BYTES => {
                    bytes += length;
                    piece.runs.push(run);
                }
                _ => {
                    bytes = length;
                    pieces.push(NewPiece { stream: self.description.clone(), runs: vec![run] });
                }
            }
        }
        pieces
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Seals the streams of the active partitions, until dropped.
async fn seal_periodically(store: &dyn WaveformStore, active: &Active) {
    let mut period = every(SEAL_EVERY);
    loop {
        period.tick().await;
        for partition in 0..PARTITIONS {
            while active[usize::from(partition)].load(Ordering::Relaxed) {
                match store.seal_waveforms(partition, Timestamp::now(), SEAL_BATCH).await {
                    Ok(report) => {
                        metrics::counter!("bedside_waveform_chunks_sealed_total").increment(report.chunks);
                        metrics::counter!("bedside_waveform_pieces_damaged_total").increment(report.damaged);
                        // Streams that were candidates and not sealed stay candidates for a moment.
                        if report.streams < SEAL_BATCH || report.pieces == 0 {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, partition, "waveforms cannot be sealed; this is repeated");
                        break;
                    }
                }
            }
        }
    }
}

/// Deletes chunks that are older than `keep`, until dropped.
async fn delete_periodically(store: &dyn WaveformStore, active: &Active, keep: Duration) {
    let mut period = every(DELETE_EVERY);
    loop {
        period.tick().await;
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        while active[0].load(Ordering::Relaxed) {
            let now = Timestamp::now().as_millis();
            let Ok(before) = Timestamp::from_millis(now.saturating_sub(keep_ms)) else { break };
            match store.delete_waveforms(before, DELETE_BATCH).await {
                Ok(removed) => {
                    metrics::counter!("bedside_waveform_chunks_deleted_total").increment(removed);
                    if removed < DELETE_BATCH as u64 {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "old waveforms cannot be deleted; this is repeated");
                    break;
                }
            }
            tokio::time::sleep(DELETE_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto_json::Mrn;
    use proto_json::waveform::{Channel, Device, MISSING_SAMPLE, SampleRate, Segment};
    use store::waveforms::StoredStream;

    use super::*;

    fn description(number: u64) -> StreamDescription {
        let channel = |label: &str, rate| Channel {
            label: label.to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate::new(rate, 1).unwrap(),
            scale: 0.001,
            offset: 0.0,
        };
        StreamDescription {
            stream: StreamId::generate(),
            mrn: Mrn::new(number).unwrap(),
            device: Device { name: "Simulator".to_owned(), serial: "1".to_owned() },
            channels: vec![channel("II", 250), channel("Pleth", 125)],
            opened_at: Timestamp::now(),
            clock: None,
        }
    }

    fn message(of: &StreamDescription, kind: WaveKind, sequence: u64, payload: Vec<u8>) -> WaveMessage {
        let time_us = of.opened_at.as_millis() * 1_000 + sequence as i64 * 200_000;
        WaveMessage { mrn: of.mrn, stream: of.stream, kind, sequence, time_us, payload: Bytes::from(payload) }
    }

    fn open(of: &StreamDescription) -> WaveMessage {
        message(of, WaveKind::Open, 0, serde_json::to_vec(of).unwrap())
    }

    /// Frame `sequence`: 200 ms of both channels, with values that follow from the index.
    fn frame(of: &StreamDescription, sequence: u64) -> WaveMessage {
        let segment = |channel: u16, count: u64| Segment {
            channel,
            first: sequence * count,
            lead_off: false,
            samples: (sequence * count..(sequence + 1) * count).map(|index| index as i16).collect(),
        };
        let segments = vec![segment(0, 50), segment(1, 25)];
        let frame = Frame { sequence, device_time_us: 0, segments };
        message(of, WaveKind::Frame, sequence, frame.encode())
    }

    /// The samples of a channel, and the number of its segments on one time line.
    async fn stored(ports: &Ports, of: &StoredStream, channel: u16) -> (Vec<(u64, i16)>, usize) {
        let chunks = ports.waveforms.waveform_chunks(of, channel, 0..i64::MAX / 2).await.unwrap();
        let samples = chunks.iter().flat_map(|chunk| (chunk.first..).zip(chunk.values.iter().copied()));
        let samples = samples.filter(|(_, value)| *value != MISSING_SAMPLE).collect();
        (samples, chunks.iter().map(|chunk| chunk.layout().spans().len()).sum())
    }

    fn expected(indices: std::ops::Range<u64>) -> Vec<(u64, i16)> {
        indices.map(|index| (index, index as i16)).collect()
    }

    /// Runs ingest until the group has nothing left.
    async fn ingest(ports: &Ports, expected: u64) {
        let shutdown = Shutdown::new();
        let config = Config::default();
        let done = async {
            // Acknowledged when the batch is stored.
            loop {
                let lag = ports.bus.waves.wave_lag(WaveGroup::Storage).await.unwrap();
                if lag.pending + lag.unacknowledged == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            shutdown.begin();
        };
        tokio::join!(run(&config, ports, &shutdown), done);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn frames_are_stored_once_before_they_are_acknowledged() {
        let (_folder, ports) = crate::local_ports();
        let streams = [description(7), description(8)];
        for of in &streams {
            ports.bus.waves.append(open(of)).await.unwrap();
            for sequence in 0..10 {
                ports.bus.waves.append(frame(of, sequence)).await.unwrap();
            }
        }
        ingest(&ports, 0).await;
        // The same stream, with a lost frame; its description is read from the store, and damaged messages are skipped.
        let of = &streams[0];
        ports.bus.waves.append(message(of, WaveKind::Frame, 10, vec![1, 2, 3])).await.unwrap();
        ports.bus.waves.append(message(of, WaveKind::Numerics, 11, b"{}".to_vec())).await.unwrap();
        ports.bus.waves.append(message(&description(9), WaveKind::Frame, 0, vec![1])).await.unwrap();
        for sequence in 12..15 {
            ports.bus.waves.append(frame(of, sequence)).await.unwrap();
        }
        ports.bus.waves.append(message(of, WaveKind::End, 15, Vec::new())).await.unwrap();
        ingest(&ports, 0).await;
        let found = ports.waveforms.waveform_stream(of.stream).await.unwrap().unwrap();
        assert_eq!(found.description.channels, of.channels);
        let indices =
            |per_frame: u64| [expected(0..10 * per_frame), expected(12 * per_frame..15 * per_frame)].concat();
        assert_eq!(stored(&ports, &found, 0).await, (indices(50), 2));
        assert_eq!(stored(&ports, &found, 1).await, (indices(25), 2));
        let other = ports.waveforms.waveform_stream(streams[1].stream).await.unwrap().unwrap();
        assert_eq!(stored(&ports, &other, 0).await, (expected(0..500), 1));
    }

    #[test]
    fn contiguous_frames_are_one_run_and_a_clock_jump_starts_another() {
        let of = Arc::new(description(7));
        let mut collected = Collected { description: of.clone(), runs: Vec::new() };
        let limits = FrameLimits::of(&of.channels);
        for sequence in 0..4 {
            let message = frame(&of, sequence);
            let jump = if sequence == 3 { 3_600_000_000 } else { 0 };
            collected.add(&Frame::decode(&message.payload, &limits).unwrap(), message.time_us + jump);
        }
        let runs: Vec<_> =
            collected.runs.iter().map(|run| (run.channel, run.first, run.samples.len())).collect();
        assert_eq!(runs, [(0, 0, 150), (1, 0, 75), (0, 150, 50), (1, 75, 25)]);
        assert_eq!(collected.runs[2].zero_us - collected.runs[0].zero_us, 3_600_000_000);
        assert_eq!(collected.pieces().len(), 1);
    }
}
