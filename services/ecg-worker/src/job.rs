//! One job, from the stage to the result.

use std::sync::Arc;
use std::time::Instant;

use bus::{Delivery, Outcome, StageKey};
use bytes::Bytes;
use proto_json::{AnalyzeEcg, BlobHash, BlobInfo, EcgAnalyzed, EcgOutcome, MediaType, Timestamp};
use runtime::trace;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::Ports;
use crate::analysis::{AnalysisError, Picture, analyze};

/// Works on one delivery of the queue of jobs.
pub(crate) async fn take(ports: &Ports, delivery: &Arc<Delivery>) -> Outcome {
    let job: AnalyzeEcg = match delivery.message() {
        Ok(job) => job,
        Err(error) => return Outcome::Never(error.to_string()),
    };
    match work(ports, delivery, &job).await {
        Ok(()) => Outcome::Done,
        Err(reason) => Outcome::Retry(reason),
    }
}

async fn work(ports: &Ports, delivery: &Delivery, job: &AnalyzeEcg) -> Result<(), String> {
    let started = Instant::now();
    trace::about_upload(job.upload_id);
    let outcome = if delivery.is_last_attempt() {
        // Most likely the signal kills whoever works on it. That ends here, with an answer.
        EcgOutcome::Failed {
            reason: format!(
                "The analysis broke off {} times; the file is kept as it was uploaded.",
                delivery.attempt.saturating_sub(1)
            ),
        }
    } else {
        let key = StageKey { upload: job.upload_id, sha256: job.signal.sha256 };
        let Some(staged) = ports.stage.get(key).await.map_err(|error| error.to_string())? else {
            // Ingest removes a signal when it has stored the result: this job was done before.
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
        let analysis = tokio::task::spawn_blocking(move || step.in_scope(|| analyze(body, &options, time)));
        match analysis.await {
            Ok(Ok(picture)) => stage(ports, job, picture).await?,
            Ok(Err(AnalysisError::Signal(reason))) => EcgOutcome::Failed { reason },
            Ok(Err(AnalysisError::Transfer(cause))) => return Err(cause),
            Err(panicked) => {
                tracing::error!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, error = %panicked, "the analysis panicked");
                EcgOutcome::Failed {
                    reason: "The analysis failed on this file; the file is kept as it was uploaded."
                        .to_owned(),
                }
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
    trace::send(&*ports.bus, &result, None, delivery.trace_parent.as_deref())
        .await
        .map_err(|error| error.to_string())?;
    tracing::info!(
        upload_id = %job.upload_id, ecg_id = %job.ecg_id, status, milliseconds = started.elapsed().as_millis() as u64,
        "analysis done"
    );
    Ok(())
}

async fn stage(ports: &Ports, job: &AnalyzeEcg, picture: Picture) -> Result<EcgOutcome, String> {
    let Picture { analysis, detail, png, width, height } = picture;
    let detail = Bytes::from(serde_json::to_vec(&detail).map_err(|error| error.to_string())?);
    let plot_info = info(&png, MediaType::Png, Some((width, height)));
    let detail_info = info(&detail, MediaType::Json, None);
    let put = async |blob: &BlobInfo, bytes: Bytes| {
        let key = StageKey { upload: job.upload_id, sha256: blob.sha256 };
        ports.stage.put_bytes(key, bytes).await.map_err(|error| error.to_string())
    };
    let (plot, detailed) = tokio::join!(put(&plot_info, png), put(&detail_info, detail));
    plot?;
    detailed?;
    Ok(EcgOutcome::Analyzed { analysis: Box::new(analysis), plot: plot_info, detail: detail_info })
}

fn info(bytes: &Bytes, media_type: MediaType, size: Option<(u32, u32)>) -> BlobInfo {
    BlobInfo {
        sha256: BlobHash::of(bytes),
        bytes: bytes.len() as u64,
        media_type,
        file_name: None,
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
    }
}
