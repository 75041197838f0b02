//! The time by the clock of the server, counted on by the monotonic clock of this computer.
//!
//! The age of a value is the difference of two times, and only the server's clock has set the first one. The wall clock of
//! this computer may be wrong or be set while the program runs; so it is used for two things alone: to say by how much it
//! differs, and to notice that the computer was asleep, which the monotonic clock does not count.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto_json::{CLOCK_TOLERANCE_MS, Timestamp};

/// For so many seconds the least delayed message is believed. Then the server's clock may have been set back.
const WINDOW_S: u64 = 10;

/// The time by the clock of the server, as far as its messages have told. Clones share it.
#[derive(Debug, Clone)]
pub struct ServerTime(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Instant,
    state: Mutex<State>,
}

/// A moment on this computer.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Since the origin, by the monotonic clock.
    monotonic: Duration,
    wall: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    /// For each of the last seconds with a message, the largest offset: milliseconds of the server's clock minus those of the
    /// monotonic one. A message is never early, so the largest offset is that of the least delay.
    offsets: VecDeque<(u64, i64)>,
    /// When the last message came.
    last: Option<Moment>,
    problem: Option<Arc<str>>,
}

impl Default for ServerTime {
    fn default() -> Self {
        ServerTime(Arc::new(Shared { origin: Instant::now(), state: Mutex::default() }))
    }
}

impl ServerTime {
    /// What the clock of the server shows now; `None` before its first message.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.state().now(self.moment())
    }

    /// By how many milliseconds the clock of the server is ahead of that of this computer; negative if it is behind. `None`
    /// before its first message.
    #[must_use]
    pub fn ahead_of_computer_ms(&self) -> Option<i64> {
        let moment = self.moment();
        Some(self.state().now(moment)?.millis_since(moment.wall))
    }

    /// What the server says is wrong with its own clock, in one sentence.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<str>> {
        self.state().problem.clone()
    }

    /// A message says what the clock of the server showed when it was sent.
    pub(crate) fn heard(&self, time: Timestamp) {
        let moment = self.moment();
        self.state().heard(time, moment);
    }

    /// The same for a message that also says whether the server trusts its clock.
    pub(crate) fn heard_with_problem(&self, time: Timestamp, problem: Option<&str>) {
        let moment = self.moment();
        let mut state = self.state();
        state.heard(time, moment);
        state.problem = problem.map(Arc::from);
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: self.0.origin.elapsed(), wall: Timestamp::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl State {
    fn heard(&mut self, time: Timestamp, at: Moment) {
        if self.asleep_ms(at) > 0 {
            // Offsets from before the sleep are of another time.
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
        Timestamp::from_millis(offset.saturating_add(millis(at.monotonic)).saturating_add(self.asleep_ms(at)))
            .ok()
    }

    /// For how long the monotonic clock stood still since the last message. A wall clock that was set forward looks the same:
    /// until the next message values then look older than they are, never younger.
    fn asleep_ms(&self, at: Moment) -> i64 {
        let Some(last) = self.last else { return 0 };
        let asleep = at.wall.millis_since(last.wall) - millis(at.monotonic.saturating_sub(last.monotonic));
        if asleep > CLOCK_TOLERANCE_MS { asleep } else { 0 }
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

    /// So many milliseconds after the start of a program, on a computer whose wall clock is off by `wall_off`.
    fn after(millis: u64, wall_off: i64) -> Moment {
        Moment { monotonic: Duration::from_millis(millis), wall: time(millis as i64 + wall_off) }
    }

    #[test]
    fn time_goes_on_by_the_monotonic_clock_whatever_the_wall_clock_shows() {
        for wall_off in [0, HOUR, -HOUR, YEAR, -YEAR] {
            let mut state = State::default();
            assert_eq!(state.now(after(0, wall_off)), None);
            state.heard(time(500), after(500, wall_off));
            assert_eq!(state.now(after(90_500, wall_off)), Some(time(90_500)), "{wall_off}");
        }
    }

    #[test]
    fn least_delayed_message_is_believed() {
        let mut state = State::default();
        state.heard(time(0), after(1_000, 0));
        state.heard(time(1_990), after(2_000, 0));
        // One that was held up for 4 s.
        state.heard(time(0), after(4_000, 0));
        assert_eq!(state.now(after(4_000, 0)), Some(time(3_990)));
    }

    #[test]
    fn server_clock_that_is_set_is_followed_forward_at_once_and_back_within_the_window() {
        let mut state = State::default();
        state.heard(time(0), after(0, 0));
        state.heard(time(HOUR), after(1_000, 0));
        assert_eq!(state.now(after(1_000, 0)), Some(time(HOUR)));
        for second in 2..=12 {
            state.heard(time(second * 1_000), after(second as u64 * 1_000, 0));
        }
        assert_eq!(state.now(after(12_000, 0)), Some(time(12_000)));
    }

    #[test]
    fn values_do_not_look_younger_after_the_computer_was_asleep() {
        let mut state = State::default();
        state.heard(time(0), after(0, 0));
        // An hour later by the wall clock, a second by the monotonic one.
        let woken = Moment { monotonic: Duration::from_secs(1), wall: time(HOUR) };
        assert_eq!(state.now(woken), Some(time(HOUR)));
        state.heard(time(HOUR + 50), woken);
        assert_eq!(state.now(woken), Some(time(HOUR + 50)));
    }

    #[test]
    fn wall_clock_that_is_set_back_does_not_matter() {
        let mut state = State::default();
        state.heard(time(0), after(0, 0));
        assert_eq!(state.now(after(60_000, -HOUR)), Some(time(60_000)));
    }
}
