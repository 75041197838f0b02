//! Gateway: the only door for clients. Takes uploads, streams events, passes reads on to query.
//!
//! An upload is checked as a whole before anything of it leaves this process; then its files go to the blob stage, its
//! message to the queue, and the client is told what became of it.

mod access;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod any_bytes;
mod audit;
mod body;
mod clock;
mod config;
mod dead_letters;
mod ecg_file;
mod events;
mod fields;
mod files_in;
mod intake;
mod legacy;
mod legacy_body;
mod meaning;
mod multipart;
mod openapi;
mod params;
mod picture;
mod places;
mod proxies;
mod rate;
mod reads;
mod routes;
mod spool;
mod tokens;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use bus::{BlobStage, EventBus};
use runtime::disk::DiskReserve;
use runtime::problem::{ApiError, Kind};
use runtime::{Secret, ServerTls, Shutdown, StartError, Turns, admin, http};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use audit::{AuditPatient, AuditTarget, pseudonym};
pub use config::{Config, Limits, RECEIPT_WAIT_IN_CLUSTER};
pub use proxies::TrustedProxy;
pub use reads::Reads;
pub use tokens::{Role, token_line};

use places::{NoPlace, Place, Places};
use tokens::{Client, LiveTokens};

/// A holder who was quiet may catch up by this many seconds of the rate.
const BURST_SECONDS: u32 = 4;
/// Requests with a wrong token or none that are answered 401, for each network; further ones 429.
const FAILED_PER_SECOND: u32 = 5;
const FAILED_BURST: u32 = 60;

/// Seconds after which a client may ask again whether there is room on the disk.
const DISK_RETRY_AFTER: u16 = 5;

/// What the gateway works with.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Where uploads are queued and changes are heard of.
    pub bus: Arc<dyn EventBus>,
    /// Where the files of uploads wait.
    pub stage: Arc<dyn BlobStage>,
    /// Where reads are answered.
    pub reads: Reads,
    /// Further parts that `/readyz` asks, where they are in the same process.
    pub checks: Vec<admin::Check>,
}

/// What all handlers share.
struct App {
    config: Config,
    /// Makes ids of uploads that clients cannot guess. `None` only where there are no tokens: then there is one client.
    key: Option<Secret>,
    audit: Arc<audit::AuditLog>,
    tokens: Option<watch::Receiver<Arc<tokens::Tokens>>>,
    bus: Arc<dyn EventBus>,
    stage: Arc<dyn BlobStage>,
    reads: reads::ReadPath,
    hub: Arc<events::Hub>,
    clock: Arc<clock::Clock>,
    spool: spool::SpoolRoom,
    disks: Arc<DiskReserve>,
    /// One permit for each byte that bodies of `/api/new_patient` may take together.
    body_memory: Arc<Semaphore>,
    uploads: Places,
    reads_under_way: Places,
    /// Of the connections of each holder, at the threads of the runtime.
    at_threads: Turns,
    /// Of large bodies of `/api/new_patient` of each holder, at being parsed.
    at_parsing: Turns,
    /// Of requests with a token.
    rate: rate::Rate,
    /// Of requests with a wrong token or none where one is needed: guessing is not worth while.
    failed_rate: rate::Rate,
    shutdown: Shutdown,
}

impl App {
    /// A place among the reads under way.
    fn read_place(&self, client: &Client) -> Result<Place, ApiError> {
        self.reads_under_way.take(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_reads_refused_total").increment(1);
            no_place(none, "reads")
        })
    }

    /// A place among the uploads under way. There is none while a disk has less than its reserve.
    fn upload_place(&self, client: &Client) -> Result<Place, ApiError> {
        if let Err(low) = self.disks.check() {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            tracing::debug!(disk = low.disk, free = low.free, reserve = low.reserve, "no room for uploads");
            return Err(ApiError::unavailable(
                "The disk of this server is nearly full; send the upload again later.",
                DISK_RETRY_AFTER,
            ));
        }
        self.uploads.take(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            no_place(none, "uploads")
        })
    }
}

fn no_place(none: NoPlace, what: &str) -> ApiError {
    match none {
        NoPlace::AnyMore => ApiError::unavailable(
            format!("As many {what} are under way as this server takes; try again in a moment."),
            1,
        ),
        NoPlace::OfTheirs => ApiError::new(
            Kind::TOO_MANY_REQUESTS,
            format!("As many {what} of this token are under way as one may have; try again in a moment."),
        )
        .header(header::RETRY_AFTER, HeaderValue::from_static("1")),
    }
}

/// Serves clients until the shutdown begins.
///
/// # Errors
/// One sentence on what in the configuration must change, or why an address cannot be bound.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    config.check()?;
    config.key()?;
    let listener = http::bind(config.listen).await?;
    run_on(listener, config, ports, shutdown).await
}

/// What `/readyz` asks. Not whether query answers: a gateway without it still takes uploads.
#[must_use]
pub fn checks(bus: &Arc<dyn EventBus>, disks: &Arc<DiskReserve>) -> Vec<admin::Check> {
    vec![admin::Check::bus(bus), admin::Check::disk(disks)]
}

/// As [`run`], on a listener that is bound already, which [`Config::listen`] then has no part in.
///
/// # Errors
/// One sentence on what in the configuration must change.
pub async fn run_on(
    listener: TcpListener,
    mut config: Config,
    ports: Ports,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    meaning::describe();
    let address = listener.local_addr().map_err(StartError::failed)?;
    config.listen = address;
    config.check()?;
    let key = config.key()?;
    let audit = open_audit_log(&config, key.clone())?;
    let shutdown = shutdown.later(config.drain_wait);
    let clock = Arc::new(clock::Clock::default());
    let disks = config.disks();
    let health = config.admin_for_clients.then(|| {
        let mut checks = checks(&ports.bus, &disks);
        checks.push(clock::Clock::check(&clock));
        checks.extend(ports.checks.clone());
        admin::health("gateway", checks)
    });
    let tls = config.tls.open()?;
    let acceptors = tls.as_ref().map(ServerTls::acceptors);
    let Ports { bus, stage, reads, checks: _ } = ports;
    let memory = config.limits.upload_memory.0;
    // Half for files while they are checked, half for whole bodies; a body of the largest size must fit.
    let for_bodies = (memory / 2).max(config.limits.max_legacy_body.0 + (1 << 20));
    let tokens = config.tokens()?;
    let limits = &config.limits;
    let (uploads, reads_at_once) = (limits.max_uploads_in_flight, limits.max_reads_in_flight);
    // Without tokens nobody can be told from anybody else.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (percent, turns, parsed) = match tokens {
        Some(_) => (limits.token_share.into(), limits.token_uploads_at_once, 1),
        None => (100, uploads, processors),
    };
    // Reads that are answered in this process keep a processor busy each, and one is left to others.
    let reads_worked_on = match (&tokens, &reads) {
        (Some(_), Reads::InProcess(_)) => processors.saturating_sub(1),
        _ => reads_at_once,
    };
    let share = |places: usize| places.saturating_mul(percent).div_ceil(100);
    let app = Arc::new(App {
        key,
        audit: audit.clone(),
        tokens: tokens.as_ref().map(LiveTokens::in_force),
        reads: reads::ReadPath::new(reads)?,
        hub: Arc::new(events::Hub::new(config.limits.max_watchers, share(config.limits.max_watchers))),
        clock,
        spool: spool::SpoolRoom::new(config.spool_dir.clone(), memory / 2),
        body_memory: Arc::new(Semaphore::new(usize::try_from(for_bodies).unwrap_or(Semaphore::MAX_PERMITS))),
        uploads: Places::new(uploads, share(uploads), turns),
        reads_under_way: Places::new(reads_at_once, share(reads_at_once), reads_worked_on),
        disks: disks.clone(),
        at_threads: Turns::at_threads(),
        at_parsing: Turns::new(parsed),
        rate: rate::Rate::new(
            config.limits.max_requests_per_second,
            config.limits.max_requests_per_second.saturating_mul(BURST_SECONDS),
        ),
        failed_rate: rate::Rate::new(FAILED_PER_SECOND, FAILED_BURST),
        shutdown: shutdown.clone(),
        config,
        bus,
        stage,
    });
    app.spool.check().map_err(|error| {
        let folder = app.spool.folder().display();
        StartError::config(format!("files cannot be made in the spool folder {folder}: {error}"))
    })?;

    let (listening, heard) = tokio::sync::oneshot::channel();
    let hub = {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move { app.hub.listen(app.bus.clone(), listening, shutdown).await })
    };
    tokio::spawn(disks.watch(shutdown.clone()));
    let clock = {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move { app.clock.watch(&app.reads, &shutdown).await })
    };
    if let Some(tls) = tls {
        tokio::spawn(tls.follow(shutdown.clone()));
    } else if !address.ip().is_loopback() {
        tracing::warn!(
            "without --tls-cert tokens and patient data are not encrypted on the way; do that in front of here"
        );
    }
    if let Some(tokens) = tokens {
        tokio::spawn(tokens.follow(shutdown.clone(), audit));
    }
    // A broker that is not there yet does not keep the door shut: watchers are told once it is.
    let _ = tokio::time::timeout(Duration::from_secs(2), heard).await;

    tracing::info!(%address, tokens = app.tokens.is_some(), "gateway listens");
    let limits = http::Limits { connections: app.config.limits.max_connections, ..http::Limits::default() };
    let served = http::serve_over(listener, acceptors, routes::router(&app, health), limits, &shutdown).await;
    hub.abort();
    clock.abort();
    served.map_err(|error| StartError::failed(format!("the gateway stopped serving: {error}")))
}

/// Opens the audit log. Without a key, pseudonyms are the same only until the process ends.
fn open_audit_log(config: &Config, key: Option<Secret>) -> Result<Arc<audit::AuditLog>, StartError> {
    let target = config.audit_log.clone().unwrap_or(AuditTarget::Stderr);
    let key = key.map_or_else(Secret::generate, Ok)?;
    audit::AuditLog::open(target, config.audit_patient, key).map(Arc::new)
}
