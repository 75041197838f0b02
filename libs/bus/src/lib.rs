//! Ports of the pipeline to its message broker: work queues ([`WorkQueue`]), change notifications
//! ([`PubSub`]), receipts ([`ReplyInbox`]), dead letters ([`DeadLetters`]), files that wait for a consumer
//! ([`StagingStore`]) and live waveforms ([`WaveLog`]).
//!
//! Two adapters implement all ports: [`nats`] (JetStream) and [`local`] (in process, one SQLite file). One
//! conformance suite runs on both. [`BusPorts`] bundles the ports of an adapter at start-up.

// Without an adapter, the code that only adapters use is dead.
#![cfg_attr(not(any(feature = "local", feature = "nats")), allow(dead_code, reason = "no adapter is built"))]

mod consumer;
mod delivery;
mod error;
mod inboxes;
#[cfg(feature = "local")]
pub mod local;
mod message;
#[cfg(feature = "nats")]
pub mod nats;
mod policy;
mod ports;
mod staging;
mod waves;

pub use consumer::{Outcome, Readiness, describe_consumer, run_consumer};
pub use delivery::{Acker, Delivery};
pub use error::{BusError, EnqueueError, is_outage_of_body};
pub use message::{
    Attachment, DeadLetter, Outgoing, PendingReceipt, QueueStatus, SystemSignal, UpdateEvent, send, send_with,
};
pub use policy::{QueueLimits, RetryPolicy};
pub use ports::{BusPorts, DeadLetters, PubSub, ReplyInbox, WorkQueue};
pub use staging::{BodyError, ByteStream, StagedFile, StagingKey, StagingStore, collect};
pub use waves::{
    PartitionEvent, TAKEOVER, VitalsEvent, WAVE_DUPLICATE_WINDOW, WAVE_RETENTION, WAVE_WARM_UP, WaveAcker,
    WaveDelivery, WaveEvent, WaveGroup, WaveKind, WaveLag, WaveLog, WaveMessage,
};
