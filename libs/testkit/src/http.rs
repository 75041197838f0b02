//! Plain HTTP clients, for requests as existing clients send them.

use std::path::Path;

/// A client without a proxy.
///
/// # Panics
/// When the client cannot be built.
#[must_use]
pub fn http_client() -> reqwest::Client {
    install_tls();
    reqwest::Client::builder().no_proxy().build().expect("a client without settings")
}

/// A client that trusts this certificate (PEM) in addition to those of the system.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn http_client_trusting(certificate: &Path) -> reqwest::Client {
    install_tls();
    let pem = std::fs::read(certificate).expect("a certificate");
    let trusted = reqwest::Certificate::from_pem_bundle(&pem).expect("PEM");
    reqwest::Client::builder().no_proxy().tls_certs_merge(trusted).build().expect("a client")
}

fn install_tls() {
    // Fails only if another test of this process has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
