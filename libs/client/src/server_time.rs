//! Estimates the clock of the server from its messages and the monotonic clock of this computer.
//!
//! The age of a value is the difference of two times of the server's clock. The wall clock of this computer may be wrong or
//! be set while the program runs. It is used only to report the difference between the clocks, and to detect that the
//! computer was suspended, which the monotonic clock does not count.
//!
//! Invariant: values never look younger than they are. If the server's clock is set back, this can be violated for
//! [`WINDOW_S`] seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use proto_json::{CLOCK_TOLERANCE_MS, Timestamp};

/// Seconds for which the least delayed message determines the estimate. A server clock that is set back is followed after
/// this time.
const WINDOW_S: u64 = 10;

/// An estimate of the server's clock. Clones share it.
#[derive(Debug, Clone)]
pub struct ServerTime(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Instant,
    state: Mutex<State>,
}

/// A point in time on this computer.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Time since the origin by the monotonic clock.
    monotonic: Duration,
    wall: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    /// For each of the last seconds with a message, the largest offset: milliseconds of the server's clock minus milliseconds
    /// of the monotonic clock. A message never arrives early, so that the largest offset has the least delay.
    offsets: VecDeque<(u64, i64)>,
    /// When the last message arrived.
    last: Option<Moment>,
    problem: Option<Arc<str>>,
}

impl Default for ServerTime {
    fn default() -> Self {
        ServerTime(Arc::new(Shared { origin: Instant::now(), state: Mutex::default() }))
    }
}

impl ServerTime {
    /// Current time by the server's clock; `None` before the first message.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.state().now(self.moment())
    }

    /// Milliseconds by which the server's clock is ahead of the clock of this computer; negative if it is behind. `None` before
    /// the first message.
    #[must_use]
    pub fn ahead_of_computer_ms(&self) -> Option<i64> {
        let moment = self.moment();
        Some(self.state().now(moment)?.millis_since(moment.wall))
    }

    /// What is wrong with the server's clock according to the server, in one sentence.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<str>> {
        self.state().problem.clone()
    }

    /// Takes the time of a received message: the server's clock when it sent the message.
    pub(crate) fn received(&self, time: Timestamp) {
        let moment = self.moment();
        self.state().received(time, moment);
    }

    /// Takes the time of a received message that also states what is wrong with the server's clock.
    pub(crate) fn received_with_problem(&self, time: Timestamp, problem: Option<&str>) {
        let moment = self.moment();
        let mut state = self.state();
        state.received(time, moment);
        state.problem = problem.map(Arc::from);
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: self.0.origin.elapsed(), wall: Timestamp::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl State {
    fn received(&mut self, time: Timestamp, at: Moment) {
        if self.suspended_ms(at) > 0 {
            // Offsets from before the suspension do not apply.
            self.offsets.clear();
        }
        let second = at.monotonic.as_secs();
        let offset = time.as_millis() - millis(at.monotonic);
        while self.offsets.front().is_some_and(|(other, _)| other + WINDOW_S <= second) {
            self.offsets.pop_front();
        }
        match self.offsets.back_mut() {
            Some((last, most)) if *last == second => *most = offset.max(*most),
            _ => self.offsets.push_back((second, offset)),
        }
        self.last = Some(at);
    }

    fn now(&self, at: Moment) -> Option<Timestamp> {
        let offset = self.offsets.iter().map(|(_, offset)| *offset).max()?;
        Timestamp::from_millis(
            offset.saturating_add(millis(at.monotonic)).saturating_add(self.suspended_ms(at)),
        )
        .ok()
    }

    /// Milliseconds that the computer was suspended since the last message. A wall clock that was set forward has the same
    /// effect: values look older than they are until the next message.
    fn suspended_ms(&self, at: Moment) -> i64 {
        let Some(last) = self.last else { return 0 };
        let suspended = at.wall.millis_since(last.wall) - millis(at.monotonic.saturating_sub(last.monotonic));
        if suspended > CLOCK_TOLERANCE_MS { suspended } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    fn time(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
    }

    /// The point in time `millis` after the start of the program, on a computer whose wall clock is wrong by `wall_off`
    /// milliseconds.
    fn after(millis: u64, wall_off: i64) -> Moment {
        Moment { monotonic: Duration::from_millis(millis), wall: time(millis as i64 + wall_off) }
    }

    #[test]
    fn time_advances_with_the_monotonic_clock_for_any_wall_clock() {
        for wall_off in [0, HOUR, -HOUR, YEAR, -YEAR] {
            let mut state = State::default();
            assert_eq!(state.now(after(0, wall_off)), None);
            state.received(time(500), after(500, wall_off));
            assert_eq!(state.now(after(90_500, wall_off)), Some(time(90_500)), "{wall_off}");
        }
    }

    #[test]
    fn least_delayed_message_determines_the_estimate() {
        let mut state = State::default();
        state.received(time(0), after(1_000, 0));
        state.received(time(1_990), after(2_000, 0));
        // This message was delayed by 4 s.
        state.received(time(0), after(4_000, 0));
        assert_eq!(state.now(after(4_000, 0)), Some(time(3_990)));
    }

    #[test]
    fn server_clock_is_followed_forward_at_once_and_back_within_the_window() {
        let mut state = State::default();
        state.received(time(0), after(0, 0));
        state.received(time(HOUR), after(1_000, 0));
        assert_eq!(state.now(after(1_000, 0)), Some(time(HOUR)));
        for second in 2..=12 {
            state.received(time(second * 1_000), after(second as u64 * 1_000, 0));
        }
        assert_eq!(state.now(after(12_000, 0)), Some(time(12_000)));
    }

    #[test]
    fn values_do_not_look_younger_after_a_suspension() {
        let mut state = State::default();
        state.received(time(0), after(0, 0));
        // An hour later by the wall clock, a second later by the monotonic clock.
        let resumed = Moment { monotonic: Duration::from_secs(1), wall: time(HOUR) };
        assert_eq!(state.now(resumed), Some(time(HOUR)));
        state.received(time(HOUR + 50), resumed);
        assert_eq!(state.now(resumed), Some(time(HOUR + 50)));
    }

    #[test]
    fn wall_clock_that_is_set_back_has_no_effect() {
        let mut state = State::default();
        state.received(time(0), after(0, 0));
        assert_eq!(state.now(after(60_000, -HOUR)), Some(time(60_000)));
    }
}
