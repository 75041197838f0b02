//! Servers, processes, screens and fixtures for the tests of all crates.
//!
//! Tests run against real servers, each on its own port and in its own folder. Dropping a value ends its process and removes
//! its files. A test does not skip: if a program is missing, the test fails with a message that says how to install it.
//!
//! The feature `system` adds the full system as a fixture ([`System`]), test data, load, faults and attacks; `messages` adds test data
//! of the messages. Without them, this crate depends on `tempfile` alone, so that the tests of a library build quickly.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a fixture that cannot be set up has to fail the test"
)]

#[cfg(feature = "messages")]
mod analysis;
mod clock;
mod process;
mod programs;
mod screen;
mod servers;

#[cfg(feature = "system")]
pub mod attacks;
#[cfg(feature = "system")]
mod disk;
#[cfg(feature = "system")]
pub mod faults;
#[cfg(feature = "system")]
mod http;
#[cfg(feature = "system")]
pub mod load;
#[cfg(feature = "system")]
mod proxy;
#[cfg(feature = "system")]
pub mod records;
#[cfg(feature = "system")]
mod system;
#[cfg(feature = "system")]
pub mod test_data;
#[cfg(feature = "system")]
pub mod tls;

#[cfg(feature = "messages")]
pub use analysis::analysis;
pub use clock::Clock;
pub use process::{Process, cpu_seconds, resident_bytes};
pub use programs::program;
pub use screen::{Screen, Shot};
pub use servers::{MongoServer, NatsCluster, NatsServer, free_port};

#[cfg(feature = "system")]
pub use disk::SmallDisk;
#[cfg(feature = "system")]
pub use http::{http_client, http_client_trusting};
#[cfg(feature = "system")]
pub use proxy::{Between, Line, Proxy};
#[cfg(feature = "system")]
pub use system::{Extras, Mode, Service, System, within, within_limit};
