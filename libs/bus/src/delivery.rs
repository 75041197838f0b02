//! One delivery of a message, which its consumer must settle.
//!
//! A delivery is not an attempt. An attempt starts with [`Delivery::begin`], which counts it durably before
//! the work starts. A message that kills its consumers is thereby detected. An attempt stops counting if the
//! consumer defers it because the infrastructure failed. A delivery that was lost on the network, or
//! prefetched and given back, never counts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto_json::{Queue, QueueMessage, Timestamp};

use crate::{BusError, RetryPolicy, StagedFile, StagingKey};

/// First and longest wait between two tries to settle a delivery.
const SETTLE_MIN_WAIT: Duration = Duration::from_millis(100);
const SETTLE_MAX_WAIT: Duration = Duration::from_secs(2);

/// The adapter's side of a delivery. Dropping it unsettled gives the message back at once. All calls can be
/// repeated.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Counts an attempt and returns its number, from 1. The count is durable, except on the first delivery.
    async fn begin(&self) -> Result<u64, BusError>;
    /// Removes the message from its queue and waits for the confirmation.
    async fn ack(&self) -> Result<(), BusError>;
    /// Gives the message back for redelivery after `wait`. The attempt counts as failed.
    async fn retry_after(&self, wait: Duration) -> Result<(), BusError>;
    /// Gives the message back for redelivery after `wait`. The attempt does not count.
    async fn defer(&self, wait: Duration) -> Result<(), BusError>;
    /// Reports progress, so that the delivery does not count as lost.
    async fn in_progress(&self) -> Result<(), BusError>;
    /// Moves the message to the dead letters.
    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError>;
    /// See [`Delivery::open`].
    async fn open(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError>;
    /// See [`Delivery::remove`].
    async fn remove(&self, key: StagingKey) -> Result<(), BusError>;
}

/// One delivery of a message. Start the work with [`Delivery::begin`]; settle it with [`Delivery::ack`],
/// [`Delivery::fail`], [`Delivery::defer`] or [`Delivery::dead_letter`]. Dropping an unsettled delivery gives
/// the message back. A consumer that panics or is cancelled delays the work but does not lose it.
///
/// While the broker fails, settling is repeated: finished work should not be done again, and a deferred
/// attempt must not count. A deferral is repeated until it succeeds. Other calls are repeated for twice the
/// ack wait; after that the broker redelivers the message anyway.
pub struct Delivery {
    /// The queue.
    pub queue: Queue,
    /// JSON.
    pub payload: Bytes,
    /// Address of the reply inbox for the receipt.
    pub reply_to: Option<String>,
    /// W3C `traceparent` of the request that the message belongs to.
    pub trace_parent: Option<String>,
    /// Number of deliveries of the message, including this one.
    pub deliveries: u64,
    /// Number of this attempt, from 1, not counting deferred ones. 0 before [`Delivery::begin`].
    pub attempt: u64,
    /// When the message was enqueued.
    pub enqueued_at: Timestamp,
    policy: RetryPolicy,
    acker: Box<dyn Acker>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payload identifies a patient.
        f.debug_struct("Delivery")
            .field("queue", &self.queue)
            .field("deliveries", &self.deliveries)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// For adapters: creates a delivery of `payload`.
    #[must_use]
    pub fn new(
        queue: Queue,
        payload: Bytes,
        deliveries: u64,
        enqueued_at: Timestamp,
        policy: RetryPolicy,
        acker: Box<dyn Acker>,
    ) -> Self {
        Delivery {
            queue,
            payload,
            reply_to: None,
            trace_parent: None,
            deliveries,
            attempt: 0,
            enqueued_at,
            policy,
            acker,
        }
    }

    /// Parses the message.
    ///
    /// # Errors
    /// If the payload does not have this type.
    pub fn message<M: QueueMessage>(&self) -> Result<M, BusError> {
        serde_json::from_slice(&self.payload).map_err(BusError::encoding)
    }

    /// Opens a file that the message refers to: an attachment, or a file in the staging store. `None` if it
    /// does not exist.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub async fn open(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        self.acker.open(key).await
    }

    /// Removes a file that the message refers to and that no other message refers to. The file may still be readable
    /// until the message is settled.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub async fn remove(&self, key: StagingKey) -> Result<(), BusError> {
        self.acker.remove(key).await
    }

    /// Counts the attempt. Call it before the work starts. From here on the attempt counts against the limit
    /// of the policy, even if the process dies, unless it is deferred. The count of a first delivery is not
    /// durable, for speed. A message can therefore kill one more consumer than the policy allows.
    ///
    /// # Errors
    /// If the broker fails; the attempt may or may not be counted. Defer the delivery then.
    pub async fn begin(&mut self) -> Result<(), BusError> {
        self.attempt = self.acker.begin().await?;
        Ok(())
    }

    /// The work is done: removes the message and waits for the confirmation.
    ///
    /// # Errors
    /// If the broker refused; the message may then be delivered again.
    pub async fn ack(self) -> Result<(), BusError> {
        self.until_settled(self.settle_timeout(), || self.acker.ack()).await
    }

    /// The work failed: gives the message back for a retry, or dead-letters it if no attempt is left. Returns
    /// whether it became a dead letter.
    ///
    /// # Errors
    /// If the broker refused; the message may then be delivered again.
    pub async fn fail(self, reason: &str) -> Result<bool, BusError> {
        if self.attempt >= self.policy.max_attempts {
            self.dead_letter(reason).await?;
            return Ok(true);
        }
        let wait = self.policy.wait_after(self.attempt);
        self.until_settled(self.settle_timeout(), || self.acker.retry_after(wait)).await?;
        Ok(false)
    }

    /// The infrastructure failed: gives the message back for redelivery. The wait grows with the number of
    /// deliveries, up to 15 s. The attempt does not count.
    ///
    /// # Errors
    /// If the broker refused; the message may then be delivered again, and the attempt may count.
    pub async fn defer(self) -> Result<(), BusError> {
        let wait = self.policy.deferral_after(self.deliveries);
        self.until_settled(Duration::MAX, || self.acker.defer(wait)).await
    }

    /// The work can never succeed: dead-letters the message. If the dead letters are full, the message is
    /// deferred.
    ///
    /// # Errors
    /// If the message was not moved; it is then delivered again.
    pub async fn dead_letter(self, reason: &str) -> Result<(), BusError> {
        // An attempt beyond the maximum did no work, so it is not reported.
        let attempts = self.attempt.min(self.policy.max_attempts);
        if let Err(error) = self.while_working(self.acker.dead_letter(reason, attempts)).await {
            self.defer().await?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether more attempts were started than the policy allows: earlier consumers died during their
    /// attempts.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.attempt > self.policy.max_attempts
    }

    /// Whether this is the last attempt that the policy allows.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.policy.max_attempts
    }

    /// Runs `work` and reports progress every third of the ack wait. A broker that does not answer does not
    /// delay the work.
    pub async fn while_working<T>(&self, work: impl Future<Output = T>) -> T {
        let progress = async {
            let period = self.policy.ack_wait / 3;
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = self.acker.in_progress().await {
                    tracing::warn!(queue = %self.queue, error = %error, "progress could not be reported");
                }
            }
        };
        tokio::select! {
            done = work => done,
            never = progress => never,
        }
    }

    /// How long `ack` and `fail` are repeated while the broker fails.
    fn settle_timeout(&self) -> Duration {
        self.policy.ack_wait * 2
    }

    /// Repeats `settle` for as long as `limit` while the broker fails.
    async fn until_settled<F>(&self, limit: Duration, settle: impl Fn() -> F) -> Result<(), BusError>
    where
        F: Future<Output = Result<(), BusError>>,
    {
        let started = tokio::time::Instant::now();
        let settling = async {
            let mut wait = SETTLE_MIN_WAIT;
            loop {
                match settle().await {
                    Err(error) if error.is_outage() && started.elapsed() < limit => {
                        tracing::debug!(queue = %self.queue, error = %error, "delivery not settled yet");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(SETTLE_MAX_WAIT);
                    }
                    settled => return settled,
                }
            }
        };
        self.while_working(settling).await
    }
}
