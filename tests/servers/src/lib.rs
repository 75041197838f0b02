//! Real servers for tests, each on a port of its own and with a folder of its own, gone when the value is dropped: those of
//! others, Bedside's own processes, and screens that nobody looks at. It depends on nearly nothing, so that tests are built
//! fast.
//!
//! Tests never run against doubles and never skip: where the program is missing, they fail with a sentence that says how
//! to get it.

#![allow(clippy::expect_used, reason = "a test without its server has to fail, and this is how tests do")]

mod clock;
mod cluster;
mod mongo;
mod nats;
mod process;
mod program;
mod programs;
mod screen;

pub use clock::Clock;
pub use cluster::NatsCluster;
pub use mongo::MongoServer;
pub use nats::NatsServer;
pub use process::{Process, cpu_seconds, resident_bytes};
pub use programs::program;
pub use screen::{Screen, Shot};
