//! One delivery of a message, which its consumer must settle.
//!
//! A delivery is not an attempt. An attempt begins with [`Delivery::begin`], which counts it durably before the work
//! starts, so that a message that kills its consumers is found out. It stops counting when the consumer defers it because
//! the infrastructure failed. A delivery that was lost on its way, or that was fetched ahead and given back, never counts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto_json::{Queue, QueueMessage, Timestamp};

use crate::{BusError, RetryPolicy, SmallFile, StagingKey};

/// First and longest wait before a broker that failed is told again how a delivery ended.
const SETTLE_FIRST: Duration = Duration::from_millis(100);
const SETTLE_MOST: Duration = Duration::from_secs(2);

/// How an adapter settles a delivery. Dropped unsettled, it gives the message back at once.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Counts an attempt, durably unless it is the first delivery, and returns its number, from 1.
    async fn begin(&self) -> Result<u64, BusError>;
    /// Removes the message from its queue, and waits until the broker has done so. Can be repeated.
    async fn ack(&self) -> Result<(), BusError>;
    /// Gives the message back, to be delivered again after `wait`; the attempt counts as failed. Can be repeated.
    async fn retry_after(&self, wait: Duration) -> Result<(), BusError>;
    /// Gives the message back, to be delivered again after `wait`; the attempt, if one has begun, does not count. Can be
    /// repeated.
    async fn defer(&self, wait: Duration) -> Result<(), BusError>;
    /// Tells that work goes on, so that the delivery does not count as lost.
    async fn in_progress(&self) -> Result<(), BusError>;
    /// Moves the message to the dead letters. Can be repeated.
    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError>;
}

/// One delivery of a message. Begin it with [`Delivery::begin`]; settle it with [`Delivery::ack`], [`Delivery::fail`],
/// [`Delivery::defer`] or [`Delivery::dead_letter`]. One that is dropped gives itself back, so that a panicking or
/// cancelled consumer delays the work, but never loses it.
///
/// While the broker fails, settling is repeated: work that is done should not be done again, and an attempt that was
/// deferred must not count, because the broker was away. A deferral is repeated until it succeeds; an end of the work for
/// twice the time after which the delivery counts as lost, because the message then comes again anyway.
pub struct Delivery {
    /// The queue.
    pub queue: Queue,
    /// JSON.
    pub payload: Bytes,
    /// Files that came inside of the message, and leave with it. They need not be on the stage.
    pub enclosed: Vec<SmallFile>,
    /// Where the receipt goes.
    pub reply_to: Option<String>,
    /// W3C `traceparent` of the request it belongs to.
    pub trace_parent: Option<String>,
    /// How often the message was delivered, this time included.
    pub deliveries: u64,
    /// Number of this attempt, from 1, deferred ones not counted. 0 until it has begun.
    pub attempt: u64,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    policy: RetryPolicy,
    settle: Box<dyn Acker>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the payload: it names a patient.
        f.debug_struct("Delivery")
            .field("queue", &self.queue)
            .field("deliveries", &self.deliveries)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// For adapters: a delivery of `payload` that `settle` settles.
    #[must_use]
    pub fn new(
        queue: Queue,
        payload: Bytes,
        deliveries: u64,
        enqueued_at: Timestamp,
        policy: RetryPolicy,
        settle: Box<dyn Acker>,
    ) -> Self {
        Delivery {
            queue,
            payload,
            enclosed: Vec::new(),
            reply_to: None,
            trace_parent: None,
            deliveries,
            attempt: 0,
            enqueued_at,
            policy,
            settle,
        }
    }

    /// The file that came inside of the message under this name.
    #[must_use]
    pub fn enclosed(&self, key: StagingKey) -> Option<&SmallFile> {
        self.enclosed.iter().find(|file| file.key() == key)
    }

    /// The message.
    ///
    /// # Errors
    /// When the payload is not of this type.
    pub fn message<M: QueueMessage>(&self) -> Result<M, BusError> {
        serde_json::from_slice(&self.payload).map_err(BusError::encoding)
    }

    /// Counts the attempt, before the work begins. From here on the attempt counts against the limit of the policy, unless
    /// it is deferred: also when the process dies. A first delivery is not counted durably, for speed; so a message may kill
    /// one more consumer than the policy says.
    ///
    /// # Errors
    /// When the broker fails; the attempt may or may not be counted. Defer the delivery then.
    pub async fn begin(&mut self) -> Result<(), BusError> {
        self.attempt = self.settle.begin().await?;
        Ok(())
    }

    /// The work is done: removes the message and waits until the broker has done so.
    ///
    /// # Errors
    /// When the broker refused; the message may then be delivered again.
    pub async fn ack(self) -> Result<(), BusError> {
        self.until_settled(self.grace(), || self.settle.ack()).await
    }

    /// The work failed: tries again after the wait of the policy, or makes it a dead letter when the attempts are used
    /// up. Returns whether it became a dead letter.
    ///
    /// # Errors
    /// When the broker refused; the message may then be delivered again.
    pub async fn fail(self, reason: &str) -> Result<bool, BusError> {
        if self.attempt >= self.policy.max_attempts {
            self.dead_letter(reason).await?;
            return Ok(true);
        }
        let wait = self.policy.wait_after(self.attempt);
        self.until_settled(self.grace(), || self.settle.retry_after(wait)).await?;
        Ok(false)
    }

    /// The infrastructure failed, so that the work could not be done: gives the message back, to be delivered again after a
    /// wait that grows with the number of deliveries up to 15 s. The attempt does not count, however often this happens.
    ///
    /// # Errors
    /// When the broker refused; the message may then be delivered again, and the attempt may count.
    pub async fn defer(self) -> Result<(), BusError> {
        let wait = self.policy.deferral_after(self.deliveries);
        self.until_settled(Duration::MAX, || self.settle.defer(wait)).await
    }

    /// The work can never be done: moves the message to the dead letters at once. If they take no more, the message is
    /// deferred: it comes again until there is room.
    ///
    /// # Errors
    /// When it was not moved; the message is then delivered again.
    pub async fn dead_letter(self, reason: &str) -> Result<(), BusError> {
        // The attempts that were made: one that only found out that none is left is none.
        let attempts = self.attempt.min(self.policy.max_attempts);
        if let Err(error) = self.while_working(self.settle.dead_letter(reason, attempts)).await {
            self.defer().await?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether more attempts were started than the policy allows: the consumers before this one died over it.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.attempt > self.policy.max_attempts
    }

    /// Whether this is the last attempt that the policy allows.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.policy.max_attempts
    }

    /// Does `work` while telling the broker, at a third of the time after which a delivery counts as lost, that it goes
    /// on. A broker that does not answer does not hold up the work.
    pub async fn while_working<T>(&self, work: impl Future<Output = T>) -> T {
        let progress = async {
            let period = self.policy.ack_wait / 3;
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = self.settle.in_progress().await {
                    tracing::warn!(queue = %self.queue, error = %error, "could not report progress");
                }
            }
        };
        tokio::select! {
            done = work => done,
            never = progress => never,
        }
    }

    /// How long the end of the work is repeated while the broker fails.
    fn grace(&self) -> Duration {
        self.policy.ack_wait * 2
    }

    /// Settles, again and again for as long as `limit` while the broker fails.
    async fn until_settled<F>(&self, limit: Duration, settle: impl Fn() -> F) -> Result<(), BusError>
    where
        F: Future<Output = Result<(), BusError>>,
    {
        let begun = tokio::time::Instant::now();
        let settling = async {
            let mut wait = SETTLE_FIRST;
            loop {
                match settle().await {
                    Err(error) if error.is_outage() && begun.elapsed() < limit => {
                        tracing::debug!(queue = %self.queue, error = %error, "a delivery is not settled yet");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(SETTLE_MOST);
                    }
                    settled => return settled,
                }
            }
        };
        self.while_working(settling).await
    }
}
