//! Certificates, and a door with TLS before a server that has none.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate for this machine that vouches for itself, and its key, in files.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// A new one.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    pub fn issue() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate = Certificate { folder };
        std::fs::write(certificate.file(), made.cert.pem()).expect("a file");
        std::fs::write(certificate.key_file(), made.signing_key.serialize_pem()).expect("a file");
        certificate
    }

    /// PEM file of the certificate, for its owner and for those who shall trust it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// PEM file of the key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Starts to pass on what comes over TLS to this port of the loopback. Returns the port to connect to. Ends with the
    /// process.
    ///
    /// # Panics
    /// When there is no port.
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
            .expect("they go together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket of ours");
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
