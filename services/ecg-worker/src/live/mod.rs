//! Analysis of live ECGs.
//!
//! The patients are divided into partitions, and the broker assigns each partition to one worker of the group `analysis`
//! ([`bus::WaveLog::consume_waves`]). A worker runs the streaming detector of [`ecg`] on the ECG of each waveform stream and
//! publishes [`Vitals`](proto_json::waveform::Vitals) of each patient once per second. Vitals carry a heart rate only if the
//! signal of that second supports one.
//!
//! Failure modes: when a worker dies, another one receives its partitions, replays the last seconds of each stream, and
//! continues with the first second that was not published. While the broker is unreachable, nothing is published; afterwards, the
//! seconds of at most 10 s are made up for. A worker that is too slow omits the rhythm before it falls behind.

mod partition;
mod patient;
mod published;
mod signal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, WaveGroup, WaveLog, WaveMessage};
use proto_json::Mrn;
use proto_json::waveform::{PARTITIONS, Vitals};
use runtime::{Metrics, Shutdown, StartError};
use tokio::task::JoinSet;

use self::partition::Partition;
use self::patient::Patient;
use self::published::Published;

/// Messages of a partition that a worker holds.
const MAX_IN_FLIGHT: usize = 256;
/// Wait after a failed attempt to join.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Interval of the lag in the metrics.
const LAG_INTERVAL: Duration = Duration::from_secs(10);

/// The analysis of one patient without a broker, to measure it on recordings: the same messages give the same vitals.
#[derive(Debug)]
pub struct PatientAnalysis(Patient);

impl PatientAnalysis {
    /// A patient without streams.
    #[must_use]
    pub fn new(mrn: Mrn) -> Self {
        PatientAnalysis(Patient::new(mrn, None))
    }

    /// Processes a message, and returns the vitals that are due after it.
    ///
    /// # Errors
    /// One sentence if the message is not valid; it is ignored then.
    pub fn take(&mut self, message: &WaveMessage) -> Result<Vec<Vitals>, String> {
        self.0.take(message)?;
        Ok(std::iter::from_fn(|| self.0.next_vitals(false, false)).collect())
    }
}

/// Analyses live ECGs until shutdown.
///
/// # Errors
/// None at present: failures of the broker are retried.
pub async fn run_live(waves: Arc<dyn WaveLog>, shutdown: Shutdown) -> Result<(), StartError> {
    describe_metrics();
    let mut tasks = JoinSet::new();
    let published = Arc::new(Published::default());
    let vitals = || waves.subscribe_vitals(None);
    let Some(vitals) = until_joined(vitals, &shutdown).await else { return Ok(()) };
    tasks.spawn({
        let (published, shutdown) = (Arc::clone(&published), shutdown.clone());
        async move {
            let _ = shutdown.unless_begun(published.follow(vitals)).await;
        }
    });
    for partition in 0..PARTITIONS {
        let consume = || waves.consume_waves(WaveGroup::Analysis, partition, MAX_IN_FLIGHT);
        let Some(events) = until_joined(consume, &shutdown).await else { break };
        let partition = Partition::new(Arc::clone(&waves), Arc::clone(&published));
        tasks.spawn(partition.run(events, shutdown.clone()));
    }
    let _ = shutdown.unless_begun(report_lag(&*waves)).await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(error = %error, "the analysis of a partition panicked");
        }
    }
    Ok(())
}

/// Repeats a call of the broker until it succeeds; `None` at shutdown.
async fn until_joined<T, F: Future<Output = Result<T, BusError>>>(
    mut call: impl FnMut() -> F,
    shutdown: &Shutdown,
) -> Option<T> {
    loop {
        match shutdown.unless_begun(call()).await? {
            Ok(joined) => return Some(joined),
            Err(error) => tracing::warn!(error = %error, "live waveforms cannot be received; retrying"),
        }
        shutdown.unless_begun(tokio::time::sleep(RETRY_WAIT)).await?;
    }
}

async fn report_lag(waves: &dyn WaveLog) {
    loop {
        if let Ok(lag) = waves.wave_lag(WaveGroup::Analysis).await {
            metrics::gauge!("bedside_wave_lag_messages", "group" => WaveGroup::Analysis.name())
                .set((lag.pending + lag.unacknowledged) as f64);
        }
        tokio::time::sleep(LAG_INTERVAL).await;
    }
}

fn describe_metrics() {
    Metrics::install().of("ecg-worker");
    metrics::describe_histogram!(
        "bedside_vitals_age_seconds",
        metrics::Unit::Seconds,
        "Time from the end of a second of live waveforms to the publication of its vitals"
    );
    metrics::describe_gauge!(
        "bedside_wave_lag_messages",
        metrics::Unit::Count,
        "Messages of waveform streams that a group has not acknowledged, by group"
    );
    let _ = metrics::histogram!("bedside_vitals_age_seconds");
    let _ = metrics::gauge!("bedside_wave_lag_messages", "group" => WaveGroup::Analysis.name());
}
