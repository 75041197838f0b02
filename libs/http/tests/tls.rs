//! Tests of server TLS: the certificate, its renewal, and clients that stall.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_server::{Limits, TlsArgs, serve_over};
use runtime::Shutdown;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Writes a new self-signed certificate and its key. Returns the certificate that a client must trust.
fn issue(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    // Like renewal programs, this writes one file after the other: they do not match for a moment.
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

async fn ask(address: std::net::SocketAddr, trusted: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn renewed_certificate_is_served_without_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = issue(folder.path());
    let args = TlsArgs {
        certificate: Some(folder.path().join("cert.pem")),
        key: Some(folder.path().join("key.pem")),
    };
    let tls = args.open().unwrap().unwrap();
    let acceptors = tls.acceptors();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(tls.follow(shutdown.clone()));
    let router = Router::new().route("/", get(async || "hello"));
    let begun = shutdown.clone();
    let server = tokio::spawn(async move {
        serve_over(listener, Some(acceptors), router, Limits::of("test"), &begun).await.unwrap();
    });

    assert!(ask(address, &first).await.unwrap().ends_with("hello"));
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("hello"), "plain HTTP is not answered");

    let second = issue(folder.path());
    let renewed = async {
        while ask(address, &second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("the new certificate is served");
    assert!(ask(address, &first).await.is_err());

    // A client that sends nothing does not delay the shutdown.
    let _silent = TcpStream::connect(address).await.unwrap();
    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(5), server).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn stalled_handshake_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path());
    let args = TlsArgs {
        certificate: Some(folder.path().join("cert.pem")),
        key: Some(folder.path().join("key.pem")),
    };
    let acceptors = args.open().unwrap().unwrap().acceptors();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { header_read: Duration::from_millis(100), ..Limits::of("test") };
    tokio::spawn(async move {
        serve_over(listener, Some(acceptors), Router::new(), limits, &Shutdown::new()).await.unwrap();
    });
    // An incomplete TLS record.
    for sent in [&b""[..], b"\x16\x03\x01"] {
        let mut stalled = TcpStream::connect(address).await.unwrap();
        stalled.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), stalled.read_to_end(&mut rest));
        let _ = closed.await.expect("the connection is closed");
    }
}

#[test]
fn mismatched_key_is_a_configuration_error() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    issue(folder.path());
    issue(other.path());
    let args = TlsArgs {
        certificate: Some(folder.path().join("cert.pem")),
        key: Some(other.path().join("key.pem")),
    };
    let error = args.open().unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("do not match"), "{error}");
    assert!(TlsArgs::default().open().unwrap().is_none());
}
