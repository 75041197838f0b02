//! The connection: requests, durable publishing, round trips, and what has happened to it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::client::Statistics;
use async_nats::{
    Client, Event, HeaderMap, Message, Request, RequestError, RequestErrorKind, ServerError, Subscriber,
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::watch;

use super::NatsConfig;
use crate::{BusError, EnqueueError};

/// Nobody listens to it. The broker says so at once, which proves that it has worked off all that was sent before.
const PING: &str = "bedside.ping";

/// Where others can take over, an answer that takes longer is asked for anew: who should give it may have died.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Wait before a stream without a leader is asked again.
pub(super) const LEADERLESS_WAIT: Duration = Duration::from_millis(100);
/// A new leader is elected 4 to 9 s after the last word of one that died; no setting of the server changes that.
pub(super) const ELECTION: Duration = Duration::from_secs(15);

/// What has happened to the connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) is_connected: bool,
    /// How often it was made.
    pub(super) connects: u64,
    /// How often a listener was too slow and a message was dropped.
    pub(super) overflows: u64,
    /// How often the broker forbade something.
    pub(super) denials: u64,
}

/// An error the API of JetStream answered.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{description} (JetStream error {err_code})")]
pub(super) struct ApiError {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl ApiError {
    /// The stream, or the whole broker, takes no more.
    pub(super) fn is_full(&self) -> bool {
        match self.err_code {
            // Storage of the server or the account is used up.
            10_002 | 10_023 | 10_047 => true,
            // "maximum messages exceeded", "maximum bytes exceeded"; other failures of the store have the same code.
            10_077 => self.description.contains("maximum"),
            10_122 => true,
            _ => false,
        }
    }

    /// The stream cannot say for now. It also has the message of before still under way, when that one was sent again.
    pub(super) fn is_for_now(&self) -> bool {
        self.code == 503 || self.err_code == 10_158
    }

    /// The subject has a message already, where none was expected.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.err_code, 10_071 | 10_164)
    }
}

impl ApiError {
    /// The message is not to blame: the stream or consumer is missing for now (10,014 and 10,059), its store failed
    /// (10,077), or storage is used up.
    fn is_storage(&self) -> bool {
        matches!(self.err_code, 10_014 | 10_059 | 10_077) || self.is_full()
    }
}

impl From<ApiError> for BusError {
    fn from(error: ApiError) -> Self {
        if error.code == 503 {
            BusError::unavailable(error)
        } else if error.is_storage() {
            BusError::storage(error)
        } else {
            BusError::refused(error)
        }
    }
}

impl From<ApiError> for EnqueueError {
    fn from(error: ApiError) -> Self {
        if error.is_full() { EnqueueError::Full } else { EnqueueError::Bus(error.into()) }
    }
}

/// An answer of the API: an error, or what was asked for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Failed { error: ApiError },
    Done(T),
}

/// The broker has a message durably.
#[derive(Debug, Deserialize)]
struct PublishAck {
    #[serde(rename = "seq")]
    _sequence: u64,
}

#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    history: watch::Receiver<History>,
    timeout: Duration,
    /// Whether another server takes over when one dies, so that it is worth while to ask again for some seconds.
    pub(super) is_cluster: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("history", &*self.history.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) async fn connect(config: &NatsConfig) -> Result<Self, BusError> {
        let (changes, history) = watch::channel(History::default());
        let changes = Arc::new(changes);
        let statistics: Arc<OnceLock<Arc<Statistics>>> = Arc::default();
        let (known, first) = (Arc::clone(&statistics), Arc::clone(&changes));
        let events = config.options().event_callback(move |event| {
            let (changes, statistics) = (Arc::clone(&changes), Arc::clone(&known));
            async move { note(&changes, statistics.get(), &event) }
        });
        let client = events.connect(&config.urls[..]).await.map_err(BusError::unavailable)?;
        let counts = statistics.get_or_init(|| client.statistics());
        // The event of this first connection may have come before the counts were there, or be still to come: nobody shall
        // take it for a second connection.
        first.send_modify(|history| {
            history.is_connected = true;
            history.connects = history.connects.max(counts.connects.load(Ordering::Relaxed));
        });
        drop(first);
        let is_cluster = config.replicas > 1;
        let link = Link { client, history, timeout: config.request_timeout, is_cluster };
        link.round_trip().await?;
        Ok(link)
    }

    /// What has happened, and a way to wait for more.
    pub(super) fn history(&self) -> watch::Receiver<History> {
        self.history.clone()
    }

    /// Asks and waits for the answer, whatever it says. Asks again when the connection was lost and is back, and in a cluster
    /// while a stream has no leader: the broker may have heard the first time, so nothing must be asked that does harm when
    /// it is asked twice.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, BusError> {
        let each = self.is_cluster.then_some(ASK_AGAIN);
        let asking = async {
            loop {
                match self.attempt(&subject, headers.as_ref(), &payload, each).await {
                    Err(error) if self.is_cluster && is_leaderless(error.kind()) => {
                        tokio::time::sleep(LEADERLESS_WAIT).await;
                    }
                    answer => return answer,
                }
            }
        };
        let limit = if self.is_cluster { ELECTION.max(self.timeout * 2) } else { self.timeout * 2 };
        // While there is no connection, even handing over the request may block.
        tokio::time::timeout(limit, asking).await.map_err(BusError::unavailable)?.map_err(failed)
    }

    /// As [`Link::ask`], but waits for no leader: there is somebody else to ask.
    pub(super) async fn ask_once(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, BusError> {
        let asking = self.attempt(&subject, headers.as_ref(), &payload, Some(limit));
        tokio::time::timeout(limit, asking).await.map_err(BusError::unavailable)?.map_err(failed)
    }

    /// Asks, and asks again when the connection was lost and is back.
    async fn attempt(
        &self,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &Bytes,
        limit: Option<Duration>,
    ) -> Result<Message, RequestError> {
        let mut history = self.history();
        loop {
            let connects = history.borrow_and_update().connects;
            let mut request = Request::new().payload(payload.clone());
            if let Some(headers) = headers {
                request = request.headers(headers.clone());
            }
            if limit.is_some() {
                request = request.timeout(limit);
            }
            tokio::select! {
                answer = self.client.send_request(subject.to_owned(), request) => return answer,
                Ok(_) = history.wait_for(|history| history.connects > connects) => {}
            }
        }
    }

    /// Calls the API of JetStream.
    pub(super) async fn api<T: serde::de::DeserializeOwned>(
        &self,
        call: &str,
        arguments: &serde_json::Value,
    ) -> Result<Result<T, ApiError>, BusError> {
        read(&self.ask(format!("$JS.API.{call}"), None, arguments.to_string().into()).await?)
    }

    /// Publishes into a stream and waits until it has the message durably.
    pub(super) async fn store(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Result<(), ApiError>, BusError> {
        Ok(read::<PublishAck>(&self.ask(subject, headers, payload).await?)?.map(|_| ()))
    }

    /// As [`Link::store`], but waits for no leader.
    pub(super) async fn store_once(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Result<(), ApiError>, BusError> {
        Ok(read::<PublishAck>(&self.ask_once(subject, headers, payload, limit).await?)?.map(|_| ()))
    }

    /// Listens to a subject. When this returns, the broker has noted it.
    pub(super) async fn listen(&self, subject: String) -> Result<Subscriber, BusError> {
        let subscribe = self.client.subscribe(subject);
        let heard = tokio::time::timeout(self.timeout, subscribe)
            .await
            .map_err(BusError::unavailable)?
            .map_err(BusError::refused)?;
        self.round_trip().await?;
        Ok(heard)
    }

    /// Sends without an answer.
    pub(super) async fn tell(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), BusError> {
        let sending = async {
            match headers {
                Some(headers) => self.client.publish_with_headers(subject, headers, payload).await,
                None => self.client.publish(subject, payload).await,
            }
        };
        tokio::time::timeout(self.timeout, sending)
            .await
            .map_err(BusError::unavailable)?
            .map_err(BusError::refused)
    }

    /// Returns when the broker has worked off everything this connection sent before. A client that may not even ask is
    /// told so, which proves the same.
    pub(super) async fn round_trip(&self) -> Result<(), BusError> {
        let mut history = self.history();
        let denials = history.borrow_and_update().denials;
        let denied = async {
            let denied = history.wait_for(|history| history.denials != denials).await.is_ok();
            if !denied {
                std::future::pending::<()>().await;
            }
        };
        let ask = tokio::time::timeout(self.timeout, self.client.send_request(PING, Request::new()));
        tokio::select! {
            answer = ask => match answer.map_err(BusError::unavailable)? {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
                Err(error) => Err(BusError::unavailable(error)),
            },
            () = denied => Ok(()),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &Message) -> Result<Result<T, ApiError>, BusError> {
    match serde_json::from_slice(&answer.payload).map_err(BusError::encoding)? {
        Answer::Done(done) => Ok(Ok(done)),
        Answer::Failed { error } => Ok(Err(error)),
    }
}

fn failed(error: RequestError) -> BusError {
    match error.kind() {
        RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => BusError::refused(error),
        _ => BusError::unavailable(error),
    }
}

/// Whether an error may mean that a stream has lost its leader, and will have another.
fn is_leaderless(error: RequestErrorKind) -> bool {
    matches!(error, RequestErrorKind::NoResponders | RequestErrorKind::TimedOut)
}

/// Notes an event of the connection. When many come at once, the client drops some: so the number of connections is read
/// anew each time.
fn note(changes: &watch::Sender<History>, statistics: Option<&Arc<Statistics>>, event: &Event) {
    match event {
        Event::Disconnected => tracing::warn!("the connection to the broker is lost"),
        Event::Connected => tracing::info!("connected to the broker"),
        Event::ServerError(error) => tracing::warn!(error = %error, "the broker reports an error"),
        Event::ClientError(error) => tracing::warn!(error = %error, "the connection to the broker failed"),
        _ => tracing::debug!(event = %event, "the connection to the broker has changed"),
    }
    changes.send_modify(|history| {
        match event {
            Event::Connected => history.is_connected = true,
            Event::Disconnected | Event::Closed => history.is_connected = false,
            Event::SlowConsumer(_) => history.overflows += 1,
            Event::ServerError(ServerError::Other(text))
                if text.to_lowercase().contains("permissions violation for publish") =>
            {
                history.denials += 1;
            }
            _ => {}
        }
        if let Some(statistics) = statistics {
            let connects = statistics.connects.load(Ordering::Relaxed);
            if connects > history.connects {
                history.is_connected = !matches!(event, Event::Disconnected | Event::Closed);
            }
            history.connects = connects;
        }
    });
}
