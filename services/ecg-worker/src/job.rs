//! Processing of one job: fetches the staged signal, runs the analysis, publishes the result.
//!
//! A redelivered job is harmless: the signal is removed from the staging store once its result is stored, and
//! results are idempotent. Infrastructure failures defer the job; a signal that fails repeatedly ends with a
//! `Failed` result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Attachment, Delivery, EnqueueError, Outcome, StagingKey};
use bytes::Bytes;
use ecg_records::{AnalysisError, Picture, analyze};
use proto_json::{AnalyzeEcg, BlobInfo, EcgAnalyzed, EcgOutcome, HashedBytes, MediaType, Timestamp};
use runtime::trace;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::Ports;

/// Interval between attempts to publish while the result queue is full.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Processes one delivery.
pub(crate) async fn take(ports: &Ports, delivery: &Arc<Delivery>) -> Outcome {
    let job: AnalyzeEcg = match delivery.message() {
        Ok(job) => job,
        Err(error) => return Outcome::Never(error.to_string()),
    };
    match work(ports, delivery, &job).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn work(ports: &Ports, delivery: &Delivery, job: &AnalyzeEcg) -> Result<(), Outcome> {
    let started = Instant::now();
    trace::about_upload(job.upload_id);
    let (outcome, files) = if delivery.is_last_attempt() {
        // Deferred attempts do not count, so the last attempt means that this signal crashes workers or
        // cannot be read. The job ends with a result that says so.
        let reason = format!(
            "The analysis was interrupted {} times. The uploaded file is kept.",
            delivery.attempt.saturating_sub(1)
        );
        (EcgOutcome::Failed { reason }, Vec::new())
    } else {
        let key = StagingKey { upload: job.upload_id, sha256: job.signal.sha256 };
        let Some(staged) = ports.staging.get(key).await.map_err(Outcome::from)? else {
            // Ingest removes a signal after storing its result, so this job is complete.
            tracing::info!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, "signal is no longer staged; nothing to do");
            return Ok(());
        };
        let body = SyncIoBridge::new(StreamReader::new(staged.body));
        let options = job.options.clone();
        let time = match job.recorded_at {
            Some(at) => at.local_seconds(),
            None => format!("{} (received)", job.received_at.local_seconds()),
        };
        let step = trace::step("read, analyse and draw");
        let analysis = background::run_long(move || step.in_scope(|| analyze(body, &options, time)));
        match analysis.await {
            Ok(Ok(picture)) => analyzed(job, picture).map_err(Outcome::Retry)?,
            Ok(Err(AnalysisError::Signal { reason, .. })) => (EcgOutcome::Failed { reason }, Vec::new()),
            Ok(Err(error @ AnalysisError::Transfer(_))) => return Err(broken_off(&error)),
            Err(panicked) => {
                tracing::error!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, error = %panicked, "the analysis panicked");
                let reason = "The analysis of this file failed. The uploaded file is kept.".to_owned();
                (EcgOutcome::Failed { reason }, Vec::new())
            }
        }
    };
    let status = if matches!(outcome, EcgOutcome::Analyzed { .. }) { "analyzed" } else { "failed" };
    metrics::histogram!("bedside_analysis_duration_seconds", "status" => status)
        .record(started.elapsed().as_secs_f64());
    let result = EcgAnalyzed {
        ecg_id: job.ecg_id,
        upload_id: job.upload_id,
        mrn: job.mrn,
        received_at: job.received_at,
        analyzed_at: Timestamp::now(),
        signal: job.signal.sha256,
        outcome,
    };
    send(ports, delivery, files, &result).await.map_err(Outcome::from)?;
    tracing::info!(
        upload_id = %job.upload_id, ecg_id = %job.ecg_id, status, milliseconds = started.elapsed().as_millis() as u64,
        "analysis done"
    );
    Ok(())
}

/// Outcome of a job whose signal could not be read completely.
fn broken_off(error: &AnalysisError) -> Outcome {
    match error {
        AnalysisError::Transfer(cause) if bus::is_outage_of_body(cause) => Outcome::Defer(error.to_string()),
        error => Outcome::Retry(error.to_string()),
    }
}

/// Publishes a result. A full result queue is not a failure of this ECG, so waiting does not use up attempts.
async fn send(
    ports: &Ports,
    delivery: &Delivery,
    files: Vec<Attachment>,
    result: &EcgAnalyzed,
) -> Result<(), EnqueueError> {
    let mut waits = false;
    loop {
        let parent = delivery.trace_parent.as_deref();
        match trace::send_with(&*ports.queue, files.clone(), result, None, parent).await {
            Err(EnqueueError::Full) => {}
            sent => return sent,
        }
        if !waits {
            tracing::warn!(upload_id = %result.upload_id, ecg_id = %result.ecg_id, "the result queue is full; waiting");
            waits = true;
        }
        tokio::time::sleep(ROOM_WAIT).await;
    }
}

/// Builds the outcome and the files of a result.
fn analyzed(job: &AnalyzeEcg, picture: Picture) -> Result<(EcgOutcome, Vec<Attachment>), String> {
    let Picture { analysis, detail, png, width, height } = picture;
    let detail = serde_json::to_vec(&detail).map_err(|error| error.to_string())?;
    let small = |bytes: Bytes| Attachment {
        upload: job.upload_id,
        content: HashedBytes::of(bytes),
        consumer_only: true,
    };
    let (png, detail) = (small(png), small(detail.into()));
    let plot_info =
        BlobInfo { width: Some(width), height: Some(height), ..BlobInfo::of(&png.content, MediaType::Png) };
    let detail_info = BlobInfo::of(&detail.content, MediaType::Json);
    let outcome = EcgOutcome::Analyzed { analysis: Box::new(analysis), plot: plot_info, detail: detail_info };
    Ok((outcome, vec![png, detail]))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bus::{
        BusError, ByteStream, DeadLetters, Outgoing, QueueLimits, RetryPolicy, StagedFile, StagingStore,
    };
    use futures::StreamExt;
    use proto_json::{Mrn, Queue, SignalOptions, UploadId};

    use super::*;

    #[tokio::test]
    async fn full_result_queue_delays_without_using_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let limits = QueueLimits { max_messages: 1, ..QueueLimits::default() };
        let file = folder.path().join("queues.db");
        let local = bus::local::LocalBus::open(&file, RetryPolicy::default(), limits).unwrap();
        let ports = Ports { queue: local.clone(), staging: local };
        let signal = HashedBytes::of(Bytes::from_static(b"no ECG"));
        let signal = Attachment { upload: UploadId::generate(), content: signal, consumer_only: false };
        let (upload_id, mrn) = (signal.upload, Mrn::new(7).unwrap());
        let job = AnalyzeEcg {
            ecg_id: upload_id.record("ecg", 0),
            upload_id,
            mrn,
            received_at: Timestamp::now(),
            recorded_at: None,
            signal: BlobInfo::of(&signal.content, MediaType::Csv),
            options: SignalOptions::default(),
        };
        bus::send_with(&*ports.queue, vec![signal], &job, None, None).await.unwrap();
        let filler = Outgoing {
            queue: Queue::EcgResults,
            mrn,
            payload: "{}".into(),
            reply_to: None,
            trace_parent: None,
            attachments: Vec::new(),
        };
        ports.queue.enqueue(filler).await.unwrap();
        let delivery = ports.queue.consume(Queue::EcgJobs, 1).await.unwrap().next().await.unwrap();
        let delivery = Arc::new(delivery);
        let mut working = tokio::spawn({
            let ports = ports.clone();
            async move { take(&ports, &delivery).await }
        });
        assert!(tokio::time::timeout(ROOM_WAIT, &mut working).await.is_err(), "there is no room");
        let mut results = ports.queue.consume(Queue::EcgResults, 1).await.unwrap();
        results.next().await.unwrap().ack().await.unwrap();
        assert_eq!(working.await.unwrap(), Outcome::Done);
        let result: EcgAnalyzed = results.next().await.unwrap().message().unwrap();
        assert_eq!(result.ecg_id, job.ecg_id);
    }

    /// A staging store whose next reads fail.
    #[derive(Debug)]
    struct Flaky {
        stage: Arc<dyn StagingStore>,
        failures: AtomicU64,
    }

    #[async_trait::async_trait]
    impl StagingStore for Flaky {
        async fn put(&self, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError> {
            self.stage.put(key, bytes, body).await
        }

        async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
            let order = Ordering::Relaxed;
            match self.failures.fetch_update(order, order, |left| left.checked_sub(1)) {
                // Every second failure interrupts the body.
                Ok(left) if left.is_multiple_of(2) => Err(BusError::unavailable("the broker is away")),
                Ok(_) => {
                    let error = std::io::Error::other(BusError::unavailable("the broker is away"));
                    let body = futures::stream::iter([Ok(Bytes::from_static(b"time,mv\n0,")), Err(error)]);
                    Ok(Some(StagedFile { bytes: 100, body: body.boxed(), in_memory: None }))
                }
                Err(_) => self.stage.get(key).await,
            }
        }

        async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
            self.stage.delete(key).await
        }

        async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
            self.stage.list().await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn infrastructure_failures_do_not_use_up_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let policy = RetryPolicy {
            max_attempts: 2,
            backoff: vec![Duration::from_millis(1)],
            ..RetryPolicy::default()
        };
        let local =
            bus::local::LocalBus::open(&folder.path().join("queues.db"), policy, QueueLimits::default());
        let local = local.unwrap();
        let stage = Arc::new(Flaky { stage: local.clone(), failures: AtomicU64::new(5) });
        let ports = Ports { queue: local.clone(), staging: stage.clone() };
        let strip: String = std::iter::once("time,mv\n".to_owned())
            .chain((0..2_000).map(|n| format!("{},{}\n", n as f64 / 250.0, (n as f64 / 9.0).sin())))
            .collect();
        let signal = HashedBytes::of(Bytes::from(strip));
        let signal = Attachment { upload: UploadId::generate(), content: signal, consumer_only: false };
        let (upload_id, mrn) = (signal.upload, Mrn::new(7).unwrap());
        let job = AnalyzeEcg {
            ecg_id: upload_id.record("ecg", 0),
            upload_id,
            mrn,
            received_at: Timestamp::now(),
            recorded_at: None,
            signal: BlobInfo::of(&signal.content, MediaType::Csv),
            options: SignalOptions::default(),
        };
        bus::send_with(&*ports.queue, vec![signal], &job, None, None).await.unwrap();
        let mut results = ports.queue.consume(Queue::EcgResults, 1).await.unwrap();
        let shutdown = runtime::Shutdown::new();
        let working =
            tokio::spawn(crate::run(crate::Config { concurrency: None }, ports.clone(), shutdown.clone()));
        let delivery = results.next().await.unwrap();
        let result: EcgAnalyzed = delivery.message().unwrap();
        assert_eq!(stage.failures.load(Ordering::Relaxed), 0, "the analysis came before the failures");
        assert!(matches!(result.outcome, EcgOutcome::Analyzed { .. }), "{:?}", result.outcome);
        delivery.ack().await.unwrap();
        shutdown.begin();
        working.await.unwrap().unwrap();
        assert_eq!(local.dead_letters(None, 9).await.unwrap(), []);
    }
}
