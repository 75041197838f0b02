//! Settles one delivery and counts the attempts of its message.
//!
//! JetStream counts deliveries, not failures: a delivery that was sent into a dead connection or deferred in
//! an outage counts like one that killed its consumer. So `max_deliver` is unlimited, and attempts are
//! counted here, in the stream `ATTEMPTS` with one subject per message that was delivered more than once. The
//! count is raised before the work starts and lowered again if the attempt is deferred. The first delivery
//! writes nothing unless it fails.
//!
//! Failure modes: a process that is killed between raising and lowering leaves the attempt counted; each
//! death of a consumer counts at most one attempt. A count that is lost with a broker, or expires after a day
//! without an attempt, starts again at zero; a poison message then gets its attempts once more. Neither turns
//! an outage into dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use async_trait::async_trait;
use bytes::Bytes;
use proto_json::Queue;
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::inline::Unpacked;
use super::pull_consumer::text;
use super::{Core, inline, names, staging};
use crate::{Acker, BusError, EnqueueError, StagedFile, StagingKey};

/// Longest stored reason of a dead letter, in characters.
const MAX_REASON: usize = 1_000;

const ACK: &[u8] = b"+ACK";
pub(super) const IN_PROGRESS: &[u8] = b"+WPI";

/// Identifies a message and one of its deliveries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) queue: Queue,
    /// Sequence number in the stream.
    pub(super) sequence: u64,
    /// Publish time in nanoseconds: a stream that was created again restarts its sequence at 1.
    pub(super) published: i128,
    /// Number of deliveries, including this one.
    pub(super) deliveries: u64,
}

/// What this delivery has written to the attempt count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Nothing; earlier attempts are unknown.
    NotBegun,
    /// Nothing; this is the first delivery, so there were no earlier attempts.
    First,
    /// The count was raised to one more than this value, or may have been.
    Raised(u64),
}

pub(super) struct NatsAcker {
    core: Arc<Core>,
    identity: Identity,
    message: Message,
    attachments: Vec<Unpacked>,
    count: Mutex<Count>,
    settled: AtomicBool,
    /// One of the deliveries that the consumer may hold.
    _permit: Option<OwnedSemaphorePermit>,
}

impl NatsAcker {
    pub(super) fn new(
        core: &Arc<Core>,
        identity: Identity,
        message: Message,
        attachments: Vec<Unpacked>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        NatsAcker {
            core: Arc::clone(core),
            identity,
            message,
            attachments,
            count: Mutex::new(Count::NotBegun),
            settled: AtomicBool::new(false),
            _permit: permit,
        }
    }

    fn attempts_subject(&self) -> String {
        names::attempts(self.identity.queue, self.identity.sequence)
    }

    /// Reads the attempt count of the message.
    async fn read_count(&self) -> Result<u64, BusError> {
        let call = format!("$JS.API.DIRECT.GET.{}.{}", names::ATTEMPTS, self.attempts_subject());
        let found = staging::direct_reply(self.core.connection.request(call, Bytes::new()).await?)?;
        let count = found.as_ref().and_then(|message| std::str::from_utf8(&message.payload).ok());
        let (published, attempts) = count.and_then(|count| count.split_once(' ')).unwrap_or_default();
        let is_same_message = published.parse() == Ok(self.identity.published);
        Ok(attempts.parse().ok().filter(|_| is_same_message).unwrap_or(0))
    }

    async fn write_count(&self, attempts: u64) -> Result<(), BusError> {
        let count = format!("{} {attempts}", self.identity.published);
        let written =
            self.core.connection.publish(self.attempts_subject(), HeaderMap::new(), count.into()).await?;
        written.map_err(|error| match EnqueueError::from(error) {
            EnqueueError::Full => BusError::storage("the broker cannot store attempt counts"),
            EnqueueError::Bus(error) => error,
        })
    }

    /// Sends an acknowledgement and waits for the confirmation. A broker that was killed may not know the
    /// delivery; it then does not answer.
    async fn confirm(&self, acknowledgement: Bytes) -> Result<(), BusError> {
        let reply = self.message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.core.connection.request(reply, acknowledgement).await {
            Ok(_) => Ok(()),
            Err(error) if self.core.connection.history().borrow().is_connected => {
                Err(BusError::refused(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Copies the message to the dead letters and stages its attachments, then removes the message. If this
    /// is interrupted, it is repeated with the same message id.
    async fn move_to_dead_letters(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        let Some(mrn) = names::mrn_of(&self.message.subject) else {
            return Err(BusError::refused("the subject of the message has no patient"));
        };
        let mut headers = HeaderMap::new();
        let mut payload = self.message.payload.clone();
        if let Some(of_message) = &self.message.headers {
            if let Some(trace_parent) = text(of_message, names::TRACE_PARENT) {
                headers.insert(names::TRACE_PARENT, trace_parent);
            }
            match inline::stage_attachments(&self.core, of_message, &payload).await? {
                Some(json) => payload = json,
                None => headers
                    .insert(names::ATTACHMENTS, text(of_message, names::ATTACHMENTS).unwrap_or_default()),
            }
        }
        headers.insert(names::REASON, one_line(reason));
        headers.insert(names::DEAD_ATTEMPTS, attempts.to_string());
        headers.insert(names::MESSAGE_ID, format!("{}-{}", self.identity.queue, self.identity.sequence));
        let subject = names::dead_letter(self.identity.queue, mrn);
        let stored = self.core.connection.publish(subject, headers, payload).await?;
        stored.map_err(|error| match EnqueueError::from(error) {
            EnqueueError::Full => BusError::storage("there are too many dead letters; delete some first"),
            EnqueueError::Bus(error) => error,
        })?;
        self.confirm(Bytes::from_static(ACK)).await
    }
}

/// A negative acknowledgement that asks for redelivery after `wait`.
fn nak(wait: Duration) -> Bytes {
    if wait.is_zero() {
        Bytes::from_static(b"-NAK")
    } else {
        format!("-NAK {{\"delay\": {}}}", wait.as_nanos()).into()
    }
}

/// A header value has one line.
fn one_line(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[async_trait]
impl Acker for NatsAcker {
    async fn begin(&self) -> Result<u64, BusError> {
        let mut count = self.count.lock().await;
        if self.identity.deliveries == 1 {
            *count = Count::First;
            return Ok(1);
        }
        let before = self.read_count().await?;
        *count = Count::Raised(before);
        self.write_count(before + 1).await?;
        Ok(before + 1)
    }

    async fn ack(&self) -> Result<(), BusError> {
        // If this fails, the message is redelivered after the ack wait.
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(Bytes::from_static(ACK)).await
    }

    async fn retry_after(&self, wait: Duration) -> Result<(), BusError> {
        let mut count = self.count.lock().await;
        if *count == Count::First {
            *count = Count::Raised(0);
            self.write_count(1).await?;
        }
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(nak(wait)).await
    }

    async fn defer(&self, wait: Duration) -> Result<(), BusError> {
        let mut count = self.count.lock().await;
        if let Count::Raised(before) = *count {
            self.write_count(before).await?;
            *count = Count::NotBegun;
        }
        self.settled.store(true, Ordering::Relaxed);
        // If this fails, the message is redelivered after the ack wait, which does not count either.
        if let Err(error) = self.confirm(nak(wait)).await {
            tracing::debug!(queue = %self.identity.queue, error = %error, "a deferred message was not given back");
        }
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.confirm(Bytes::from_static(IN_PROGRESS)).await
    }

    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        self.move_to_dead_letters(reason, attempts).await?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn open(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        match self.attachments.iter().find(|(other, _)| *other == key) {
            Some((_, content)) => Ok(Some(StagedFile::from_memory(content.clone()))),
            None => staging::get(&self.core, key).await,
        }
    }

    async fn remove(&self, key: StagingKey) -> Result<(), BusError> {
        // An attachment inside the message is removed with the message.
        if self.attachments.iter().any(|(other, _)| *other == key) {
            return Ok(());
        }
        staging::delete(&self.core, key).await
    }
}

impl Drop for NatsAcker {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        if let Some(reply) = self.message.reply.clone() {
            let client = self.core.connection.client.clone();
            // If this is not sent, the message is redelivered after the ack wait.
            self.core.runtime.spawn(async move { client.publish(reply, nak(Duration::ZERO)).await });
        }
    }
}
