//! Values that pass through the ports.

use bytes::Bytes;
use futures::future::BoxFuture;
use proto_json::{
    HashedBytes, Mrn, PatientUpdated, Queue, QueueMessage, Receipt, SystemEvent, Timestamp, UploadId,
};

use crate::{BusError, EnqueueError, StagingKey, WorkQueue};

/// A message to enqueue.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The queue.
    pub queue: Queue,
    /// The patient that the message is about; part of the subject.
    pub mrn: Mrn,
    /// JSON.
    pub payload: Bytes,
    /// Address of the reply inbox for the receipt; see [`PendingReceipt::reply_to`].
    pub reply_to: Option<String>,
    /// W3C `traceparent` of the request that the message belongs to.
    pub trace_parent: Option<String>,
    /// Files that the consumer needs.
    pub attachments: Vec<Attachment>,
}

/// A file in memory that is enqueued with a message. Consumers read it with
/// [`Delivery::open`](crate::Delivery::open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The upload that the file belongs to.
    pub upload: UploadId,
    /// The bytes and their hash.
    pub content: HashedBytes,
    /// Only the consumer of this message reads the file. If `false`, other services can read it from the
    /// [`StagingStore`](crate::StagingStore) as well.
    pub consumer_only: bool,
}

impl Attachment {
    /// The key of the file.
    #[must_use]
    pub fn key(&self) -> StagingKey {
        StagingKey { upload: self.upload, sha256: self.content.sha256() }
    }
}

/// Enqueues a typed message. `reply_to` is the address of the reply inbox for its receipt.
///
/// # Errors
/// As [`WorkQueue::enqueue`].
pub async fn send<M: QueueMessage>(
    queue: &dyn WorkQueue,
    message: &M,
    reply_to: Option<String>,
    trace_parent: Option<String>,
) -> Result<(), EnqueueError> {
    send_with(queue, Vec::new(), message, reply_to, trace_parent).await
}

/// Enqueues a typed message with attachments.
///
/// # Errors
/// As [`WorkQueue::enqueue`].
pub async fn send_with<M: QueueMessage>(
    queue: &dyn WorkQueue,
    attachments: Vec<Attachment>,
    message: &M,
    reply_to: Option<String>,
    trace_parent: Option<String>,
) -> Result<(), EnqueueError> {
    let payload = serde_json::to_vec(message).map_err(BusError::encoding)?.into();
    let (name, mrn) = (M::QUEUE, message.mrn());
    queue.enqueue(Outgoing { queue: name, mrn, payload, reply_to, trace_parent, attachments }).await
}

/// An event of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateEvent {
    /// A patient has changed.
    Updated(Box<PatientUpdated>),
    /// The connection to the broker is lost. No updates are received until [`UpdateEvent::Lagged`].
    Disconnected,
    /// Updates may have been lost because the connection was interrupted or the subscriber was too slow.
    /// Reload summaries.
    Lagged,
}

/// What a subscription to system events yields.
#[derive(Debug, Clone, PartialEq)]
pub enum SystemSignal {
    /// An event.
    Event(Box<SystemEvent>),
    /// The connection to the broker is lost. No events are received until [`SystemSignal::Lagged`].
    Disconnected,
    /// Events may have been lost. Load the state again.
    Lagged,
}

/// A pending receipt of one upload.
pub struct PendingReceipt {
    /// The address for [`Outgoing::reply_to`].
    pub reply_to: String,
    /// Resolves with the receipt; stays pending if none arrives. Dropping it closes the inbox.
    pub receipt: BoxFuture<'static, Option<Receipt>>,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages in the queue, including unsettled deliveries.
    pub messages: u64,
    /// Unsettled deliveries.
    pub in_flight: u64,
    /// Time at which the oldest message was enqueued.
    pub oldest: Option<Timestamp>,
}

/// A message that could not be processed.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Id of the dead letter.
    pub id: u64,
    /// The queue that the message was on.
    pub queue: Queue,
    /// The patient that the message is about.
    pub mrn: Mrn,
    /// JSON.
    pub payload: Bytes,
    /// Why the message was dead-lettered.
    pub reason: String,
    /// Number of attempts that were made.
    pub attempts: u64,
    /// When the message was dead-lettered.
    pub died_at: Timestamp,
    /// The stored message does not match its checksum. It cannot be retried, and the other fields may be
    /// wrong.
    pub damaged: bool,
}

impl DeadLetter {
    /// The upload that caused the message; `None` if the payload cannot be parsed.
    #[must_use]
    pub fn upload_id(&self) -> Option<UploadId> {
        #[derive(serde::Deserialize)]
        struct WithUpload {
            upload_id: UploadId,
        }
        serde_json::from_slice::<WithUpload>(&self.payload).ok().map(|message| message.upload_id)
    }
}
