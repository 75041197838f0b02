//! One job, from the stage to the result.

use std::sync::Arc;
use std::time::Instant;

use bus::{Delivery, Outcome, SmallFile, StageKey};
use bytes::Bytes;
use proto_json::{AnalyzeEcg, BlobInfo, EcgAnalyzed, EcgOutcome, HashedBytes, MediaType, Timestamp};
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
    let (outcome, files) = if delivery.is_last_attempt() {
        // Most likely the signal kills whoever works on it. That ends here, with an answer.
        let reason = format!(
            "The analysis broke off {} times; the file is kept as it was uploaded.",
            delivery.attempt.saturating_sub(1)
        );
        (EcgOutcome::Failed { reason }, Vec::new())
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
        let analysis = background::run_long(move || step.in_scope(|| analyze(body, &options, time)));
        match analysis.await {
            Ok(Ok(picture)) => analyzed(job, picture)?,
            Ok(Err(AnalysisError::Signal(reason))) => (EcgOutcome::Failed { reason }, Vec::new()),
            Ok(Err(AnalysisError::Transfer(cause))) => return Err(cause),
            Err(panicked) => {
                tracing::error!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, error = %panicked, "the analysis panicked");
                let reason =
                    "The analysis failed on this file; the file is kept as it was uploaded.".to_owned();
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
    trace::send_with(&*ports.bus, files, &result, None, delivery.trace_parent.as_deref())
        .await
        .map_err(|error| error.to_string())?;
    tracing::info!(
        upload_id = %job.upload_id, ecg_id = %job.ecg_id, status, milliseconds = started.elapsed().as_millis() as u64,
        "analysis done"
    );
    Ok(())
}

/// What the analysis came to, and the files that go with it.
fn analyzed(job: &AnalyzeEcg, picture: Picture) -> Result<(EcgOutcome, Vec<SmallFile>), String> {
    let Picture { analysis, detail, png, width, height } = picture;
    let detail = serde_json::to_vec(&detail).map_err(|error| error.to_string())?;
    let small =
        |bytes: Bytes| SmallFile { upload: job.upload_id, content: HashedBytes::of(bytes), enclose: true };
    let (png, detail) = (small(png), small(detail.into()));
    let plot_info = info(&png, MediaType::Png, Some((width, height)));
    let detail_info = info(&detail, MediaType::Json, None);
    let outcome = EcgOutcome::Analyzed { analysis: Box::new(analysis), plot: plot_info, detail: detail_info };
    Ok((outcome, vec![png, detail]))
}

fn info(file: &SmallFile, media_type: MediaType, size: Option<(u32, u32)>) -> BlobInfo {
    BlobInfo {
        sha256: file.content.sha256(),
        bytes: file.content.len() as u64,
        media_type,
        file_name: None,
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
    }
}
