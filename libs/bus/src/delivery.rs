//! One delivery of a message, which somebody must settle.

use async_trait::async_trait;
use bytes::Bytes;
use proto_json::{Queue, QueueMessage, Timestamp};

use crate::{BusError, RetryPolicy, SmallFile, StageKey};

/// How an adapter settles a delivery.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Removes the message from its queue, and waits until the broker has done so.
    async fn ack(&self) -> Result<(), BusError>;
    /// Gives the message back, to be delivered again after `wait`.
    async fn retry_after(&self, wait: std::time::Duration) -> Result<(), BusError>;
    /// Tells that work goes on, so that the delivery does not count as lost.
    async fn in_progress(&self) -> Result<(), BusError>;
    /// Moves the message to the dead letters.
    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError>;
    /// Gives the message back at once, without waiting; called when a delivery is dropped.
    fn abandon(&self);
}

/// One delivery of a message. Settle it with [`Delivery::ack`], [`Delivery::fail`] or [`Delivery::dead_letter`]; one that
/// is dropped gives itself back, so that a panicking or cancelled consumer delays the work, but never loses it.
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
    /// How often it has been delivered, this time included.
    pub attempt: u64,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    policy: RetryPolicy,
    settle: Option<Box<dyn Settle>>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the payload: it names a patient.
        f.debug_struct("Delivery")
            .field("queue", &self.queue)
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
        attempt: u64,
        enqueued_at: Timestamp,
        policy: RetryPolicy,
        settle: Box<dyn Settle>,
    ) -> Self {
        Delivery {
            queue,
            payload,
            enclosed: Vec::new(),
            reply_to: None,
            trace_parent: None,
            attempt,
            enqueued_at,
            policy,
            settle: Some(settle),
        }
    }

    /// The file that came inside of the message under this name.
    #[must_use]
    pub fn enclosed(&self, key: StageKey) -> Option<&SmallFile> {
        self.enclosed.iter().find(|file| file.key() == key)
    }

    /// The message.
    ///
    /// # Errors
    /// When the payload is not of this type.
    pub fn message<M: QueueMessage>(&self) -> Result<M, BusError> {
        serde_json::from_slice(&self.payload).map_err(BusError::encoding)
    }

    /// The work is done: removes the message and waits until the broker has done so.
    ///
    /// # Errors
    /// When the broker did not confirm; the message may then be delivered again.
    pub async fn ack(mut self) -> Result<(), BusError> {
        match self.settle.take() {
            Some(settle) => settle.ack().await,
            None => Ok(()),
        }
    }

    /// The work failed: tries again after the wait of the policy, or makes it a dead letter when the attempts are used
    /// up. Returns whether it became a dead letter.
    ///
    /// # Errors
    /// When the broker did not confirm; the message may then be delivered again.
    pub async fn fail(mut self, reason: &str) -> Result<bool, BusError> {
        let Some(settle) = self.settle.take() else { return Ok(false) };
        if self.attempt >= self.policy.max_attempts {
            settle.dead_letter(reason, self.attempt).await?;
            Ok(true)
        } else {
            settle.retry_after(self.policy.wait_after(self.attempt)).await?;
            Ok(false)
        }
    }

    /// The work can never be done: moves the message to the dead letters at once.
    ///
    /// # Errors
    /// When the broker did not confirm; the message may then be delivered again.
    pub async fn dead_letter(mut self, reason: &str) -> Result<(), BusError> {
        match self.settle.take() {
            Some(settle) => settle.dead_letter(reason, self.attempt).await,
            None => Ok(()),
        }
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

    /// Does `work` while telling the broker, at a third of the time after which a delivery counts as lost, that it goes on.
    pub async fn while_working<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let period = self.policy.ack_wait / 3;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => {
                    if let Some(settle) = &self.settle
                        && let Err(error) = settle.in_progress().await
                    {
                        tracing::warn!(queue = %self.queue, error = %error, "could not report progress");
                    }
                }
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.abandon();
        }
    }
}
