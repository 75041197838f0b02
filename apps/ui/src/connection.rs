//! The connection light: a colour, and words that say the same.

use client::{ConnectionState, FeedMode};
use proto_json::Timestamp;

use crate::words;

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not known yet.
    Unknown,
    /// Updates come by themselves.
    Good,
    /// Updates are asked for again and again.
    Fair,
    /// Nothing comes.
    Bad,
}

/// What the light shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Light {
    /// Its colour.
    pub level: Level,
    /// A few words.
    pub words: String,
    /// One or two sentences more: since when, and why it is not better.
    pub detail: String,
}

/// What the light shows of a state; `None` while nothing is known.
#[must_use]
pub fn light(state: Option<&ConnectionState>) -> Light {
    let Some(ConnectionState { mode, since, reason }) = state else {
        return Light { level: Level::Unknown, words: "connecting…".to_owned(), detail: String::new() };
    };
    let (level, what) = match mode {
        FeedMode::Nats => (Level::Good, "connected · push (NATS)"),
        FeedMode::ServerSentEvents => (Level::Good, "connected · push"),
        FeedMode::Polling => (Level::Fair, "connected · polling"),
        FeedMode::Offline => (Level::Bad, "offline"),
    };
    let mut detail = format!("Since {}.", words::clock_or_date(*since, Timestamp::now()));
    if let Some(reason) = reason {
        detail.push(' ');
        detail.push_str(&words::sentence(reason));
    }
    Light { level, words: what.to_owned(), detail }
}
