//! Rust client of the gateway, for the apps, the command line and tests.
//!
//! - [`Gateway`]: every route of `/api/v1` as a method. Answers are the types of `proto-json`; each error is a sentence.
//! - [`Upload`]: what a patient app sends, streamed from disk with progress, safe to send again.
//! - [`Outbox`]: uploads on disk until the gateway has them.
//! - [`Feed`]: what changes, pushed, with a word on how fresh it is.
//!
//! - [`ServerTime`]: what the clock of the server shows, by which ages are counted.
//!
//! Everything is cancelled by dropping it.

mod download;
mod error;
mod feed;
mod gateway;
mod multipart;
mod outbox;
mod server_time;
mod settings;
mod sse;
mod upload;

pub use download::Download;
pub use error::ClientError;
pub use feed::{ConnectionState, Feed, FeedEvent, FeedMode, FeedSettings};
#[cfg(feature = "nats")]
pub use feed::{DEFAULT_NATS_INBOX, NatsCredentials, NatsSettings};
pub use gateway::Gateway;
pub use outbox::{EntryId, Outbox, OutboxEntry, OutboxError, OutboxEvent};
pub use server_time::ServerTime;
pub use settings::{DEFAULT_GATEWAY, Settings, Timeouts, Token};
pub use sse::{SseError, SseEvent, SseParser};
pub use upload::{
    FileContent, IdempotencyKey, IdempotencyKeyError, Progress, RetryPolicy, Upload, UploadAnswer, UploadFile,
};
