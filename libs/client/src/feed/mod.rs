//! Updates of patients: subscribes, loads a snapshot, and reports newer updates. Repeats this after each reconnect.
//!
//! Updates arrive over NATS if it is configured and reachable, otherwise as server-sent events of the gateway. While neither
//! works, the snapshot is polled. The feed changes the source on its own and reports which one it uses.

mod backoff;
mod event_stream;
mod follow;
#[cfg(feature = "nats")]
mod nats;
mod seen;
mod source;

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

/// Events that are buffered for a slow reader.
const MAX_BUFFERED: usize = 256;

/// Settings of a feed.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// Source of snapshots and server-sent events.
    pub gateway: Gateway,
    /// One patient, or all patients if `None`.
    pub of: Option<Mrn>,
    /// Connection to NATS, for clients that have access to it.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsSettings>,
    /// Interval at which the snapshot is loaded while no updates are pushed.
    pub poll_every: Duration,
    /// Interval at which the snapshot is loaded while updates are pushed. Corrects the effect of lost updates.
    pub reload_every: Duration,
    /// Longest silence of a connection before it counts as broken. At least 2.4 keep-alive intervals of the gateway are used.
    pub silence: Duration,
}

impl FeedSettings {
    /// Settings for one patient, or all patients, of this gateway.
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

/// An event of a feed.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedEvent {
    /// The state of the connection has changed. In mode [`FeedMode::Offline`], earlier data may be out of date.
    Connection(ConnectionState),
    /// All current patients. Replaces everything reported before. Sent first, and again whenever updates may have been missed
    /// and the data has changed.
    Snapshot(Vec<PatientSummary>),
    /// The damaged records, which are missing from the snapshot. Sent whenever the list changes.
    Damaged(Vec<DamagedRecord>),
    /// One patient has changed. Always newer than everything reported about this patient before.
    Updated(Box<PatientUpdated>),
}

/// How updates arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedMode {
    /// Pushed by NATS.
    Nats,
    /// Pushed by the gateway.
    ServerSentEvents,
    /// Polled from the gateway.
    Polling,
    /// The gateway cannot be reached or rejects the client. Nothing can be loaded, and updates may be missing.
    Offline,
}

impl FeedMode {
    /// Whether updates are pushed.
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

/// State of the connection of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionState {
    /// How updates arrive.
    pub mode: FeedMode,
    /// Since when, by the server's clock if it is known.
    pub since: Timestamp,
    /// Why no better mode is possible, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the gateway rejects the access token. The mode is [`FeedMode::Offline`] then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub token_rejected: bool,
}

/// A running feed. It ends when it is dropped.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts a feed on the current tokio runtime.
    #[must_use]
    pub fn start(settings: FeedSettings) -> Self {
        let (sender, events) = mpsc::channel(MAX_BUFFERED);
        Feed { events, task: tokio::spawn(follow::run(settings, sender)) }
    }

    /// The next event. Cancel safe.
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
