//! Settings of the NATS connection, and waiting for the server at startup.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use bus::nats::{NatsBus, NatsConfig, NatsLogin};
use bus::{BusError, QueueLimits};

use crate::backoff::exponential_backoff;
use crate::exit::StartError;
use crate::retry::RetryArgs;
use crate::shutdown::Shutdown;
use crate::size::ByteSize;

/// Delays between connection attempts.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Settings of the NATS connection.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsArgs {
    /// Server URL, as in nats://host:4222; for a cluster, several URLs separated by commas
    #[arg(
        long = "nats",
        env = "BEDSIDE_NATS",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        value_delimiter = ','
    )]
    pub urls: Vec<String>,
    /// User of this service; the password is read from --nats-password-file or BEDSIDE_NATS_PASSWORD
    #[arg(long = "nats-user", env = "BEDSIDE_NATS_USER", value_name = "USER")]
    pub user: Option<String>,
    /// File that contains only the password
    #[arg(long = "nats-password-file", env = "BEDSIDE_NATS_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Subject prefix on which this service receives replies; each user needs its own
    #[arg(long = "nats-inbox", env = "BEDSIDE_NATS_INBOX", value_name = "PREFIX", default_value = "_INBOX")]
    pub inbox_prefix: String,
    /// PEM file of CA certificates that are trusted in addition to those of the system
    #[arg(long = "nats-ca", env = "BEDSIDE_NATS_CA", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate, if the servers require one
    #[arg(long = "nats-cert", env = "BEDSIDE_NATS_CERT", value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the key for --nats-cert
    #[arg(
        id = "key_file",
        long = "nats-key",
        env = "BEDSIDE_NATS_KEY",
        value_name = "FILE",
        requires = "cert_file"
    )]
    pub key_file: Option<PathBuf>,
    /// Reject connections without TLS
    #[arg(long = "nats-require-tls", env = "BEDSIDE_NATS_REQUIRE_TLS")]
    pub require_tls: bool,
    /// Replicas of each stream that this service creates: 1, 3 or 5
    #[arg(long = "nats-replicas", env = "BEDSIDE_NATS_REPLICAS", default_value_t = 1)]
    pub replicas: usize,
    /// Maximum number of messages in each queue that this service creates; a full queue rejects new messages
    #[arg(
        long = "nats-max-messages",
        env = "BEDSIDE_NATS_MAX_MESSAGES",
        value_name = "NUMBER",
        default_value_t = QueueLimits::default().max_messages
    )]
    pub max_messages: u64,
    /// Space for staged files that the broker reserves, for stores that this service creates; 60 % of it for
    /// the staging store, the rest for messages
    #[arg(
        long = "nats-max-staged",
        env = "BEDSIDE_NATS_MAX_STAGED",
        value_name = "SIZE",
        default_value_t = ByteSize(QueueLimits::default().max_staged_bytes)
    )]
    pub max_staged: ByteSize,
    /// Time after which an unacknowledged message is redelivered if its worker sends no progress, for queues
    /// that this service creates
    #[arg(
        long = "nats-ack-wait",
        env = "BEDSIDE_NATS_ACK_WAIT",
        value_name = "TIME",
        default_value = "30s",
        value_parser = humantime::parse_duration
    )]
    pub ack_wait: Duration,
    /// Settings of retries.
    #[command(flatten)]
    pub retry: RetryArgs,
    /// Do not create streams and consumers: they exist already
    #[arg(long = "nats-provisioned", env = "BEDSIDE_NATS_PROVISIONED")]
    pub provisioned: bool,
}

/// Environment variable of the password. There is no flag, because flags are visible in the process list.
const PASSWORD: &str = "BEDSIDE_NATS_PASSWORD";

impl NatsArgs {
    /// Returns the configuration of a connection with this client name.
    ///
    /// # Errors
    /// If a user has no password, or a file cannot be read.
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
            limits: QueueLimits {
                max_messages: self.max_messages,
                max_staged_bytes: self.max_staged.0,
                ..QueueLimits::default()
            },
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

/// Connects to the broker. Retries while it is unreachable; returns `None` if the shutdown begins first.
///
/// # Errors
/// If the broker refuses permanently.
pub async fn connect_nats(
    config: NatsConfig,
    shutdown: &Shutdown,
) -> Result<Option<Arc<NatsBus>>, StartError> {
    retry_while_unavailable(shutdown, || NatsBus::connect(config.clone())).await
}

/// Creates missing streams and consumers, and updates existing ones. Retries while the broker is unreachable,
/// until it succeeds (`true`) or the shutdown begins (`false`).
///
/// # Errors
/// If the broker refuses permanently.
pub async fn provision_nats(config: NatsConfig, shutdown: &Shutdown) -> Result<bool, StartError> {
    Ok(retry_while_unavailable(shutdown, || bus::nats::provision(&config)).await?.is_some())
}

async fn retry_while_unavailable<T, F: Future<Output = Result<T, BusError>>>(
    shutdown: &Shutdown,
    attempt: impl Fn() -> F,
) -> Result<Option<T>, StartError> {
    let retried = attempt
        .retry(exponential_backoff(FIRST_RETRY, MAX_RETRY))
        .when(|error| matches!(error, BusError::Unavailable(_)))
        .notify(|error, _| tracing::warn!(%error, "waiting for the message broker"));
    match shutdown.unless_begun(retried).await {
        None => Ok(None),
        Some(Ok(done)) => Ok(Some(done)),
        Some(Err(error)) if error.to_string().contains("insufficient storage") => {
            Err(StartError::failed(format!(
                "{error}; the broker reserves the space given by --nats-max-staged: reduce it, or increase \
                 max_file_store of the broker"
            )))
        }
        Some(Err(error)) => Err(StartError::failed(error)),
    }
}
