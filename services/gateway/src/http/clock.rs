//! The server time for clients, and detection of a wrong clock.
//!
//! Clients compute ages with the server's clock, because their own may be wrong. Every response and every
//! event stream contains the time. The gateway sets the time of receipt of each upload, so its clock is
//! compared with that of the query service, which knows the highest time ever recorded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::sse;
use parking_lot::Mutex;
use proto_json::{CLOCK_TOLERANCE_MS, ServerClock, StreamState, Timestamp};
use runtime::Shutdown;
use runtime::health::Check;
use tokio::time::MissedTickBehavior;

use crate::reads::query::QueryService;

/// Interval between comparisons.
const INTERVAL: Duration = Duration::from_secs(5);

/// State of the clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    problem: Mutex<Option<Arc<str>>>,
}

impl Clock {
    /// Returns the problem of the clock as one sentence.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        self.problem.lock().clone()
    }

    /// Returns the readiness check.
    pub(crate) fn check(clock: &Arc<Self>) -> Check {
        let clock = clock.clone();
        Check::advisory("clock", move || {
            let problem = clock.problem().map(|problem| problem.to_string());
            async move { problem.map_or(Ok(()), Err) }
        })
    }

    fn set(&self, problem: Option<String>) {
        let mut current = self.problem.lock();
        match (&problem, current.is_some()) {
            (Some(problem), false) => tracing::error!(problem, "the clock is wrong"),
            (None, true) => tracing::info!("the clock is correct again"),
            _ => {}
        }
        *current = problem.map(Arc::from);
    }

    /// Returns an event of an event stream with the server time.
    pub(crate) fn event(&self, name: &str, keep_alive: Duration) -> sse::Event {
        let state = StreamState {
            keep_alive_ms: u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX),
            time: Timestamp::now(),
            clock_problem: self.problem().map(|problem| problem.to_string()),
        };
        // Serialising strings and numbers cannot fail.
        let data = serde_json::to_string(&state).unwrap_or_default();
        sse::Event::default().event(name).data(data)
    }

    /// Compares the clocks until the shutdown begins. The state does not change while the query service is
    /// unreachable.
    pub(crate) async fn watch(&self, reads: &QueryService, shutdown: &Shutdown) {
        let mut period = tokio::time::interval(INTERVAL);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.unless_begun(period.tick()).await.is_some() {
            let asked = (Instant::now(), Timestamp::now());
            let Some(Some(theirs)) = shutdown.unless_begun(reads.clock()).await else { continue };
            let skew = skew_ms(&theirs, asked.1, asked.0.elapsed());
            metrics::gauge!("bedside_gateway_clock_skew_seconds").set(skew as f64 / 1_000.0);
            self.set(problem(theirs, skew));
        }
    }
}

/// Returns the minimum offset of the other clock in milliseconds; positive if it is ahead. Its response was
/// created between `asked` and `asked + took`.
fn skew_ms(theirs: &ServerClock, asked: Timestamp, took: Duration) -> i64 {
    let since_asked = theirs.time.millis_since(asked);
    let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    if since_asked < 0 { since_asked } else { (since_asked - took).max(0) }
}

fn problem(theirs: ServerClock, skew_ms: i64) -> Option<String> {
    if skew_ms.abs() > CLOCK_TOLERANCE_MS {
        return Some(format!(
            "The clocks of the gateway and of the query service differ by {} s.",
            skew_ms.abs() / 1_000
        ));
    }
    theirs.problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(millis: i64) -> ServerClock {
        ServerClock { time: Timestamp::from_millis(millis).unwrap(), highest: None, problem: None }
    }

    #[test]
    fn response_time_is_not_counted_as_offset() {
        let asked = Timestamp::from_millis(100_000).unwrap();
        let skew = |theirs, took_s| skew_ms(&shows(theirs), asked, Duration::from_secs(took_s));
        assert_eq!(skew(100_000, 0), 0);
        assert_eq!(skew(104_000, 20), 0, "the response may be from the middle of the request");
        assert_eq!(skew(130_000, 20), 10_000);
        assert_eq!(skew(93_000, 20), -7_000);
    }

    #[test]
    fn offset_beyond_the_tolerance_is_a_problem() {
        for (skew, is_problem) in [(0, false), (5_000, false), (-5_001, true), (3_600_000, true)] {
            assert_eq!(problem(shows(0), skew).is_some(), is_problem, "{skew}");
        }
        let behind = ServerClock { problem: Some("behind".to_owned()), ..shows(0) };
        assert_eq!(problem(behind, 0).as_deref(), Some("behind"));
    }
}
