//! Analyses raw ECGs and draws them.
//!
//! Takes a job, reads the signal from the stage, analyses it, draws it, sends the result with picture and detail.
//! Input that cannot be read is a result, too: trying again would end alike. The worker keeps nothing, so that any number
//! of them can compete for the jobs.

mod analysis;
mod job;

use std::num::NonZeroUsize;
use std::sync::Arc;

use bus::{Readiness, StagingStore, WorkQueue, run_consumer};
use proto_json::Queue;
use runtime::{Metrics, Shutdown, StartError, trace};
use tracing::Instrument;

pub use analysis::{AnalysisError, Picture, analyze};

/// Settings of the worker.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ecg_worker")]
pub struct Config {
    /// ECGs analysed at the same time; by default one for each processor
    #[arg(id = "worker_concurrency", long = "worker-concurrency", env = "BEDSIDE_WORKER_CONCURRENCY")]
    pub concurrency: Option<NonZeroUsize>,
}

/// What a worker needs of the world.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Jobs and results.
    pub queue: Arc<dyn WorkQueue>,
    /// Staged signals.
    pub staging: Arc<dyn StagingStore>,
}

/// Takes jobs until the shutdown begins, then ends what is under way.
///
/// # Errors
/// None today: what fails is tried again.
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

/// What the metrics of a worker mean. They are shown from the start, so that an alert can tell 0 from nothing.
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
