//! `GET /api/v1/clock`: the server's time, and whether the clock is behind a time it has shown before.

use axum::Json;
use axum::extract::State;
use http_server::problem::ApiError;
use proto_json::{ServerClock, Timestamp};
use store::{PatientReader, StoreError};

use crate::errors::store_error;
use crate::state::Ports;

pub(crate) async fn clock(State(store): State<Ports>) -> Result<Json<ServerClock>, ApiError> {
    state(&*store.patients, Timestamp::now()).await.map(Json).map_err(store_error)
}

/// Returns the state of the clock at the time `now`.
pub(crate) async fn state(store: &dyn PatientReader, now: Timestamp) -> Result<ServerClock, StoreError> {
    let highest = store.highest_time().await?;
    let behind = highest.filter(|highest| highest.is_in_future_of(now));
    let problem = behind.map(|highest| {
        format!(
            "The server's clock shows {now}, but has shown {highest} before: it was wrong then or is wrong \
             now."
        )
    });
    Ok(ServerClock { time: now, highest, problem })
}

#[cfg(test)]
mod tests {
    use store::PatientWriter;

    use super::*;

    #[tokio::test]
    async fn clock_behind_its_highest_time_is_a_problem_until_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::sqlite::SqliteStore::open(&folder.path().join("patients.db")).unwrap();
        let now = Timestamp::now();
        assert_eq!(
            state(&*store, now).await.unwrap(),
            ServerClock { time: now, highest: None, problem: None }
        );
        for (ahead_ms, is_problem) in [(5_000, false), (5_001, true), (31_536_000_000, true)] {
            store.observe_time(now.plus_millis(ahead_ms)).await.unwrap();
            let clock = state(&*store, now).await.unwrap();
            assert_eq!(clock.problem.is_some(), is_problem, "{ahead_ms} ms: {clock:?}");
        }
        store.accept_time(now).await.unwrap();
        assert_eq!(state(&*store, now).await.unwrap().problem, None);
    }
}
