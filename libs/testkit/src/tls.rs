//! Certificates, and a TLS proxy for servers without TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A self-signed certificate for this machine and its key, in files.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// Creates a certificate.
    ///
    /// # Panics
    /// If the files cannot be written.
    #[must_use]
    pub fn issue() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let generated = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate = Certificate { folder };
        std::fs::write(certificate.file(), generated.cert.pem()).expect("a file");
        std::fs::write(certificate.key_file(), generated.signing_key.serialize_pem()).expect("a file");
        certificate
    }

    /// PEM file of the certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// PEM file of the key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Starts a proxy that terminates TLS for a loopback port. Returns the port to connect to. It runs until the process
    /// ends.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn front(&self, port: u16) -> u16 {
        let chain = CertificateDer::pem_file_iter(self.file())
            .expect("a file")
            .map(|one| one.expect("PEM"))
            .collect();
        let key = PrivateKeyDer::from_pem_file(self.key_file()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("certificate and key match");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a non-blocking socket");
        let own = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let Ok(mut outside) = acceptor.accept(stream).await else { return };
                        let Ok(mut inside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    });
                }
            });
        });
        own
    }
}
