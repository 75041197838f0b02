//! Ingest: the only writer of the patient store.
//!
//! Ingest takes uploads and results of analyses from the queues and stores each in one transaction. After that it sends the
//! jobs of ECGs, publishes the change, sends the receipt, removes the staged files and acknowledges the delivery, in this
//! order. After a crash at any point, the message is redelivered: the store recognizes the upload or result by its ids, and
//! every other step can be repeated.

mod analyses;
mod audit;
mod blobs;
mod clock;
mod commands;
mod config;
mod corrections;
#[cfg(test)]
mod interruption;
mod metrics;
mod passwords;
mod queues;
mod reconcile;
mod scrub;
mod sweep;
mod uploads;
mod users;
mod wards;
mod waveforms;

use std::sync::Arc;

use bus::{BusError, BusPorts, EnqueueError, Outcome, PubSub, Readiness, run_consumer};
use proto_json::{PatientUpdated, Queue, Timestamp};
use runtime::{Shutdown, StartError, trace};
use store::{
    AuditStore, BlobStore, Corrections, Maintenance, PatientWriter, StoreError, UserStore, WardStore,
    WaveformStore,
};
use tracing::Instrument;

pub use clock::accept as accept_clock;
pub use commands::{CallArgs, router, serve};
pub use config::Config;
pub use passwords::{HashError, hash_password};
pub use users::{add_user, change_user, new_user};

/// The ports that ingest takes.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The message broker.
    pub bus: BusPorts,
    /// Patients and their history.
    pub store: Arc<dyn PatientWriter>,
    /// Stored files.
    pub files: Arc<dyn BlobStore>,
    /// Scrub and sweep of the store.
    pub maintenance: Arc<dyn Maintenance>,
    /// Stored waveforms.
    pub waveforms: Arc<dyn WaveformStore>,
    /// The audit.
    pub audit: Arc<dyn AuditStore>,
    /// Wards, beds, admissions and details.
    pub wards: Arc<dyn WardStore>,
    /// Corrections of stored records.
    pub corrections: Arc<dyn Corrections>,
    /// Users and sessions.
    pub users: Arc<dyn UserStore>,
}

impl Ports {
    /// The ports of one store.
    pub fn of(
        bus: BusPorts,
        store: Arc<
            impl PatientWriter
            + BlobStore
            + Maintenance
            + WaveformStore
            + AuditStore
            + WardStore
            + Corrections
            + UserStore,
        >,
    ) -> Self {
        Ports {
            bus,
            store: store.clone(),
            files: store.clone(),
            maintenance: store.clone(),
            waveforms: store.clone(),
            audit: store.clone(),
            wards: store.clone(),
            corrections: store.clone(),
            users: store,
        }
    }

    /// Whether broker and store answer. The consumers ask while they are paused.
    fn readiness(&self) -> Readiness {
        let (queue, store) = (self.bus.queue.clone(), self.store.clone());
        Arc::new(move || {
            let (queue, store) = (queue.clone(), store.clone());
            Box::pin(async move {
                queue.check().await.map_err(|error| error.to_string())?;
                store.check().await.map_err(|error| error.to_string())
            })
        })
    }
}

/// Stores uploads and results until the shutdown begins, then completes those in progress.
///
/// # Errors
/// None today: failed work is retried.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    metrics::describe();
    let concurrency = config.concurrency.get();
    tracing::info!(concurrency, "ingest is running");
    let (for_uploads, for_results) = (ports.clone(), ports.clone());
    let ready = ports.readiness();
    tokio::join!(
        run_consumer(
            &*ports.bus.queue,
            Queue::Uploads,
            concurrency,
            shutdown.begun(),
            ready.clone(),
            move |delivery| {
                let ports = for_uploads.clone();
                let span = trace::work("store upload", &delivery);
                async move { uploads::take(&ports, &delivery).await }.instrument(span)
            }
        ),
        run_consumer(
            &*ports.bus.queue,
            Queue::EcgResults,
            concurrency,
            shutdown.begun(),
            ready,
            move |delivery| {
                let ports = for_results.clone();
                let span = trace::work("store analysis", &delivery);
                async move { analyses::take(&ports, &delivery).await }.instrument(span)
            }
        ),
        shutdown.unless_begun(reconcile::run(&config, &ports)),
        shutdown.unless_begun(queues::watch(&ports)),
        shutdown.unless_begun(corrections::run(&ports)),
        shutdown.unless_begun(scrub::run(&config, &ports)),
        shutdown.unless_begun(clock::watch(&ports, config.reconcile_every)),
        shutdown.unless_begun(queues::watch_disk(&ports)),
        shutdown.unless_begun(audit::log_heads(&ports)),
        waveforms::run(&config, &ports, &shutdown),
        shutdown.unless_begun(users::sweep(&*ports.users)),
    );
    Ok(())
}

/// Publishes a change. A failure is logged only: clients get the change when they reload.
async fn publish(pubsub: &dyn PubSub, mut update: PatientUpdated, trace_parent: Option<&str>) {
    update.sent_at = Some(Timestamp::now());
    match trace::publish(pubsub, &update, trace_parent).await {
        Ok(()) => ::metrics::counter!("bedside_announcements_total").increment(1),
        Err(error) => {
            let upload_id = update.upload_id.map(|id| id.to_string());
            tracing::warn!(upload_id, error = %error, "a change was not published")
        }
    }
}

/// Ports of the local adapters in a temporary folder.
#[cfg(test)]
fn local_ports() -> (tempfile::TempDir, Ports) {
    let folder = tempfile::tempdir().unwrap();
    let policy = bus::RetryPolicy::default();
    let local =
        bus::local::LocalBus::open(&folder.path().join("queues.db"), policy, bus::QueueLimits::default());
    let local = local.unwrap();
    let store = store::sqlite::SqliteStore::open(&folder.path().join("patients.db")).unwrap();
    (folder, Ports::of(BusPorts::of(&local), store))
}

/// The outcome of work when a port fails: deferred during an outage of the port, otherwise retried a limited number of times.
trait Failure {
    fn outcome(self) -> Outcome;
}

impl Failure for StoreError {
    fn outcome(self) -> Outcome {
        if self.is_outage() { Outcome::Defer(self.to_string()) } else { Outcome::Retry(self.to_string()) }
    }
}

impl Failure for BusError {
    fn outcome(self) -> Outcome {
        self.into()
    }
}

impl Failure for EnqueueError {
    fn outcome(self) -> Outcome {
        self.into()
    }
}

/// The outcome of a failed port call; see [`Failure`].
fn failed(cause: impl Failure) -> Outcome {
    cause.outcome()
}
