//! TLS for servers. Certificates that are renewed are taken up without a restart.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::{Shutdown, StartError, WatchedFiles};

/// With what a server shows who it is.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "tls")]
pub struct TlsArgs {
    /// PEM file of the certificate and those between it and an authority; switches TLS on. Read again when changed
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "BEDSIDE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub certificate: Option<PathBuf>,
    /// PEM file of the key of --tls-cert
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
    /// Reads the files, where there are any.
    ///
    /// # Errors
    /// When they cannot be read, or do not go together.
    pub fn open(&self) -> Result<Option<ServerTls>, StartError> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => ServerTls::open(certificate.clone(), key.clone()).map(Some),
            (None, None) => Ok(None),
            _ => Err(StartError::config("--tls-cert and --tls-key go together")),
        }
    }
}

/// Certificate and key in force, which change with their files.
pub struct ServerTls {
    files: WatchedFiles,
    in_force: watch::Sender<Arc<ServerConfig>>,
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
        Ok(ServerTls { files, in_force: watch::Sender::new(config) })
    }

    /// For new connections, now and later.
    #[must_use]
    pub fn acceptors(&self) -> Acceptors {
        Acceptors(self.in_force.subscribe())
    }

    /// Follows the files until the shutdown begins. While a file is missing, or the files do not match, as in the middle of a
    /// renewal, the certificate stays in use that was read last: it names this server and gives nobody access, so keeping it
    /// is safe, and refusing every client would not be.
    pub async fn follow(mut self, shutdown: Shutdown) {
        while let Some(changed) = shutdown.unless_begun(self.files.changed()).await {
            let config = changed.map_err(|error| error.to_string()).and_then(|contents| configure(&contents));
            match config {
                Ok(config) => {
                    tracing::info!("the certificate was renewed");
                    self.in_force.send_replace(config);
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the certificate cannot be renewed; the one read before stays in use"
                    );
                }
            }
        }
    }
}

/// Takes up TLS with whoever connects.
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

/// From the contents of both files.
fn configure(contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
    let [certificate, key] = contents else { return Err("a file is missing".to_owned()) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is not in PEM format: {error}"))?;
    if chain.is_empty() {
        return Err("the file of the certificate holds none".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the key is not in PEM format: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key do not go together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
