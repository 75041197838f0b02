//! The connection to the broker: requests, durable publishes, round trips, and the connection history.
//!
//! Invariant: every durable publish carries a message id. If no acknowledgement arrives, it is sent again
//! with the same id, so the stream stores the message once. The duplicate window of the streams is longer
//! than [`PUBLISH_DEADLINE`].
//!
//! Failure modes: a stream without a leader has no responders, or its request times out. Publishes are
//! retried for [`PUBLISH_DEADLINE`], which is longer than an election. Other requests are retried only if
//! streams are replicated; they must be idempotent.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::client::Statistics;
use async_nats::{
    Client, Event, HeaderMap, Message, Request, RequestError, RequestErrorKind, ServerError, Subscriber,
};
use bytes::Bytes;
use proto_json::UploadId;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{NatsConfig, names};
use crate::{BusError, EnqueueError};

/// A subject without subscribers. The broker answers "no responders" at once, which proves that it has
/// processed everything that was sent before on this connection.
const PING: &str = "bedside.ping";

/// How long a publish is retried. A stream that lost its leader has a new one after 4 to 9 s; no setting of
/// the server changes that.
pub(super) const PUBLISH_DEADLINE: Duration = Duration::from_secs(15);
/// A request that takes longer is sent again, where it may be retried: the server that should answer may have
/// died.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before a request is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// How long a request is retried while a replicated stream or consumer has no leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// What has happened to the connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) is_connected: bool,
    /// Number of times the connection was established.
    pub(super) connects: u64,
    /// Number of messages dropped because a subscriber was too slow.
    pub(super) overflows: u64,
    /// Number of permission violations on publish.
    pub(super) denials: u64,
}

/// An error of the JetStream API.
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
    /// The stream or the whole broker is full.
    pub(super) fn is_full(&self) -> bool {
        match self.err_code {
            // Storage of the server or the account is used up.
            10_002 | 10_023 | 10_047 => true,
            // "maximum messages exceeded", "maximum bytes exceeded"; other failures of the store have the
            // same code.
            10_077 => self.description.contains("maximum"),
            10_122 => true,
            _ => false,
        }
    }

    /// The same publish succeeds later: JetStream has no leader, or an earlier copy of the message is still
    /// in process.
    fn is_temporary(&self) -> bool {
        (self.code == 503 && !self.is_storage()) || self.err_code == 10_158
    }

    /// The subject has a message although none was expected.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.err_code, 10_071 | 10_164)
    }

    /// The message is not the cause: the stream or consumer does not exist (10,014 and 10,059), its store
    /// failed (10,077), or storage is used up.
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

/// A reply of the API.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reply<T> {
    Failed { error: ApiError },
    Done(T),
}

/// The acknowledgement of a stream: the message is durable.
#[derive(Debug, Deserialize)]
struct PublishAck {
    #[serde(rename = "seq")]
    _sequence: u64,
}

#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    history: watch::Receiver<History>,
    timeout: Duration,
    /// Streams have replicas, so that another server takes over when one dies.
    pub(super) is_replicated: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("history", &*self.history.borrow()).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) async fn open(config: &NatsConfig) -> Result<Self, BusError> {
        let (changes, history) = watch::channel(History::default());
        let changes = Arc::new(changes);
        let statistics: Arc<OnceLock<Arc<Statistics>>> = Arc::default();
        let (known, first) = (Arc::clone(&statistics), Arc::clone(&changes));
        let events = config.options().event_callback(move |event| {
            let (changes, statistics) = (Arc::clone(&changes), Arc::clone(&known));
            async move { record(&changes, statistics.get(), &event) }
        });
        let client = events.connect(&config.urls[..]).await.map_err(BusError::unavailable)?;
        let counts = statistics.get_or_init(|| client.statistics());
        // The event of the first connection may have arrived before the statistics were set, or may arrive
        // later. Either way it must not count as a reconnect.
        first.send_modify(|history| {
            history.is_connected = true;
            history.connects = history.connects.max(counts.connects.load(Ordering::Relaxed));
        });
        drop(first);
        let is_replicated = config.replicas > 1;
        let connection = Connection { client, history, timeout: config.request_timeout, is_replicated };
        connection.round_trip().await?;
        Ok(connection)
    }

    /// What has happened to the connection, as a watch channel.
    pub(super) fn history(&self) -> watch::Receiver<History> {
        self.history.clone()
    }

    /// Sends a request and waits for the reply. The request is sent again after a reconnect, and while a
    /// replicated stream has no leader. It must be idempotent.
    pub(super) async fn request(&self, subject: String, payload: Bytes) -> Result<Message, BusError> {
        let timeout = self.is_replicated.then_some(ATTEMPT_TIMEOUT);
        let requesting = async {
            loop {
                match self.attempt(&subject, None, &payload, timeout).await {
                    Err(error) if self.is_replicated && may_have_no_leader(error.kind()) => {
                        tokio::time::sleep(RETRY_WAIT).await;
                    }
                    reply => return reply,
                }
            }
        };
        let limit =
            if self.is_replicated { ELECTION_TIMEOUT.max(self.timeout * 2) } else { self.timeout * 2 };
        // Without a connection, the client may block before it sends.
        tokio::time::timeout(limit, requesting).await.map_err(BusError::unavailable)?.map_err(failed)
    }

    /// Sends a request, and sends it again after each reconnect.
    async fn attempt(
        &self,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &Bytes,
        timeout: Option<Duration>,
    ) -> Result<Message, RequestError> {
        let mut history = self.history();
        loop {
            let connects = history.borrow_and_update().connects;
            let mut request = Request::new().payload(payload.clone());
            if let Some(headers) = headers {
                request = request.headers(headers.clone());
            }
            if timeout.is_some() {
                request = request.timeout(timeout);
            }
            tokio::select! {
                reply = self.client.send_request(subject.to_owned(), request) => return reply,
                Ok(_) = history.wait_for(|history| history.connects > connects) => {}
            }
        }
    }

    /// Calls the JetStream API.
    pub(super) async fn api<T: serde::de::DeserializeOwned>(
        &self,
        call: &str,
        arguments: &serde_json::Value,
    ) -> Result<Result<T, ApiError>, BusError> {
        parse(&self.request(format!("$JS.API.{call}"), arguments.to_string().into()).await?)
    }

    /// Publishes to a stream and waits until the message is durable. While the broker does not confirm, the
    /// message is sent again with the same message id, for up to [`PUBLISH_DEADLINE`].
    pub(super) async fn publish(
        &self,
        subject: String,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Result<(), ApiError>, BusError> {
        if headers.get(names::MESSAGE_ID).is_none() {
            headers.insert(names::MESSAGE_ID, UploadId::generate().to_string());
        }
        let deadline = Instant::now() + PUBLISH_DEADLINE;
        loop {
            let attempt = self.attempt(&subject, Some(&headers), &payload, Some(ATTEMPT_TIMEOUT));
            let error = match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
                Ok(Ok(reply)) => match parse::<PublishAck>(&reply)? {
                    Err(error) if error.is_temporary() => error.into(),
                    reply => return Ok(reply.map(|_| ())),
                },
                Ok(Err(error)) => match failed(error) {
                    error @ BusError::Unavailable(_) => error,
                    error => return Err(error),
                },
                Err(elapsed) => BusError::unavailable(elapsed),
            };
            if Instant::now() + RETRY_WAIT >= deadline {
                return Err(error);
            }
            tracing::debug!(subject, %error, "a publish was not confirmed; retrying");
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    /// Subscribes to a subject. The subscription is active when this returns.
    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        let subscribe = self.client.subscribe(subject);
        let subscriber = tokio::time::timeout(self.timeout, subscribe)
            .await
            .map_err(BusError::unavailable)?
            .map_err(BusError::refused)?;
        self.round_trip().await?;
        Ok(subscriber)
    }

    /// Publishes a core NATS message, without confirmation.
    pub(super) async fn publish_core(
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

    /// Returns once the broker has processed everything that was sent before on this connection. A client
    /// without permission for the ping receives a permission violation instead, which proves the same.
    pub(super) async fn round_trip(&self) -> Result<(), BusError> {
        let mut history = self.history();
        let denials = history.borrow_and_update().denials;
        let denied = async {
            let denied = history.wait_for(|history| history.denials != denials).await.is_ok();
            if !denied {
                std::future::pending::<()>().await;
            }
        };
        let ping = tokio::time::timeout(self.timeout, self.client.send_request(PING, Request::new()));
        tokio::select! {
            reply = ping => match reply.map_err(BusError::unavailable)? {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
                Err(error) => Err(BusError::unavailable(error)),
            },
            () = denied => Ok(()),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(reply: &Message) -> Result<Result<T, ApiError>, BusError> {
    match serde_json::from_slice(&reply.payload).map_err(BusError::encoding)? {
        Reply::Done(done) => Ok(Ok(done)),
        Reply::Failed { error } => Ok(Err(error)),
    }
}

fn failed(error: RequestError) -> BusError {
    match error.kind() {
        RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => BusError::refused(error),
        _ => BusError::unavailable(error),
    }
}

/// Whether the error can mean that a stream has lost its leader and will have another.
fn may_have_no_leader(error: RequestErrorKind) -> bool {
    matches!(error, RequestErrorKind::NoResponders | RequestErrorKind::TimedOut)
}

/// Records an event of the connection. The client drops events if many arrive at once, so the number of
/// connections is read from its statistics.
fn record(changes: &watch::Sender<History>, statistics: Option<&Arc<Statistics>>, event: &Event) {
    match event {
        Event::Disconnected => tracing::warn!("disconnected from the broker"),
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
