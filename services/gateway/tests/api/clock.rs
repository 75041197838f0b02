//! Tests of the server time in responses and events, and of a wrong clock.

use proto_json::{CLOCK_PROBLEM_HEADER, ServerClock, TIME_HEADER, Timestamp};
use store::PatientWriter;

use crate::fixture::{Api, Form, Reply, Start, TIMEOUT};

const YEAR_MS: i64 = 365 * 86_400_000;

fn time(reply: &Reply) -> Timestamp {
    reply.header(TIME_HEADER).parse().unwrap()
}

#[tokio::test]
async fn every_response_contains_the_server_time() {
    let api = Api::open().await;
    let before = Timestamp::now();
    for path in ["/", "/api/v1/patients", "/api/v1/patients/x", "/api/get_patient", "/nothing"] {
        let reply = api.get(path).await;
        assert!((before..=Timestamp::now()).contains(&time(&reply)), "{path}");
        assert!(!reply.headers.contains_key(CLOCK_PROBLEM_HEADER), "{path}");
    }
    let clock: ServerClock = serde_json::from_value(api.get("/api/v1/clock").await.json()).unwrap();
    assert_eq!(clock.problem, None);
}

/// In one process, and with query as a separate service.
#[tokio::test]
async fn clock_problem_is_reported_until_the_time_is_accepted() {
    for query_over_http in [false, true] {
        let api = Start { query_over_http, ingest: false, ..Start::default() }.start().await;
        let ahead = Timestamp::now().plus_millis(YEAR_MS);
        api.store.observe_time(ahead).await.unwrap();
        let is_told = async |wanted: bool| {
            let due = tokio::time::Instant::now() + TIMEOUT;
            loop {
                let reply = api.get("/").await;
                let problem = reply.header(CLOCK_PROBLEM_HEADER).to_owned();
                if problem.is_empty() != wanted {
                    assert!(problem.is_empty() || problem.contains(&ahead.to_string()), "{problem}");
                    return;
                }
                assert!(tokio::time::Instant::now() < due, "{query_over_http}, {wanted}: {problem:?}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        is_told(true).await;
        let clock: ServerClock = serde_json::from_value(api.get("/api/v1/clock").await.json()).unwrap();
        assert_eq!(clock.highest, Some(ahead));
        api.store.accept_time(Timestamp::now()).await.unwrap();
        is_told(false).await;
    }
}

#[tokio::test]
async fn recording_time_up_to_5_s_in_the_future_is_taken_and_a_later_one_is_not() {
    let api = Api::open().await;
    let at = |ahead_ms| Timestamp::now().plus_millis(ahead_ms).to_string();
    let rate = |time: String| Form::default().field("heart_rate", "72").field("recorded_at", time);
    assert_eq!(api.upload("7", rate(at(4_000)), &[]).await.status, 201);
    for ahead_ms in [10_000 + TIMEOUT.as_millis() as i64, YEAR_MS] {
        let rejected = api.upload("7", rate(at(ahead_ms)), &[]).await;
        rejected.assert_problem(409, "5 s in the future");
        assert_eq!(rejected.json()["type"], "urn:bedside:problem:time-in-future");
    }
    api.upload("7", rate("3259-01-01T00:00:00Z".to_owned()), &[]).await.assert_problem(409, "in the future");
    api.upload("7", rate("tomorrow".to_owned()), &[]).await.assert_problem(400, "must be a time");
    assert_eq!(api.upload("7", rate(at(-YEAR_MS)), &[]).await.status, 201, "times in the past are accepted");
}
