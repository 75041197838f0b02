//! The parts that every service's `main` needs: configuration, logs, metrics, traces, health checks, shutdown
//! and exit codes. A service is a library with `run(config, ports, shutdown)`; its `main` connects the ports
//! and calls `run`. The HTTP server is in `http-server`.

mod backoff;
pub mod disk;
mod exit;
mod files;
pub mod health;
mod healthcheck;
mod logs;
#[cfg(feature = "mongo")]
mod mongo;
#[cfg(feature = "nats")]
mod nats;
mod open_files;
mod prometheus;
mod retry;
mod run;
mod secret;
mod shutdown;
mod size;
pub mod trace;

pub use backoff::{Backoff, exponential_backoff};
pub use exit::StartError;
pub use files::{UnreadableFile, WatchedFiles};
pub use healthcheck::{Command, healthcheck};
pub use humantime::parse_duration;
pub use logs::{LogArgs, LogFormat, init_logging};
#[cfg(feature = "mongo")]
pub use mongo::{MongoArgs, ProvisionArgs, migrate_mongo, prepare_mongo, refuse_wrong_login};
#[cfg(feature = "nats")]
pub use nats::{NatsArgs, connect_nats, provision_nats};
pub use prometheus::Metrics;
pub use retry::RetryArgs;
pub use run::run_main;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use size::ByteSize;
