//! Gateway: the only door for clients. Takes uploads, streams events, passes reads on to query.
//!
//! An upload is checked as a whole before anything of it leaves this process; then its files go to the blob stage, its
//! message to the queue, and the client is told what became of it.

mod admission;
mod auth;
mod config;
mod events;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod legacy;
mod metrics;
mod openapi;
mod reads;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use bus::{BusPorts, WorkQueue};
use runtime::disk::DiskReserve;
use runtime::{Secret, ServerTls, Shutdown, StartError, admin};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use auth::audit::{AuditPatient, AuditTarget, pseudonym};
pub use auth::proxies::TrustedProxy;
pub use auth::tokens::{Role, token_line};
pub use config::{Config, Limits, RECEIPT_WAIT_IN_CLUSTER};
pub use reads::Reads;

use admission::Admission;
use auth::tokens::LiveTokens;
use auth::{audit, tokens};
use http::{clock, routes};
use uploads::spool;

/// What the gateway works with.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The message broker.
    pub bus: BusPorts,
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
    bus: BusPorts,
    reads: reads::ReadPath,
    hub: Arc<events::Hub>,
    clock: Arc<clock::Clock>,
    spool: spool::SpoolFolder,
    admission: Admission,
    shutdown: Shutdown,
}

/// Serves clients until the shutdown begins.
///
/// # Errors
/// One sentence on what in the configuration must change, or why an address cannot be bound.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    config.check()?;
    config.key()?;
    let listener = runtime::http::bind(config.listen).await?;
    run_on(listener, config, ports, shutdown).await
}

/// What `/readyz` asks. Not whether query answers: a gateway without it still takes uploads.
#[must_use]
pub fn checks(queue: &Arc<dyn WorkQueue>, disks: &Arc<DiskReserve>) -> Vec<admin::Check> {
    vec![admin::Check::bus(queue), admin::Check::disk(disks)]
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
    metrics::describe();
    let address = listener.local_addr().map_err(StartError::failed)?;
    config.listen = address;
    config.check()?;
    let key = config.key()?;
    let audit = open_audit_log(&config, key.clone())?;
    let shutdown = shutdown.later(config.drain_wait);
    let clock = Arc::new(clock::Clock::default());
    let disks = config.disks();
    let health = config.admin_for_clients.then(|| {
        let mut checks = checks(&ports.bus.queue, &disks);
        checks.push(clock::Clock::check(&clock));
        checks.extend(ports.checks.clone());
        checks
    });
    let tls = config.tls.open()?;
    let acceptors = tls.as_ref().map(ServerTls::acceptors);
    let Ports { bus, reads, checks: _ } = ports;
    let tokens = config.tokens()?;
    let reads_in_process = matches!(reads, Reads::InProcess(_));
    let admission = Admission::new(&config.limits, disks.clone(), tokens.is_some(), reads_in_process);
    let app = Arc::new(App {
        key,
        audit: audit.clone(),
        tokens: tokens.as_ref().map(LiveTokens::in_force),
        reads: reads::ReadPath::new(reads)?,
        clock,
        hub: Arc::new(events::Hub::new()),
        spool: spool::SpoolFolder::new(config.spool_dir.clone(), admission.file_memory.clone()),
        admission,
        shutdown: shutdown.clone(),
        config,
        bus,
    });
    app.spool.check().map_err(|error| {
        let folder = app.spool.folder().display();
        StartError::config(format!("files cannot be made in the spool folder {folder}: {error}"))
    })?;

    let (listening, heard) = tokio::sync::oneshot::channel();
    let hub = {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move { app.hub.listen(app.bus.pubsub.clone(), listening, shutdown).await })
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
    let limits = app.config.connection_limits();
    let served =
        runtime::http::serve_over(listener, acceptors, routes::router(&app, health), limits, &shutdown).await;
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
