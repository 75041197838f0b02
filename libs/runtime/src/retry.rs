//! When work that failed is tried again.

use std::num::NonZeroU64;
use std::time::Duration;

use bus::RetryPolicy;

use crate::parse_duration;

/// When work that failed is tried again. Outages are not failures of a message: they are waited for without end.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Retries")]
pub struct RetryArgs {
    /// Attempts at a message that may fail before it becomes a dead letter; outages of store, broker or disk do not count
    #[arg(
        long,
        env = "BEDSIDE_MAX_ATTEMPTS",
        value_name = "NUMBER",
        default_value_t = NonZeroU64::new(RetryPolicy::default().max_attempts).unwrap_or(NonZeroU64::MIN)
    )]
    pub max_attempts: NonZeroU64,
    /// Waits after the first, second, … attempt at a message; the last one goes for all further ones [default:
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
    /// The policy, with the other settings as they are by default.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        let mut policy = RetryPolicy { max_attempts: self.max_attempts.get(), ..RetryPolicy::default() };
        if !self.retry_waits.is_empty() {
            policy.backoff.clone_from(&self.retry_waits);
        }
        policy
    }
}
