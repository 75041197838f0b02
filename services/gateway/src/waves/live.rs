//! The WebSocket of a screen: `/api/v1/live`.
//!
//! A screen subscribes to patients, each at full rate or as an overview. A screen that reads slowly loses the oldest
//! waveforms and is told of which patient and time. Each subscription is written to the audit log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures::stream::{AbortHandle, BoxStream, SelectAll, abortable};
use futures::{FutureExt, StreamExt, stream};
use http_server::{Connection, SchedulingGroup, run_scheduled};
use proto_json::audit::AuditEvent;
use proto_json::waveform::{
    LiveFrame, LiveMessage, LiveMode, LiveRequest, StreamDescription, StreamId, close,
};
use proto_json::{Mrn, Timestamp, WardId};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::audit_chain::NotStored;
use crate::auth::audit_line::{ClientAddress, RequestId};
use crate::auth::tokens::Client;
use crate::auth::wards;
use crate::events::{Access, OpenStream, revoked};
use crate::waves::hub::{Feed, Item};
use crate::waves::now_us;
use crate::waves::pace::Pace;
use crate::waves::socket::{self, End, Incoming, MAX_TEXT, Socket};

/// Largest number of patients of one connection.
const MAX_SUBSCRIPTIONS: usize = 2_048;
/// Interval of pings. They detect a screen that has disappeared while nothing is sent.
const PING: Duration = Duration::from_secs(15);
/// Interval at which a client with wards may lose emergency accesses.
const RECHECK: Duration = Duration::from_secs(1);
/// Items that are written before the connection is flushed.
const BATCH: usize = 64;

/// Handler of `/api/v1/live`.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(connection): Extension<Connection>,
    Extension(group): Extension<SchedulingGroup>,
    Extension(request): Extension<RequestId>,
    Extension(address): Extension<ClientAddress>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let admitted = socket::upgrade(upgrade, MAX_TEXT)
        .and_then(|upgrade| Ok((upgrade, app.admission.event_stream(&client)?)));
    let (upgrade, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    let tracked = app.waves.sockets.token();
    upgrade.on_upgrade(async move |socket| {
        let open = OpenStream::new(Some(permit));
        let mut access = app.tokens.clone().map(|tokens| (tokens, client.clone()));
        let mut screen = Screen::new(app, client, request, address);
        let mut socket = Socket::new(socket);
        run_scheduled(&group, async move {
            let end = screen.run(&mut socket, &mut access).await;
            drop(screen);
            socket.finish(end, "live").await;
        })
        .await;
        drop((open, connection, tracked));
    })
}

/// The audit line of a subscription.
#[derive(Serialize)]
struct Subscribed<'a> {
    message: &'static str,
    request_id: String,
    client: &'a str,
    role: &'static str,
    patient: String,
}

/// A subscription to a patient.
struct Subscription {
    mode: LiveMode,
    /// Distinguishes its items from those of an earlier subscription to the same patient.
    number: u64,
    /// Server time of the end of the last frame that was sent; of the subscription if there is none.
    sent_us: i64,
    /// Waveforms since this server time were lost.
    lost_since_us: Option<i64>,
    items: AbortHandle,
    _feed: Arc<Feed>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.items.abort();
    }
}

/// An item of a subscription; `None` if items were lost.
struct Received {
    mrn: Mrn,
    subscription: u64,
    item: Option<Item>,
}

/// A connected screen.
struct Screen {
    app: Arc<App>,
    client: Client,
    request: RequestId,
    address: ClientAddress,
    subscriptions: HashMap<Mrn, Subscription>,
    next_subscription: u64,
    items: SelectAll<BoxStream<'static, Received>>,
    /// Numbers of streams in binary messages.
    streams: HashMap<StreamId, u16>,
    next_stream: u32,
    pace: Pace,
}

impl Screen {
    fn new(app: Arc<App>, client: Client, request: RequestId, address: ClientAddress) -> Self {
        Screen {
            app,
            client,
            request,
            address,
            subscriptions: HashMap::new(),
            next_subscription: 0,
            items: SelectAll::new(),
            streams: HashMap::new(),
            next_stream: 0,
            pace: Pace::new(),
        }
    }

    async fn run(&mut self, socket: &mut Socket, access: &mut Access) -> End {
        match self.serve(socket, access).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn serve(&mut self, socket: &mut Socket, access: &mut Access) -> Result<End, End> {
        let app = self.app.clone();
        let mut moves = self.client.is_limited().then(|| app.wards.moves());
        let mut recheck = tokio::time::interval_at(Instant::now() + RECHECK, RECHECK);
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        loop {
            let paused_until = self.pace.wait_until();
            tokio::select! {
                biased;
                () = app.shutdown.begun() => return Ok(close::GOING_AWAY.into()),
                () = revoked(access) => return Ok(close::UNAUTHORIZED.into()),
                () = tokio::time::sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {}
                message = socket.receive(), if paused_until.is_none() => {
                    self.pace.count(Duration::ZERO);
                    match message? {
                        Incoming::Text(text) => self.request(&text, socket).await?,
                        Incoming::Binary(_) => return Err(End::malformed("requests are text messages")),
                        Incoming::Control => {}
                    }
                }
                Some(first) = self.items.next() => {
                    self.deliver(first, socket).await?;
                    for _ in 1..BATCH {
                        let Some(Some(more)) = self.items.next().now_or_never() else { break };
                        self.deliver(more, socket).await?;
                    }
                    socket.flush().await?;
                }
                _ = ping.tick() => socket.ping().await?,
                () = moved(&mut moves) => self.check_access(socket).await?,
                // An emergency access ends without a move.
                _ = recheck.tick(), if moves.is_some() => self.check_access(socket).await?,
            }
        }
    }

    async fn request(&mut self, text: &str, socket: &mut Socket) -> Result<(), End> {
        let request = match serde_json::from_str(text) {
            Ok(request) => request,
            Err(error) => {
                return socket.send_json(&LiveMessage::Rejected { message: format!("{error}.") }).await;
            }
        };
        match request {
            LiveRequest::Unsubscribe { mrn } => {
                self.subscriptions.remove(&mrn);
                socket.send_json(&LiveMessage::Closed { mrn }).await
            }
            LiveRequest::Subscribe { mrn, mode } => {
                if let Err(error) = wards::check(&self.app, &self.client, mrn).await {
                    return socket.send_json(&LiveMessage::Rejected { message: error.detail }).await;
                }
                let is_known = self.subscriptions.contains_key(&mrn);
                if !is_known && self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                    let message = format!("A connection subscribes to at most {MAX_SUBSCRIPTIONS} patients.");
                    return socket.send_json(&LiveMessage::Rejected { message }).await;
                }
                if !is_known && self.audit(mrn).await.is_err() {
                    let message = "The audit cannot be written for now, so nothing can be read.".to_owned();
                    return socket.send_json(&LiveMessage::Rejected { message }).await;
                }
                self.subscribe(mrn, mode, socket).await
            }
        }
    }

    /// Ends the subscriptions to patients whom the client may not access any more.
    async fn check_access(&mut self, socket: &mut Socket) -> Result<(), End> {
        let subscribed: Vec<Mrn> = self.subscriptions.keys().copied().collect();
        for mrn in subscribed {
            // While query cannot be reached, what was allowed goes on.
            if wards::may_access(&self.app, &self.client, mrn).await.is_ok_and(|may| !may) {
                self.subscriptions.remove(&mrn);
                socket.send_json(&LiveMessage::Closed { mrn }).await?;
            }
        }
        Ok(())
    }

    async fn audit(&mut self, mrn: Mrn) -> Result<(), NotStored> {
        let subscribed = AuditEvent {
            at: Timestamp::now(),
            client: self.client.name.to_string(),
            role: self.client.role.name().to_owned(),
            wards: self.client.wards.as_deref().map(<[WardId]>::to_vec),
            address: self.address.0,
            method: "SUBSCRIBE".to_owned(),
            route: "/api/v1/live".to_owned(),
            mrn: Some(mrn),
            id: None,
            upload_id: None,
            request_id: Some(self.request.0),
            status: 200,
            outcome: "ok".to_owned(),
        };
        self.app.audit_chain.store(subscribed).await?;
        self.app.audit.write(&Subscribed {
            message: "subscribed",
            request_id: self.request.0.to_string(),
            client: &self.client.name,
            role: self.client.role.name(),
            patient: self.app.audit.patient(mrn),
        });
        Ok(())
    }

    async fn subscribe(&mut self, mrn: Mrn, mode: LiveMode, socket: &mut Socket) -> Result<(), End> {
        let number = self.next_subscription;
        self.next_subscription += 1;
        let (feed, known, receiver) = self.app.waves.hub.subscribe(mrn);
        let following = stream::unfold(receiver, move |receiver| next_item(mrn, number, receiver));
        let (following, items) = abortable(following);
        self.items.push(following.boxed());
        let subscription =
            Subscription { mode, number, sent_us: now_us(), lost_since_us: None, items, _feed: feed };
        self.subscriptions.insert(mrn, subscription);
        for item in known {
            self.deliver(Received { mrn, subscription: number, item: Some(item) }, socket).await?;
        }
        socket.flush().await
    }

    /// Sends an item, or remembers that items were lost.
    async fn deliver(&mut self, received: Received, socket: &mut Socket) -> Result<(), End> {
        let Received { mrn, subscription: number, item } = received;
        let Some(subscription) = self.subscriptions.get_mut(&mrn).filter(|current| current.number == number)
        else {
            return Ok(());
        };
        match item {
            None | Some(Item::Lost) => {
                subscription.lost_since_us.get_or_insert(subscription.sent_us);
                Ok(())
            }
            Some(Item::Stream(description)) => self.number(&description, socket).await.map(drop),
            Some(Item::Vitals(vitals)) => {
                socket.queue_json(&LiveMessage::Vitals { vitals: (*vitals).clone() }).await
            }
            Some(Item::Closed) => socket.queue_json(&LiveMessage::Closed { mrn }).await,
            Some(Item::Frame(frame)) => {
                let (lost, mode) = (subscription.lost_since_us.take(), subscription.mode);
                subscription.sent_us = frame.end_us;
                if let Some(since_us) = lost {
                    metrics::counter!("bedside_gateway_live_losses_total").increment(1);
                    let (from, to) = (timestamp(since_us), timestamp(frame.time_us.max(since_us)));
                    socket.queue_json(&LiveMessage::Lost { mrn, from, to }).await?;
                }
                // After a loss, the description may be among what was lost.
                let number = self.number(&frame.description, socket).await?;
                let message = match mode {
                    LiveMode::Full => {
                        LiveFrame::Frame { number, time_us: frame.time_us, frame: frame.bytes.clone() }
                    }
                    LiveMode::Overview => LiveFrame::Columns {
                        number,
                        time_us: frame.time_us,
                        blocks: frame.columns().to_vec(),
                    },
                };
                socket.queue_binary(message.encode()).await
            }
        }
    }

    /// Returns the number of a stream on this connection. Sends the description of a new one.
    async fn number(&mut self, description: &StreamDescription, socket: &mut Socket) -> Result<u16, End> {
        if let Some(number) = self.streams.get(&description.stream) {
            return Ok(*number);
        }
        // A new connection has new numbers.
        let number = u16::try_from(self.next_stream).map_err(|_| End::from(close::GOING_AWAY))?;
        self.next_stream += 1;
        self.streams.insert(description.stream, number);
        socket.queue_json(&LiveMessage::Stream { number, description: description.clone() }).await?;
        Ok(number)
    }
}

/// Resolves when a patient may have moved; never for a client that may access all patients.
async fn moved(moves: &mut Option<watch::Receiver<()>>) {
    if let Some(moves) = moves
        && moves.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The next item of a subscription.
async fn next_item(
    mrn: Mrn,
    subscription: u64,
    mut receiver: Receiver<Item>,
) -> Option<(Received, Receiver<Item>)> {
    let item = match receiver.recv().await {
        Ok(item) => Some(item),
        Err(RecvError::Lagged(_)) => None,
        Err(RecvError::Closed) => return None,
    };
    Some((Received { mrn, subscription, item }, receiver))
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_millis(micros.div_euclid(1_000)).unwrap_or_else(|_| Timestamp::now())
}
