//! Settings of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::disk::{DISK_RESERVE, DiskReserve};
use runtime::{ByteSize, Secret, StartError, TlsArgs, WatchedFiles, http, parse_duration};

use crate::audit::{AuditPatient, AuditTarget};
use crate::proxies::TrustedProxy;
use crate::tokens::LiveTokens;

/// A receipt may be lost with the broker that passes it on: where one may die and uploads are to go on, none is waited for for
/// longer than this.
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
    /// A client that sends nothing for this long in the middle of an upload is cut off
    #[arg(long, env = "BEDSIDE_BODY_IDLE", default_value = "30s", value_parser = parse_duration)]
    pub body_idle: Duration,
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
    /// Most of the places for uploads, reads and event streams that the holder of one token may have, in percent
    #[arg(long, env = "BEDSIDE_TOKEN_SHARE", value_name = "PERCENT", default_value_t = 25,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub token_share: u8,
    /// Uploads of one token that are worked on at the same time; further ones wait for their turn
    #[arg(long, env = "BEDSIDE_TOKEN_UPLOADS_AT_ONCE", value_name = "NUMBER", default_value_t = 4)]
    pub token_uploads_at_once: usize,
    /// Memory that all uploads under way together may take; what goes beyond waits on disk, or outside
    #[arg(long, env = "BEDSIDE_UPLOAD_MEMORY", default_value = "256MB")]
    pub upload_memory: ByteSize,
    /// Most event streams open at the same time
    #[arg(long, env = "BEDSIDE_MAX_WATCHERS", default_value_t = 10_000)]
    pub max_watchers: usize,
    /// Most connections at the same time
    #[arg(long, env = "BEDSIDE_MAX_CONNECTIONS", default_value_t = 16_384)]
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 5011)),
            tokens: None,
            key_file: None,
            trusted_proxies: Vec::new(),
            audit_log: None,
            audit_patient: AuditPatient::default(),
            insecure: false,
            no_store: false,
            spool_dir: None,
            disk_reserve: DISK_RESERVE,
            receipt_wait: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            events_keep_alive: Duration::from_millis(750),
            drain_wait: Duration::ZERO,
            tls: TlsArgs::default(),
            limits: Limits::default(),
            admin_for_clients: false,
            data_dir: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_legacy_body: ByteSize(64_000_000),
            max_upload: ByteSize(4_000_000_000),
            max_file: ByteSize(1_000_000_000),
            max_image: ByteSize(64_000_000),
            max_megapixels: 64,
            max_parts: 100,
            max_uploads_in_flight: 256,
            max_reads_in_flight: 2_048,
            max_requests_per_second: 500,
            token_share: 25,
            token_uploads_at_once: 4,
            upload_memory: ByteSize(256_000_000),
            max_watchers: 10_000,
            max_connections: 16_384,
        }
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

    /// The access tokens; `None` without a token file.
    pub(crate) fn tokens(&self) -> Result<Option<LiveTokens>, StartError> {
        let opened = self.tokens.as_deref().map(LiveTokens::open).transpose();
        opened.map_err(|error| StartError::config(format!("--tokens: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn defaults_of_the_command_line_are_those_of_the_type() {
        let parsed = Program::parse_from(["gateway"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    }
}
