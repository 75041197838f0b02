//! Settings of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::disk::{DISK_RESERVE, DiskReserve};
use runtime::{ByteSize, Secret, StartError, TlsArgs, WatchedFiles, http, parse_duration};

use crate::auth::audit::{AuditPatient, AuditTarget};
use crate::auth::proxies::TrustedProxy;
use crate::auth::tokens::LiveTokens;

/// Longest wait for a receipt in a cluster: a receipt can be lost with the broker that forwards it, and an upload may already
/// have waited for the election of a new leader.
pub const RECEIPT_WAIT_IN_CLUSTER: Duration = Duration::from_secs(2);

/// Settings of the gateway; each can be given as a flag or in the environment.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
#[group(id = "gateway")]
pub struct Config {
    /// Address for clients. Other than loopback addresses need --tokens, and a certificate or --insecure
    #[arg(long, env = "BEDSIDE_LISTEN", default_value = "127.0.0.1:5011")]
    pub listen: SocketAddr,
    /// File of access tokens: a line `name role sha256` for each, as `bedside token new` makes them. It is read again when it
    /// changes; an empty or missing file means that there are no tokens
    #[arg(long, env = "BEDSIDE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// File of the secret from which upload ids and pseudonyms in the audit log are computed, of at least 32 characters: the
    /// same for all gateways of a system. Required with --tokens; `bedside` makes one in its data folder
    #[arg(id = "gateway_key_file", long = "key-file", env = "BEDSIDE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Proxies in front of the gateway: addresses, networks as in 10.0.0.0/8, `loopback` or `private`, with commas. Only from
    /// these, the last address in X-Forwarded-For counts as the client's
    #[arg(long, env = "BEDSIDE_TRUSTED_PROXIES", value_name = "LIST", value_delimiter = ',')]
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Where a line of JSON goes for each access to patient data, whatever --log says: `stderr`, `stdout` or a file. By
    /// default `stderr`; of `bedside`, the file audit.log in the data folder
    #[arg(long, env = "BEDSIDE_AUDIT_LOG", value_name = "WHERE")]
    pub audit_log: Option<AuditTarget>,
    /// How the audit log names patients; `bedside audit pseudonym` computes the pseudonym of a record number
    #[arg(long, env = "BEDSIDE_AUDIT_PATIENT", value_enum, default_value_t)]
    pub audit_patient: AuditPatient,
    /// Allow plain HTTP on an address that is not a loopback address: a proxy in front of it, or the network, encrypts
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
    /// Tell clients not to keep images, plots and signals on disk: `Cache-Control: no-store`. They load them again each time
    #[arg(long, env = "BEDSIDE_NO_STORE")]
    pub no_store: bool,
    /// Folder for large files while they arrive; by default the system's folder for temporary files
    #[arg(long, env = "BEDSIDE_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Free space on the disks of data and spool folder below which uploads are answered 503; a tenth of a disk where that
    /// is less; 0 to accept until a disk is full
    #[arg(long, env = "BEDSIDE_DISK_RESERVE", value_name = "SIZE", default_value_t = DISK_RESERVE)]
    pub disk_reserve: ByteSize,
    /// How long an upload waits to be confirmed as stored before it is answered 202; with a cluster of brokers 2 s at most
    #[arg(long, env = "BEDSIDE_RECEIPT_WAIT", default_value = "10s", value_parser = parse_duration)]
    pub receipt_wait: Duration,
    /// A client that sends nothing for this long in the middle of an upload is disconnected; --min-upload-rate is measured
    /// over this time
    #[arg(long, env = "BEDSIDE_BODY_IDLE", default_value = "30s", value_parser = parse_duration)]
    pub body_idle: Duration,
    /// A client that takes nothing for this long of what is sent to it is disconnected (Linux)
    #[arg(long, env = "BEDSIDE_WRITE_STALL", default_value = "30s", value_parser = parse_duration)]
    pub write_stall: Duration,
    /// Longest time for the body of one upload, and for the body of one response except event streams
    #[arg(long, env = "BEDSIDE_TRANSFER_DEADLINE", default_value = "1h", value_parser = parse_duration)]
    pub transfer_deadline: Duration,
    /// Time between comments that keep a silent event stream open: a client that hears nothing for a little more than twice
    /// this long takes the connection for lost
    #[arg(long, env = "BEDSIDE_EVENTS_KEEP_ALIVE", default_value = "750ms", value_parser = parse_duration)]
    pub events_keep_alive: Duration,
    /// Time for which clients are still served once told to end, while health is not any more: until load balancers have
    /// noticed
    #[arg(long, env = "BEDSIDE_DRAIN_WAIT", default_value = "0s", value_parser = parse_duration)]
    pub drain_wait: Duration,
    /// With what the gateway shows who it is.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// What a client may take.
    #[command(flatten)]
    pub limits: Limits,
    /// Serve /livez, /readyz and /metrics on the clients' port, too; for when there is one process only.
    #[arg(skip)]
    pub admin_for_clients: bool,
    /// Folder of all data, where it is on a disk of this process.
    #[arg(skip)]
    pub data_dir: Option<PathBuf>,
}

/// What a client may take.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of the gateway")]
#[group(id = "gateway-limits")]
pub struct Limits {
    /// Largest body of /api/new_patient
    #[arg(long, env = "BEDSIDE_MAX_LEGACY_BODY", default_value = "64MB")]
    pub max_legacy_body: ByteSize,
    /// Largest body of a streamed upload, all files together
    #[arg(long, env = "BEDSIDE_MAX_UPLOAD", default_value = "4GB")]
    pub max_upload: ByteSize,
    /// Largest raw ECG file
    #[arg(long, env = "BEDSIDE_MAX_FILE", default_value = "1GB")]
    pub max_file: ByteSize,
    /// Largest image file
    #[arg(long, env = "BEDSIDE_MAX_IMAGE", default_value = "64MB")]
    pub max_image: ByteSize,
    /// Most pixels of an image, in millions
    #[arg(long, env = "BEDSIDE_MAX_MEGAPIXELS", default_value_t = 64)]
    pub max_megapixels: u32,
    /// Most parts of a streamed upload
    #[arg(long, env = "BEDSIDE_MAX_PARTS", default_value_t = 100)]
    pub max_parts: usize,
    /// Most uploads under way at the same time
    #[arg(long, env = "BEDSIDE_MAX_UPLOADS_IN_FLIGHT", default_value_t = 256)]
    pub max_uploads_in_flight: usize,
    /// Most reads under way at the same time, event streams not counted
    #[arg(long, env = "BEDSIDE_MAX_READS_IN_FLIGHT", default_value_t = 2_048)]
    pub max_reads_in_flight: usize,
    /// Requests that the holder of each token may make per second, over some seconds; 0 for no limit
    #[arg(long, env = "BEDSIDE_MAX_REQUESTS_PER_SECOND", default_value_t = 500)]
    pub max_requests_per_second: u32,
    /// Requests per second that one address (IPv6: one /64 network) may make, over some seconds, where no token is needed; 0
    /// for no limit
    #[arg(long, env = "BEDSIDE_MAX_PUBLIC_REQUESTS_PER_SECOND", default_value_t = 50)]
    pub max_public_requests_per_second: u32,
    /// Most of the uploads, reads, event streams and connections at the same time that one token may have, in percent
    #[arg(long, env = "BEDSIDE_TOKEN_SHARE", value_name = "PERCENT", default_value_t = 25,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub token_share: u8,
    /// Uploads of one token that are worked on at the same time; further ones wait for their turn
    #[arg(long, env = "BEDSIDE_TOKEN_UPLOADS_AT_ONCE", value_name = "NUMBER", default_value_t = 4)]
    pub token_uploads_at_once: usize,
    /// Slowest upload, in bytes per second, measured over --body-idle; a slower one is answered 408
    #[arg(long, env = "BEDSIDE_MIN_UPLOAD_RATE", default_value = "4KB")]
    pub min_upload_rate: ByteSize,
    /// Memory that all uploads under way together may take; what goes beyond waits on disk
    #[arg(long, env = "BEDSIDE_UPLOAD_MEMORY", default_value = "256MB")]
    pub upload_memory: ByteSize,
    /// Most event streams open at the same time
    #[arg(long, env = "BEDSIDE_MAX_WATCHERS", default_value_t = 10_000)]
    pub max_watchers: usize,
    /// Most connections at the same time
    #[arg(long, env = "BEDSIDE_MAX_CONNECTIONS", default_value_t = 16_384)]
    pub max_connections: usize,
    /// Of these, most that have not shown a known token; the others are for clients with tokens. Half of --max-connections at
    /// most. A new connection beyond it replaces the oldest one of the address that has most. Those of --trusted-proxies do not count
    #[arg(
        long,
        env = "BEDSIDE_MAX_UNAUTHENTICATED_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = 4_096
    )]
    pub max_unauthenticated_connections: usize,
    /// Of these, most of one address (IPv6: one /64 network)
    #[arg(
        long,
        env = "BEDSIDE_MAX_UNAUTHENTICATED_PER_ADDRESS",
        value_name = "NUMBER",
        default_value_t = 512
    )]
    pub max_unauthenticated_per_address: usize,
    /// A connection that has shown no known token after this time is closed; those of --trusted-proxies are not
    #[arg(long, env = "BEDSIDE_UNAUTHENTICATED_LIFETIME", default_value = "30s", value_parser = parse_duration)]
    pub unauthenticated_lifetime: Duration,
}

/// The defaults of the command line, whatever the environment says.
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
    /// The share of one token in so many.
    pub(crate) fn share_of(&self, total: usize) -> usize {
        total.saturating_mul(self.token_share.into()).div_ceil(100)
    }
}

impl Config {
    /// Refuses what cannot work or would be unsafe, before anything is bound or opened.
    ///
    /// # Errors
    /// One sentence on the setting that must change.
    pub fn check(&self) -> Result<(), StartError> {
        if let Some(file) = &self.tokens {
            WatchedFiles::read(vec![file.clone()])
                .map_err(|error| StartError::config(format!("--tokens: {error}")))?;
        }
        self.tls.open()?;
        if self.tokens.is_none() && !self.listen.ip().is_loopback() {
            return Err(StartError::config(format!(
                "without --tokens the gateway listens on a loopback address only, such as 127.0.0.1:{}, because everybody who \
                 reaches {} could read all patients; add --tokens to open it to others",
                self.listen.port(),
                self.listen,
            )));
        }
        let has_certificate = self.tls.certificate.is_some();
        http::require_encryption(
            self.listen,
            has_certificate,
            self.insecure,
            "give it --tls-cert and --tls-key",
        )?;
        let limits = &self.limits;
        let counts = [
            limits.max_parts,
            limits.max_uploads_in_flight,
            limits.max_reads_in_flight,
            limits.max_watchers,
            limits.max_connections,
            limits.max_unauthenticated_connections,
            limits.max_unauthenticated_per_address,
            limits.token_uploads_at_once,
        ];
        if counts.contains(&0) {
            return Err(StartError::config("a limit of 0 would refuse everything"));
        }
        Ok(())
    }

    /// Reads the secret from which upload ids are computed.
    ///
    /// # Errors
    /// When the file cannot be used, or there are tokens and no file: clients could guess the ids of each other's uploads.
    pub fn key(&self) -> Result<Option<Secret>, StartError> {
        if self.tokens.is_some() && self.key_file.is_none() {
            return Err(StartError::config(
                "--tokens needs --key-file, a file with a secret such as `openssl rand -hex 32` makes, the same for all \
                 gateways: without it, clients could guess the ids of each other's uploads",
            ));
        }
        self.key_file.as_deref().map(Secret::read).transpose()
    }

    /// The disks that must keep their reserve.
    #[must_use]
    pub fn disks(&self) -> Arc<DiskReserve> {
        let spool = self.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        let data = self.data_dir.clone().map(|folder| ("data", folder));
        DiskReserve::new(self.disk_reserve, data.into_iter().chain([("spool", spool)]))
    }

    /// `https` where there is a certificate, else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.certificate.is_some() { "https" } else { "http" }
    }

    /// Limits of the clients' connections.
    pub(crate) fn connection_limits(&self) -> http::Limits {
        let limits = &self.limits;
        let connections = limits.max_connections;
        let trusted = self.trusted_proxies.clone();
        let unauthenticated = http::Unauthenticated {
            connections: limits.max_unauthenticated_connections,
            per_network: limits.max_unauthenticated_per_address,
            lifetime: limits.unauthenticated_lifetime,
        };
        http::Limits {
            connections,
            connections_per_client: self
                .tokens
                .as_ref()
                .map_or(connections, |_| limits.share_of(connections)),
            unauthenticated: Some(unauthenticated),
            proxies: http::Proxies::new(move |address| trusted.iter().any(|proxy| proxy.includes(address))),
            write_stall: self.write_stall,
            ..http::Limits::of("gateway")
        }
    }

    /// The access tokens; `None` without a token file.
    pub(crate) fn tokens(&self) -> Result<Option<LiveTokens>, StartError> {
        let opened = self.tokens.as_deref().map(LiveTokens::open).transpose();
        opened.map_err(|error| StartError::config(format!("--tokens: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_command_line() {
        let (config, limits) = (Config::default(), Limits::default());
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 5011)));
        assert_eq!(limits.max_legacy_body, ByteSize(64_000_000));
        assert_eq!(format!("{:?}", config.limits), format!("{limits:?}"));
        assert_eq!((limits.share_of(100), limits.share_of(3)), (25, 1));
        config.check().unwrap();
    }
}
