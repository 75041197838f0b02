//! Queues another analysis of a stored ECG. Requires the admin role.
//!
//! The gateway stages the stored signal again and enqueues a job, as ingest does after an upload. The stored result stays
//! until ingest stores one of a later version of the analysis in its place. So a request can be repeated, and a job that
//! is lost with its staged signal loses nothing.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bus::{EnqueueError, StagingKey};
use futures::{StreamExt, TryStreamExt};
use http_server::problem::{ApiError, ProblemType};
use proto_json::{AnalyzeEcg, EcgRecord, EcgStatus, RecordId, SignalOptions};
use runtime::trace;

use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::Client;
use crate::auth::wards;

type Id = Result<Path<String>, axum::extract::rejection::PathRejection>;

/// `POST /api/v1/ecgs/{id}/reanalyse`
pub(crate) async fn request(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    id: Id,
) -> Result<StatusCode, ApiError> {
    let id =
        id.ok().filter(|Path(text)| text.len() == 36).and_then(|Path(text)| text.parse::<RecordId>().ok());
    let id = id.ok_or_else(|| ApiError::invalid("The id in the path is not a UUID."))?;
    let ecg = app.reads.ecg(id).await?.ok_or_else(|| ApiError::not_found("There is no ECG with this id."))?;
    if !wards::may_access(&app, &client, ecg.mrn).await? {
        return Err(ApiError::not_found("There is no ECG with this id."));
    }
    notes.patient(ecg.mrn);
    let job = job(ecg)?;
    let key = StagingKey { upload: job.upload_id, sha256: job.signal.sha256 };
    let signal = read(&app, &format!("/api/v1/ecgs/{id}/signal")).await?;
    if signal.status() != StatusCode::OK {
        return Err(ApiError::unavailable("The signal of this ECG cannot be read for now.", 5));
    }
    let body = signal.into_body().into_data_stream().map_err(std::io::Error::other).boxed();
    app.bus.staging.put(key, job.signal.bytes, body).await.map_err(failed)?;
    trace::send(&*app.bus.queue, &job, None, None).await.map_err(failed)?;
    tracing::info!(upload_id = %job.upload_id, ecg_id = %id, "analysis requested again");
    Ok(StatusCode::ACCEPTED)
}

async fn read(app: &App, path: &str) -> Result<Response, ApiError> {
    let path = PathAndQuery::try_from(path).map_err(ApiError::internal)?;
    app.reads.request(Method::GET, path, HeaderMap::new()).await
}

/// The job of an ECG that has a result.
fn job(ecg: EcgRecord) -> Result<AnalyzeEcg, ApiError> {
    let refused = |detail: &str| Err(ApiError::new(ProblemType::NOT_ANALYSABLE, detail));
    if ecg.status == EcgStatus::Pending {
        return refused("This ECG is still being analysed; wait for its result.");
    }
    let Some(signal) = ecg.signal else {
        return refused("This ECG was uploaded as a picture; there is no signal to analyse.");
    };
    // Records of earlier versions contain only the sampling rate that was found.
    let options = ecg.signal_options.unwrap_or_else(|| SignalOptions {
        sample_rate_hz: ecg.analysis.as_ref().map(|analysis| analysis.sample_rate_hz),
        lead: None,
    });
    Ok(AnalyzeEcg {
        ecg_id: ecg.id,
        upload_id: ecg.upload_id,
        mrn: ecg.mrn,
        received_at: ecg.received_at,
        recorded_at: ecg.recorded_at,
        signal,
        options,
    })
}

fn failed(error: EnqueueError) -> ApiError {
    match error {
        EnqueueError::Full => ApiError::unavailable("The queue is full for now; try again in a moment.", 5),
        EnqueueError::Bus(cause) => {
            tracing::warn!(%cause, "the broker failed");
            ApiError::unavailable("The message broker cannot be reached for now; try again in a moment.", 2)
        }
    }
}
