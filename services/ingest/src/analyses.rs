//! Stores the result of an analysis.

use std::sync::Arc;

use bus::{Delivery, Outcome};
use proto_json::{Change, ChangeKind, EcgAnalyzed, EcgOutcome, EcgStatus, PatientUpdated, Timestamp};
use runtime::trace;
use store::AnalysisResult;

use crate::blobs::{self, MoveError};
use crate::{Ports, clock, corrections, failed, publish};

/// Processes one delivery of the result queue.
pub(crate) async fn take(ports: &Ports, delivery: &Arc<Delivery>) -> Outcome {
    let result: EcgAnalyzed = match delivery.message() {
        Ok(result) => result,
        Err(error) => return Outcome::Never(error.to_string()),
    };
    match store(ports, delivery, result).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn store(ports: &Ports, delivery: &Delivery, result: EcgAnalyzed) -> Result<(), Outcome> {
    let EcgAnalyzed { ecg_id, upload_id, mrn, received_at, signal, outcome, .. } = result;
    trace::about_upload(upload_id);
    let ecg = ports.store.ecg(ecg_id).await.map_err(failed)?;
    let Some(ecg) = ecg else {
        let erased = corrections::is_erased(ports, Some(mrn), upload_id).await.map_err(Outcome::Defer)?;
        if !erased {
            return Err(Outcome::Never("a result for an ECG that is not stored".to_owned()));
        }
        let mut staged = vec![signal];
        if let EcgOutcome::Analyzed { plot, detail, .. } = &outcome {
            staged.extend([plot.sha256, detail.sha256]);
        }
        blobs::unstage(delivery, upload_id, staged).await;
        corrections::clean_up_later(ports, mrn);
        return Ok(());
    };
    // The upload may have been moved to another patient meanwhile.
    let mrn = ecg.mrn;
    let mut staged = vec![signal];
    if let EcgOutcome::Analyzed { plot, detail, .. } = &outcome {
        staged.extend([plot.sha256, detail.sha256]);
    }

    let mut stored = None;
    let new = match &outcome {
        EcgOutcome::Analyzed { analysis, .. } => Some(analysis.algorithm),
        EcgOutcome::Failed { .. } => None,
    };
    let is_first = ecg.status == EcgStatus::Pending;
    if store::replaces_result(&ecg, new) {
        let (outcome, files) = match outcome {
            EcgOutcome::Failed { reason } => (Err(reason), Vec::new()),
            EcgOutcome::Analyzed { analysis, plot, detail } => {
                match blobs::take(ports, delivery, upload_id, vec![plot.sha256, detail.sha256]).await {
                    Ok(files) => (Ok((*analysis, plot, detail)), files),
                    Err(MoveError::Failed(outcome)) => return Err(outcome),
                    Err(MoveError::NotStaged) => {
                        return Err(Outcome::Retry("a file of an analysis is not staged".to_owned()));
                    }
                }
            }
        };
        let analyzed = outcome.is_ok();
        let result = AnalysisResult { ecg_id, upload_id, mrn, stored_at: clock::stored_now(), outcome };
        stored = ports.store.store_analysis(&result, files).await.map_err(failed)?;
        metrics::counter!("bedside_analyses_stored_total", "status" => if analyzed { "analyzed" } else { "failed" })
            .increment(1);
        tracing::info!(upload_id = %upload_id, ecg_id = %ecg_id, analyzed, "analysis stored");
    }
    // A result that was stored before is published again: the first delivery may have ended before that.
    let patient = match stored {
        Some(patient) => Some(patient),
        None => ports.store.patient(mrn).await.map_err(failed)?,
    };
    if let Some(patient) = patient {
        let changes = vec![Change { kind: ChangeKind::EcgAnalyzed, id: Some(ecg_id) }];
        let update = PatientUpdated { upload_id: Some(upload_id), changes, patient, sent_at: None };
        publish(&*ports.bus.pubsub, update, delivery.trace_parent.as_deref()).await;
        if is_first {
            let waited = Timestamp::now().millis_since(received_at);
            metrics::histogram!("bedside_upload_to_analysis_announced_seconds")
                .record(waited as f64 / 1000.0);
        }
    }
    blobs::unstage(delivery, upload_id, staged).await;
    Ok(())
}
