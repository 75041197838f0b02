//! Time that a program had, on a machine that may stand still.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often the clock looks whether it runs.
const TICK: Duration = Duration::from_millis(20);
/// A tick that is no later than this is that of a busy machine, and counts: only one that stood still does not.
const BUSY: Duration = Duration::from_millis(250);

/// Measures time without that in which threads of this process got no processor at all: a promise such as "shows within 2 s" is
/// about the program, not about a shared machine that stops for a second.
#[derive(Debug)]
pub struct Clock {
    begun: Instant,
    ticks: Arc<Mutex<Ticks>>,
}

#[derive(Debug)]
struct Ticks {
    last: Instant,
    stalled: Duration,
}

impl Ticks {
    /// By how much a tick at `now` is late.
    fn lateness(&self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.last).saturating_sub(TICK);
        if late > BUSY { late } else { Duration::ZERO }
    }
}

impl Clock {
    /// Starts one, on a thread that ends soon after it.
    #[must_use]
    pub fn start() -> Self {
        let begun = Instant::now();
        let ticks = Arc::new(Mutex::new(Ticks { last: begun, stalled: Duration::ZERO }));
        let watched = Arc::downgrade(&ticks);
        std::thread::spawn(move || tick(&watched));
        Clock { begun, ticks }
    }

    /// Since the start, less what the machine stood still.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let ticks = held(&self.ticks);
        let now = Instant::now();
        now.saturating_duration_since(self.begun).saturating_sub(ticks.stalled + ticks.lateness(now))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::start()
    }
}

fn tick(ticks: &Weak<Mutex<Ticks>>) {
    while let Some(ticks) = ticks.upgrade() {
        {
            let mut ticks = held(&ticks);
            let now = Instant::now();
            let late = ticks.lateness(now);
            ticks.stalled += late;
            ticks.last = now;
        }
        drop(ticks);
        std::thread::sleep(TICK);
    }
}

fn held(ticks: &Mutex<Ticks>) -> MutexGuard<'_, Ticks> {
    ticks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_does_not_count_and_what_is_in_time_does() {
        let begun = Instant::now();
        let ticks = Ticks { last: begun, stalled: Duration::ZERO };
        let late_at = |millis| ticks.lateness(begun + Duration::from_millis(millis));
        assert_eq!([10, 20, 40, 270].map(late_at), [Duration::ZERO; 4]);
        assert_eq!(late_at(1_020), Duration::from_secs(1));
    }

    #[test]
    fn a_clock_stands_while_its_thread_does() {
        let clock = Clock::start();
        let before = clock.elapsed();
        let ticks = held(&clock.ticks);
        std::thread::sleep(Duration::from_secs(1));
        drop(ticks);
        let standing = clock.elapsed().saturating_sub(before);
        assert!(standing < Duration::from_millis(500), "{standing:?}");
    }
}
