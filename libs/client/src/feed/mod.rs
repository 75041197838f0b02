//! What changes, pushed: subscribe, then load the snapshot, then pass on what is newer; on every reconnect again.
//!
//! Announcements come over NATS if that is configured and answers, else as server-sent events of the gateway; while
//! neither works, the snapshot is polled. The feed falls back and climbs up again by itself and says which it is on.

mod backoff;
mod follow;
mod known;
#[cfg(feature = "nats")]
mod nats;
mod source;
mod stream;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use proto_json::{DamagedRecord, Mrn, PatientSummary, PatientUpdated, Timestamp};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Gateway;
#[cfg(feature = "nats")]
pub use nats::{DEFAULT_NATS_INBOX, NatsCredentials, NatsSettings};

/// Events that wait for a slow reader before the feed waits for it in turn.
const WAITING: usize = 256;

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// Where snapshots and server-sent events come from.
    pub gateway: Gateway,
    /// One patient, or all.
    pub of: Option<Mrn>,
    /// The broker, for those who have access to it.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsSettings>,
    /// How often to load the snapshot while nothing is pushed.
    pub poll_every: Duration,
    /// How often to load the snapshot while updates are pushed: heals what a lost announcement left behind.
    pub reload_every: Duration,
    /// How long a connection may be silent before it counts as dead; at least a little more than two of the gateway's
    /// keep-alive intervals, whatever is set here.
    pub silence: Duration,
}

impl FeedSettings {
    /// Follows one patient or all through this gateway.
    #[must_use]
    pub fn new(gateway: Gateway, of: Option<Mrn>) -> Self {
        FeedSettings {
            gateway,
            of,
            #[cfg(feature = "nats")]
            nats: None,
            poll_every: Duration::from_secs(5),
            reload_every: Duration::from_secs(60),
            silence: Duration::from_secs(20),
        }
    }
}

/// What the feed tells.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedEvent {
    /// How updates come from now on. While it says [`FeedMode::Offline`], what is shown may be out of date.
    Connection(ConnectionState),
    /// Everything there is now: replaces all that was told before. Comes first, and again whenever updates may have
    /// been missed and something is different.
    Snapshot(Vec<PatientSummary>),
    /// The patients' records that are damaged and therefore missing from the snapshot. Comes whenever they are others than
    /// before; empty when there are none any more.
    Damaged(Vec<DamagedRecord>),
    /// One patient has changed; always newer than what was told of that patient before.
    Updated(Box<PatientUpdated>),
}

/// How updates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedMode {
    /// Pushed by the broker.
    Nats,
    /// Pushed by the gateway.
    ServerSentEvents,
    /// Asked for again and again.
    Polling,
    /// The gateway cannot be reached or does not answer: nothing older can be loaded, and nothing may come at all.
    Offline,
}

impl FeedMode {
    /// Whether updates come by themselves.
    #[must_use]
    pub fn is_push(self) -> bool {
        matches!(self, FeedMode::Nats | FeedMode::ServerSentEvents)
    }
}

impl fmt::Display for FeedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FeedMode::Nats => "connected, updates are pushed by NATS",
            FeedMode::ServerSentEvents => "connected, updates are pushed by the gateway",
            FeedMode::Polling => "connected, updates are polled",
            FeedMode::Offline => "offline",
        })
    }
}

/// How updates come, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionState {
    /// How.
    pub mode: FeedMode,
    /// Since when, by this machine's clock.
    pub since: Timestamp,
    /// Why it is not better: one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A running feed. It never ends by itself; dropping it ends it.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts a feed on the current tokio runtime.
    #[must_use]
    pub fn start(settings: FeedSettings) -> Self {
        let (tell, events) = mpsc::channel(WAITING);
        Feed { events, task: tokio::spawn(follow::run(settings, tell)) }
    }

    /// The next event. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        self.events.recv().await
    }
}

impl Stream for Feed {
    type Item = FeedEvent;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FeedEvent>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
