//! The ports: what a service can ask of the message broker.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use proto_json::{Mrn, PatientUpdated, Queue, Receipt, SystemEvent, UploadId};

use crate::{
    BusError, DeadLetter, Delivery, EnqueueError, Outgoing, PendingReceipt, QueueStatus, StagingStore,
    SystemSignal, UpdateEvent, WaveLog,
};

/// Durable work queues with competing consumers.
///
/// Once `enqueue` returns `Ok`, the message is durable. It is delivered until a consumer acknowledges it or
/// it becomes a dead letter. A message becomes a dead letter after
/// [`RetryPolicy::max_attempts`](crate::RetryPolicy::max_attempts) attempts that failed or ended with the
/// death of their consumer, or at once on request of its consumer. Deferred attempts ([`Delivery::defer`]) do
/// not count, and neither do deliveries that were never begun. An outage of any length therefore produces no
/// dead letters.
#[async_trait]
pub trait WorkQueue: Debug + Send + Sync + 'static {
    /// Enqueues a message together with its attachments. When this returns `Ok`, message and attachments are
    /// durable. The message is never delivered before its attachments can be opened. [`send`](crate::send) is
    /// the typed form.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] if the queue or the staging store is full, [`EnqueueError::Bus`] if the broker
    /// fails. After `Bus` the message may or may not be enqueued: send it again under the same upload id.
    /// Attachments may remain in the staging store.
    async fn enqueue(&self, message: Outgoing) -> Result<(), EnqueueError>;

    /// Joins the consumers of a queue. Each message is delivered to one consumer at a time. At most
    /// `max_in_flight` deliveries of this stream are unsettled at any moment. The stream survives broker
    /// outages; it ends with the adapter.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn consume(
        &self,
        queue: Queue,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, Delivery>, BusError>;

    /// Returns how full a queue is.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError>;

    /// Removes the waveforms of a patient from the log, and what deleted messages and files have left in the files of the
    /// broker, as far as its interface allows that. For the erasure of a patient.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn erase(&self, mrn: Mrn) -> Result<(), BusError>;

    /// Checks that the broker answers; used for readiness.
    ///
    /// # Errors
    /// If the broker does not answer.
    async fn check(&self) -> Result<(), BusError>;
}

/// Change notifications, at most once.
#[async_trait]
pub trait PubSub: Debug + Send + Sync + 'static {
    /// Publishes an update to all current subscribers. `trace_parent` is the W3C `traceparent` of its cause.
    ///
    /// # Errors
    /// If the update was certainly not published.
    async fn publish(&self, update: &PatientUpdated, trace_parent: Option<String>) -> Result<(), BusError>;

    /// Subscribes to the updates of one patient, or of all patients. The subscription is active when this
    /// returns: every later update is received, or [`UpdateEvent::Lagged`] reports that updates may have been
    /// lost.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn subscribe(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError>;

    /// Publishes an event to all current subscribers.
    ///
    /// # Errors
    /// If the event was certainly not published.
    async fn publish_event(&self, event: &SystemEvent) -> Result<(), BusError>;

    /// Subscribes to all system events. The subscription is active when this returns.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn subscribe_events(&self) -> Result<BoxStream<'static, SystemSignal>, BusError>;
}

/// Receipts: replies from ingest to the gateway that waits for an upload. At most once.
#[async_trait]
pub trait ReplyInbox: Debug + Send + Sync + 'static {
    /// Opens a reply inbox for the receipt of one upload. Dropping the result closes the inbox.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError>;

    /// Sends a receipt to the inbox named by [`Outgoing::reply_to`]. A closed inbox is no error.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError>;
}

/// Messages that could not be processed.
#[async_trait]
pub trait DeadLetters: Debug + Send + Sync + 'static {
    /// Lists at most `limit` dead letters, oldest first, that follow the one with the id `after`.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Moves a dead letter back to its queue with all attempts left. Returns `false` if it does not exist.
    ///
    /// # Errors
    /// As [`WorkQueue::enqueue`]; the dead letter then still exists.
    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError>;

    /// Deletes a dead letter. Returns `false` if it does not exist.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn delete_dead_letter(&self, id: u64) -> Result<bool, BusError>;
}

/// All ports of one adapter, bundled at start-up.
#[derive(Debug, Clone)]
pub struct BusPorts {
    /// Work queues.
    pub queue: Arc<dyn WorkQueue>,
    /// Change notifications.
    pub pubsub: Arc<dyn PubSub>,
    /// Receipts.
    pub replies: Arc<dyn ReplyInbox>,
    /// Dead letters.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Files that wait for a consumer.
    pub staging: Arc<dyn StagingStore>,
    /// Live waveforms.
    pub waves: Arc<dyn WaveLog>,
}

impl BusPorts {
    /// Bundles the ports of an adapter.
    #[must_use]
    pub fn of<A: WorkQueue + PubSub + ReplyInbox + DeadLetters + StagingStore + WaveLog>(
        adapter: &Arc<A>,
    ) -> Self {
        BusPorts {
            queue: adapter.clone(),
            pubsub: adapter.clone(),
            replies: adapter.clone(),
            dead_letters: adapter.clone(),
            staging: adapter.clone(),
            waves: adapter.clone(),
        }
    }
}
