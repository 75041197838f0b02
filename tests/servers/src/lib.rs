//! Real servers for tests, each on a port of its own and with a folder of its own, gone when the value is dropped.
//!
//! Tests never run against doubles and never skip: where the program is missing, they fail with a sentence that says how
//! to get it.

#![allow(clippy::expect_used, reason = "a test without its server has to fail, and this is how tests do")]

mod cluster;
mod mongo;
mod nats;
mod program;

pub use cluster::NatsCluster;
pub use mongo::MongoServer;
pub use nats::NatsServer;
