//! What each service's `main` needs and nothing else: logs, metrics, health, an HTTP server that drains, shutdown, exit
//! codes. Every service is a library with `run(config, ports, shutdown)`; its `main` is a few lines on top of this.

pub mod admin;
mod backoff;
pub mod disk;
mod duration;
mod exit;
mod files;
mod healthcheck;
pub mod http;
pub mod internal;
mod lane;
mod logs;
#[cfg(feature = "mongo")]
mod mongo;
#[cfg(feature = "nats")]
mod nats;
pub mod observe;
mod open_files;
pub mod problem;
mod prometheus;
mod retry;
mod secret;
mod shutdown;
mod size;
mod tls;
pub mod trace;

pub use backoff::Backoff;
pub use duration::parse_duration;
pub use exit::{StartError, run_main};
pub use files::{UnreadableFile, WatchedFiles};
pub use healthcheck::{Command, healthcheck};
pub use lane::{Lane, Turns};
pub use logs::{LogArgs, LogFormat, init_logging};
#[cfg(feature = "mongo")]
pub use mongo::{MongoArgs, ProvisionArgs, prepare_mongo, refuse_wrong_login, wait_for_mongo};
#[cfg(feature = "nats")]
pub use nats::{NatsArgs, connect_nats, provision_nats};
pub use prometheus::Metrics;
pub use retry::RetryArgs;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use size::ByteSize;
pub use tls::{Acceptors, ServerTls, TlsArgs};
