//! Deliveries of a queue: asks the broker for as many messages as there are hands free, and goes on over outages.
//!
//! One request is under way at a time. While it is not fulfilled, the queue is empty, so nothing waits for a second one.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use futures::{FutureExt, StreamExt};
use proto_json::{Queue, Timestamp};
use tokio::sync::watch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::link::History;
use super::settle::{Identity, Lease};
use super::{Core, enclosed, names, provision};
use crate::{BusError, Delivery};

/// A request is forgotten by the broker after this.
const REQUEST_LIVES: Duration = Duration::from_secs(30);
/// The broker shows in this rhythm that it still knows the request.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where there are fewer hands than lanes, a hand waits at one of them for this long, then goes to the next.
const AT_ONE_LANE: Duration = Duration::from_millis(250);
/// The broker says that such a request is over within this time after it.
const OVER_LATEST: Duration = Duration::from_secs(1);

/// Wait after the first failed request; doubled up to the most.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MOST: Duration = Duration::from_secs(3);

/// The hands of one consumer, which the lanes of a queue share. One that waits at a lane cannot take from another: so each
/// lane has its part of them; or, where they are too few, they go round.
#[derive(Clone)]
pub(super) struct Hands {
    permits: Arc<Semaphore>,
    /// What one lane may take of them.
    share: usize,
    goes_round: bool,
}

impl Hands {
    pub(super) fn new(count: usize, lanes: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Hands {
            permits: Arc::new(Semaphore::new(count)),
            share: (count / lanes).max(1),
            goes_round: count < lanes,
        }
    }
}

/// Takes from one lane of a queue.
pub(super) struct Puller {
    core: Arc<Core>,
    queue: Queue,
    lane: usize,
    hands: Hands,
    /// One for each message still to come on the request under way, or to be asked for next.
    free: Vec<OwnedSemaphorePermit>,
    inbox: String,
    heard: Subscriber,
    history: watch::Receiver<History>,
    /// When the broker was last heard of, if a request is under way.
    asked: Option<Instant>,
    wait: Duration,
    /// Said once per outage.
    complained: bool,
}

/// What comes on an inbox.
enum Heard {
    Message(Message),
    /// The request is over; nothing more comes on it. With the reason if it is a failure.
    Over(Option<String>),
    /// There is no such consumer, or nobody who serves it.
    Missing,
    Heartbeat,
}

impl Puller {
    pub(super) async fn start(
        core: Arc<Core>,
        queue: Queue,
        lane: usize,
        hands: Hands,
    ) -> Result<Self, BusError> {
        let inbox = core.link.client.new_inbox();
        let heard = core.link.listen(inbox.clone()).await?;
        let history = core.link.history();
        Ok(Puller {
            queue,
            lane,
            hands,
            free: Vec::new(),
            inbox,
            heard,
            history,
            asked: None,
            wait: WAIT_FIRST,
            complained: false,
            core,
        })
    }

    /// The next delivery. Never `None` as long as the bus is there.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.asked.is_none() {
                self.ask().await;
            }
            let Some(heard) = self.hear().await else { continue };
            match heard {
                Heard::Message(message) => {
                    if let Some(delivery) = self.deliver(message).await {
                        return Some(delivery);
                    }
                }
                Heard::Heartbeat => {}
                Heard::Over(None) => {
                    self.asked = None;
                    self.let_others();
                }
                Heard::Over(Some(reason)) => self.fail(&reason).await,
                Heard::Missing => {
                    self.fail("there is no such queue, or no leader for it").await;
                    self.make_missing().await;
                }
            }
        }
    }

    /// Waits for the next sign of the broker. `None` when the request under way has to be made anew.
    async fn hear(&mut self) -> Option<Heard> {
        let forgotten = self.asked.unwrap_or_else(Instant::now) + self.silence();
        let message = tokio::select! {
            biased;
            message = self.heard.next() => message,
            changed = self.history.changed() => {
                // The broker forgets requests with their connection. What it sent before was read above, first.
                if changed.is_err() || self.history.borrow().is_connected {
                    self.asked = None;
                }
                return None;
            }
            () = tokio::time::sleep_until(forgotten) => {
                self.fail("it has forgotten a request, or is stuck").await;
                self.listen_anew().await;
                return None;
            }
        };
        let Some(message) = message else {
            self.fail("the connection is closed").await;
            self.listen_anew().await;
            return None;
        };
        self.asked = Some(Instant::now());
        let heard = Heard::of(message);
        if matches!(heard, Heard::Message(_) | Heard::Heartbeat | Heard::Over(None)) {
            self.wait = WAIT_FIRST;
            if std::mem::take(&mut self.complained) {
                tracing::info!(queue = %self.queue, "the queue is served again");
            }
        }
        Some(heard)
    }

    /// Asks for as many messages as there are hands free; waits until there is one.
    async fn ask(&mut self) {
        if self.free.is_empty()
            && let Ok(permit) = Arc::clone(&self.hands.permits).acquire_owned().await
        {
            self.free.push(permit);
        }
        while self.free.len() < self.hands.share
            && let Ok(permit) = Arc::clone(&self.hands.permits).try_acquire_owned()
        {
            self.free.push(permit);
        }
        // A request made without a connection would be sent with the next one, and doubled by the one made then.
        let _ = self.history.wait_for(|history| history.is_connected).await;
        let stream = names::stream(self.queue.name(), self.lane);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", names::consumer(self.queue));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let request = if self.hands.goes_round {
            serde_json::json!({ "batch": self.free.len(), "expires": nanos(AT_ONE_LANE) })
        } else {
            serde_json::json!({
                "batch": self.free.len(),
                "expires": nanos(REQUEST_LIVES),
                "idle_heartbeat": nanos(HEARTBEAT),
            })
        };
        let sent = self
            .core
            .link
            .client
            .publish_with_reply(subject, self.inbox.clone(), request.to_string().into())
            .await;
        match sent {
            Ok(()) => self.asked = Some(Instant::now()),
            Err(error) => self.fail(&error.to_string()).await,
        }
    }

    /// After how long without a word the broker has forgotten a request.
    fn silence(&self) -> Duration {
        if self.hands.goes_round { AT_ONE_LANE + OVER_LATEST } else { HEARTBEAT * 2 }
    }

    /// The hands that are free here go to the next lane.
    fn let_others(&mut self) {
        if self.hands.goes_round {
            self.free.clear();
        }
    }

    /// The request failed: says so once, and waits a moment.
    async fn fail(&mut self, reason: &str) {
        self.asked = None;
        self.let_others();
        if !self.complained {
            tracing::warn!(queue = %self.queue, lane = self.lane, reason, "the queue is not served; it will be tried again until it is");
            self.complained = true;
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MOST);
    }

    /// Somebody may have deleted it. In a cluster it is more likely that it has no leader for some seconds.
    async fn make_missing(&self) {
        if self.core.config.create
            && (!self.core.link.is_cluster || self.wait == WAIT_MOST)
            && let Err(error) = provision::make_all(&self.core.link, &self.core.config).await
        {
            tracing::debug!(queue = %self.queue, error = %error, "streams could not be made");
        }
    }

    /// Leaves the inbox, so that nothing more comes on requests of before, and opens another.
    async fn listen_anew(&mut self) {
        self.give_back_unread();
        self.inbox = self.core.link.client.new_inbox();
        if let Ok(heard) = self.core.link.client.subscribe(self.inbox.clone()).await {
            self.heard = heard;
        }
    }

    /// Makes a delivery of a message; `None` if it is none for a consumer.
    async fn deliver(&mut self, message: Message) -> Option<Delivery> {
        let permit = match self.free.pop() {
            Some(permit) => permit,
            // More came than was asked for, as can happen when the connection was lost in the middle.
            None => Arc::clone(&self.hands.permits).acquire_owned().await.ok()?,
        };
        if self.free.is_empty() {
            self.asked = None;
        }
        let message = jetstream::Message { message, context: jetstream::new(self.core.link.client.clone()) };
        let identity = match message.info() {
            Ok(info) => Identity {
                queue: self.queue,
                lane: self.lane,
                sequence: info.stream_sequence,
                published: info.published.unix_timestamp_nanos(),
                deliveries: u64::try_from(info.delivered).unwrap_or(1),
            },
            Err(error) => {
                tracing::error!(queue = %self.queue, error = %error, "something other than a message of the queue came");
                return None;
            }
        };
        let message = message.message;
        let (headers, payload) = (message.headers.clone().unwrap_or_default(), message.payload.clone());
        let Identity { sequence, published, deliveries, .. } = identity;
        let millis = i64::try_from(published / 1_000_000).ok();
        let enqueued_at = millis.and_then(|millis| Timestamp::from_millis(millis).ok());
        let lease = Lease::new(&self.core, identity, message, Some(permit));
        let (payload, enclosed) = enclosed::open(&headers, &payload).unwrap_or_else(|error| {
            // Nobody can read it: its consumer finds that out, too, and gives it up.
            tracing::error!(queue = %self.queue, message = sequence, error = %error, "a message cannot be opened");
            (payload, Vec::new())
        });
        let mut delivery = Delivery::new(
            self.queue,
            payload,
            deliveries,
            enqueued_at.unwrap_or_else(Timestamp::now),
            self.core.config.retry.clone(),
            Box::new(lease),
        );
        delivery.enclosed = enclosed;
        delivery.reply_to = text(&headers, names::REPLY_TO);
        delivery.trace_parent = text(&headers, names::TRACE_PARENT);
        Some(delivery)
    }

    /// Gives back what has come but was not looked at, rather than let others wait for it.
    fn give_back_unread(&mut self) {
        while let Some(Some(message)) = self.heard.next().now_or_never() {
            if let Heard::Message(message) = Heard::of(message) {
                // Nothing is counted, so that what tells it from others does not matter.
                let identity =
                    Identity { queue: self.queue, lane: self.lane, sequence: 0, published: 0, deliveries: 0 };
                drop(Lease::new(&self.core, identity, message, None));
            }
        }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.give_back_unread();
    }
}

impl Heard {
    fn of(message: Message) -> Self {
        let Some(status) = message.status else { return Heard::Message(message) };
        match status {
            StatusCode::IDLE_HEARTBEAT => Heard::Heartbeat,
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Heard::Over(None),
            StatusCode::NO_RESPONDERS => Heard::Missing,
            _ => Heard::Over(Some(message.description.unwrap_or_else(|| status.to_string()))),
        }
    }
}

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}
