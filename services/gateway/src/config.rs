//! Settings of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_server::TlsArgs;
use runtime::disk::{DISK_RESERVE, DiskReserve};
use runtime::{ByteSize, Secret, StartError, WatchedFiles, parse_duration};

use crate::auth::audit::{AuditPatient, AuditTarget};
use crate::auth::proxies::TrustedProxy;
use crate::auth::tokens::LiveTokens;
use crate::sessions::oidc::OidcArgs;

/// Maximum receipt wait with a cluster of brokers. A receipt can be lost with the broker that forwards it;
/// the upload must still be answered soon.
pub const RECEIPT_WAIT_IN_CLUSTER: Duration = Duration::from_secs(2);

/// Settings of the gateway. Each is a flag and an environment variable.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
#[group(id = "gateway")]
pub struct Config {
    /// Listen address for clients. A non-loopback address requires --tokens, and a certificate or --insecure
    #[arg(long, env = "BEDSIDE_LISTEN", default_value = "127.0.0.1:5011")]
    pub listen: SocketAddr,
    /// Token file: one line `name role sha256` per token, as printed by `bedside token new`. Reloaded when it
    /// changes; an empty or missing file contains no tokens
    #[arg(long, env = "BEDSIDE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// File with the secret that upload ids and audit pseudonyms are derived from, at least 32 characters;
    /// the same for all gateways of a system. Required with --tokens; `bedside` creates one in its data
    /// folder
    #[arg(id = "gateway_key_file", long = "key-file", env = "BEDSIDE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Trusted proxies, separated by commas: addresses, networks such as 10.0.0.0/8, `loopback` or `private`.
    /// The last address in X-Forwarded-For is used only if one of them sent it
    #[arg(long, env = "BEDSIDE_TRUSTED_PROXIES", value_name = "LIST", value_delimiter = ',')]
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Destination of the audit log, independent of --log: `stderr`, `stdout` or a file. Default: `stderr`;
    /// for `bedside`, audit.log in the data folder
    #[arg(long, env = "BEDSIDE_AUDIT_LOG", value_name = "WHERE")]
    pub audit_log: Option<AuditTarget>,
    /// How the audit log identifies patients; `bedside audit pseudonym` computes the pseudonym of a record
    /// number
    #[arg(long, env = "BEDSIDE_AUDIT_PATIENT", value_enum, default_value_t)]
    pub audit_patient: AuditPatient,
    /// Allow plain HTTP on a non-loopback address, if a proxy or the network encrypts
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
    /// Send `Cache-Control: no-store` with images, plots and signals, so that clients do not store them on
    /// disk
    #[arg(long, env = "BEDSIDE_NO_STORE")]
    pub no_store: bool,
    /// Folder for large files during an upload; default: the system's temporary folder
    #[arg(long, env = "BEDSIDE_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Free space on the disks of the data and spool folders below which uploads are answered with 503, at
    /// most a tenth of the disk; 0 disables the check
    #[arg(long, env = "BEDSIDE_DISK_RESERVE", value_name = "SIZE", default_value_t = DISK_RESERVE)]
    pub disk_reserve: ByteSize,
    /// How long an upload waits for its receipt before it is answered with 202; at most 2 s with a cluster of
    /// brokers
    #[arg(long, env = "BEDSIDE_RECEIPT_WAIT", default_value = "10s", value_parser = parse_duration)]
    pub receipt_wait: Duration,
    /// Maximum time without data during an upload; also the window over which --min-upload-rate is measured
    #[arg(long, env = "BEDSIDE_BODY_IDLE", default_value = "30s", value_parser = parse_duration)]
    pub body_idle: Duration,
    /// Maximum time in which a client reads nothing of a response (Linux)
    #[arg(long, env = "BEDSIDE_WRITE_STALL", default_value = "30s", value_parser = parse_duration)]
    pub write_stall: Duration,
    /// Maximum time for the body of an upload, and for the body of a response except event streams
    #[arg(long, env = "BEDSIDE_TRANSFER_DEADLINE", default_value = "1h", value_parser = parse_duration)]
    pub transfer_deadline: Duration,
    /// Interval of keep-alive events in an idle event stream; clients reconnect after a little more than
    /// twice this time
    #[arg(long, env = "BEDSIDE_EVENTS_KEEP_ALIVE", default_value = "750ms", value_parser = parse_duration)]
    pub events_keep_alive: Duration,
    /// Maximum time without data from a device that streams waveforms
    #[arg(long, env = "BEDSIDE_DEVICE_IDLE", default_value = "10s", value_parser = parse_duration)]
    pub device_idle: Duration,
    /// Time after a shutdown signal in which requests are still accepted while readiness fails, so that load
    /// balancers notice
    #[arg(long, env = "BEDSIDE_DRAIN_WAIT", default_value = "0s", value_parser = parse_duration)]
    pub drain_wait: Duration,
    /// Sessions.
    #[command(flatten)]
    pub sessions: SessionArgs,
    /// OpenID Connect.
    #[command(flatten)]
    pub oidc: OidcArgs,
    /// Certificate and key.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Limits for clients.
    #[command(flatten)]
    pub limits: Limits,
    /// Whether the clients' port serves /livez, /readyz and /metrics too. Used if all services run in one
    /// process.
    #[arg(skip)]
    pub admin_for_clients: bool,
    /// Data folder, if this process writes to it.
    #[arg(skip)]
    pub data_dir: Option<PathBuf>,
}

/// How long sessions last.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sessions")]
#[group(id = "gateway-sessions")]
pub struct SessionArgs {
    /// Time after which a session ends
    #[arg(long, env = "BEDSIDE_SESSION_LIFETIME", default_value = "12h", value_parser = parse_duration)]
    pub session_lifetime: Duration,
    /// Time without a request after which a session ends; an open event stream or WebSocket counts as requests
    #[arg(long, env = "BEDSIDE_SESSION_IDLE", default_value = "30m", value_parser = parse_duration)]
    pub session_idle: Duration,
    /// Time for which a session may access a patient of another ward in an emergency
    #[arg(long, env = "BEDSIDE_EMERGENCY_ACCESS", default_value = "1h", value_parser = parse_duration)]
    pub emergency_access: Duration,
}

impl Default for SessionArgs {
    fn default() -> Self {
        defaults()
    }
}

impl Default for OidcArgs {
    fn default() -> Self {
        defaults()
    }
}

/// Limits for clients.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of the gateway")]
#[group(id = "gateway-limits")]
pub struct Limits {
    /// Maximum size of the body of /api/new_patient
    #[arg(long, env = "BEDSIDE_MAX_LEGACY_BODY", default_value = "64MB")]
    pub max_legacy_body: ByteSize,
    /// Maximum size of a streamed upload with all files
    #[arg(long, env = "BEDSIDE_MAX_UPLOAD", default_value = "4GB")]
    pub max_upload: ByteSize,
    /// Maximum size of a raw ECG file
    #[arg(long, env = "BEDSIDE_MAX_FILE", default_value = "1GB")]
    pub max_file: ByteSize,
    /// Maximum size of an image file
    #[arg(long, env = "BEDSIDE_MAX_IMAGE", default_value = "64MB")]
    pub max_image: ByteSize,
    /// Maximum number of pixels of an image, in millions
    #[arg(long, env = "BEDSIDE_MAX_MEGAPIXELS", default_value_t = 64)]
    pub max_megapixels: u32,
    /// Maximum number of parts of a streamed upload
    #[arg(long, env = "BEDSIDE_MAX_PARTS", default_value_t = 100)]
    pub max_parts: usize,
    /// Maximum number of uploads in flight
    #[arg(long, env = "BEDSIDE_MAX_UPLOADS_IN_FLIGHT", default_value_t = 256)]
    pub max_uploads_in_flight: usize,
    /// Maximum number of reads in flight, without event streams
    #[arg(long, env = "BEDSIDE_MAX_READS_IN_FLIGHT", default_value_t = 2_048)]
    pub max_reads_in_flight: usize,
    /// Maximum requests per second of each token, averaged over some seconds; 0 means no limit
    #[arg(long, env = "BEDSIDE_MAX_REQUESTS_PER_SECOND", default_value_t = 500)]
    pub max_requests_per_second: u32,
    /// Maximum requests per second without a token from one address (IPv6: /64 network), averaged over some
    /// seconds; 0 means no limit
    #[arg(long, env = "BEDSIDE_MAX_PUBLIC_REQUESTS_PER_SECOND", default_value_t = 50)]
    pub max_public_requests_per_second: u32,
    /// Maximum share of uploads, reads, event streams and connections that one token may use, in percent
    #[arg(long, env = "BEDSIDE_TOKEN_SHARE", value_name = "PERCENT", default_value_t = 25,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub token_share: u8,
    /// Uploads of one token that are processed at the same time; further ones queue
    #[arg(long, env = "BEDSIDE_TOKEN_UPLOADS_AT_ONCE", value_name = "NUMBER", default_value_t = 4)]
    pub token_uploads_at_once: usize,
    /// Minimum rate of an upload in bytes per second, measured over --body-idle; a slower one is answered
    /// with 408
    #[arg(long, env = "BEDSIDE_MIN_UPLOAD_RATE", default_value = "4KB")]
    pub min_upload_rate: ByteSize,
    /// Memory for all uploads in flight; more is stored in the spool folder
    #[arg(long, env = "BEDSIDE_UPLOAD_MEMORY", default_value = "256MB")]
    pub upload_memory: ByteSize,
    /// Maximum number of devices that stream waveforms
    #[arg(long, env = "BEDSIDE_MAX_DEVICE_STREAMS", default_value_t = 4_096)]
    pub max_device_streams: usize,
    /// Memory for waveforms that are not durable yet. Each stream reserves its window
    #[arg(long, env = "BEDSIDE_DEVICE_MEMORY", default_value = "256MB")]
    pub device_memory: ByteSize,
    /// Maximum number of open event streams and screens
    #[arg(long, env = "BEDSIDE_MAX_WATCHERS", default_value_t = 10_000)]
    pub max_watchers: usize,
    /// Maximum number of connections
    #[arg(long, env = "BEDSIDE_MAX_CONNECTIONS", default_value_t = 16_384)]
    pub max_connections: usize,
    /// Maximum number of connections without a valid token, at most half of --max-connections; the rest is
    /// reserved for clients with tokens. A new connection beyond it replaces the oldest one of the address
    /// with the most. Connections of --trusted-proxies do not count
    #[arg(
        long,
        env = "BEDSIDE_MAX_UNAUTHENTICATED_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = 4_096
    )]
    pub max_unauthenticated_connections: usize,
    /// Maximum number of connections without a valid token from one address (IPv6: /64 network)
    #[arg(
        long,
        env = "BEDSIDE_MAX_UNAUTHENTICATED_PER_ADDRESS",
        value_name = "NUMBER",
        default_value_t = 512
    )]
    pub max_unauthenticated_per_address: usize,
    /// Time after which a connection without a valid token is closed, except those of --trusted-proxies
    #[arg(long, env = "BEDSIDE_UNAUTHENTICATED_LIFETIME", default_value = "30s", value_parser = parse_duration)]
    pub unauthenticated_lifetime: Duration,
}

/// Returns the defaults of the command line, without environment variables.
fn defaults<T: clap::Args>() -> T {
    let mut command = T::augment_args(clap::Command::new("defaults"));
    let ids: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
    for id in ids {
        command = command.mut_arg(id, |arg| arg.env(None));
    }
    let matches = command.get_matches_from(["defaults"]);
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl Default for Config {
    fn default() -> Self {
        defaults()
    }
}

impl Default for Limits {
    fn default() -> Self {
        defaults()
    }
}

impl Limits {
    /// Returns the share of one token of `total`.
    pub(crate) fn share_of(&self, total: usize) -> usize {
        total.saturating_mul(self.token_share.into()).div_ceil(100)
    }
}

impl Config {
    /// Rejects an invalid or unsafe configuration, before anything is bound or opened.
    ///
    /// # Errors
    /// The setting to change.
    pub fn check(&self) -> Result<(), StartError> {
        if let Some(file) = &self.tokens {
            WatchedFiles::read(vec![file.clone()])
                .map_err(|error| StartError::config(format!("--tokens: {error}")))?;
        }
        self.tls.open()?;
        let SessionArgs { session_lifetime, session_idle, emergency_access } = self.sessions;
        if [session_lifetime, session_idle, emergency_access].iter().any(|time| time.as_secs() == 0) {
            return Err(StartError::config("sessions and emergency accesses last at least a second"));
        }
        if self.oidc.open()?.is_some() && self.tokens.is_none() {
            return Err(StartError::config(
                "--oidc-issuer needs --tokens, a token file that may be empty: without it, no login is needed",
            ));
        }
        if self.tokens.is_none() && !self.listen.ip().is_loopback() {
            return Err(StartError::config(format!(
                "without --tokens the gateway accepts only a loopback address, such as 127.0.0.1:{}, because \
                 anyone who can reach {} could read all patients; add --tokens to allow others",
                self.listen.port(),
                self.listen,
            )));
        }
        let has_certificate = self.tls.certificate.is_some();
        http_server::require_encryption(
            self.listen,
            has_certificate,
            self.insecure,
            "set --tls-cert and --tls-key",
        )?;
        let limits = &self.limits;
        let counts = [
            limits.max_parts,
            limits.max_uploads_in_flight,
            limits.max_reads_in_flight,
            limits.max_watchers,
            limits.max_device_streams,
            limits.max_connections,
            limits.max_unauthenticated_connections,
            limits.max_unauthenticated_per_address,
            limits.token_uploads_at_once,
        ];
        if counts.contains(&0) {
            return Err(StartError::config("a limit of 0 would reject everything"));
        }
        Ok(())
    }

    /// Reads the secret that upload ids are derived from.
    ///
    /// # Errors
    /// If the file cannot be used, or if there are tokens and no file, because clients could then guess each
    /// other's upload ids.
    pub fn key(&self) -> Result<Option<Secret>, StartError> {
        if self.tokens.is_some() && self.key_file.is_none() {
            return Err(StartError::config(
                "--tokens needs --key-file, a file with a secret such as the output of `openssl rand -hex 32`, \
                 the same for all gateways: without it, clients could guess each other's upload ids",
            ));
        }
        self.key_file.as_deref().map(Secret::read).transpose()
    }

    /// Returns the disks that must keep their reserve.
    #[must_use]
    pub fn disks(&self) -> Arc<DiskReserve> {
        let spool = self.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        let data = self.data_dir.clone().map(|folder| ("data", folder));
        DiskReserve::new(self.disk_reserve, data.into_iter().chain([("spool", spool)]))
    }

    /// Returns `https` with a certificate, otherwise `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.certificate.is_some() { "https" } else { "http" }
    }

    /// Returns the limits of client connections.
    pub(crate) fn connection_limits(&self) -> http_server::Limits {
        let limits = &self.limits;
        let connections = limits.max_connections;
        let trusted = self.trusted_proxies.clone();
        let unauthenticated = http_server::Unauthenticated {
            connections: limits.max_unauthenticated_connections,
            per_network: limits.max_unauthenticated_per_address,
            lifetime: limits.unauthenticated_lifetime,
        };
        http_server::Limits {
            connections,
            connections_per_client: self
                .tokens
                .as_ref()
                .map_or(connections, |_| limits.share_of(connections)),
            unauthenticated: Some(unauthenticated),
            proxies: http_server::Proxies::new(move |address| {
                trusted.iter().any(|proxy| proxy.includes(address))
            }),
            write_stall: self.write_stall,
            ..http_server::Limits::of("gateway")
        }
    }

    /// Loads the access tokens; `None` without a token file.
    pub(crate) fn tokens(&self) -> Result<Option<LiveTokens>, StartError> {
        let opened = self.tokens.as_deref().map(LiveTokens::open).transpose();
        opened.map_err(|error| StartError::config(format!("--tokens: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_equal_those_of_the_command_line() {
        let (config, limits) = (Config::default(), Limits::default());
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 5011)));
        assert_eq!(limits.max_legacy_body, ByteSize(64_000_000));
        assert_eq!(format!("{:?}", config.limits), format!("{limits:?}"));
        assert_eq!((limits.share_of(100), limits.share_of(3)), (25, 1));
        config.check().unwrap();
    }
}
