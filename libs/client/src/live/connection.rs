//! The task of a subscription: connects, subscribes, and reconnects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto_json::{
    Frame, FrameLimits, LiveFrame, LiveMessage, LiveMode, LiveRequest, Mrn, StreamDescription, StreamId,
};
use tokio::time::{Instant, sleep};

use super::{LiveConnection, LiveEvent, ReceivedColumns, ReceivedFrame, Shared, interval};
use crate::feed::Backoff;
use crate::web_socket::{Ended, Received, WebSocket};
use crate::{ClientError, Gateway};

/// Time limit to open a connection.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Wait after a rejected token. Gateways limit the rate of rejected requests.
const REJECTED_WAIT: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: the next wait is short.
const STABLE: Duration = Duration::from_secs(5);
/// Gap in a stream after a reconnect that is reported, in microseconds. Smaller differences are those of the clock.
const MIN_GAP_US: i64 = 100_000;

struct Task {
    gateway: Gateway,
    shared: Arc<Shared>,
    state: Option<LiveConnection>,
    /// What the reader knows about each stream.
    streams: HashMap<StreamId, KnownStream>,
}

struct KnownStream {
    description: Arc<StreamDescription>,
    /// End of the received waveforms, in microseconds since 1970.
    end_us: Option<i64>,
    /// The connection on which waveforms were received last.
    connection: u64,
}

/// The streams of one connection by their numbers.
#[derive(Default)]
struct Numbers(HashMap<u16, (Arc<StreamDescription>, FrameLimits)>);

/// Runs until it is aborted.
pub(super) async fn run(gateway: Gateway, shared: Arc<Shared>) {
    let mut task = Task { gateway, shared, state: None, streams: HashMap::new() };
    let mut backoff = Backoff::new();
    for connection in 1.. {
        let opened_at = Instant::now();
        let wait = match task.gateway.web_socket(&["live"], OPEN_LIMIT).await {
            Ok(socket) => {
                task.report(true, None, false);
                let ended = task.follow(socket, connection).await;
                tracing::debug!(reason = ended.reason, "the connection for live data has ended");
                task.report(false, Some(ended.reason), false);
                if opened_at.elapsed() > STABLE {
                    backoff.reset();
                }
                backoff.next()
            }
            Err(error) => {
                let token_rejected =
                    matches!(error, ClientError::Unauthorized(_) | ClientError::Forbidden(_));
                task.report(false, Some(error.to_string()), token_rejected);
                let wait = if token_rejected { REJECTED_WAIT } else { backoff.next() };
                wait.max(error.retry_after().unwrap_or_default().min(REJECTED_WAIT))
            }
        };
        sleep(wait).await;
    }
}

impl Task {
    /// Follows a connection until it ends.
    async fn follow(&mut self, mut socket: WebSocket, connection: u64) -> Ended {
        let mut subscribed = BTreeMap::new();
        let mut numbers = Numbers::default();
        loop {
            if let Err(ended) = self.update_subscriptions(&mut socket, &mut subscribed).await {
                return ended;
            }
            let message = tokio::select! {
                message = socket.next() => message,
                () = self.shared.wanted_changed.notified() => continue,
            };
            match message {
                Ok(Received::Text(text)) => self.text(&text, &mut numbers),
                Ok(Received::Binary(bytes)) => self.binary(&bytes, &numbers, connection),
                Err(ended) => return ended,
            }
        }
    }

    /// Sends the differences between the selected and the subscribed patients.
    async fn update_subscriptions(
        &mut self,
        socket: &mut WebSocket,
        subscribed: &mut BTreeMap<Mrn, LiveMode>,
    ) -> Result<(), Ended> {
        let wanted = self.shared.wanted.lock().clone();
        if wanted == *subscribed {
            return Ok(());
        }
        let ended = subscribed
            .keys()
            .filter(|mrn| !wanted.contains_key(mrn))
            .map(|mrn| LiveRequest::Unsubscribe { mrn: *mrn });
        let started = wanted
            .iter()
            .filter(|(mrn, mode)| subscribed.get(mrn) != Some(mode))
            .map(|(mrn, mode)| LiveRequest::Subscribe { mrn: *mrn, mode: *mode });
        for request in ended.chain(started) {
            // Serialising a request cannot fail.
            let text = serde_json::to_string(&request).unwrap_or_default();
            socket.send_text(text).await?;
        }
        self.streams.retain(|_, known| wanted.contains_key(&known.description.mrn));
        *subscribed = wanted;
        Ok(())
    }

    fn text(&mut self, text: &str, numbers: &mut Numbers) {
        match serde_json::from_str::<LiveMessage>(text) {
            Ok(LiveMessage::Stream { number, description }) => self.described(number, description, numbers),
            Ok(LiveMessage::Vitals { vitals }) => self.shared.push(LiveEvent::Vitals(Box::new(vitals))),
            Ok(LiveMessage::Lost { mrn, from, to }) => self.shared.push(LiveEvent::Lost { mrn, from, to }),
            Ok(LiveMessage::Closed { mrn }) => {
                self.streams.retain(|_, known| known.description.mrn != mrn);
                self.shared.push(LiveEvent::Closed { mrn });
            }
            Ok(LiveMessage::Rejected { message }) => self.shared.push(LiveEvent::Rejected { message }),
            // A gateway of a later version.
            Err(error) => tracing::debug!(%error, "cannot parse a live message"),
        }
    }

    fn described(&mut self, number: u16, description: StreamDescription, numbers: &mut Numbers) {
        let limits = FrameLimits::of(&description.channels);
        let description = match self.streams.get_mut(&description.stream) {
            Some(known) if *known.description == description => Arc::clone(&known.description),
            known => {
                let description = Arc::new(description);
                match known {
                    Some(known) => known.description = Arc::clone(&description),
                    None => {
                        let known = KnownStream {
                            description: Arc::clone(&description),
                            end_us: None,
                            connection: 0,
                        };
                        self.streams.insert(description.stream, known);
                    }
                }
                self.shared.push(LiveEvent::Stream(Arc::clone(&description)));
                description
            }
        };
        numbers.0.insert(number, (description, limits));
    }

    fn binary(&mut self, bytes: &Bytes, numbers: &Numbers, connection: u64) {
        let live = match LiveFrame::decode(bytes) {
            Ok(live) => live,
            Err(error) => {
                tracing::debug!(%error, "cannot read a live frame");
                return;
            }
        };
        let (LiveFrame::Frame { number, .. } | LiveFrame::Columns { number, .. }) = &live;
        let Some((stream, limits)) = numbers.0.get(number) else {
            tracing::debug!(number, "waveforms of an unknown stream");
            return;
        };
        let stream = Arc::clone(stream);
        match live {
            LiveFrame::Frame { time_us, frame, .. } => match Frame::decode(&frame, limits) {
                Ok(frame) => {
                    let frame = ReceivedFrame { stream, time_us, frame };
                    self.received(&frame.stream, time_us, frame.end_us(), connection);
                    self.shared.push(LiveEvent::Frame(frame));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot read a frame");
                    self.lost(stream.mrn, time_us, time_us);
                }
            },
            LiveFrame::Columns { time_us, blocks, .. } => {
                let columns = ReceivedColumns { stream, time_us, blocks };
                if let Some((from, to)) = columns.time() {
                    self.received(&columns.stream, from, to, connection);
                }
                self.shared.push(LiveEvent::Columns(columns));
            }
        }
    }

    /// Waveforms from `from` to `to` (microseconds since 1970) have arrived. Reports the gap since the connection before.
    fn received(&mut self, stream: &StreamDescription, from: i64, to: i64, connection: u64) {
        let Some(known) = self.streams.get_mut(&stream.stream) else { return };
        let before = known.end_us.filter(|_| known.connection != connection);
        known.connection = connection;
        known.end_us = Some(known.end_us.map_or(to, |end| end.max(to)));
        if let Some(before) = before
            && from.saturating_sub(before) >= MIN_GAP_US
        {
            self.lost(stream.mrn, before, from);
        }
    }

    fn lost(&self, mrn: Mrn, from_us: i64, to_us: i64) {
        if let Some((from, to)) = interval(from_us, to_us) {
            self.shared.push(LiveEvent::Lost { mrn, from, to });
        }
    }

    fn report(&mut self, is_connected: bool, reason: Option<String>, token_rejected: bool) {
        let since = match &self.state {
            Some(state) if state.is_connected == is_connected && state.reason == reason => return,
            Some(state) if state.is_connected == is_connected => state.since,
            _ => self.gateway.now(),
        };
        let state = LiveConnection { is_connected, since, reason, token_rejected };
        self.state = Some(state.clone());
        self.shared.push(LiveEvent::Connection(state));
    }
}
