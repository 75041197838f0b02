//! Event streams.

use std::time::Duration;

use gateway::{Config, Limits};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto_json::{StreamState, Timestamp};

use crate::fixture::{Door, Form, PATIENCE, Start};

/// Reads events off a stream.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    async fn of(door: &Door, path: &str) -> Self {
        Events { body: door.stream(path).await, text: String::new() }
    }

    /// The next event or comment; `None` at the end of the stream.
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
        tokio::time::timeout(PATIENCE, read).await.expect("an event in time")
    }
}

/// A gateway whose streams have no `keep-alive` while a test looks.
async fn quiet() -> Door {
    let config = Config { events_keep_alive: Duration::from_secs(60), ..Config::default() };
    Start { config, ..Start::default() }.start().await
}

/// What an event of this name says of the stream; the clock is that of this computer.
fn state(event: &str, name: &str) -> StreamState {
    let data = event.strip_prefix(&format!("event: {name}\ndata: ")).unwrap_or_else(|| panic!("{event:?}"));
    let state: StreamState = serde_json::from_str(data).unwrap();
    assert!(Timestamp::now().millis_since(state.time).abs() < PATIENCE.as_millis() as i64);
    assert_eq!(state.clock_problem, None);
    state
}

#[tokio::test]
async fn a_watcher_is_told_of_every_change_in_order() {
    let door = quiet().await;
    let mut events = Events::of(&door, "/api/v1/events").await;
    assert_eq!(state(&events.next().await.unwrap(), "ready").keep_alive_ms, 60_000);
    for (name, mrn) in [("Ann", "7"), ("Bob", "8"), ("Anna", "7")] {
        assert_eq!(
            door.upload(mrn, Form::default().field("name", name).field("rename", "true"), &[]).await.status,
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
async fn a_watcher_of_one_patient_hears_of_nobody_else() {
    let door = quiet().await;
    let mut events = Events::of(&door, "/api/v1/patients/7/events").await;
    assert_eq!(state(&events.next().await.unwrap(), "ready").keep_alive_ms, 60_000);
    for mrn in ["8", "7"] {
        door.upload(mrn, Form::default(), &[]).await;
    }
    assert!(events.next().await.unwrap().contains("\"mrn\":7"));
    door.get("/api/v1/patients/x/events").await.assert_problem(400, "integer");
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_and_ends_with_the_server() {
    let config = Config { events_keep_alive: Duration::from_millis(20), ..Config::default() };
    let door = Start { config, ..Start::default() }.start().await;
    let mut events = Events::of(&door, "/api/v1/events").await;
    events.next().await;
    let mut last = None;
    for _ in 0..3 {
        let state = state(&events.next().await.unwrap(), "keep-alive");
        assert!(last <= Some(state.time), "time goes on");
        last = Some(state.time);
    }
    door.shut();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn more_watchers_than_the_limit_are_refused_for_now() {
    let limits = Limits { max_watchers: 1, ..Limits::default() };
    let door = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let mut first = Events::of(&door, "/api/v1/events").await;
    first.next().await;
    door.get("/api/v1/events").await.assert_problem(503, "event streams");
}
