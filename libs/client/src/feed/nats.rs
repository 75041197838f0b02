//! Updates straight from the broker.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use futures::StreamExt;
use proto_json::{Mrn, updates_subject};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::source::{Lost, Pushed};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Wait after the broker refused: only a person can mend that.
const REFUSED_WAIT: Duration = Duration::from_secs(10);

/// Prefix of the reply subjects of the NATS user `monitor`.
pub const DEFAULT_NATS_INBOX: &str = "_INBOX_monitor";

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// Addresses of its servers, separated by commas, as in `nats://127.0.0.1:4222`.
    pub url: String,
    /// How to be let in.
    pub credentials: Option<NatsCredentials>,
    /// Prefix of the reply subjects this user may subscribe to: each user has its own.
    pub inbox_prefix: String,
    /// File of certificates (PEM) to trust besides those of the operating system.
    pub extra_certificates: Option<PathBuf>,
}

impl NatsSettings {
    /// A broker that asks for no credentials.
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

/// How to be let in by the broker.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsCredentials {
    /// Name and password.
    Password {
        /// Name.
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

/// Looks for the broker, in the background, until a subscription is in force.
#[derive(Debug)]
pub(super) struct Broker {
    settings: Option<NatsSettings>,
    of: Option<Mrn>,
    silence: Duration,
    search: Option<JoinHandle<Subscription>>,
}

impl Broker {
    pub(super) fn start(settings: Option<NatsSettings>, of: Option<Mrn>, silence: Duration) -> Self {
        let mut broker = Broker { settings, of, silence, search: None };
        broker.seek();
        broker
    }

    /// Starts to look for it again.
    pub(super) fn seek(&mut self) {
        if let Some(settings) = self.settings.clone() {
            let (of, silence) = (self.of, self.silence);
            self.stop();
            self.search = Some(tokio::spawn(search(settings, of, silence)));
        }
    }

    pub(super) fn is_sought(&self) -> bool {
        self.search.is_some()
    }

    /// The subscription, once it is in force; never without settings. Dropping the future loses nothing.
    pub(super) async fn ready(&mut self) -> Subscription {
        if let Some(search) = &mut self.search {
            if let Ok(found) = search.await {
                self.search = None;
                return found;
            }
            self.search = None;
        }
        std::future::pending().await
    }

    fn stop(&mut self) {
        if let Some(search) = self.search.take() {
            search.abort();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A subscription in force.
#[derive(Debug)]
pub(super) struct Subscription {
    updates: Subscriber,
    events: mpsc::Receiver<Event>,
    /// Holds the connection.
    _client: Client,
}

impl Subscription {
    pub(super) async fn next(&mut self) -> Result<Pushed, Lost> {
        let lost = |reason: &str| Err(Lost(reason.to_owned()));
        loop {
            tokio::select! {
                message = self.updates.next() => return match message {
                    Some(message) => Ok(serde_json::from_slice(&message.payload).map_or_else(
                        |error| {
                            tracing::debug!(%error, "unreadable announcement");
                            Pushed::Lagged
                        },
                        Pushed::Updated,
                    )),
                    None => lost("the broker ended the subscription"),
                },
                event = self.events.recv() => match event {
                    // The library would reconnect by itself; but only a new subscription and a new snapshot after it
                    // are sure to miss nothing.
                    Some(Event::Disconnected | Event::Closed) | None => {
                        return lost("the connection to the broker broke");
                    }
                    Some(Event::LameDuckMode | Event::Draining) => return lost("the broker is going down"),
                    Some(Event::SlowConsumer(_)) => return Ok(Pushed::Lagged),
                    Some(Event::Connected | Event::ServerError(_) | Event::ClientError(_)) => {}
                },
            }
        }
    }
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
enum NoSubscription {
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    #[error("the broker does not let us in: {0}")]
    Refused(String),
}

async fn search(settings: NatsSettings, of: Option<Mrn>, silence: Duration) -> Subscription {
    let mut backoff = Backoff::new();
    loop {
        let wait = match timeout(CONNECT_LIMIT, subscribe(&settings, of, silence)).await {
            Ok(Ok(subscription)) => return subscription,
            Ok(Err(error @ NoSubscription::Refused(_))) => {
                tracing::warn!(%error, "no updates from the broker");
                REFUSED_WAIT
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no updates from the broker");
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
) -> Result<Subscription, NoSubscription> {
    let unreachable = |error: &dyn fmt::Display| NoSubscription::Unreachable(error.to_string());
    let servers = settings
        .url
        .split(',')
        .map(|url| url.trim().parse::<ServerAddr>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| NoSubscription::Refused(format!("its address is wrong: {error}")))?;
    let (tell, mut events) = mpsc::channel(64);
    let client = options(settings, silence, servers.len())
        .event_callback(move |event| {
            let tell = tell.clone();
            async move { drop(tell.send(event).await) }
        })
        .connect(servers)
        .await
        .map_err(|error| match error.kind() {
            async_nats::ConnectErrorKind::Authentication
            | async_nats::ConnectErrorKind::AuthorizationViolation => {
                NoSubscription::Refused(error.to_string())
            }
            _ => unreachable(&error),
        })?;
    let subject = updates_subject(of);
    let updates = client.subscribe(subject.clone()).await.map_err(|error| unreachable(&error))?;

    // The broker works through a connection's commands in order: once our own message is back, the subscription before
    // it is in force. Flushing would only prove that the bytes have left.
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
                        // We may not have an inbox; but this answer has made the same round.
                        break;
                    }
                    return Err(NoSubscription::Refused(text));
                }
                Some(Event::Disconnected | Event::Closed) | None => {
                    return Err(unreachable(&"it closed the connection"));
                }
                Some(_) => {}
            },
        }
    }
    Ok(Subscription { updates, events, _client: client })
}

fn options(settings: &NatsSettings, silence: Duration, servers: usize) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .name("bedside-monitor")
        .custom_inbox_prefix(&settings.inbox_prefix)
        .connection_timeout(CONNECT_LIMIT)
        // Two pings may be unanswered: so a dead connection is noticed within `silence`.
        .ping_interval(silence / 4)
        // Reconnecting is our own business; this bounds what the library does before it learns that we are gone.
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
