//! The right to settle one delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use async_trait::async_trait;
use bytes::Bytes;
use proto_json::Queue;
use tokio::sync::OwnedSemaphorePermit;

use super::pull::text;
use super::{Core, enclosed, names};
use crate::{BusError, EnqueueError, Settle};

/// The longest reason that is kept.
const REASON_CHARS: usize = 1_000;

pub(super) struct Lease {
    core: Arc<Core>,
    queue: Queue,
    lane: usize,
    /// Number of the message in its stream.
    sequence: u64,
    message: Message,
    settled: AtomicBool,
    /// One of the deliveries a consumer may hold.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(
        core: &Arc<Core>,
        (queue, lane): (Queue, usize),
        sequence: u64,
        message: Message,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Lease {
            core: Arc::clone(core),
            queue,
            lane,
            sequence,
            message,
            settled: AtomicBool::new(false),
            _permit: permit,
        }
    }

    /// Tells the broker about the delivery, and waits until it has noted it.
    async fn confirm(&self, word: Bytes) -> Result<(), BusError> {
        let reply = self.message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        self.core.link.ask(reply, None, word).await.map(|_| ())
    }

    /// Copies the message to the dead letters and the files inside of it to the stage, then removes it. If this is cut off in
    /// between, the copy is made again under the same id.
    async fn bury(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        let Some(mrn) = names::mrn_of(&self.message.subject) else {
            return Err(BusError::refused("the message is about no patient"));
        };
        let mut headers = HeaderMap::new();
        let mut payload = self.message.payload.clone();
        if let Some(of_message) = &self.message.headers {
            if let Some(trace_parent) = text(of_message, names::TRACE_PARENT) {
                headers.insert(names::TRACE_PARENT, trace_parent);
            }
            match enclosed::take_out(&self.core, of_message, &payload).await? {
                Some(json) => payload = json,
                None => {
                    headers.insert(names::ENCLOSED, text(of_message, names::ENCLOSED).unwrap_or_default())
                }
            }
        }
        headers.insert(names::REASON, one_line(reason));
        headers.insert(names::ATTEMPTS, attempts.to_string());
        let stream = names::stream(self.queue.name(), self.lane);
        headers.insert(names::MESSAGE_ID, format!("{stream}-{}", self.sequence));
        let subject = names::dead_letter(self.queue, mrn);
        let stored = self.core.link.store(subject, Some(headers), payload).await?;
        stored.map_err(|error| match EnqueueError::from(error) {
            EnqueueError::Full => BusError::refused("there are too many dead letters; deal with them first"),
            EnqueueError::Bus(error) => error,
        })?;
        self.confirm(Bytes::from_static(b"+ACK")).await
    }

    /// Buries a message that goes to no consumer; if that fails, it comes again later.
    pub(super) async fn bury_or_give_back(self, reason: &str, attempts: u64) {
        self.settled.store(true, Ordering::Relaxed);
        if let Err(error) = self.bury(reason, attempts).await {
            tracing::error!(queue = %self.queue, error = %error, "a message could not be made a dead letter");
            let wait = self.core.config.retry.wait_after(attempts).max(Duration::from_secs(1));
            if let Err(error) = self.confirm(not_yet(wait)).await {
                tracing::warn!(queue = %self.queue, error = %error, "a message could not be given back");
            }
        }
    }
}

/// "Not acknowledged", to be delivered again after `wait`.
fn not_yet(wait: Duration) -> Bytes {
    if wait.is_zero() {
        Bytes::from_static(b"-NAK")
    } else {
        format!("-NAK {{\"delay\": {}}}", wait.as_nanos()).into()
    }
}

/// Headers hold one line of text.
fn one_line(reason: &str) -> String {
    reason.chars().take(REASON_CHARS).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[async_trait]
impl Settle for Lease {
    async fn ack(&self) -> Result<(), BusError> {
        // If this fails, the message comes again after the ack wait.
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(Bytes::from_static(b"+ACK")).await
    }

    async fn retry_after(&self, wait: Duration) -> Result<(), BusError> {
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(not_yet(wait)).await
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.confirm(Bytes::from_static(b"+WPI")).await
    }

    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        self.settled.store(true, Ordering::Relaxed);
        self.bury(reason, attempts).await
    }

    fn abandon(&self) {
        // Dropping does it.
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        if let Some(reply) = self.message.reply.clone() {
            let client = self.core.link.client.clone();
            // If it is not sent any more, the message comes again after the ack wait.
            self.core.runtime.spawn(async move { client.publish(reply, not_yet(Duration::ZERO)).await });
        }
    }
}
