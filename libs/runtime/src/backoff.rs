//! Exponential backoff with the `backon` crate.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Returns delays that start at `first` and double up to `max`, without a limit on the number of attempts.
#[must_use]
pub fn exponential_backoff(first: Duration, max: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new().with_factor(2.0).with_min_delay(first).with_max_delay(max).without_max_times()
}

/// Delays for a loop that must start over after a success. For a single operation, use [`backon::Retryable`]
/// with [`exponential_backoff`].
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        let builder = exponential_backoff(first, max);
        Backoff { builder, delays: builder.build(), max }
    }

    /// Returns the next delay.
    pub fn next_wait(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.max)
    }

    /// Restarts at the first delay.
    pub fn reset(&mut self) {
        self.delays = self.builder.build();
    }

    /// Sleeps for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_restart_after_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let waits: Vec<u128> = (0..4).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next_wait().as_millis(), 100);
    }
}
