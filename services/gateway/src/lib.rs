//! The gateway: the public API, and the only entry point for clients. It accepts uploads, streams events, and
//! forwards reads to the query service.
//!
//! An upload is validated as a whole before any part of it leaves this process. Then its large files are
//! staged, its message is enqueued, and the client gets the receipt.

// The API document is one `json!` expression.
#![cfg_attr(test, recursion_limit = "256")]

mod admission;
mod alarms;
mod app;
mod asyncapi;
mod auth;
mod config;
mod corrections;
#[cfg(test)]
mod documents;
mod events;
mod forward;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod legacy;
mod metrics;
mod openapi;
mod reads;
mod reanalysis;
mod sessions;
mod uploads;
mod wards;
mod waves;
mod web;

use std::sync::Arc;
use std::time::Duration;

use bus::{BusPorts, WorkQueue};
use http_server::ServerTls;
use runtime::disk::DiskReserve;
use runtime::health::{Check, Health};
use runtime::{Secret, Shutdown, StartError};
use tokio::net::TcpListener;

pub use auth::audit::{AuditPatient, AuditTarget, pseudonym};
pub use auth::proxies::TrustedProxy;
pub use auth::tokens::{Role, TokenEntry, TokenLimits, token_line};
pub use config::{Config, Limits, RECEIPT_WAIT_IN_CLUSTER, SessionArgs};
pub use reads::query::Reads;
pub use sessions::oidc::{GroupRole, OidcArgs};

use admission::Admission;
use app::App;
use auth::audit::AuditLog;
use auth::audit_chain::AuditChain;
use auth::tokens::LiveTokens;
use auth::wards::Wards;
use events::notifier::Notifier;
use http::clock::Clock;
use reads::query::QueryService;
use sessions::Sessions;
use uploads::preview::Previews;
use uploads::spool::SpoolFolder;
use waves::Waves;

/// Time that the start waits for the broker. Requests are served without it, but event streams then start
/// with `cut-off`.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time at the end for entries of the audit that are not stored yet.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The ports of the gateway.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The message broker.
    pub bus: BusPorts,
    /// The query service.
    pub reads: Reads,
    /// Ingest, which changes records on request.
    pub records: Reads,
    /// The service of the alarms.
    pub alarms: Reads,
    /// Additional readiness checks of services in the same process.
    pub checks: Vec<Check>,
}

/// Serves clients until the shutdown begins.
///
/// # Errors
/// If the configuration is invalid or the address cannot be bound.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    config.check()?;
    config.key()?;
    let listener = http_server::bind(config.listen).await?;
    run_on(listener, config, ports, shutdown).await
}

/// Returns the readiness checks. The query service is not among them, because uploads work without it.
#[must_use]
pub fn checks(queue: &Arc<dyn WorkQueue>, disks: &Arc<DiskReserve>) -> Vec<Check> {
    vec![Check::bus(queue), Check::disk(disks)]
}

/// Like [`run`], on a bound listener. [`Config::listen`] is ignored.
///
/// # Errors
/// If the configuration is invalid or the server fails.
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
    config.oidc.key = key.clone();
    let audit = open_audit_log(&config, key.clone())?;
    let (begun, shutdown) = (shutdown.clone(), shutdown.later(config.drain_wait));
    let clock = Arc::new(Clock::default());
    let disks = config.disks();
    let health = config.admin_for_clients.then(|| {
        let mut checks = checks(&ports.bus.queue, &disks);
        checks.push(Clock::check(&clock));
        checks.extend(ports.checks.clone());
        // Not the delayed signal: readiness fails during the drain wait.
        Health::of(checks, &begun)
    });
    let tls = config.tls.open()?;
    let acceptors = tls.as_ref().map(ServerTls::acceptors);
    let Ports { bus, reads, records, alarms, checks: _ } = ports;
    let tokens = config.tokens()?;
    let reads_in_process = matches!(reads, Reads::InProcess(_));
    let admission = Admission::new(&config.limits, disks.clone(), tokens.is_some(), reads_in_process);
    let records = QueryService::new(records)?;
    let (audit_chain, audited) = AuditChain::start(records.clone(), shutdown.clone());
    let app = Arc::new(App {
        audit_chain,
        key,
        audit: audit.clone(),
        tokens: tokens.as_ref().map(LiveTokens::subscribe),
        reads: QueryService::new(reads)?,
        records,
        alarms: QueryService::new(alarms)?,
        clock,
        sessions: Sessions::new(),
        oidc: config.oidc.open()?,
        wards: Wards::new(),
        notifier: Arc::new(Notifier::new()),
        waves: Waves::new(bus.waves.clone()),
        spool: SpoolFolder::new(config.spool_dir.clone(), admission.file_memory.clone()),
        previews: Previews::new(tokens.is_some()),
        admission,
        shutdown: shutdown.clone(),
        config,
        bus,
    });
    app.spool.check().map_err(|error| {
        let folder = app.spool.folder().display();
        StartError::config(format!("files cannot be created in the spool folder {folder}: {error}"))
    })?;

    let (subscribed, is_subscribed) = tokio::sync::oneshot::channel();
    let notifier = {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move {
            app.notifier.run(app.bus.pubsub.clone(), &app.wards, subscribed, shutdown).await
        })
    };
    tokio::spawn(disks.watch(shutdown.clone()));
    let clock = {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move { app.clock.watch(&app.reads, &shutdown).await })
    };
    if app.tokens.is_some() {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move { app.sessions.watch(&app.records, &shutdown).await });
    }
    if let Some(tls) = tls {
        tokio::spawn(tls.follow(shutdown.clone()));
    } else if !address.ip().is_loopback() {
        tracing::warn!(
            "without --tls-cert the gateway does not encrypt tokens and patient data; a proxy must do so"
        );
    }
    if let Some(tokens) = tokens {
        tokio::spawn(tokens.follow(shutdown.clone(), audit));
    }
    // Does not block readiness: event streams are notified when the broker is available.
    let _ = tokio::time::timeout(SUBSCRIBE_TIMEOUT, is_subscribed).await;

    tracing::info!(%address, tokens = app.tokens.is_some(), "gateway listens");
    let limits = app.config.connection_limits();
    let served =
        http_server::serve_over(listener, acceptors, http::routes::router(&app, health), limits, &shutdown)
            .await;
    app.waves.ended().await;
    notifier.abort();
    clock.abort();
    drop(app);
    // The last requests have ended; their entries are sent.
    let _ = tokio::time::timeout(AUDIT_TIMEOUT, audited).await;
    served.map_err(|error| StartError::failed(format!("the gateway stopped serving: {error}")))
}

/// Opens the audit log. Without a key, pseudonyms change with each process.
fn open_audit_log(config: &Config, key: Option<Secret>) -> Result<Arc<AuditLog>, StartError> {
    let target = config.audit_log.clone().unwrap_or(AuditTarget::Stderr);
    let key = key.map_or_else(Secret::generate, Ok)?;
    AuditLog::open(target, config.audit_patient, key).map(Arc::new)
}
