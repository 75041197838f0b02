//! Server time for clients, and what is known to be wrong with it.
//!
//! Stations count ages by the clock of the server, because theirs may be wrong. So every response carries it, and so do the
//! events of a stream. The gateway gives each upload its time of receipt; so its clock is compared with that of the query
//! service, which knows the highest time that was ever noted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use proto_json::{
    CLOCK_PROBLEM_HEADER, CLOCK_TOLERANCE_MS, ServerClock, StreamState, TIME_HEADER, Timestamp,
};
use runtime::Shutdown;
use runtime::admin::Check;
use tokio::time::MissedTickBehavior;

use crate::App;
use crate::reads::ReadPath;

const TIME: HeaderName = HeaderName::from_static(TIME_HEADER);
const PROBLEM: HeaderName = HeaderName::from_static(CLOCK_PROBLEM_HEADER);

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    problem: Mutex<Option<Arc<str>>>,
}

impl Clock {
    /// What is wrong with it, in one sentence.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For `/readyz`.
    pub(crate) fn check(clock: &Arc<Self>) -> Check {
        let clock = clock.clone();
        Check::advisory("clock", move || {
            let problem = clock.problem().map(|problem| problem.to_string());
            async move { problem.map_or(Ok(()), Err) }
        })
    }

    fn set(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (&problem, known.is_some()) {
            (Some(problem), false) => tracing::error!(problem, "the clock cannot be trusted"),
            (None, true) => tracing::info!("the clock can be trusted again"),
            _ => {}
        }
        *known = problem.map(Arc::from);
    }

    /// An event of a stream that says what the clock shows.
    pub(crate) fn event(&self, name: &str, keep_alive: Duration) -> Bytes {
        let state = StreamState {
            keep_alive_ms: u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX),
            time: Timestamp::now(),
            clock_problem: self.problem().map(|problem| problem.to_string()),
        };
        // Texts and a number always become JSON.
        let data = serde_json::to_string(&state).unwrap_or_default();
        Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
    }

    /// Compares the clocks until the shutdown begins. While query cannot be asked, the last answer stands.
    pub(crate) async fn watch(&self, reads: &ReadPath, shutdown: &Shutdown) {
        let mut period = tokio::time::interval(EVERY);
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

/// By how much the other clock is ahead of ours, at least: its answer was made some time between `asked` and `took` later.
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

/// Adds the time to a response.
pub(crate) async fn stamp(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(time) = HeaderValue::try_from(Timestamp::now().to_string()) {
        response.headers_mut().insert(TIME, time);
    }
    if let Some(problem) = app.clock.problem().and_then(|text| HeaderValue::try_from(&*text).ok()) {
        response.headers_mut().insert(PROBLEM, problem);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(millis: i64) -> ServerClock {
        ServerClock { time: Timestamp::from_millis(millis).unwrap(), highest: None, problem: None }
    }

    #[test]
    fn slow_answer_is_no_difference_of_clocks() {
        let asked = Timestamp::from_millis(100_000).unwrap();
        let skew = |theirs, took_s| skew_ms(&shows(theirs), asked, Duration::from_secs(took_s));
        assert_eq!(skew(100_000, 0), 0);
        assert_eq!(skew(104_000, 20), 0, "it was asked in the middle");
        assert_eq!(skew(130_000, 20), 10_000);
        assert_eq!(skew(93_000, 20), -7_000);
    }

    #[test]
    fn difference_of_clocks_beyond_the_tolerance_is_a_problem() {
        for (skew, is_problem) in [(0, false), (5_000, false), (-5_001, true), (3_600_000, true)] {
            assert_eq!(problem(shows(0), skew).is_some(), is_problem, "{skew}");
        }
        let behind = ServerClock { problem: Some("behind".to_owned()), ..shows(0) };
        assert_eq!(problem(behind, 0).as_deref(), Some("behind"));
    }
}
