//! Tests of event streams.

use std::time::Duration;

use gateway::{Config, Limits};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto_json::{StreamState, Timestamp};

use crate::fixture::{Api, Form, Start, TIMEOUT};

/// Reads events from a stream.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    async fn of(api: &Api, path: &str) -> Self {
        Events { body: api.stream(path).await, text: String::new() }
    }

    /// Returns the next event or comment, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        let read = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let event = event.to_owned();
                    self.text = rest.to_owned();
                    return Some(event);
                }
                let frame = self.body.frame().await?.ok()?;
                self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        tokio::time::timeout(TIMEOUT, read).await.expect("an event in time")
    }
}

/// Starts a gateway without `keep-alive` events during a test.
async fn quiet() -> Api {
    let config = Config { events_keep_alive: Duration::from_secs(60), ..Config::default() };
    Start { config, ..Start::default() }.start().await
}

/// Parses the data of an event with this name, and checks its time.
fn state(event: &str, name: &str) -> StreamState {
    let data = event.strip_prefix(&format!("event: {name}\ndata: ")).unwrap_or_else(|| panic!("{event:?}"));
    let state: StreamState = serde_json::from_str(data).unwrap();
    assert!(Timestamp::now().millis_since(state.time).abs() < TIMEOUT.as_millis() as i64);
    assert_eq!(state.clock_problem, None);
    state
}

#[tokio::test]
async fn every_change_is_sent_in_order() {
    let api = quiet().await;
    let mut events = Events::of(&api, "/api/v1/events").await;
    assert_eq!(state(&events.next().await.unwrap(), "ready").keep_alive_ms, 60_000);
    for (name, mrn) in [("Ann", "7"), ("Bob", "8"), ("Anna", "7")] {
        assert_eq!(
            api.upload(mrn, Form::default().field("name", name).field("rename", "true"), &[]).await.status,
            201
        );
        let event = events.next().await.unwrap();
        let (id, data) = event.split_once("\nevent: updated\ndata: ").unwrap();
        let update: proto_json::PatientUpdated = serde_json::from_str(data).unwrap();
        assert_eq!(update.patient.name.as_deref(), Some(name));
        assert_eq!(id, format!("id: {}", update.patient.version));
    }
}

#[tokio::test]
async fn patient_stream_contains_only_its_patient() {
    let api = quiet().await;
    let mut events = Events::of(&api, "/api/v1/patients/7/events").await;
    assert_eq!(state(&events.next().await.unwrap(), "ready").keep_alive_ms, 60_000);
    for mrn in ["8", "7"] {
        api.upload(mrn, Form::default(), &[]).await;
    }
    assert!(events.next().await.unwrap().contains("\"mrn\":7"));
    api.get("/api/v1/patients/x/events").await.assert_problem(400, "integer");
}

#[tokio::test]
async fn idle_stream_gets_keep_alive_and_ends_at_shutdown() {
    let config = Config { events_keep_alive: Duration::from_millis(20), ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let mut events = Events::of(&api, "/api/v1/events").await;
    events.next().await;
    let mut last = None;
    for _ in 0..3 {
        let state = state(&events.next().await.unwrap(), "keep-alive");
        assert!(last <= Some(state.time), "the time increases");
        last = Some(state.time);
    }
    api.shut();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn event_streams_beyond_the_limit_are_rejected() {
    let limits = Limits { max_watchers: 1, ..Limits::default() };
    let api = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let mut first = Events::of(&api, "/api/v1/events").await;
    first.next().await;
    api.get("/api/v1/events").await.assert_problem(503, "event streams");
}
