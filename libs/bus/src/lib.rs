//! Ports of the pipeline: work queues and announcements ([`EventBus`]), and the place where files wait for work
//! ([`StagingStore`]).
//!
//! Two adapters: `nats` (JetStream and its object store) and `local` (in process, durable in one SQLite file). One
//! conformance suite runs on both. A service sees only what is in this module.

// Whoever only names the port builds without an adapter; what the adapters share is then idle.
#![cfg_attr(not(any(feature = "local", feature = "nats")), allow(dead_code, reason = "no adapter is built"))]

mod consumer;
mod delivery;
mod error;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "nats")]
pub mod nats;
mod receipts;
mod staging;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use proto_json::{BlobHash, Mrn, PatientUpdated, Queue, QueueMessage, Receipt, Timestamp, UploadId};

pub use consumer::{Outcome, Readiness, describe_consumer, run_consumer};
pub use delivery::{Acker, Delivery};
pub use error::{BusError, EnqueueError, is_outage_of_body};
pub use staging::{BodyError, ByteStream, SmallFile, StagedFile, StagingKey, StagingStore, collect};

/// Work queues, announcements and receipts.
///
/// From the moment `enqueue` returns `Ok`, the message is durable and will be delivered until somebody acknowledges it
/// or it becomes a dead letter. It becomes one after [`RetryPolicy::max_attempts`] attempts that failed or ended with the
/// death of their consumer, or at once when its consumer says so. Attempts that were deferred ([`Delivery::defer`]) do not
/// count, and neither do deliveries that no work has begun on: an outage of any length makes no dead letters.
#[async_trait]
pub trait EventBus: Debug + Send + Sync + 'static {
    /// Puts a message on its queue and waits until the broker has it durably. [`send`] is the typed way.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] when the queue takes no more, [`EnqueueError::Bus`] when the broker cannot be reached: in
    /// both cases the sender must assume that the message may or may not be queued, and send it again under the same id.
    async fn enqueue(&self, message: Outgoing) -> Result<(), EnqueueError> {
        self.enqueue_with(Vec::new(), message).await
    }

    /// Stages files that are in memory already, and puts the message that needs them on its queue: with one write where
    /// the adapter can, else one after the other. When it returns `Ok`, all of it is durable; the message is never
    /// delivered before its files are staged. Those that only its consumer reads ([`SmallFile::may_enclose`]) may be sent inside of
    /// it instead. [`send_with`] is the typed way.
    ///
    /// # Errors
    /// As [`EventBus::enqueue`]; also when the stage is full. Some of the files may be left on the stage then.
    async fn enqueue_with(&self, files: Vec<SmallFile>, message: Outgoing) -> Result<(), EnqueueError>;

    /// Joins the consumers of a queue. Each message goes to one of them at a time; at most `max_in_flight` are
    /// delivered here and not settled yet. The stream goes on over broker outages; it ends only with the bus.
    ///
    /// # Errors
    /// When the broker cannot be reached now.
    async fn consume(
        &self,
        queue: Queue,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, Delivery>, BusError>;

    /// Tells everyone who listens now. Nobody acknowledges it. `trace_parent` is the W3C `traceparent` of what led to it.
    ///
    /// # Errors
    /// When it is certain that nobody was told.
    async fn announce(&self, update: &PatientUpdated, trace_parent: Option<String>) -> Result<(), BusError>;

    /// Listens to announcements, of one patient or of all. When the future resolves, the subscription is in force: what
    /// is announced from then on arrives, or [`UpdateEvent::Lagged`] tells that something may have been lost.
    ///
    /// # Errors
    /// When the broker cannot be reached now.
    async fn updates(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError>;

    /// Opens an inbox for the receipt of one upload. Dropping it closes it.
    ///
    /// # Errors
    /// When the broker cannot be reached now.
    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError>;

    /// Sends a receipt to the inbox that a message named in [`Outgoing::reply_to`]. An inbox that is gone is no error.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError>;

    /// Ties an upload id to what the client sent, at once and for all gateways, so that a second upload under the same
    /// `Idempotency-Key` is told from a retry before it is queued. Claims are kept for at least a day.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn claim(&self, upload: UploadId, fingerprint: BlobHash) -> Result<Claim, BusError>;

    /// How full a queue is.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError>;

    /// Dead letters, oldest first, at most `limit`, after the one with id `after`.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Puts a dead letter back on its queue, with all attempts ahead of it. `false` if there is none of this id.
    ///
    /// # Errors
    /// [`EnqueueError`] as for `enqueue`; the dead letter is then still there.
    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError>;

    /// Forgets a dead letter. `false` if there is none of this id.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn drop_dead_letter(&self, id: u64) -> Result<bool, BusError>;

    /// Whether the broker answers now; for readiness.
    ///
    /// # Errors
    /// When it does not.
    async fn check(&self) -> Result<(), BusError>;
}

/// Puts a typed message on its queue. `reply_to` names the inbox of [`EventBus::expect_receipt`] that waits for it.
///
/// # Errors
/// As [`EventBus::enqueue`].
pub async fn send<M: QueueMessage>(
    bus: &dyn EventBus,
    message: &M,
    reply_to: Option<String>,
    trace_parent: Option<String>,
) -> Result<(), EnqueueError> {
    send_with(bus, Vec::new(), message, reply_to, trace_parent).await
}

/// As [`send`], with files that the message needs.
///
/// # Errors
/// As [`EventBus::enqueue_with`].
pub async fn send_with<M: QueueMessage>(
    bus: &dyn EventBus,
    files: Vec<SmallFile>,
    message: &M,
    reply_to: Option<String>,
    trace_parent: Option<String>,
) -> Result<(), EnqueueError> {
    let payload = serde_json::to_vec(message).map_err(BusError::encoding)?;
    let outgoing =
        Outgoing { queue: M::QUEUE, mrn: message.mrn(), payload: payload.into(), reply_to, trace_parent };
    bus.enqueue_with(files, outgoing).await
}

/// A message on its way to a queue.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The queue.
    pub queue: Queue,
    /// The patient it is about; becomes part of the subject.
    pub mrn: Mrn,
    /// JSON.
    pub payload: Bytes,
    /// Where the receipt goes.
    pub reply_to: Option<String>,
    /// W3C `traceparent` of the request it belongs to.
    pub trace_parent: Option<String>,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateEvent {
    /// A patient has changed.
    Updated(Box<PatientUpdated>),
    /// The connection to the broker is lost: nothing is heard until [`UpdateEvent::Lagged`] says that it is back.
    Disconnected,
    /// Announcements may have been lost (connection lost and back, or this listener was too slow): load summaries anew.
    Lagged,
}

/// Waits for the receipt of one upload.
pub struct PendingReceipt {
    /// Goes into [`Outgoing::reply_to`].
    pub reply_to: String,
    /// Resolves with the receipt; never, if none comes. Dropping it closes the inbox.
    pub receipt: futures::future::BoxFuture<'static, Option<Receipt>>,
}

/// Result of [`EventBus::claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has used this id before.
    New,
    /// The same content was sent under this id before: a retry.
    Same,
    /// Other content was sent under this id before.
    Other,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages in the queue, delivered or not.
    pub messages: u64,
    /// Of these, delivered and not settled yet.
    pub in_flight: u64,
    /// When the oldest one was enqueued.
    pub oldest: Option<Timestamp>,
}

/// A message that could not be worked off.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: u64,
    /// The queue it was on.
    pub queue: Queue,
    /// The patient it is about.
    pub mrn: Mrn,
    /// JSON.
    pub payload: Bytes,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u64,
    /// When it was given up.
    pub died_at: Timestamp,
    /// The message is not as it was enqueued: its checksum does not match. It cannot be sent again, and what the other
    /// fields say may be wrong.
    pub damaged: bool,
}

impl DeadLetter {
    /// The upload it goes back to; `None` if the message cannot be read.
    #[must_use]
    pub fn upload_id(&self) -> Option<UploadId> {
        #[derive(serde::Deserialize)]
        struct AboutUpload {
            upload_id: UploadId,
        }
        serde_json::from_slice::<AboutUpload>(&self.payload).ok().map(|about| about.upload_id)
    }
}

/// When work is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts that may fail before a message becomes a dead letter. Deferred attempts do not count.
    pub max_attempts: u64,
    /// Wait after the first, second, … attempt; the last one goes for all further ones.
    pub backoff: Vec<Duration>,
    /// Time after which a delivery counts as lost with its consumer, unless it reports progress.
    pub ack_wait: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts over some five minutes; 30 s until a delivery counts as lost.
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 10,
            backoff: [200, 1_000, 5_000, 15_000, 30_000, 60_000].map(Duration::from_millis).to_vec(),
            ack_wait: Duration::from_secs(30),
        }
    }
}

/// Longest wait before a deferred message is delivered again: work goes on this soon after an outage.
const LONGEST_DEFERRAL: Duration = Duration::from_secs(15);

impl RetryPolicy {
    /// Wait after a deferral, for a message that was delivered so many times.
    #[must_use]
    pub fn deferral_after(&self, deliveries: u64) -> Duration {
        self.wait_after(deliveries).min(LONGEST_DEFERRAL)
    }

    /// Wait after the given failed attempt, counted from 1.
    #[must_use]
    pub fn wait_after(&self, attempt: u64) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.backoff.get(index).or(self.backoff.last()).copied().unwrap_or_default()
    }
}

/// How much may wait in the queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages in each queue; more are refused.
    pub max_messages: u64,
    /// Bytes of files, on the blob stage and inside of messages, where the adapter sends some there; more are refused.
    pub max_staged_bytes: u64,
}

impl Default for QueueLimits {
    /// 100,000 messages, 20 GB.
    fn default() -> Self {
        QueueLimits { max_messages: 100_000, max_staged_bytes: 20_000_000_000 }
    }
}
