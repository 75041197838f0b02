//! `POST /api/v1/patients/{mrn}/uploads`: a multipart form, streamed.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto_json::{FileKind, Mrn, Rename, SignalOptions, Timestamp, UploadId};
use runtime::problem::{ApiError, ProblemType};
use runtime::{Secret, trace};

use crate::App;
use crate::auth::access::AuditNotes;
use crate::auth::tokens::Client;
use crate::http::body::{BodyReader, Pace};
use crate::http::multipart::{Multipart, MultipartError, PartHead, boundary};
use crate::http::params::PathMrn;
use crate::uploads::arriving_file::ArrivingFile;
use crate::uploads::submit::{self as intake, Draft, Outcome, Wishes};
use crate::uploads::{fields, names};

/// Most bytes of a part that is a plain value.
const MAX_VALUE: usize = 16 * 1024;
/// Longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> ApiError {
        match error {
            MultipartError::Body(error) => error.into(),
            error => ApiError::invalid(error.to_string()),
        }
    }
}

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    mrn: Result<PathMrn, ApiError>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    match take(&app, &client, &notes, mrn, &parts.headers, body).await {
        Ok(outcome) => answer(&outcome, prefers_async(&parts.headers)),
        Err(error) => {
            metrics::counter!("bedside_gateway_uploads_rejected_total").increment(1);
            error.into_response()
        }
    }
}

async fn take(
    app: &Arc<App>,
    client: &Client,
    notes: &AuditNotes,
    mrn: Result<PathMrn, ApiError>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Outcome, ApiError> {
    let reader = BodyReader::new(body, headers, app.config.limits.max_upload, Pace::from(&app.config));
    let permit = match app.admission.upload(client) {
        Ok(permit) => permit,
        Err(error) => {
            reader.discard().await;
            return Err(error);
        }
    };
    let checked = reader.check_length(headers).map_err(ApiError::from).and_then(|_| {
        let PathMrn(mrn) = mrn?;
        Ok((mrn, form_boundary(headers)?, wishes(app, headers, client, notes)?))
    });
    let (mrn, boundary, wishes) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            reader.discard().await;
            return Err(error);
        }
    };
    let mut form = Multipart::new(reader, &boundary);
    match draft(app, mrn, &mut form).await {
        Ok(draft) => {
            if let Err(error) = names::protect(app, client, &draft).await {
                // The answer to a retry of an upload that was stored before the name changed stays the same.
                let stored = match wishes.keyed {
                    Some(id) => app.reads.receipt(id).await.is_some(),
                    None => false,
                };
                if !stored {
                    return Err(error);
                }
            }
            intake::accept(app, draft, wishes, permit).await
        }
        Err(error) => {
            form.into_body().discard().await;
            Err(error)
        }
    }
}

fn form_boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(boundary).ok_or_else(|| {
        ApiError::new(
            ProblemType::UNSUPPORTED,
            "Send the upload as multipart/form-data with a boundary, as HTML forms and `curl -F` do.",
        )
    })
}

/// What the headers of an upload ask for, alike for both routes.
pub(crate) fn wishes(
    app: &App,
    headers: &HeaderMap,
    client: &Client,
    notes: &AuditNotes,
) -> Result<Wishes, ApiError> {
    let keyed = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => {
            let key = key.to_str().ok().filter(|key| !key.trim().is_empty() && key.len() <= MAX_KEY);
            let key = key.ok_or_else(|| {
                ApiError::invalid(format!("The Idempotency-Key must be 1 to {MAX_KEY} ASCII characters."))
            })?;
            Some(upload_id(app.key.as_ref(), &client.name, key))
        }
    };
    let trace_parent = headers.get(trace::TRACE_PARENT).and_then(|value| value.to_str().ok());
    let client = client.name.clone();
    let notes = notes.clone();
    Ok(Wishes {
        notes,
        client,
        keyed,
        respond_async: prefers_async(headers),
        trace_parent: trace::parent(trace_parent),
    })
}

/// The id of a client's upload under an idempotency key. Every gateway with the same secret computes the same.
fn upload_id(secret: Option<&Secret>, client: &str, key: &str) -> UploadId {
    match secret {
        Some(secret) => {
            UploadId::from_keyed_hash(secret.keyed_hash("upload id", &[client.as_bytes(), key.as_bytes()]))
        }
        None => UploadId::from_idempotency_key(client, key),
    }
}

/// RFC 7240.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER);
    let mut preferences =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    preferences.any(|preference| {
        preference.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async")
    })
}

/// Reads the whole form. Nothing has left this process when it returns.
async fn draft(app: &App, mrn: Mrn, form: &mut Multipart) -> Result<Draft, ApiError> {
    let limits = &app.config.limits;
    let mut spool = app.spool.spool();
    let mut draft = Draft {
        mrn,
        name: None,
        rename: Rename::No,
        heart_rate: None,
        recorded_at: None,
        signal_options: SignalOptions::default(),
        files: Vec::new(),
    };
    let mut seen: Vec<String> = Vec::new();
    let mut parts = 0;
    while let Some(PartHead { name: key, file_name }) = form.next_part().await? {
        parts += 1;
        if parts > limits.max_parts {
            let sentence = format!("An upload may have at most {} parts.", limits.max_parts);
            return Err(ApiError::new(ProblemType::TOO_LARGE, sentence));
        }
        let kind = match key.as_str() {
            "medical_image" => Some(FileKind::MedicalImage),
            "ecg_image" => Some(FileKind::EcgImage),
            "ecg" => Some(FileKind::Ecg),
            "name" | "rename" | "heart_rate" | "recorded_at" | "ecg_sample_rate" | "ecg_lead" => None,
            _ => {
                return Err(ApiError::invalid(format!(
                    "There is no part named {:?}; the parts are name, rename, heart_rate, recorded_at, ecg_sample_rate, ecg_lead, \
                     medical_image, ecg_image and ecg.",
                    shortened(&key)
                )));
            }
        };
        if let Some(kind) = kind {
            let mut file = ArrivingFile::begin(kind, &mut spool, limits);
            while let Some(chunk) = form.chunk().await? {
                file.write(&chunk).await.map_err(|error| error.about(&key))?;
            }
            // What a browser sends for a file input in which nothing was chosen.
            if file.bytes() == 0 && file_name.as_deref().is_none_or(str::is_empty) {
                continue;
            }
            if file.bytes() == 0 {
                return Err(ApiError::invalid(format!("`{key}` is empty.")));
            }
            let file_name = file_name.as_deref().and_then(fields::file_name);
            draft.files.push(file.finish(file_name).await.map_err(|error| error.about(&key))?);
            continue;
        }
        if seen.contains(&key) {
            return Err(ApiError::invalid(format!("`{key}` is given twice.")));
        }
        let value = value(form, &key).await?;
        let about = |error: String| ApiError::invalid(format!("`{key}` {error}."));
        match key.as_str() {
            "name" => draft.name = fields::name(value).map_err(about)?,
            "rename" => draft.rename = fields::rename(&value).map_err(about)?,
            "heart_rate" => draft.heart_rate = fields::heart_rate(&value).map_err(about)?,
            "recorded_at" => {
                draft.recorded_at = fields::recorded_at(&value, Timestamp::now()).map_err(about)?
            }
            "ecg_sample_rate" => {
                draft.signal_options.sample_rate_hz = fields::sample_rate(&value).map_err(about)?;
            }
            _ => draft.signal_options.lead = fields::lead(value).map_err(about)?,
        }
        seen.push(key);
    }
    Ok(draft)
}

/// The bytes of a part as text.
async fn value(form: &mut Multipart, key: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = form.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_VALUE {
            return Err(ApiError::invalid(format!("`{key}` is longer than {MAX_VALUE} bytes.")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid(format!("`{key}` is not valid UTF-8.")))
}

fn shortened(text: &str) -> String {
    if text.chars().count() > 60 {
        text.chars().take(60).chain("…".chars()).collect()
    } else {
        text.to_owned()
    }
}

fn answer(outcome: &Outcome, asked_async: bool) -> Response {
    let id = outcome.upload_id();
    let (mut response, replayed) = match outcome {
        Outcome::Stored { receipt, replayed } => {
            ((StatusCode::CREATED, Json(receipt)).into_response(), *replayed)
        }
        Outcome::Received(received) => ((StatusCode::ACCEPTED, Json(received)).into_response(), false),
    };
    let accepted = response.status() == StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/uploads/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    if accepted && asked_async {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        let headers = |value| HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]);
        assert!(prefers_async(&headers("wait=10, Respond-Async; x=1")));
        assert!(!prefers_async(&headers("respond-asynchronously")));
        assert!(!prefers_async(&HeaderMap::new()));
    }
}
