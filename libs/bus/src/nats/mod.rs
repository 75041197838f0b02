//! Adapter for NATS JetStream.
//!
//! Each queue is a work-queue stream with one durable pull consumer, which all processes share. Dead letters,
//! attempt counts, staged files and live waveforms are streams too. Updates, vitals and receipts are core NATS
//! messages. In a cluster all streams are replicated.
//!
//! When a server of a cluster dies, its streams accept nothing until a new leader is elected (4 to 9 s). A
//! publish is therefore retried with the same message id for up to 15 s; see [`connection`].

mod acker;
mod config;
mod connection;
mod dead_letters;
mod inline;
mod names;
mod pause;
mod provision;
mod pull_consumer;
mod staging;
mod subscription;
mod wave_consumer;
mod wave_shares;
mod waves;

use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::{Mrn, PatientUpdated, Queue, Receipt, SystemEvent, Timestamp, UploadId, updates_subject};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::task::AbortOnDropHandle;

pub use self::config::{NatsConfig, NatsLogin};
pub use self::pause::{Paused, pause};
pub use self::provision::provision;

use self::connection::Connection;
use self::subscription::Signal;
use self::wave_shares::Shares;
use crate::inboxes::Inboxes;
use crate::{
    BusError, DeadLetter, DeadLetters, Delivery, EnqueueError, Outgoing, PendingReceipt, PubSub, QueueStatus,
    ReplyInbox, SystemSignal, UpdateEvent, WorkQueue,
};

/// Files of one message that are staged concurrently.
const STAGE_CONCURRENCY: usize = 4;

/// All ports on NATS JetStream.
#[derive(Debug)]
pub struct NatsBus {
    core: Arc<Core>,
}

/// State shared by the adapter, its consumers and their deliveries.
#[derive(Debug)]
struct Core {
    config: NatsConfig,
    connection: Connection,
    /// Runs the clean-up of dropped values.
    runtime: Handle,
    inboxes: Arc<Inboxes>,
    /// Subject prefix of the receipts of this process.
    receipts: String,
    /// Passes receipts to their inboxes; started with the first inbox.
    receipt_task: OnceCell<AbortOnDropHandle<()>>,
    /// The partitions of live waveforms that this process holds.
    shares: Shares,
}

impl NatsBus {
    /// Connects, and creates streams and consumers if the configuration says so. The connection is restored
    /// after every outage, however long.
    ///
    /// # Errors
    /// If the broker cannot be reached, refuses the login, or refuses to create a stream.
    pub async fn connect(config: NatsConfig) -> Result<Arc<Self>, BusError> {
        let connection = Connection::open(&config).await?;
        if config.create {
            provision::create_all(&connection, &config).await?;
        }
        let receipts = format!("{}.receipts.{}", config.inbox_prefix, UploadId::generate());
        let core = Core {
            config,
            connection,
            runtime: Handle::current(),
            inboxes: Arc::default(),
            receipts,
            receipt_task: OnceCell::new(),
            shares: Shares::default(),
        };
        Ok(Arc::new(NatsBus { core: Arc::new(core) }))
    }

    /// Observes the connection.
    #[must_use]
    pub fn connection(&self) -> NatsConnection {
        let history = self.core.connection.history();
        let seen = history.borrow().is_connected;
        NatsConnection { history, seen }
    }
}

/// Connection status of a [`NatsBus`].
#[derive(Debug, Clone)]
pub struct NatsConnection {
    history: watch::Receiver<connection::History>,
    /// The status that was returned last.
    seen: bool,
}

impl NatsConnection {
    /// Whether the connection is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.history.borrow().is_connected
    }

    /// Waits until the status differs from the one returned last, and returns it; `None` once the connection
    /// is closed. A connection that was lost and restored in between is no change.
    pub async fn changed(&mut self) -> Option<bool> {
        let seen = self.seen;
        let now = self.history.wait_for(|history| history.is_connected != seen).await.ok()?.is_connected;
        self.seen = now;
        Some(now)
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    messages: u64,
    /// Time of the first message, as text: that of an empty stream is not in the range of [`Timestamp`].
    first_ts: String,
}

impl StreamState {
    /// When the oldest message was stored; `None` if the stream is empty.
    fn oldest(&self) -> Option<Timestamp> {
        (self.messages > 0).then(|| self.first_ts.parse().ok()).flatten()
    }
}

async fn stream_state(core: &Core, stream: &str) -> Result<StreamState, BusError> {
    let call = format!("STREAM.INFO.{stream}");
    Ok(core.connection.api::<StreamInfo>(&call, &json!({})).await??.state)
}

#[derive(Deserialize)]
struct ConsumerInfo {
    num_ack_pending: u64,
    config: ConsumerConfig,
}

#[derive(Deserialize)]
struct ConsumerConfig {
    /// In nanoseconds.
    ack_wait: u64,
}

#[async_trait]
impl WorkQueue for NatsBus {
    async fn enqueue(&self, message: Outgoing) -> Result<(), EnqueueError> {
        let mut headers = HeaderMap::new();
        let max_bytes = staging::max_message_bytes(&self.core);
        let (payload, to_stage) = inline::pack(max_bytes, &mut headers, message.payload, message.attachments);
        let puts: Vec<_> = to_stage
            .into_iter()
            .map(|file| staging::put_in_memory(&self.core, file.key(), file.content))
            .collect();
        futures::stream::iter(puts).buffer_unordered(STAGE_CONCURRENCY).try_collect::<()>().await?;
        if let Some(reply_to) = message.reply_to {
            headers.insert(names::REPLY_TO, reply_to);
        }
        if let Some(trace_parent) = message.trace_parent {
            headers.insert(names::TRACE_PARENT, trace_parent);
        }
        let subject = message.queue.subject(message.mrn);
        Ok(self.core.connection.publish(subject, headers, payload).await??)
    }

    async fn consume(
        &self,
        queue: Queue,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, Delivery>, BusError> {
        let core = Arc::clone(&self.core);
        let consumer = pull_consumer::PullConsumer::start(core, queue, max_in_flight).await?;
        let deliveries = futures::stream::unfold(consumer, |mut consumer| async move {
            consumer.next().await.map(|delivery| (delivery, consumer))
        });
        Ok(deliveries.boxed())
    }

    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError> {
        let (consumer_info, nothing) =
            (format!("CONSUMER.INFO.{}.{}", queue.name(), names::consumer(queue)), json!({}));
        let (stream, consumer) = tokio::try_join!(
            stream_state(&self.core, queue.name()),
            self.core.connection.api::<ConsumerInfo>(&consumer_info, &nothing),
        )?;
        let (oldest, in_flight) = (stream.oldest(), consumer?.num_ack_pending);
        Ok(QueueStatus { messages: stream.messages, in_flight, oldest })
    }

    async fn check(&self) -> Result<(), BusError> {
        self.core.connection.round_trip().await
    }
}

#[async_trait]
impl PubSub for NatsBus {
    async fn publish(&self, update: &PatientUpdated, trace_parent: Option<String>) -> Result<(), BusError> {
        let payload = serde_json::to_vec(update).map_err(BusError::encoding)?;
        let headers = trace_parent.map(|parent| {
            let mut headers = HeaderMap::new();
            headers.insert(names::TRACE_PARENT, parent);
            headers
        });
        let subject = updates_subject(Some(update.patient.mrn));
        self.core.connection.publish_core(subject, headers, payload.into()).await
    }

    async fn subscribe(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
        let parse = |message: &Message| {
            serde_json::from_slice(&message.payload).map(Box::new).map_err(|error| error.to_string())
        };
        let signals = subscription::subscribe(&self.core.connection, updates_subject(of), parse).await?;
        let events = signals.map(|signal| match signal {
            Signal::Message(update) => UpdateEvent::Updated(update),
            Signal::Disconnected => UpdateEvent::Disconnected,
            Signal::Lagged => UpdateEvent::Lagged,
        });
        Ok(events.boxed())
    }

    async fn publish_event(&self, event: &SystemEvent) -> Result<(), BusError> {
        let payload = serde_json::to_vec(event).map_err(BusError::encoding)?;
        self.core.connection.publish_core(event.subject(), None, payload.into()).await
    }

    async fn subscribe_events(&self) -> Result<BoxStream<'static, SystemSignal>, BusError> {
        let parse = |message: &Message| {
            serde_json::from_slice(&message.payload).map(Box::new).map_err(|error| error.to_string())
        };
        let mut subscriptions = Vec::new();
        for subject in SystemEvent::SUBJECTS {
            subscriptions
                .push(subscription::subscribe(&self.core.connection, subject.to_owned(), parse).await?);
        }
        let events = futures::stream::select_all(subscriptions).map(|signal| match signal {
            Signal::Message(event) => SystemSignal::Event(event),
            Signal::Disconnected => SystemSignal::Disconnected,
            Signal::Lagged => SystemSignal::Lagged,
        });
        Ok(events.boxed())
    }
}

#[async_trait]
impl ReplyInbox for NatsBus {
    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError> {
        self.core.receipt_task.get_or_try_init(|| receive_receipts(&self.core)).await?;
        Ok(PendingReceipt {
            reply_to: format!("{}.{upload}", self.core.receipts),
            receipt: self.core.inboxes.open(upload),
        })
    }

    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError> {
        let payload = serde_json::to_vec(receipt).map_err(BusError::encoding)?;
        self.core.connection.publish_core(reply_to.to_owned(), None, payload.into()).await
    }
}

#[async_trait]
impl DeadLetters for NatsBus {
    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        dead_letters::list(&self.core, after, limit).await
    }

    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError> {
        dead_letters::retry(&self.core, id).await
    }

    async fn delete_dead_letter(&self, id: u64) -> Result<bool, BusError> {
        dead_letters::delete(&self.core, id).await
    }
}

/// Starts the task that passes receipts to their inboxes.
async fn receive_receipts(core: &Core) -> Result<AbortOnDropHandle<()>, BusError> {
    let mut messages = core.connection.subscribe(format!("{}.*", core.receipts)).await?;
    let inboxes = Arc::clone(&core.inboxes);
    Ok(AbortOnDropHandle::new(core.runtime.spawn(async move {
        while let Some(message) = messages.next().await {
            let upload = message.subject.rsplit('.').next().and_then(|upload| upload.parse().ok());
            match (upload, serde_json::from_slice(&message.payload)) {
                (Some(upload), Ok(receipt)) => inboxes.deliver(upload, &receipt),
                (_, Err(error)) => tracing::error!(error = %error, "a receipt could not be parsed"),
                (None, Ok(_)) => tracing::error!("the subject of a receipt has no upload id"),
            }
        }
    })))
}
