//! A stopwatch that excludes time in which the machine was stalled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Interval at which the clock checks that its thread runs.
const TICK: Duration = Duration::from_millis(20);
/// A tick with at most this lateness counts as time on a busy machine; a later one counts as a stall.
const BUSY: Duration = Duration::from_millis(250);

/// Measures time, without the time in which threads of this process got no processor. A limit such as "within 2 s" is about the
/// program, not about a shared machine that stalls for a second.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    ticks: Arc<Mutex<Ticks>>,
}

#[derive(Debug)]
struct Ticks {
    last: Instant,
    stalled: Duration,
}

impl Ticks {
    /// Lateness of a tick at `now`, if it is a stall.
    fn lateness(&self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.last).saturating_sub(TICK);
        if late > BUSY { late } else { Duration::ZERO }
    }
}

impl Clock {
    /// Starts a clock. Its thread ends soon after the clock is dropped.
    #[must_use]
    pub fn start() -> Self {
        let started = Instant::now();
        let ticks = Arc::new(Mutex::new(Ticks { last: started, stalled: Duration::ZERO }));
        let watched = Arc::downgrade(&ticks);
        std::thread::spawn(move || tick(&watched));
        Clock { started, ticks }
    }

    /// Time since the start, without stalls.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let ticks = lock(&self.ticks);
        let now = Instant::now();
        now.saturating_duration_since(self.started).saturating_sub(ticks.stalled + ticks.lateness(now))
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
            let mut ticks = lock(&ticks);
            let now = Instant::now();
            let late = ticks.lateness(now);
            ticks.stalled += late;
            ticks.last = now;
        }
        drop(ticks);
        std::thread::sleep(TICK);
    }
}

fn lock(ticks: &Mutex<Ticks>) -> MutexGuard<'_, Ticks> {
    ticks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_late_ticks_are_stalls() {
        let started = Instant::now();
        let ticks = Ticks { last: started, stalled: Duration::ZERO };
        let late_at = |millis| ticks.lateness(started + Duration::from_millis(millis));
        assert_eq!([10, 20, 40, 270].map(late_at), [Duration::ZERO; 4]);
        assert_eq!(late_at(1_020), Duration::from_secs(1));
    }

    #[test]
    fn elapsed_time_excludes_stalls_of_the_thread() {
        let clock = Clock::start();
        let before = clock.elapsed();
        let ticks = lock(&clock.ticks);
        std::thread::sleep(Duration::from_secs(1));
        drop(ticks);
        let counted = clock.elapsed().saturating_sub(before);
        assert!(counted < Duration::from_millis(500), "{counted:?}");
    }
}
