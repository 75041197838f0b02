//! Updates as server-sent events of the gateway.

use std::collections::VecDeque;
use std::time::Duration;

use proto_json::{Mrn, Timestamp};
use tokio::time::Instant;

use super::source::{Lost, Pushed};
use crate::{ClientError, Gateway, ServerTime, SseEvent, SseParser};

/// Data of `ready` and `keep-alive`; a gateway of an earlier version says less.
#[derive(Debug, serde::Deserialize)]
struct State {
    keep_alive_ms: Option<u64>,
    time: Option<Timestamp>,
    clock_problem: Option<String>,
}

/// An open stream of events.
#[derive(Debug)]
pub(super) struct EventStream {
    response: reqwest::Response,
    parser: SseParser,
    waiting: VecDeque<SseEvent>,
    silence: Duration,
    last_heard: Instant,
    server_time: ServerTime,
}

impl EventStream {
    /// Opens it and waits, at most `limit`, for the word that the subscription is in force.
    pub(super) async fn open(
        gateway: &Gateway,
        of: Option<Mrn>,
        limit: Duration,
        silence: Duration,
    ) -> Result<Self, ClientError> {
        let opened = async {
            let response = gateway.events(of, limit).await?;
            let mut stream = EventStream {
                response,
                parser: SseParser::new(),
                waiting: VecDeque::new(),
                silence,
                last_heard: Instant::now(),
                server_time: gateway.server_time().clone(),
            };
            loop {
                match stream.next_event().await {
                    Ok(event) if event.event == "ready" => {
                        stream.take_state(&event.data);
                        return Ok(stream);
                    }
                    Ok(_) => {}
                    Err(Lost(reason)) => {
                        return Err(ClientError::BadAnswer { gateway: gateway.address().to_owned(), reason });
                    }
                }
            }
        };
        match tokio::time::timeout(limit, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(ClientError::TimedOut { gateway: gateway.address().to_owned(), limit }),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Pushed, Lost> {
        loop {
            let SseEvent { event, data } = self.next_event().await?;
            match event.as_str() {
                // A word we cannot read may be about anything: load the snapshot instead.
                "updated" => {
                    return Ok(serde_json::from_str(&data).map_or_else(
                        |error| {
                            tracing::debug!(%error, "unreadable announcement");
                            Pushed::Lagged
                        },
                        Pushed::Updated,
                    ));
                }
                "cut-off" => return Ok(Pushed::Disconnected),
                "missed" => return Ok(Pushed::Lagged),
                "keep-alive" => self.take_state(&data),
                _ => {}
            }
        }
    }

    /// The gateway says what its clock shows, and how often it breaks the silence: waiting less than that would take every
    /// pause for an end.
    fn take_state(&mut self, data: &str) {
        let Ok(state) = serde_json::from_str::<State>(data) else { return };
        if let Some(period) = state.keep_alive_ms {
            self.silence = self.silence.max(Duration::from_millis(period.saturating_mul(12) / 5));
        }
        if let Some(time) = state.time {
            self.server_time.heard_with_problem(time, state.clock_problem.as_deref());
        }
    }

    async fn next_event(&mut self) -> Result<SseEvent, Lost> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let due = self.last_heard + self.silence;
            match tokio::time::timeout_at(due, self.response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    self.last_heard = Instant::now();
                    let events = self.parser.push(&bytes).map_err(|error| Lost(error.to_string()))?;
                    self.waiting.extend(events);
                }
                Ok(Ok(None)) => return Err(Lost("the gateway closed the stream of events".to_owned())),
                Ok(Err(_)) => return Err(Lost("the connection to the gateway broke".to_owned())),
                Err(_) => {
                    return Err(Lost(format!("nothing was heard for {} s", self.silence.as_secs_f32())));
                }
            }
        }
    }
}
