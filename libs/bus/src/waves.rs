//! Port for live waveforms: a durable log of the last [`WAVE_RETENTION`], live subscriptions, consumers that
//! share the patients, and vitals.
//!
//! - **Log.** [`WaveLog::append`] makes a message durable. Messages stay in the log for [`WAVE_RETENTION`] and are then
//!   deleted, whether or not they were consumed.
//! - **Screens** use [`WaveLog::subscribe_waves`]: at most once, from now on.
//! - **Services** use [`WaveLog::consume_waves`]: at least once. The patients are divided into
//!   [`PARTITIONS`](proto_json::waveform::PARTITIONS) partitions. Each [`WaveGroup`] reads the whole log, and each
//!   partition has one active consumer in each group. The broker selects it and replaces it within
//!   [`TAKEOVER`] of its death.
//! - **Order.** The messages of a partition are delivered in the order in which they were appended, also after a takeover:
//!   a new consumer starts with the first message that the group has not acknowledged.
//! - **Memory is bounded**: a slow subscriber loses messages and is notified ([`WaveEvent::Lagged`]); a slow consumer
//!   receives at most `max_in_flight` messages that it has not acknowledged.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use proto_json::waveform::{StreamId, Vitals};
use proto_json::{Mrn, Timestamp};

use crate::{BusError, EnqueueError};

/// How long the log keeps a message.
pub const WAVE_RETENTION: Duration = Duration::from_secs(15 * 60);

/// How long the log recognizes a message that is appended again.
pub const WAVE_DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Part of the log that a new consumer of [`WaveGroup::Analysis`] reads again.
pub const WAVE_WARM_UP: Duration = Duration::from_secs(15);

/// Longest time between the death of a consumer and the first delivery to its successor.
pub const TAKEOVER: Duration = Duration::from_secs(3);

/// Kind of a message of a waveform stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaveKind {
    /// The description of the stream as JSON ([`StreamDescription`](proto_json::waveform::StreamDescription)). It is
    /// repeated every 10 s, so that a consumer that starts in the middle of a stream finds it.
    Open,
    /// One frame in its binary form ([`Frame`](proto_json::waveform::Frame)).
    Frame,
    /// Numerics as JSON.
    Numerics,
    /// The stream has ended. No payload.
    End,
}

impl WaveKind {
    /// All kinds.
    pub const ALL: [WaveKind; 4] = [WaveKind::Open, WaveKind::Frame, WaveKind::Numerics, WaveKind::End];

    /// Name in message headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaveKind::Open => "open",
            WaveKind::Frame => "frame",
            WaveKind::Numerics => "numerics",
            WaveKind::End => "end",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        WaveKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A message of a waveform stream.
#[derive(Clone, PartialEq, Eq)]
pub struct WaveMessage {
    /// The patient. It determines the partition.
    pub mrn: Mrn,
    /// The stream.
    pub stream: StreamId,
    /// What the payload is.
    pub kind: WaveKind,
    /// Sequence number within the stream. Frames and numerics have contiguous numbers. A repeated description has the
    /// number of the next frame or numerics.
    pub sequence: u64,
    /// Server time in microseconds since the Unix epoch: of the first sample of a frame, otherwise of the event.
    pub time_us: i64,
    /// See [`WaveKind`].
    pub payload: Bytes,
}

impl Debug for WaveMessage {
    /// The payload and the number of the patient are personal data and are omitted.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaveMessage")
            .field("stream", &self.stream)
            .field("kind", &self.kind)
            .field("sequence", &self.sequence)
            .field("time_us", &self.time_us)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl WaveMessage {
    /// Identity of the message within the log, for deduplication. Descriptions are repeated on purpose, so their identity
    /// contains their time.
    #[must_use]
    pub fn id(&self) -> String {
        let WaveMessage { stream, kind, sequence, time_us, .. } = self;
        match kind {
            WaveKind::Open => format!("{stream}/open/{sequence}/{time_us}"),
            kind => format!("{stream}/{}/{sequence}", kind.name()),
        }
    }
}

/// An event of a live subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaveEvent {
    /// A message. It is durable, or will be within milliseconds. It can arrive twice if its sender had to repeat it.
    Message(WaveMessage),
    /// Messages were lost: the subscriber was too slow, or the connection to the broker was interrupted.
    Lagged,
}

/// An event of a subscription to vitals.
#[derive(Debug, Clone, PartialEq)]
pub enum VitalsEvent {
    /// Vitals of a patient. Their times increase; no second is received twice.
    Vitals(Box<Vitals>),
    /// Vitals were lost: the subscriber was too slow, or the connection to the broker was interrupted.
    Lagged,
}

/// Services that share the patients among their processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaveGroup {
    /// Ingest, which stores waveforms.
    Storage,
    /// Workers, which analyse waveforms. A new consumer of a partition first receives the last [`WAVE_WARM_UP`] again.
    Analysis,
}

impl WaveGroup {
    /// All groups.
    pub const ALL: [WaveGroup; 2] = [WaveGroup::Storage, WaveGroup::Analysis];

    /// Name of the group.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaveGroup::Storage => "storage",
            WaveGroup::Analysis => "analysis",
        }
    }

    /// What a new consumer of a partition receives again, before the first delivery.
    #[must_use]
    pub fn warm_up(self) -> Duration {
        match self {
            WaveGroup::Storage => Duration::ZERO,
            WaveGroup::Analysis => WAVE_WARM_UP,
        }
    }
}

/// An event of [`WaveLog::consume_waves`]. `Acquired` comes first, then any number of `Replayed` and `Delivery`, then
/// possibly `Released`, and then `Acquired` again.
#[derive(Debug)]
pub enum PartitionEvent {
    /// This consumer is now the active one of the partition. What it knows from earlier is out of date.
    Acquired,
    /// A message that the group has acknowledged before: the last one and [`WaveGroup::warm_up`] before it, in order.
    Replayed(WaveMessage),
    /// A message that the group has not acknowledged.
    Delivery(WaveDelivery),
    /// Another consumer is or becomes the active one. Stop working on the partition at once: neither publish nor acknowledge.
    Released,
}

/// A message that waits for the acknowledgement of its consumer.
pub struct WaveDelivery {
    /// The message.
    pub message: WaveMessage,
    /// Messages of the partition after this one that were in the log at the time of the delivery. 0: the consumer is
    /// up to date.
    pub pending: u64,
    acker: Box<dyn WaveAcker>,
}

/// The adapter's side of a [`WaveDelivery`].
#[async_trait]
pub trait WaveAcker: Send + Sync {
    /// See [`WaveDelivery::ack_through`].
    async fn ack_through(&self) -> Result<(), BusError>;
    /// See [`WaveDelivery::is_active`].
    fn is_active(&self) -> bool;
}

impl Debug for WaveDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaveDelivery")
            .field("message", &self.message)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl WaveDelivery {
    /// For adapters: creates a delivery.
    #[must_use]
    pub fn new(message: WaveMessage, pending: u64, acker: Box<dyn WaveAcker>) -> Self {
        WaveDelivery { message, pending, acker }
    }

    /// Acknowledges this message and all earlier ones of the partition. Acknowledge the last message of a batch once the
    /// effects of the whole batch are durable. The confirmation is not awaited; after a lost acknowledgement, the messages
    /// are delivered again.
    ///
    /// A message that is not acknowledged is delivered again to the next active consumer. The present one never receives
    /// it twice.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub async fn ack_through(&self) -> Result<(), BusError> {
        self.acker.ack_through().await
    }

    /// Whether its consumer is still the active one of the partition, as far as it can be known without the broker. Check
    /// this directly before an effect that must not happen twice. A process that was stopped gets `false`.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.acker.is_active()
    }
}

/// How far a group is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaveLag {
    /// Messages that were not delivered yet, of all partitions.
    pub pending: u64,
    /// Messages that were delivered but not acknowledged.
    pub unacknowledged: u64,
}

/// Drops vitals that are not newer than the previous ones of their patient: the same second can be published twice when a
/// worker is replaced.
#[derive(Debug, Default)]
pub(crate) struct VitalsFilter {
    latest: HashMap<Mrn, Timestamp>,
}

impl VitalsFilter {
    /// Vitals that are older than the previous ones by more than this are accepted: the clock was corrected.
    const CLOCK_CORRECTION_MS: i64 = 60_000;
    /// Patients above which those without vitals in the last [`WAVE_RETENTION`] are forgotten.
    const MAX_PATIENTS: usize = 4_096;

    /// Whether these vitals are news.
    pub(crate) fn admits(&mut self, vitals: &Vitals) -> bool {
        if let Some(latest) = self.latest.get(&vitals.mrn) {
            let step = vitals.time.millis_since(*latest);
            if (-Self::CLOCK_CORRECTION_MS..=0).contains(&step) {
                return false;
            }
        } else if self.latest.len() >= Self::MAX_PATIENTS {
            let retention = WAVE_RETENTION.as_millis() as i64;
            self.latest.retain(|_, latest| vitals.time.millis_since(*latest) < retention);
        }
        self.latest.insert(vitals.mrn, vitals.time);
        true
    }
}

/// The log of live waveforms, and vitals.
#[async_trait]
pub trait WaveLog: Debug + Send + Sync + 'static {
    /// Appends a message. When this returns `Ok`, the message is durable. A message with the same [`WaveMessage::id`] as an
    /// earlier one of the last [`WAVE_DUPLICATE_WINDOW`] is not stored again, and `Ok` is returned. Messages of a stream
    /// are kept in the order in which the calls are first polled; a failed one may be stored or not.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] if the log is full, [`EnqueueError::Bus`] if the broker fails.
    async fn append(&self, message: WaveMessage) -> Result<(), EnqueueError>;

    /// Returns the last message of a stream that is in the log, for a device that resumes; `None` if there is none.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn last_wave(&self, mrn: Mrn, stream: StreamId) -> Result<Option<WaveMessage>, BusError>;

    /// Subscribes to the messages of one patient, or of all patients, at most once. The subscription is active when this
    /// returns. Many subscriptions of one patient each are as cheap as one of all patients.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn subscribe_waves(&self, of: Option<Mrn>) -> Result<BoxStream<'static, WaveEvent>, BusError>;

    /// Joins the consumers of a partition. A service joins each partition, processes the partitions independently, and
    /// receives nothing of those in which another process is the active consumer. The stream survives outages of the broker.
    /// It ends with the adapter. Dropping it lets another consumer take over at once.
    ///
    /// A partition belongs to the first consumer that joins. With several processes, each keeps its fair share of
    /// the partitions and releases the others.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn consume_waves(
        &self,
        group: WaveGroup,
        partition: u16,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, PartitionEvent>, BusError>;

    /// Returns how far a group is behind.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn wave_lag(&self, group: WaveGroup) -> Result<WaveLag, BusError>;

    /// Publishes vitals to all current subscribers, at most once.
    ///
    /// # Errors
    /// If they were certainly not published.
    async fn publish_vitals(&self, vitals: &Vitals) -> Result<(), BusError>;

    /// Subscribes to the vitals of one patient, or of all patients. Vitals that are not newer than the previous ones of the
    /// patient are dropped. The subscription is active when this returns.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn subscribe_vitals(&self, of: Option<Mrn>) -> Result<BoxStream<'static, VitalsEvent>, BusError>;
}
