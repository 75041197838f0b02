//! NATS JetStream.
//!
//! Queues are work-queue streams with one durable pull consumer each, which all competing processes share. Dead letters,
//! claims and staged files are streams, too. Announcements and receipts are plain messages. In a cluster, all but the dead
//! letters is there several times: see `lanes`.

mod blobs;
mod config;
mod dead;
mod enclosed;
mod lanes;
mod link;
mod names;
mod pause;
mod provision;
mod pull;
mod settle;
mod spread;
mod updates;

use std::sync::Arc;

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::{HeaderMap, jetstream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, Mrn, PatientUpdated, Queue, Receipt, Timestamp, UploadId, updates_subject};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::task::AbortOnDropHandle;

pub use self::config::{NatsConfig, NatsLogin};
pub use self::pause::{Paused, pause};
pub use self::provision::provision;

use self::lanes::Lanes;
use self::link::Link;
use crate::receipts::Inboxes;
use crate::{
    BusError, Claim, DeadLetter, Delivery, EnqueueError, EventBus, Outgoing, PendingReceipt, QueueStatus,
    SmallFile, UpdateEvent,
};

/// Files of one message that are staged at the same time.
const FILES_AT_ONCE: usize = 4;

/// Bus and blob stage on NATS JetStream.
#[derive(Debug)]
pub struct NatsBus {
    core: Arc<Core>,
}

/// What the bus, its consumers and their deliveries share.
#[derive(Debug)]
struct Core {
    config: NatsConfig,
    link: Link,
    lanes: Lanes,
    /// For what has to be said when something is dropped.
    runtime: Handle,
    inboxes: Arc<Inboxes>,
    /// Subjects of this process's receipts, without the upload.
    receipts: String,
    /// Hands receipts to those who wait; started with the first of them.
    receiver: OnceCell<AbortOnDropHandle<()>>,
}

impl NatsBus {
    /// Connects, and makes streams and consumers if the configuration says so. Afterwards the connection comes back by
    /// itself, however long the broker is away.
    ///
    /// # Errors
    /// When the broker cannot be reached now, refuses the login, or refuses to make a stream.
    pub async fn connect(config: NatsConfig) -> Result<Arc<Self>, BusError> {
        let link = Link::connect(&config).await?;
        if config.create {
            provision::make_all(&link, &config).await?;
        }
        let receipts = format!("{}.receipts.{}", config.inbox_prefix, UploadId::generate());
        let core = Core {
            lanes: Lanes::new(config.lanes),
            config,
            link,
            runtime: Handle::current(),
            inboxes: Arc::default(),
            receipts,
            receiver: OnceCell::new(),
        };
        Ok(Arc::new(NatsBus { core: Arc::new(core) }))
    }

    /// Whether there is a connection, now and later.
    #[must_use]
    pub fn connection(&self) -> NatsConnection {
        let history = self.core.link.history();
        let seen = history.borrow().is_connected;
        NatsConnection { history, seen }
    }
}

/// Whether a [`NatsBus`] has its connection.
#[derive(Debug, Clone)]
pub struct NatsConnection {
    history: watch::Receiver<link::History>,
    /// What the owner was told last.
    seen: bool,
}

impl NatsConnection {
    /// Whether there is a connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.history.borrow().is_connected
    }

    /// Waits until the connection is another than at the last call, or than when this value was made, and returns whether
    /// there is one; `None` once it is closed for good. One that was lost and came back in between is no change.
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
    first_ts: String,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    num_ack_pending: u64,
}

#[async_trait]
impl EventBus for NatsBus {
    async fn enqueue_with(&self, files: Vec<SmallFile>, message: Outgoing) -> Result<(), EnqueueError> {
        let mut headers = HeaderMap::new();
        let room = blobs::room(&self.core);
        let (payload, to_stage) = enclosed::enclose(room, &mut headers, message.payload, files);
        let puts: Vec<_> = to_stage.into_iter().map(|file| blobs::put_small(&self.core, file)).collect();
        futures::stream::iter(puts).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
        // Sent twice when the connection breaks, it is still taken once.
        headers.insert(names::MESSAGE_ID, UploadId::generate().to_string());
        if let Some(reply_to) = message.reply_to {
            headers.insert(names::REPLY_TO, reply_to);
        }
        if let Some(trace_parent) = message.trace_parent {
            headers.insert(names::TRACE_PARENT, trace_parent);
        }
        let (order, subject) = (self.core.lanes.of(&message.mrn), message.queue.subject(message.mrn));
        self.core.store(order, &subject, Some(headers), payload).await?.done()
    }

    async fn consume(
        &self,
        queue: Queue,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, Delivery>, BusError> {
        let lanes = &self.core.lanes;
        let hands = pull::Hands::new(max_in_flight, lanes.count());
        let mut pullers = Vec::new();
        for lane in lanes.all() {
            let puller = pull::Puller::start(Arc::clone(&self.core), queue, lane, hands.clone()).await?;
            pullers.push(
                futures::stream::unfold(puller, |mut puller| async move {
                    puller.next().await.map(|delivery| (delivery, puller))
                })
                .boxed(),
            );
        }
        let keeper = (queue == Queue::Uploads && lanes.count() > 1).then(|| spread::keep(&self.core));
        let deliveries = futures::stream::select_all(pullers).inspect(move |_| {
            let _lives_as_long = &keeper;
        });
        Ok(deliveries.boxed())
    }

    async fn announce(&self, update: &PatientUpdated, trace_parent: Option<String>) -> Result<(), BusError> {
        let payload = serde_json::to_vec(update).map_err(BusError::encoding)?;
        let headers = trace_parent.map(|parent| {
            let mut headers = HeaderMap::new();
            headers.insert(names::TRACE_PARENT, parent);
            headers
        });
        self.core.link.tell(updates_subject(Some(update.patient.mrn)), headers, payload.into()).await
    }

    async fn updates(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
        updates::listen(&self.core.link, updates_subject(of)).await
    }

    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError> {
        self.core.receiver.get_or_try_init(|| receive(&self.core)).await?;
        Ok(PendingReceipt {
            reply_to: format!("{}.{upload}", self.core.receipts),
            receipt: self.core.inboxes.open(upload),
        })
    }

    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError> {
        let payload = serde_json::to_vec(receipt).map_err(BusError::encoding)?;
        self.core.link.tell(reply_to.to_owned(), None, payload.into()).await
    }

    async fn claim(&self, upload: UploadId, fingerprint: BlobHash) -> Result<Claim, BusError> {
        let (order, subject) = (self.core.lanes.of(&upload), format!("claim.{upload}"));
        let same = |claimed: &Bytes| *claimed == *fingerprint.to_string().as_bytes();
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(names::EXPECTED_LAST, "0");
            let payload = Bytes::from(fingerprint.to_string());
            let taken = self.core.store(order.clone(), &subject, Some(headers), payload).await?;
            match taken.answer {
                Ok(()) => {
                    // It may have been claimed while its lane had no leader. Any replica answers that; one that does not is
                    // not waited for: the last word is the store's.
                    let others = order.iter().copied().filter(|lane| *lane != taken.lane);
                    let others = others.map(|lane| self.core.read_in(names::CLAIMS, lane, &subject));
                    for claimed in futures::future::join_all(others).await {
                        if let Ok(Some(claimed)) = claimed {
                            return Ok(if same(&claimed.payload) { Claim::Same } else { Claim::Other });
                        }
                    }
                    return Ok(Claim::New);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(claimed) = self.claimed(taken.lane, &subject).await? {
                return Ok(if same(&claimed) { Claim::Same } else { Claim::Other });
            }
            // It was forgotten in this very moment.
        }
    }

    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError> {
        let mut status = QueueStatus::default();
        for lane in self.core.lanes.all() {
            let (stream, nothing) = (names::stream(queue.name(), lane), json!({}));
            let (of_stream, of_consumer) = (
                format!("STREAM.INFO.{stream}"),
                format!("CONSUMER.INFO.{stream}.{}", names::consumer(queue)),
            );
            let (stream, consumer) = tokio::try_join!(
                self.core.api_in::<StreamInfo>(lane, &of_stream, &nothing),
                self.core.api_in::<ConsumerInfo>(lane, &of_consumer, &nothing),
            )?;
            let (stream, consumer) = (stream?.state, consumer?);
            let oldest = (stream.messages > 0).then(|| stream.first_ts.parse::<Timestamp>().ok()).flatten();
            status.messages += stream.messages;
            status.in_flight += consumer.num_ack_pending;
            status.oldest = status.oldest.into_iter().chain(oldest).min();
        }
        Ok(status)
    }

    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        dead::list(&self.core, after, limit).await
    }

    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError> {
        dead::retry(&self.core, id).await
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, BusError> {
        dead::forget(&self.core, id).await
    }

    async fn check(&self) -> Result<(), BusError> {
        self.core.link.round_trip().await
    }
}

impl NatsBus {
    /// What an upload id is tied to, as the leader of the stream knows it: a replica may be behind.
    async fn claimed(&self, lane: usize, subject: &str) -> Result<Option<Bytes>, BusError> {
        let jetstream = jetstream::new(self.core.link.client.clone());
        let asking = async {
            let stream = names::stream(names::CLAIMS, lane);
            let claims = jetstream.get_stream_no_info(stream).await.map_err(BusError::unavailable)?;
            match claims.get_last_raw_message_by_subject(&names::in_lane(lane, subject)).await {
                Ok(message) => Ok(Some(message.payload)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(BusError::unavailable(error)),
            }
        };
        self.core.of_leader(lane, asking).await
    }
}

/// Starts to receive this process's receipts.
async fn receive(core: &Core) -> Result<AbortOnDropHandle<()>, BusError> {
    let mut heard = core.link.listen(format!("{}.*", core.receipts)).await?;
    let inboxes = Arc::clone(&core.inboxes);
    Ok(AbortOnDropHandle::new(core.runtime.spawn(async move {
        while let Some(message) = heard.next().await {
            let upload = message.subject.rsplit('.').next().and_then(|upload| upload.parse().ok());
            match (upload, serde_json::from_slice(&message.payload)) {
                (Some(upload), Ok(receipt)) => inboxes.deliver(upload, &receipt),
                (_, Err(error)) => tracing::error!(error = %error, "a receipt could not be read"),
                (None, Ok(_)) => tracing::error!("a receipt names no upload"),
            }
        }
    })))
}
