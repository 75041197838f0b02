//! Waits between attempts to subscribe again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

const MIN_DELAY: Duration = Duration::from_millis(40);
/// Jitter can double this delay. Missed updates must be shown within 2 s after the gateway is back.
const MAX_DELAY: Duration = Duration::from_millis(400);

/// Waits that double, with jitter, so that feeds do not all reconnect at the same time.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY);
        Backoff(builder.without_max_times().with_jitter().build())
    }

    /// Starts again with the shortest wait.
    pub(crate) fn reset(&mut self) {
        *self = Backoff::new();
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] <= MIN_DELAY * 2 && waits[19] >= MAX_DELAY, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= MAX_DELAY * 2), "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= MIN_DELAY * 2);
    }
}
