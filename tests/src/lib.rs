//! A whole Bedside of real processes, for tests and benchmarks, in both ways to run.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test without its system has to fail, and this is how tests do"
)]

pub mod material;
mod process;
mod programs;
mod system;

pub use process::{Process, resident_bytes};
pub use programs::program;
pub use system::{Mode, Service, System, within};

/// A plain HTTP client, for what existing clients send.
///
/// # Panics
/// Never: the TLS provider is there.
#[must_use]
pub fn http_client() -> reqwest::Client {
    // Fails only when another test of this process has done it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client without settings")
}
