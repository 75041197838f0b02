//! Subscription to updates at the NATS server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr, Subscriber};
use futures::StreamExt;
use futures::stream::SelectAll;
use proto_json::{Mrn, updates_subject};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::subscription::{SourceEvent, SubscriptionEnded};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Wait after the broker has rejected the credentials.
const REJECTED_WAIT: Duration = Duration::from_secs(10);

/// Prefix of the reply subjects of the NATS user `monitor`.
pub const DEFAULT_NATS_INBOX: &str = "_INBOX_monitor";

/// Settings of the connection to NATS.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// Addresses of the servers, separated by commas, such as `nats://127.0.0.1:4222`.
    pub url: String,
    /// Credentials of the user.
    pub credentials: Option<NatsCredentials>,
    /// Prefix of the reply subjects that this user may subscribe to.
    pub inbox_prefix: String,
    /// File of certificates (PEM) to trust in addition to those of the operating system.
    pub extra_certificates: Option<PathBuf>,
}

impl NatsSettings {
    /// Settings without credentials.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        NatsSettings {
            url: url.into(),
            credentials: None,
            inbox_prefix: DEFAULT_NATS_INBOX.to_owned(),
            extra_certificates: None,
        }
    }
}

/// Credentials of a NATS user.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsCredentials {
    /// User name and password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl NatsCredentials {
    /// Parses `user:password`, or a token.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, password)) => {
                NatsCredentials::Password { user: user.to_owned(), password: password.to_owned() }
            }
            None => NatsCredentials::Token(text.to_owned()),
        }
    }
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsCredentials(…)")
    }
}

/// Subscribes in the background, with retries.
#[derive(Debug)]
pub(super) struct NatsConnector {
    settings: Option<NatsSettings>,
    of: Option<Mrn>,
    silence: Duration,
    task: Option<JoinHandle<Subscription>>,
}

impl NatsConnector {
    pub(super) fn start(settings: Option<NatsSettings>, of: Option<Mrn>, silence: Duration) -> Self {
        let mut connector = NatsConnector { settings, of, silence, task: None };
        connector.connect();
        connector
    }

    /// Starts to subscribe again.
    pub(super) fn connect(&mut self) {
        if let Some(settings) = self.settings.clone() {
            let (of, silence) = (self.of, self.silence);
            self.stop();
            self.task = Some(tokio::spawn(subscribe_with_retries(settings, of, silence)));
        }
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.task.is_some()
    }

    /// Resolves with the subscription once it is active; never without settings. Cancel safe.
    pub(super) async fn connected(&mut self) -> Subscription {
        if let Some(task) = &mut self.task {
            let subscription = task.await;
            self.task = None;
            if let Ok(subscription) = subscription {
                return subscription;
            }
        }
        std::future::pending().await
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for NatsConnector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An active subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    messages: SelectAll<Subscriber>,
    events: mpsc::Receiver<Event>,
    /// Keeps the connection open.
    _client: Client,
}

impl Subscription {
    /// Parses a message. The content of an unreadable message is unknown: the snapshot has to be loaded.
    fn parse(message: &Message) -> SourceEvent {
        let parsed = if message.subject.starts_with("patient.") {
            serde_json::from_slice(&message.payload).map(SourceEvent::Updated)
        } else {
            serde_json::from_slice(&message.payload).map(SourceEvent::System)
        };
        parsed.unwrap_or_else(|error| {
            tracing::debug!(%error, subject = %message.subject, "cannot parse a message");
            SourceEvent::Lagged
        })
    }

    pub(super) async fn next(&mut self) -> Result<SourceEvent, SubscriptionEnded> {
        let ended = |reason: &str| Err(SubscriptionEnded(reason.to_owned()));
        loop {
            tokio::select! {
                message = self.messages.next() => return match message {
                    Some(message) => Ok(Self::parse(&message)),
                    None => ended("the broker ended the subscription"),
                },
                event = self.events.recv() => match event {
                    // The library would reconnect on its own. Only a new subscription, and a snapshot after it, miss no
                    // update.
                    Some(Event::Disconnected | Event::Closed) | None => {
                        return ended("the connection to the broker broke");
                    }
                    Some(Event::LameDuckMode | Event::Draining) => return ended("the broker is shutting down"),
                    Some(Event::SlowConsumer(_)) => return Ok(SourceEvent::Lagged),
                    Some(Event::Connected | Event::ServerError(_) | Event::ClientError(_)) => {}
                },
            }
        }
    }
}

/// Why a subscription failed.
#[derive(Debug, thiserror::Error)]
enum SubscribeError {
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    #[error("the broker rejects the connection: {0}")]
    Rejected(String),
}

async fn subscribe_with_retries(settings: NatsSettings, of: Option<Mrn>, silence: Duration) -> Subscription {
    let mut backoff = Backoff::new();
    loop {
        let wait = match timeout(CONNECT_LIMIT, subscribe(&settings, of, silence)).await {
            Ok(Ok(subscription)) => return subscription,
            Ok(Err(error @ SubscribeError::Rejected(_))) => {
                tracing::warn!(%error, "cannot subscribe at the broker");
                REJECTED_WAIT
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot subscribe at the broker");
                backoff.next()
            }
            Err(_) => backoff.next(),
        };
        sleep(wait).await;
    }
}

async fn subscribe(
    settings: &NatsSettings,
    of: Option<Mrn>,
    silence: Duration,
) -> Result<Subscription, SubscribeError> {
    let unreachable = |error: &dyn fmt::Display| SubscribeError::Unreachable(error.to_string());
    let servers = settings
        .url
        .split(',')
        .map(|url| url.trim().parse::<ServerAddr>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SubscribeError::Rejected(format!("its address is wrong: {error}")))?;
    let (sender, mut events) = mpsc::channel(64);
    let client = options(settings, silence, servers.len())
        .event_callback(move |event| {
            let sender = sender.clone();
            async move { drop(sender.send(event).await) }
        })
        .connect(servers)
        .await
        .map_err(|error| match error.kind() {
            async_nats::ConnectErrorKind::Authentication
            | async_nats::ConnectErrorKind::AuthorizationViolation => {
                SubscribeError::Rejected(error.to_string())
            }
            _ => unreachable(&error),
        })?;
    let alarms = of.map_or_else(|| "alarm.*".to_owned(), |mrn| format!("alarm.{mrn}"));
    let mut messages = SelectAll::new();
    for subject in [updates_subject(of), alarms, "system.*".to_owned()] {
        messages.push(client.subscribe(subject).await.map_err(|error| unreachable(&error))?);
    }

    // The broker handles the commands of a connection in order: when this message returns, the subscription before it is
    // active. A flush would only show that the bytes were sent.
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.map_err(|error| unreachable(&error))?;
    client.publish(inbox.clone(), bytes::Bytes::new()).await.map_err(|error| unreachable(&error))?;
    client.flush().await.map_err(|error| unreachable(&error))?;
    loop {
        tokio::select! {
            message = echo.next() => match message {
                Some(_) => break,
                None => return Err(unreachable(&"it closed the connection")),
            },
            event = events.recv() => match event {
                Some(Event::ServerError(error)) => {
                    let text = error.to_string();
                    if text.contains(&inbox) {
                        // The user may not subscribe to an inbox. This error shows the same as a message would.
                        break;
                    }
                    return Err(SubscribeError::Rejected(text));
                }
                Some(Event::Disconnected | Event::Closed) | None => {
                    return Err(unreachable(&"it closed the connection"));
                }
                Some(_) => {}
            },
        }
    }
    Ok(Subscription { messages, events, _client: client })
}

fn options(settings: &NatsSettings, silence: Duration, servers: usize) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .name("bedside-monitor")
        .custom_inbox_prefix(&settings.inbox_prefix)
        .connection_timeout(CONNECT_LIMIT)
        // A connection is closed after two unanswered pings, so that a dead connection is detected within `silence`.
        .ping_interval(silence / 4)
        // The feed reconnects on its own. This limits the attempts of the library.
        .max_reconnects(servers)
        .reconnect_delay_callback(|_| Duration::ZERO);
    if let Some(file) = &settings.extra_certificates {
        options = options.add_root_certificates(file.clone());
    }
    match &settings.credentials {
        None => options,
        Some(NatsCredentials::Token(token)) => options.token(token.clone()),
        Some(NatsCredentials::Password { user, password }) => {
            options.user_and_password(user.clone(), password.clone())
        }
    }
}
