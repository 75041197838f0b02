//! Retry policy and limits of the queues.

use std::time::Duration;

/// When failed work is retried, and when a message becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failed attempts after which a message becomes a dead letter. Deferred attempts do not count.
    pub max_attempts: u64,
    /// Wait after the first, second, … attempt; the last entry applies to all further attempts.
    pub backoff: Vec<Duration>,
    /// Time after which a delivery counts as lost, unless its consumer reports progress.
    pub ack_wait: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts over about five minutes; a delivery counts as lost after 30 s.
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 10,
            backoff: [200, 1_000, 5_000, 15_000, 30_000, 60_000].map(Duration::from_millis).to_vec(),
            ack_wait: Duration::from_secs(30),
        }
    }
}

/// Longest wait before a deferred message is delivered again. It bounds the delay after an outage.
const MAX_DEFERRAL: Duration = Duration::from_secs(15);

impl RetryPolicy {
    /// Wait after a deferral of a message that was delivered this often.
    #[must_use]
    pub fn deferral_after(&self, deliveries: u64) -> Duration {
        self.wait_after(deliveries).min(MAX_DEFERRAL)
    }

    /// Wait after a failed attempt, counted from 1.
    #[must_use]
    pub fn wait_after(&self, attempt: u64) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.backoff.get(index).or(self.backoff.last()).copied().unwrap_or_default()
    }
}

/// Limits of the queues. What exceeds them is refused with [`EnqueueError::Full`](crate::EnqueueError::Full).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages in each queue.
    pub max_messages: u64,
    /// Bytes of staged files and attachments together.
    pub max_staged_bytes: u64,
    /// Bytes of the log of live waveforms.
    pub max_wave_bytes: u64,
}

impl Default for QueueLimits {
    /// 100,000 messages, 20 GB, and 2 GB for waveforms: 15 minutes of 800 patients with one lead.
    fn default() -> Self {
        QueueLimits { max_messages: 100_000, max_staged_bytes: 20_000_000_000, max_wave_bytes: 2_000_000_000 }
    }
}
