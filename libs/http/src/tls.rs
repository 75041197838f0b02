//! Server TLS. A renewed certificate is loaded without a restart.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use runtime::{Shutdown, StartError, WatchedFiles};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Certificate settings of a server.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "tls")]
pub struct TlsArgs {
    /// PEM file of the certificate chain; enables TLS. The file is reloaded when it changes
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "BEDSIDE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub certificate: Option<PathBuf>,
    /// PEM file of the key for --tls-cert
    #[arg(
        id = "tls_key",
        long = "tls-key",
        env = "BEDSIDE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub key: Option<PathBuf>,
}

impl TlsArgs {
    /// Loads the certificate, if one is configured.
    ///
    /// # Errors
    /// If a file cannot be read, or certificate and key do not match.
    pub fn open(&self) -> Result<Option<ServerTls>, StartError> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => ServerTls::open(certificate.clone(), key.clone()).map(Some),
            (None, None) => Ok(None),
            _ => Err(StartError::config("--tls-cert and --tls-key must be set together")),
        }
    }
}

/// The current certificate and key, and the files they are loaded from.
pub struct ServerTls {
    files: WatchedFiles,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, StartError> {
        let (files, contents) = WatchedFiles::read(vec![certificate, key])
            .map_err(|error| StartError::config(format!("TLS: {error}")))?;
        let config = configure(&contents).map_err(|error| StartError::config(format!("TLS: {error}")))?;
        Ok(ServerTls { files, current: watch::Sender::new(config) })
    }

    /// Returns the acceptors of new connections. They use the current certificate at the time of each
    /// connection.
    #[must_use]
    pub fn acceptors(&self) -> Acceptors {
        Acceptors(self.current.subscribe())
    }

    /// Reloads the files when they change, until the shutdown begins. If a file is missing or the files do
    /// not match, as during a renewal, the last valid certificate stays in use. This is safe, because a
    /// certificate grants no access.
    pub async fn follow(mut self, shutdown: Shutdown) {
        while let Some(changed) = shutdown.unless_begun(self.files.changed()).await {
            let config = changed.map_err(|error| error.to_string()).and_then(|contents| configure(&contents));
            match config {
                Ok(config) => {
                    tracing::info!("the certificate was reloaded");
                    self.current.send_replace(config);
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the certificate cannot be reloaded; the previous one stays in use"
                    );
                }
            }
        }
    }
}

/// Starts TLS handshakes.
#[derive(Clone)]
pub struct Acceptors(watch::Receiver<Arc<ServerConfig>>);

impl fmt::Debug for Acceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptors")
    }
}

impl Acceptors {
    pub(crate) fn now(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.borrow().clone())
    }
}

/// Parses the contents of both files.
fn configure(contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
    let [certificate, key] = contents else { return Err("a file is missing".to_owned()) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is not in PEM format: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file contains no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the key is not in PEM format: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key do not match: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
