//! Subscription to the server-sent events of the gateway.

use std::collections::VecDeque;
use std::time::Duration;

use proto_json::{Mrn, SystemEvent, Timestamp};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::subscription::{SourceEvent, SubscriptionEnded};
use crate::{ClientError, Gateway, ServerTime, SseEvent, SseParser};

/// Data of the events `ready` and `keep-alive`. Gateways of earlier versions send fewer fields.
#[derive(Debug, serde::Deserialize)]
struct State {
    keep_alive_ms: Option<u64>,
    time: Option<Timestamp>,
    clock_problem: Option<String>,
}

/// Parses the data of an event. The content of an unreadable event is unknown: the snapshot has to be loaded.
fn parsed<T: DeserializeOwned>(data: &str, event: impl FnOnce(T) -> SourceEvent) -> SourceEvent {
    match serde_json::from_str(data) {
        Ok(parsed) => event(parsed),
        Err(error) => {
            tracing::debug!(%error, "cannot parse an event");
            SourceEvent::Lagged
        }
    }
}

/// An open stream of events.
#[derive(Debug)]
pub(super) struct EventStream {
    response: reqwest::Response,
    parser: SseParser,
    waiting: VecDeque<SseEvent>,
    silence: Duration,
    last_received: Instant,
    server_time: ServerTime,
}

impl EventStream {
    /// Opens the stream and waits, at most for `limit`, until the gateway confirms the subscription.
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
                last_received: Instant::now(),
                server_time: gateway.server_time().clone(),
            };
            loop {
                match stream.next_event().await {
                    Ok(event) if event.event == "ready" => {
                        stream.update_state(&event.data);
                        return Ok(stream);
                    }
                    Ok(_) => {}
                    Err(SubscriptionEnded(reason)) => {
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

    pub(super) async fn next(&mut self) -> Result<SourceEvent, SubscriptionEnded> {
        loop {
            let SseEvent { event, data } = self.next_event().await?;
            match event.as_str() {
                "updated" => return Ok(parsed(&data, SourceEvent::Updated)),
                "alarm" => {
                    return Ok(parsed(&data, |update| SourceEvent::System(SystemEvent::Alarm(update))));
                }
                "limits" | "wards" | "patient" => return Ok(parsed(&data, SourceEvent::System)),
                "cut-off" => return Ok(SourceEvent::Disconnected),
                "missed" => return Ok(SourceEvent::Lagged),
                "keep-alive" => self.update_state(&data),
                _ => {}
            }
        }
    }

    /// Takes the server's time, and its keep-alive interval: the time limit for silence must be longer than this interval.
    fn update_state(&mut self, data: &str) {
        let Ok(state) = serde_json::from_str::<State>(data) else { return };
        if let Some(period) = state.keep_alive_ms {
            self.silence = self.silence.max(Duration::from_millis(period.saturating_mul(12) / 5));
        }
        if let Some(time) = state.time {
            self.server_time.received_with_problem(time, state.clock_problem.as_deref());
        }
    }

    async fn next_event(&mut self) -> Result<SseEvent, SubscriptionEnded> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let due = self.last_received + self.silence;
            match tokio::time::timeout_at(due, self.response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    self.last_received = Instant::now();
                    let events =
                        self.parser.push(&bytes).map_err(|error| SubscriptionEnded(error.to_string()))?;
                    self.waiting.extend(events);
                }
                Ok(Ok(None)) => {
                    return Err(SubscriptionEnded("the gateway closed the stream of events".to_owned()));
                }
                Ok(Err(_)) => {
                    return Err(SubscriptionEnded("the connection to the gateway broke".to_owned()));
                }
                Err(_) => {
                    return Err(SubscriptionEnded(format!(
                        "nothing was received for {} s",
                        self.silence.as_secs_f32()
                    )));
                }
            }
        }
    }
}
