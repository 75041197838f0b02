//! Events of a feed and the state of its connection.

use std::fmt;

use proto_json::alarms::{Alarm, LimitScope};
use proto_json::{DamagedRecord, Mrn, PatientSummary, PatientUpdated, Timestamp};
use serde::Serialize;

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
    /// Alarms have changed. Only with [`FeedSettings::alarms`](super::FeedSettings::alarms).
    Alarms(AlarmsEvent),
    /// Data that the feed does not load has changed, or may have changed: load it again.
    Outdated(Outdated),
}

/// A change of the alarms.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmsEvent {
    /// All open alarms. Replaces everything reported before. Sent first, and again whenever updates may have been missed and the
    /// alarms have changed.
    Snapshot(Vec<Alarm>),
    /// One alarm was raised, has changed or has ended. Always newer than everything reported about this alarm before.
    Updated(Box<Alarm>),
    /// The alarms cannot be loaded, for this reason. A snapshot follows as soon as they can.
    Unavailable(String),
}

/// Data that has to be loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outdated {
    /// Alarm limits of this scope.
    Limits(LimitScope),
    /// Wards and beds.
    Wards,
    /// Records and details of one patient: it was corrected, merged or erased.
    Patient(Mrn),
    /// All of these: events may have been missed.
    Everything,
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
