//! How a service is told to reach NATS, and connects with patience.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::nats::{NatsBus, NatsConfig, NatsLogin};
use bus::{BusError, QueueLimits};

use crate::{Backoff, ByteSize, RetryArgs, Shutdown, StartError};

/// How to reach NATS.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsArgs {
    /// Servers, as in nats://host:4222; several, separated by commas, for a cluster
    #[arg(
        long = "nats",
        env = "BEDSIDE_NATS",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        value_delimiter = ','
    )]
    pub urls: Vec<String>,
    /// User of this service; the password comes from --nats-password-file or BEDSIDE_NATS_PASSWORD
    #[arg(long = "nats-user", env = "BEDSIDE_NATS_USER", value_name = "USER")]
    pub user: Option<String>,
    /// File that holds the password and nothing else
    #[arg(long = "nats-password-file", env = "BEDSIDE_NATS_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Prefix of the subjects on which this service hears replies; each user needs one of its own
    #[arg(long = "nats-inbox", env = "BEDSIDE_NATS_INBOX", value_name = "PREFIX", default_value = "_INBOX")]
    pub inbox_prefix: String,
    /// PEM file of the authorities that vouch for the servers, besides those of the system
    #[arg(long = "nats-ca", env = "BEDSIDE_NATS_CA", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of this service's certificate, where the servers ask for one
    #[arg(long = "nats-cert", env = "BEDSIDE_NATS_CERT", value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the key of --nats-cert
    #[arg(
        id = "key_file",
        long = "nats-key",
        env = "BEDSIDE_NATS_KEY",
        value_name = "FILE",
        requires = "cert_file"
    )]
    pub key_file: Option<PathBuf>,
    /// Refuse a connection without TLS
    #[arg(long = "nats-require-tls", env = "BEDSIDE_NATS_REQUIRE_TLS")]
    pub require_tls: bool,
    /// Servers of the cluster that hold each stream, when this service makes them: 1, 3 or 5
    #[arg(long = "nats-replicas", env = "BEDSIDE_NATS_REPLICAS", default_value_t = 1)]
    pub replicas: usize,
    /// Messages that each queue takes, when this service makes it; more are refused for now
    #[arg(
        long = "nats-max-messages",
        env = "BEDSIDE_NATS_MAX_MESSAGES",
        value_name = "NUMBER",
        default_value_t = QueueLimits::default().max_messages
    )]
    pub max_messages: u64,
    /// Bytes of files that may wait in the broker, when this service creates the streams; the broker reserves the space
    #[arg(
        long = "nats-max-staged",
        env = "BEDSIDE_NATS_MAX_STAGED",
        value_name = "SIZE",
        default_value_t = ByteSize(QueueLimits::default().max_staged_bytes)
    )]
    pub max_staged: ByteSize,
    /// Time without a sign of life after which a job counts as lost with whoever had it, when this service makes the queues
    #[arg(
        long = "nats-ack-wait",
        env = "BEDSIDE_NATS_ACK_WAIT",
        value_name = "TIME",
        default_value = "30s",
        value_parser = crate::parse_duration
    )]
    pub ack_wait: Duration,
    /// When work that failed is tried again.
    #[command(flatten)]
    pub retry: RetryArgs,
    /// Streams and consumers are there already, made by one who may; only use them
    #[arg(long = "nats-provisioned", env = "BEDSIDE_NATS_PROVISIONED")]
    pub provisioned: bool,
}

/// The password is never a flag: flags show in the list of processes.
const PASSWORD: &str = "BEDSIDE_NATS_PASSWORD";

impl NatsArgs {
    /// The configuration for a connection of this name.
    ///
    /// # Errors
    /// When a user is given without a password, or a file cannot be read.
    pub fn config(&self, name: &str) -> Result<NatsConfig, StartError> {
        if ![1, 3, 5].contains(&self.replicas) {
            return Err(StartError::config("--nats-replicas must be 1, 3 or 5"));
        }
        let login = match &self.user {
            None => NatsLogin::Anonymous,
            Some(user) => NatsLogin::Password { user: user.clone(), password: self.password()? },
        };
        Ok(NatsConfig {
            login,
            ca_file: self.ca_file.clone(),
            client_certificate: self.cert_file.clone().zip(self.key_file.clone()),
            require_tls: self.require_tls,
            name: name.to_owned(),
            inbox_prefix: self.inbox_prefix.clone(),
            create: !self.provisioned,
            retry: bus::RetryPolicy { ack_wait: self.ack_wait, ..self.retry.policy() },
            limits: QueueLimits { max_messages: self.max_messages, max_staged_bytes: self.max_staged.0 },
            replicas: self.replicas,
            ..NatsConfig::new(self.urls.clone())
        })
    }

    fn password(&self) -> Result<String, StartError> {
        let read = |file: &Path| {
            std::fs::read_to_string(file).map(|text| text.trim_end_matches(['\r', '\n']).to_owned()).map_err(
                |error| {
                    StartError::config(format!(
                        "the password file {} cannot be read: {error}",
                        file.display()
                    ))
                },
            )
        };
        match (&self.password_file, std::env::var(PASSWORD)) {
            (Some(file), _) => read(file),
            (None, Ok(password)) => Ok(password),
            (None, Err(_)) => {
                Err(StartError::config(format!("--nats-user needs --nats-password-file or {PASSWORD}")))
            }
        }
    }
}

/// Connects, and tries again while the broker cannot be reached, until it is or the shutdown begins (then `None`).
///
/// # Errors
/// When the broker refuses: trying again would not help.
pub async fn connect_nats(
    config: NatsConfig,
    shutdown: &Shutdown,
) -> Result<Option<Arc<NatsBus>>, StartError> {
    patiently(shutdown, || NatsBus::connect(config.clone())).await
}

/// Makes what is missing of streams and consumers, and adapts what is there; waits for the broker. Whether it is done.
///
/// # Errors
/// When the broker refuses: trying again would not help.
pub async fn provision_nats(config: NatsConfig, shutdown: &Shutdown) -> Result<bool, StartError> {
    Ok(patiently(shutdown, || bus::nats::provision(&config)).await?.is_some())
}

/// Tries until the broker is there, or the shutdown begins: then `None`.
async fn patiently<T, F: Future<Output = Result<T, BusError>>>(
    shutdown: &Shutdown,
    attempt: impl Fn() -> F,
) -> Result<Option<T>, StartError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let Some(outcome) = shutdown.unless_begun(attempt()).await else { return Ok(None) };
        match outcome {
            Ok(done) => return Ok(Some(done)),
            Err(error @ BusError::Unavailable(_)) => {
                tracing::warn!(%error, "waiting for the message broker");
                if shutdown.unless_begun(backoff.wait()).await.is_none() {
                    return Ok(None);
                }
            }
            Err(error) if error.to_string().contains("insufficient storage") => {
                return Err(StartError::failed(format!(
                    "{error}; the broker reserves the space that --nats-max-staged names: make it less there, or \
                     max_file_store of the broker more"
                )));
            }
            Err(error) => return Err(StartError::failed(error)),
        }
    }
}
