//! Deliveries of a queue: pulls as many messages as there are free permits, and survives broker outages.
//!
//! The pull consumer of async-nats is not used because this one gives prefetched messages back at once when
//! it is dropped, creates streams that were deleted, and ties each delivery to a permit. One pull request is
//! open at a time. While it is not fulfilled the queue is empty, so a second one would not help.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use futures::{FutureExt, StreamExt};
use proto_json::{Queue, Timestamp};
use tokio::sync::watch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::acker::{Identity, NatsAcker};
use super::connection::History;
use super::{Core, inline, names, provision};
use crate::{BusError, Delivery};

/// Lifetime of a pull request.
const REQUEST_EXPIRES: Duration = Duration::from_secs(30);
/// Interval of the idle heartbeats of a pull request.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(5);

/// First and longest wait after a failed request.
const MIN_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(3);

pub(super) struct PullConsumer {
    core: Arc<Core>,
    queue: Queue,
    /// One permit per delivery that the consumer may hold.
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    /// One permit per message that the open request, or the next one, may still return.
    free: Vec<OwnedSemaphorePermit>,
    inbox: String,
    replies: Subscriber,
    history: watch::Receiver<History>,
    /// Time of the last sign of the broker, if a request is open.
    last_seen: Option<Instant>,
    wait: Duration,
    /// A failure was logged and the queue has not been served since.
    failure_logged: bool,
}

/// A message on the inbox.
enum Reply {
    Message(Message),
    /// The request is over; no more messages follow. Contains the reason if it failed.
    Over(Option<String>),
    /// The consumer does not exist or has no leader.
    NoConsumer,
    Heartbeat,
}

impl PullConsumer {
    pub(super) async fn start(core: Arc<Core>, queue: Queue, max_in_flight: usize) -> Result<Self, BusError> {
        let max_in_flight = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let inbox = core.connection.client.new_inbox();
        let replies = core.connection.subscribe(inbox.clone()).await?;
        let history = core.connection.history();
        Ok(PullConsumer {
            queue,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            free: Vec::new(),
            inbox,
            replies,
            history,
            last_seen: None,
            wait: MIN_WAIT,
            failure_logged: false,
            core,
        })
    }

    /// Returns the next delivery. Never `None` while the adapter exists.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.last_seen.is_none() {
                self.send_request().await;
            }
            let Some(reply) = self.next_reply().await else { continue };
            match reply {
                Reply::Message(message) => {
                    if let Some(delivery) = self.deliver(message).await {
                        return Some(delivery);
                    }
                }
                Reply::Heartbeat => {}
                Reply::Over(None) => self.last_seen = None,
                Reply::Over(Some(reason)) => self.fail(&reason).await,
                Reply::NoConsumer => {
                    self.fail("the consumer does not exist or has no leader").await;
                    self.create_missing().await;
                }
            }
        }
    }

    /// Waits for the next reply. `None` if a new request must be sent.
    async fn next_reply(&mut self) -> Option<Reply> {
        // A request without heartbeats is lost.
        let lost_at = self.last_seen.unwrap_or_else(Instant::now) + IDLE_HEARTBEAT * 2;
        let message = tokio::select! {
            biased;
            message = self.replies.next() => message,
            changed = self.history.changed() => {
                // The broker drops the requests of a closed connection. Replies sent before were read first.
                if changed.is_err() || self.history.borrow().is_connected {
                    self.last_seen = None;
                }
                return None;
            }
            () = tokio::time::sleep_until(lost_at) => {
                self.fail("a pull request was lost").await;
                self.replace_inbox().await;
                return None;
            }
        };
        let Some(message) = message else {
            self.fail("the connection is closed").await;
            self.replace_inbox().await;
            return None;
        };
        self.last_seen = Some(Instant::now());
        let reply = Reply::of(message);
        if matches!(reply, Reply::Message(_) | Reply::Heartbeat | Reply::Over(None)) {
            self.wait = MIN_WAIT;
            if std::mem::take(&mut self.failure_logged) {
                tracing::info!(queue = %self.queue, "the queue can be consumed again");
            }
        }
        Some(reply)
    }

    /// Requests as many messages as there are free permits; waits for at least one permit.
    async fn send_request(&mut self) {
        if self.free.is_empty()
            && let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await
        {
            self.free.push(permit);
        }
        while self.free.len() < self.max_in_flight
            && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
        {
            self.free.push(permit);
        }
        // The client would buffer a request without a connection and send it with the next one, as a
        // duplicate.
        let _ = self.history.wait_for(|history| history.is_connected).await;
        let consumer = format!("{}.{}", self.queue.name(), names::consumer(self.queue));
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}");
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let request = serde_json::json!({
            "batch": self.free.len(),
            "expires": nanos(REQUEST_EXPIRES),
            "idle_heartbeat": nanos(IDLE_HEARTBEAT),
        });
        let client = &self.core.connection.client;
        match client.publish_with_reply(subject, self.inbox.clone(), request.to_string().into()).await {
            Ok(()) => self.last_seen = Some(Instant::now()),
            Err(error) => self.fail(&error.to_string()).await,
        }
    }

    /// Handles a failed request: logs the first failure, and waits.
    async fn fail(&mut self, reason: &str) {
        self.last_seen = None;
        if !self.failure_logged {
            tracing::warn!(queue = %self.queue, reason, "the queue cannot be consumed; retrying");
            self.failure_logged = true;
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(MAX_WAIT);
    }

    /// Creates streams that were deleted. In a cluster, a missing leader is more likely at first.
    async fn create_missing(&self) {
        if self.core.config.create
            && (!self.core.connection.is_replicated || self.wait == MAX_WAIT)
            && let Err(error) = provision::create_all(&self.core.connection, &self.core.config).await
        {
            tracing::debug!(queue = %self.queue, error = %error, "streams could not be created");
        }
    }

    /// Opens a new inbox, so that replies to earlier requests are no longer received.
    async fn replace_inbox(&mut self) {
        self.give_back_unread();
        self.inbox = self.core.connection.client.new_inbox();
        if let Ok(replies) = self.core.connection.client.subscribe(self.inbox.clone()).await {
            self.replies = replies;
        }
    }

    /// Turns a message into a delivery; `None` if it does not belong to the queue.
    async fn deliver(&mut self, message: Message) -> Option<Delivery> {
        let permit = match self.free.pop() {
            Some(permit) => permit,
            // After a reconnect, two requests can be answered.
            None => Arc::clone(&self.permits).acquire_owned().await.ok()?,
        };
        if self.free.is_empty() {
            self.last_seen = None;
        }
        let context = jetstream::new(self.core.connection.client.clone());
        let message = jetstream::Message { message, context };
        let identity = match message.info() {
            Ok(info) => Identity {
                queue: self.queue,
                sequence: info.stream_sequence,
                published: info.published.unix_timestamp_nanos(),
                deliveries: u64::try_from(info.delivered).unwrap_or(1),
            },
            Err(error) => {
                tracing::error!(queue = %self.queue, error = %error, "a reply is not a message of the queue");
                return None;
            }
        };
        let message = message.message;
        let (headers, payload) = (message.headers.clone().unwrap_or_default(), message.payload.clone());
        let Identity { sequence, published, deliveries, .. } = identity;
        let millis = i64::try_from(published / 1_000_000).ok();
        let enqueued_at = millis.and_then(|millis| Timestamp::from_millis(millis).ok());
        let (payload, attachments) = inline::unpack(&headers, &payload).unwrap_or_else(|error| {
            // Delivered as it is: its consumer cannot parse it and dead-letters it.
            tracing::error!(queue = %self.queue, message = sequence, error = %error, "a message cannot be unpacked");
            (payload, Vec::new())
        });
        let acker = NatsAcker::new(&self.core, identity, message, attachments, Some(permit));
        let mut delivery = Delivery::new(
            self.queue,
            payload,
            deliveries,
            enqueued_at.unwrap_or_else(Timestamp::now),
            self.core.config.retry.clone(),
            Box::new(acker),
        );
        delivery.reply_to = text(&headers, names::REPLY_TO);
        delivery.trace_parent = text(&headers, names::TRACE_PARENT);
        Some(delivery)
    }

    /// Gives prefetched messages back, so that other consumers receive them at once.
    fn give_back_unread(&mut self) {
        while let Some(Some(message)) = self.replies.next().now_or_never() {
            if let Reply::Message(message) = Reply::of(message) {
                // No attempt was counted, so the identity is not needed.
                let identity = Identity { queue: self.queue, sequence: 0, published: 0, deliveries: 0 };
                drop(NatsAcker::new(&self.core, identity, message, Vec::new(), None));
            }
        }
    }
}

impl Drop for PullConsumer {
    fn drop(&mut self) {
        self.give_back_unread();
    }
}

impl Reply {
    fn of(message: Message) -> Self {
        let Some(status) = message.status else { return Reply::Message(message) };
        match status {
            StatusCode::IDLE_HEARTBEAT => Reply::Heartbeat,
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Reply::Over(None),
            StatusCode::NO_RESPONDERS => Reply::NoConsumer,
            _ => Reply::Over(Some(message.description.unwrap_or_else(|| status.to_string()))),
        }
    }
}

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}
