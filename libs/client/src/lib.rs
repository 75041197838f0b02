//! Rust client of the gateway, for the apps, the command line and tests.
//!
//! - [`Gateway`]: the public API, one method for each route of `/api/v1`. Answers have the types of `proto-json`.
//! - [`Upload`]: an upload, streamed from disk with progress and stored once, however often it is sent.
//! - [`Outbox`]: a durable queue of uploads on disk.
//! - [`Feed`]: updates of patients and alarms, with the state of the connection.
//! - [`WaveformSender`]: sends waveforms and numerics of a device, with a buffer for outages.
//! - [`Live`]: live waveforms and vitals of patients.
//! - [`ServerTime`]: the clock of the server, from which ages are computed.
//! - [`limits`]: the default limits of a gateway.
//!
//! Dropping a future cancels its operation. Errors display as one sentence for users.

mod alarms;
mod corrections;
mod download;
mod error;
mod feed;
mod gateway;
pub mod limits;
mod live;
mod multipart;
mod outbox;
mod send;
mod server_time;
mod settings;
mod sse;
mod upload;
mod users;
mod wards;
mod waveform_reads;
mod waveforms;
mod web_socket;

pub use alarms::{AlarmQuery, AlarmSelection};
pub use download::Download;
pub use error::ClientError;
pub use feed::{AlarmsEvent, ConnectionState, Feed, FeedEvent, FeedMode, FeedSettings, Outdated};
#[cfg(feature = "nats")]
pub use feed::{DEFAULT_NATS_INBOX, NatsCredentials, NatsSettings};
pub use gateway::Gateway;
pub use live::{
    Live, LiveConnection, LiveEvent, LiveSettings, LiveSubscriber, ReceivedColumns, ReceivedFrame,
};
pub use outbox::{EntryId, Outbox, OutboxEntry, OutboxError, OutboxEvent};
pub use send::{Progress, RetryPolicy, UploadAnswer};
pub use server_time::ServerTime;
pub use settings::{DEFAULT_GATEWAY, Settings, Timeouts, Token};
pub use sse::{SseError, SseEvent, SseParser};
pub use upload::{FileContent, IdempotencyKey, IdempotencyKeyError, Upload, UploadFile};
pub use wards::{new_bed_id, new_stay_id, new_ward_id};
pub use waveforms::{SenderError, SenderSettings, SenderState, WaveformSender};
