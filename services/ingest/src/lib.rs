//! The only writer of the patient store.
//!
//! Takes uploads and results of analyses from the queues and stores them. The order of the writes is what makes it safe
//! without transactions: blobs, history, patient; then jobs, announcement and receipt; clean-up, acknowledgement. A crash
//! between any two is healed by redelivery, because each of them can be repeated.

mod analyses;
mod blobs;
mod clock;
mod config;
mod meaning;
mod queues;
mod reconcile;
mod scrub;
mod uploads;

use std::sync::Arc;

use bus::{BusError, BusPorts, EnqueueError, Outcome, PubSub, Readiness, run_consumer};
use proto_json::{PatientUpdated, Queue, Timestamp};
use runtime::{Shutdown, StartError, trace};
use store::{PatientStore, StoreError};
use tracing::Instrument;

pub use clock::accept as accept_clock;
pub use config::Config;

/// What ingest needs of the world.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The message broker.
    pub bus: BusPorts,
    /// Where everything ends up.
    pub store: Arc<dyn PatientStore>,
}

impl Ports {
    /// Whether broker and store answer: asked while the consumers are paused.
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

/// Takes and stores until the shutdown begins, then ends what is under way.
///
/// # Errors
/// None today: what fails is tried again.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    meaning::describe();
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
        shutdown.unless_begun(scrub::run(&config, &ports)),
        shutdown.unless_begun(clock::watch(&ports, config.reconcile_every)),
        shutdown.unless_begun(queues::watch_disk(&ports)),
    );
    Ok(())
}

/// Publishes a change. One that is lost delays a screen, so it is logged, but stops nothing.
async fn publish(pubsub: &dyn PubSub, mut update: PatientUpdated, trace_parent: Option<&str>) {
    update.sent_at = Some(Timestamp::now());
    match trace::publish(pubsub, &update, trace_parent).await {
        Ok(()) => metrics::counter!("bedside_announcements_total").increment(1),
        Err(error) => {
            let upload_id = update.upload_id.map(|id| id.to_string());
            tracing::warn!(upload_id, error = %error, "a change was not published")
        }
    }
}

/// Ports of the local adapters in a folder of their own.
#[cfg(test)]
fn local_ports() -> (tempfile::TempDir, Ports) {
    let folder = tempfile::tempdir().unwrap();
    let policy = bus::RetryPolicy::default();
    let local =
        bus::local::LocalBus::open(&folder.path().join("queues.db"), policy, bus::QueueLimits::default());
    let local = local.unwrap();
    let store = store::sqlite::SqliteStore::open(&folder.path().join("patients.db")).unwrap();
    (folder, Ports { bus: BusPorts::of(&local), store })
}

/// What becomes of work when a port fails: deferred if the port failed as a whole, else tried again a limited number of
/// times.
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

/// See [`Failure`].
fn failed(cause: impl Failure) -> Outcome {
    cause.outcome()
}
