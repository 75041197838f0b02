//! The connection status as it is shown: a level, which becomes a colour, and a text that says the same.

use client::{ConnectionState, FeedMode};
use proto_json::Timestamp;

use crate::{format, tr};

/// The quality of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionLevel {
    /// Not known yet.
    Unknown,
    /// Updates are pushed.
    Good,
    /// Updates are polled.
    Fair,
    /// There are no updates.
    Bad,
}

/// The connection status of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Determines the colour.
    pub level: ConnectionLevel,
    /// A few words, such as "connected · push".
    pub text: String,
    /// One or two sentences: since when, and why the connection is not better. Empty if nothing is known.
    pub detail: String,
}

impl ConnectionStatus {
    /// The status of a feed. `None` means that the feed has not reported its state yet.
    #[must_use]
    pub fn of(state: Option<&ConnectionState>) -> ConnectionStatus {
        let Some(ConnectionState { mode, since, reason, token_rejected }) = state else {
            let (level, text) = (ConnectionLevel::Unknown, tr!("connecting…").to_owned());
            return ConnectionStatus { level, text, detail: String::new() };
        };
        let (level, text) = match mode {
            FeedMode::Nats => (ConnectionLevel::Good, tr!("connected · push (NATS)")),
            FeedMode::ServerSentEvents => (ConnectionLevel::Good, tr!("connected · push")),
            FeedMode::Polling => (ConnectionLevel::Fair, tr!("connected · polling")),
            FeedMode::Offline if *token_rejected => (ConnectionLevel::Bad, tr!("access token rejected")),
            FeedMode::Offline => (ConnectionLevel::Bad, tr!("offline")),
        };
        let mut detail = tr!("Since {}.", format::time_or_date(*since, Timestamp::now()));
        if let Some(reason) = reason {
            detail.push(' ');
            detail.push_str(&format::sentence(reason));
        }
        ConnectionStatus { level, text: text.to_owned(), detail }
    }
}
