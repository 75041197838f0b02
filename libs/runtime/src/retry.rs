//! Settings of message retries.

use std::num::NonZeroU64;
use std::time::Duration;

use bus::RetryPolicy;
use humantime::parse_duration;

/// Settings of message retries. They apply to failures of a message; outages of a dependency are retried
/// without limit.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Retries")]
pub struct RetryArgs {
    /// Maximum number of attempts before a failing message is dead-lettered; outages of store, broker or disk
    /// do not count
    #[arg(
        long,
        env = "BEDSIDE_MAX_ATTEMPTS",
        value_name = "NUMBER",
        default_value_t = NonZeroU64::new(RetryPolicy::default().max_attempts).unwrap_or(NonZeroU64::MIN)
    )]
    pub max_attempts: NonZeroU64,
    /// Delays after the first, second, … attempt; the last one applies to all further attempts [default:
    /// 200ms,1s,5s,15s,30s,60s]
    #[arg(
        long,
        env = "BEDSIDE_RETRY_WAITS",
        value_name = "TIMES",
        value_delimiter = ',',
        value_parser = parse_duration
    )]
    pub retry_waits: Vec<Duration>,
}

impl RetryArgs {
    /// Returns the retry policy. Fields without a setting have their default.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        let mut policy = RetryPolicy { max_attempts: self.max_attempts.get(), ..RetryPolicy::default() };
        if !self.retry_waits.is_empty() {
            policy.backoff.clone_from(&self.retry_waits);
        }
        policy
    }
}
