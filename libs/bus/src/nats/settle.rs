//! Settles one delivery, and counts the attempts of its message.
//!
//! JetStream counts deliveries, not failures: a message that was sent into a dead connection, or deferred in an outage,
//! counts there like one that killed its consumer. So `max_deliver` is unlimited, and attempts are counted here, in a
//! stream with one subject for each message that was delivered more than once (`ATTEMPTS`). The count is raised before the
//! work begins and lowered again when the attempt is deferred. The first delivery writes nothing unless it fails.
//!
//! Failure modes: a process that is killed between raising and lowering leaves the attempt counted; so it counts one
//! attempt at most for each death of a consumer. A count that is lost with a broker, or expires after a day without an
//! attempt, begins anew: then a poison message gets its attempts once more. Neither makes a dead letter of an outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use async_trait::async_trait;
use bytes::Bytes;
use proto_json::Queue;
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::pull::text;
use super::{Core, enclosed, lanes, names};
use crate::{Acker, BusError, EnqueueError};

/// The longest reason that is kept.
const REASON_CHARS: usize = 1_000;

/// What tells a message from others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) queue: Queue,
    pub(super) lane: usize,
    /// Its number in its stream.
    pub(super) sequence: u64,
    /// When it was published, in nanoseconds: a stream that was made anew counts from 1 again.
    pub(super) published: i128,
    /// How often it was delivered, this time included.
    pub(super) deliveries: u64,
}

/// What this delivery has written of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Nothing. The attempts before are not known.
    NotBegun,
    /// Nothing: this is the first delivery, and no attempt was made before.
    First,
    /// It was raised to one more than this, or may have been.
    Raised(u64),
}

pub(super) struct Lease {
    core: Arc<Core>,
    identity: Identity,
    message: Message,
    count: Mutex<Count>,
    settled: AtomicBool,
    /// One of the deliveries a consumer may hold.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(
        core: &Arc<Core>,
        identity: Identity,
        message: Message,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Lease {
            core: Arc::clone(core),
            identity,
            message,
            count: Mutex::new(Count::NotBegun),
            settled: AtomicBool::new(false),
            _permit: permit,
        }
    }

    fn stream(&self) -> String {
        names::stream(self.identity.queue.name(), self.identity.lane)
    }

    /// Attempts of the message that count so far.
    async fn counted(&self) -> Result<u64, BusError> {
        let subject = names::attempts(&self.stream(), self.identity.sequence);
        let call = format!("$JS.API.DIRECT.GET.{}.{subject}", names::ATTEMPTS);
        let found = lanes::found(self.core.link.ask(call, None, Bytes::new()).await?)?;
        let count = found.as_ref().and_then(|message| std::str::from_utf8(&message.payload).ok());
        let (published, attempts) = count.and_then(|count| count.split_once(' ')).unwrap_or_default();
        let is_ours = published.parse() == Ok(self.identity.published);
        Ok(attempts.parse().ok().filter(|_| is_ours).unwrap_or(0))
    }

    async fn write_count(&self, attempts: u64) -> Result<(), BusError> {
        let subject = names::attempts(&self.stream(), self.identity.sequence);
        let count = format!("{} {attempts}", self.identity.published);
        self.core.link.store(subject, None, count.into()).await?.map_err(|error| {
            match EnqueueError::from(error) {
                EnqueueError::Full => BusError::storage("the broker has no room to count attempts"),
                EnqueueError::Bus(error) => error,
            }
        })
    }

    /// Tells the broker about the delivery, and waits until it has noted it. A broker that was killed may not know the
    /// delivery any more, and then does not answer.
    async fn confirm(&self, word: Bytes) -> Result<(), BusError> {
        let reply = self.message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.core.link.ask(reply, None, word).await {
            Ok(_) => Ok(()),
            Err(error) if self.core.link.history().borrow().is_connected => Err(BusError::refused(error)),
            Err(error) => Err(error),
        }
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
        headers.insert(names::DEAD_ATTEMPTS, attempts.to_string());
        headers.insert(names::MESSAGE_ID, format!("{}-{}", self.stream(), self.identity.sequence));
        let subject = names::dead_letter(self.identity.queue, mrn);
        let stored = self.core.link.store(subject, Some(headers), payload).await?;
        stored.map_err(|error| match EnqueueError::from(error) {
            EnqueueError::Full => BusError::storage("there are too many dead letters; deal with them first"),
            EnqueueError::Bus(error) => error,
        })?;
        self.confirm(Bytes::from_static(b"+ACK")).await
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
impl Acker for Lease {
    async fn begin(&self) -> Result<u64, BusError> {
        let mut count = self.count.lock().await;
        if self.identity.deliveries == 1 {
            *count = Count::First;
            return Ok(1);
        }
        let before = self.counted().await?;
        *count = Count::Raised(before);
        self.write_count(before + 1).await?;
        Ok(before + 1)
    }

    async fn ack(&self) -> Result<(), BusError> {
        // If this fails, the message comes again after the ack wait.
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(Bytes::from_static(b"+ACK")).await
    }

    async fn retry_after(&self, wait: Duration) -> Result<(), BusError> {
        let mut count = self.count.lock().await;
        if *count == Count::First {
            *count = Count::Raised(0);
            self.write_count(1).await?;
        }
        self.settled.store(true, Ordering::Relaxed);
        self.confirm(not_yet(wait)).await
    }

    async fn defer(&self, wait: Duration) -> Result<(), BusError> {
        let mut count = self.count.lock().await;
        if let Count::Raised(before) = *count {
            self.write_count(before).await?;
            *count = Count::NotBegun;
        }
        self.settled.store(true, Ordering::Relaxed);
        // If this fails, the message comes again after the ack wait, which does not count either.
        if let Err(error) = self.confirm(not_yet(wait)).await {
            tracing::debug!(queue = %self.identity.queue, error = %error, "a deferred message could not be given back");
        }
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.confirm(Bytes::from_static(b"+WPI")).await
    }

    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        self.bury(reason, attempts).await?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
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
