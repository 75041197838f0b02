//! Waits between attempts to get push back.

use std::time::Duration;

/// The longest wait: after the gateway's return, what was missed must show within 2 s.
const LONGEST: Duration = Duration::from_millis(800);
const FIRST: Duration = Duration::from_millis(50);

/// Waits that double, a little different for each feed so that they do not all come at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { next: FIRST }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait: from three quarters of the nominal one up to all of it.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        let random = (uuid::Uuid::now_v7().as_u128() & 0xff) as u32;
        wait * 3 / 4 + wait * random / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] <= FIRST && waits[19] > LONGEST / 2);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
