//! Worker that analyses and draws raw ECGs.
//!
//! The worker consumes jobs, reads the signal from the staging store, and publishes the analysis with plot
//! and details. A file that is not a usable ECG gives a result, too, since a retry would fail again. The
//! worker has no state, so any number of workers can share the queue.

mod job;
mod live;

use std::num::NonZeroUsize;
use std::sync::Arc;

use bus::{Readiness, StagingStore, WorkQueue, run_consumer};
use proto_json::Queue;
use runtime::{Metrics, Shutdown, StartError, trace};
use tracing::Instrument;

pub use live::{PatientAnalysis, run_live};

/// Settings of the worker.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ecg_worker")]
pub struct Config {
    /// ECGs analysed at the same time; by default one for each processor
    #[arg(id = "worker_concurrency", long = "worker-concurrency", env = "BEDSIDE_WORKER_CONCURRENCY")]
    pub concurrency: Option<NonZeroUsize>,
}

/// Ports of the worker.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Queues of jobs and results.
    pub queue: Arc<dyn WorkQueue>,
    /// Staging store of the signals.
    pub staging: Arc<dyn StagingStore>,
}

/// Consumes jobs until shutdown, then completes those in progress.
///
/// # Errors
/// None at present: failures are retried.
pub async fn run(config: Config, ports: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    let concurrency =
        config.concurrency.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    tracing::info!(concurrency, "ecg-worker is running");
    describe_metrics();
    let for_jobs = ports.clone();
    let queue = ports.queue.clone();
    let ready: Readiness = Arc::new(move || {
        let queue = queue.clone();
        Box::pin(async move { queue.check().await.map_err(|error| error.to_string()) })
    });
    run_consumer(&*ports.queue, Queue::EcgJobs, concurrency, shutdown.begun(), ready, move |delivery| {
        let ports = for_jobs.clone();
        let span = trace::work("analyse ECG", &delivery);
        async move { job::take(&ports, &delivery).await }.instrument(span)
    })
    .await;
    Ok(())
}

/// Registers the metrics. They exist from the start, so that an alert can distinguish 0 from no data.
fn describe_metrics() {
    Metrics::install().of("ecg-worker");
    bus::describe_consumer(&[Queue::EcgJobs]);
    metrics::describe_histogram!(
        "bedside_analysis_duration_seconds",
        metrics::Unit::Seconds,
        "Time to read, analyse and draw an ECG and to stage the picture, by status"
    );
    for status in ["analyzed", "failed"] {
        let _ = metrics::histogram!("bedside_analysis_duration_seconds", "status" => status);
    }
}
