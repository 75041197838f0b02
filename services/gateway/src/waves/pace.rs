//! Limits how fast one connection is read, so that a device that floods does not take the processors and the broker from
//! others. What it sends faster stays in the buffers of its connection, until TCP stops it.

use std::time::Duration;

use tokio::time::Instant;

/// A connection is read at this multiple of real time. Devices send faster than real time after an outage, and in
/// replays.
const SPEED: u32 = 64;
/// Each message counts as at least this much, whatever it contains: the shortest frame.
const SHORTEST: Duration = Duration::from_millis(100);
/// Signal that is read without a limit.
const BURST: Duration = Duration::from_secs(64);

/// How far a connection is ahead of its limit.
#[derive(Debug)]
pub(super) struct Pace {
    /// Everything that was read is paid for at this time.
    paid_at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { paid_at: Instant::now() }
    }

    /// Counts a message that contains a signal of this length.
    pub(super) fn count(&mut self, length: Duration) {
        self.paid_at = self.paid_at.max(Instant::now()) + length.max(SHORTEST) / SPEED;
    }

    /// Returns when the next message may be read; `None` if it may be read now.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        let next = self.paid_at.checked_sub(BURST / SPEED)?;
        (next > Instant::now()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_passes_and_then_the_pace_applies() {
        let mut pace = Pace::new();
        let started = Instant::now();
        let mut messages = 0;
        while started.elapsed() < Duration::from_secs(10) {
            match pace.wait_until() {
                Some(next) => tokio::time::sleep_until(next).await,
                None => {
                    pace.count(Duration::from_millis(200));
                    messages += 1;
                }
            }
        }
        // 64 s of burst and 10 s at 64 times real time, in messages of 200 ms.
        assert!((3_500..=3_550).contains(&messages), "{messages}");
        let mut tiny = Pace::new();
        (0..641).for_each(|_| tiny.count(Duration::ZERO));
        assert!(tiny.wait_until().is_some(), "messages without a signal count as well");
    }
}
