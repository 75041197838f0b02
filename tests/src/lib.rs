//! A whole Bedside of real processes, for tests and benchmarks, in both ways to run.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test without its system has to fail, and this is how tests do"
)]

pub mod attacks;
pub mod faults;
pub mod load;
pub mod material;
pub mod records;
mod system;
pub mod tls;

pub use system::{Extras, Mode, Service, System, within};
pub use test_servers::{Process, cpu_seconds, program, resident_bytes};

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

/// The same for HTTPS with this certificate (PEM).
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn http_client_trusting(certificate: &std::path::Path) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(certificate).expect("a certificate");
    let trusted = reqwest::Certificate::from_pem_bundle(&pem).expect("PEM");
    reqwest::Client::builder().no_proxy().tls_certs_merge(trusted).build().expect("a client")
}
