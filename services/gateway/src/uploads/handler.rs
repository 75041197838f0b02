//! `POST /api/v1/patients/{mrn}/uploads`: a streamed multipart form.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_server::problem::{ApiError, ProblemType};
use proto_json::{FileKind, Mrn, Rename, SignalOptions, Timestamp};

use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::Client;
use crate::http::body::{BodyReader, Pace};
use crate::http::multipart::{Multipart, MultipartError, PartHead, boundary};
use crate::http::params::PathMrn;
use crate::uploads::arriving_file::ArrivingFile;
use crate::uploads::fields::TimeError;
use crate::uploads::options::RequestOptions;
use crate::uploads::submit::{self, SubmitOutcome, ValidatedUpload};
use crate::uploads::{fields, names};

/// Maximum size of a plain field in bytes.
const MAX_VALUE: usize = 16 * 1024;

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
    match receive(&app, &client, &notes, mrn, &parts.headers, body).await {
        Ok((outcome, respond_async)) => response(&outcome, respond_async),
        Err(error) => {
            metrics::counter!("bedside_gateway_uploads_rejected_total").increment(1);
            error.into_response()
        }
    }
}

async fn receive(
    app: &Arc<App>,
    client: &Client,
    notes: &AuditNotes,
    mrn: Result<PathMrn, ApiError>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(SubmitOutcome, bool), ApiError> {
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
        Ok((mrn, form_boundary(headers)?, RequestOptions::parse(app.key.as_ref(), headers, client, notes)?))
    });
    let (mrn, boundary, options) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            reader.discard().await;
            return Err(error);
        }
    };
    let mut form = Multipart::new(reader, &boundary);
    match read_form(app, mrn, &mut form).await {
        Ok(upload) => {
            if let Err(error) = names::protect(app, client, &upload).await {
                // A retry of an upload that was stored before the name changed must get the same response.
                let stored = match options.idempotent_id {
                    Some(id) => app.reads.receipt(id).await.is_some(),
                    None => false,
                };
                if !stored {
                    return Err(error);
                }
            }
            let respond_async = options.respond_async;
            let outcome = submit::submit(app, upload, options, permit).await?;
            Ok((outcome, respond_async))
        }
        Err(error) => {
            form.into_body().discard().await;
            Err(error)
        }
    }
}

pub(super) fn form_boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(boundary).ok_or_else(|| {
        ApiError::new(
            ProblemType::UNSUPPORTED,
            "Send the upload as multipart/form-data with a boundary, as HTML forms and `curl -F` do.",
        )
    })
}

/// Reads and validates the whole form. Nothing has been sent to other services when it returns.
async fn read_form(app: &App, mrn: Mrn, form: &mut Multipart) -> Result<ValidatedUpload, ApiError> {
    let limits = &app.config.limits;
    let mut spool = app.spool.spool();
    let mut upload = ValidatedUpload {
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
            let detail = format!("An upload may have at most {} parts.", limits.max_parts);
            return Err(ApiError::new(ProblemType::TOO_LARGE, detail));
        }
        let kind = match key.as_str() {
            "medical_image" => Some(FileKind::MedicalImage),
            "ecg_image" => Some(FileKind::EcgImage),
            "ecg" => Some(FileKind::Ecg),
            "name" | "rename" | "heart_rate" | "recorded_at" | "ecg_sample_rate" | "ecg_lead" => None,
            _ => {
                return Err(ApiError::invalid(format!(
                    "There is no part named {:?}; the parts are name, rename, heart_rate, recorded_at, \
                     ecg_sample_rate, ecg_lead, medical_image, ecg_image and ecg.",
                    shortened(&key)
                )));
            }
        };
        if let Some(kind) = kind {
            let mut file = ArrivingFile::begin(kind, &mut spool, limits);
            while let Some(chunk) = form.chunk().await? {
                file.write(&chunk).await.map_err(|error| error.into_problem(&key))?;
            }
            // Browsers send an empty part for a file input without a selection.
            if file.bytes() == 0 && file_name.as_deref().is_none_or(str::is_empty) {
                continue;
            }
            if file.bytes() == 0 {
                return Err(ApiError::invalid(format!("`{key}` is empty.")));
            }
            let file_name = file_name.as_deref().and_then(fields::file_name);
            upload.files.push(file.finish(file_name).await.map_err(|error| error.into_problem(&key))?);
            continue;
        }
        if seen.contains(&key) {
            return Err(ApiError::invalid(format!("`{key}` is given twice.")));
        }
        let value = value(form, &key).await?;
        let about = |error: String| ApiError::invalid(format!("`{key}` {error}."));
        match key.as_str() {
            "name" => upload.name = fields::name(value).map_err(about)?,
            "rename" => upload.rename = fields::rename(&value).map_err(about)?,
            "heart_rate" => upload.heart_rate = fields::heart_rate(&value).map_err(about)?,
            "recorded_at" => {
                upload.recorded_at =
                    fields::recorded_at(&value, Timestamp::now()).map_err(|error| match error {
                        TimeError::Invalid(error) => about(error),
                        TimeError::InFuture(error) => {
                            ApiError::new(ProblemType::TIME_IN_FUTURE, format!("`{key}` {error}."))
                        }
                    })?;
            }
            "ecg_sample_rate" => {
                upload.signal_options.sample_rate_hz = fields::sample_rate(&value).map_err(about)?;
            }
            _ => upload.signal_options.lead = fields::lead(value).map_err(about)?,
        }
        seen.push(key);
    }
    Ok(upload)
}

/// Reads a plain field.
pub(super) async fn value(form: &mut Multipart, key: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = form.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_VALUE {
            return Err(ApiError::invalid(format!("`{key}` is longer than {MAX_VALUE} bytes.")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid(format!("`{key}` is not valid UTF-8.")))
}

pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() > 60 {
        text.chars().take(60).chain("…".chars()).collect()
    } else {
        text.to_owned()
    }
}

fn response(outcome: &SubmitOutcome, respond_async: bool) -> Response {
    let id = outcome.upload_id();
    let (mut response, replayed) = match outcome {
        SubmitOutcome::Stored { receipt, replayed } => {
            ((StatusCode::CREATED, Json(receipt)).into_response(), *replayed)
        }
        SubmitOutcome::Received(received) => ((StatusCode::ACCEPTED, Json(received)).into_response(), false),
    };
    let accepted = response.status() == StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/uploads/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    if accepted && respond_async {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    response
}
