//! `POST /api/new_patient`: the upload route of the legacy API. Existing clients depend on its responses,
//! which are part of its contract.

pub(crate) mod body;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_server::problem::{ApiError, text};
use proto_json::{FileKind, Mrn, Rename, SignalOptions};
use tokio::runtime::Handle;

use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::{Client, Permission};
use crate::auth::wards;
use crate::http::body::{BodyReader, Pace};
use crate::uploads::arriving_file::{ArrivingFile, FileError};
use crate::uploads::options::RequestOptions;
use crate::uploads::spool::{Spool, SpooledBody};
use crate::uploads::submit::{self, SubmitOutcome, ValidatedUpload};
use body::{InvalidMrn, LegacyBody, decode};

/// Maximum size of a body that is parsed on the current thread. This takes less than a millisecond for any
/// content.
const MAX_INLINE: usize = 128 * 1024;

/// Why a request is rejected: 400 with a message of the legacy contract, or a general error.
enum Rejected {
    Contract(String),
    Other(ApiError),
}

impl From<ApiError> for Rejected {
    fn from(error: ApiError) -> Self {
        Rejected::Other(error)
    }
}

impl From<String> for Rejected {
    fn from(message: String) -> Self {
        Rejected::Contract(message)
    }
}

pub(crate) async fn new_patient(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let rejected = match receive(&app, &client, &notes, &parts.headers, body).await {
        Ok((mrn, outcome)) => return response(mrn, &outcome),
        Err(rejected) => rejected,
    };
    metrics::counter!("bedside_gateway_uploads_rejected_total").increment(1);
    match rejected {
        Rejected::Contract(message) => text(StatusCode::BAD_REQUEST, message),
        Rejected::Other(error) => error.into_text(),
    }
}

fn response(mrn: Mrn, outcome: &SubmitOutcome) -> Response {
    let (status, message) = match outcome {
        SubmitOutcome::Stored { receipt, .. } if receipt.patient_created => {
            (StatusCode::OK, format!("New patient ID {mrn} is registered"))
        }
        SubmitOutcome::Stored { receipt, .. } if receipt.changed => {
            (StatusCode::OK, format!("Patient ID {mrn}'s data has been updated"))
        }
        SubmitOutcome::Stored { .. } => (StatusCode::OK, format!("No further updates for Patient ID {mrn}")),
        SubmitOutcome::Received(_) => (
            StatusCode::ACCEPTED,
            format!("Patient ID {mrn}'s data has been accepted and will be stored shortly"),
        ),
    };
    text(status, message)
}

async fn receive(
    app: &Arc<App>,
    client: &Client,
    notes: &AuditNotes,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Mrn, SubmitOutcome), Rejected> {
    let limit = app.config.limits.max_legacy_body;
    let mut reader = BodyReader::new(body, headers, limit, Pace::from(&app.config));
    let read = match app.admission.upload(client) {
        Ok(permit) => read(app, &mut reader, headers).await.map(|body| (permit, body)),
        Err(error) => Err(error),
    };
    let (permit, body) = match read {
        Ok(read) => read,
        Err(error) => {
            reader.discard().await;
            return Err(error.into());
        }
    };
    let options = RequestOptions::parse(app.key.as_ref(), headers, client, notes)?;
    let upload = match body {
        SpooledBody::Memory { content, .. } if content.len() <= MAX_INLINE => validate(app, &content).await?,
        body => validate_large(app, client, body).await?,
    };
    let mrn = upload.mrn;
    notes.patient(mrn);
    wards::check_for(app, client, Permission::Upload, mrn).await?;
    Ok((mrn, submit::submit(app, upload, options, permit).await?))
}

/// Reads the whole body into the spool. A slow body uses little memory.
async fn read(app: &App, reader: &mut BodyReader, headers: &HeaderMap) -> Result<SpooledBody, ApiError> {
    reader.check_length(headers)?;
    let mut spool = app.spool.body();
    let failed = |error| FileError::Spool(error).into_problem("the request body");
    while let Some(chunk) = reader.chunk().await? {
        spool.write(&chunk).await.map_err(failed)?;
    }
    spool.finish().await.map_err(failed)
}

/// Validates a large body on a dedicated thread with lower priority, because parsing, decoding and hashing it
/// would delay other requests. Waits for memory, and for other large bodies of the same client.
async fn validate_large(
    app: &Arc<App>,
    client: &Client,
    mut body: SpooledBody,
) -> Result<ValidatedUpload, Rejected> {
    let reserved = app.admission.body_memory.reserve(&client.name, body.bytes_to_read()).await;
    let (app, runtime) = (app.clone(), Handle::current());
    let work = background::run_long(move || {
        // The reservation is held until the work is complete, even if the client disconnects.
        let _reserved = reserved;
        let content =
            body.read().map_err(|error| FileError::Spool(error).into_problem("the request body"))?;
        runtime.block_on(validate(&app, &content))
    });
    work.await.map_err(ApiError::internal)?
}

/// Validates a whole body, the record number first. Nothing has been sent to other services when it returns.
async fn validate(app: &App, body: &[u8]) -> Result<ValidatedUpload, Rejected> {
    let body = LegacyBody::parse(body)?;
    let mrn = body.mrn().map_err(|error| match error {
        InvalidMrn::Missing => "Make sure to enter the patient id ".to_owned(),
        InvalidMrn::NotAnInteger(raw) => format!("The input {raw} cannot be converted into integer"),
    })?;
    let name = body.name()?;
    let heart_rate = body.heart_rate()?;
    let mut spool = app.spool.spool();
    let mut files = Vec::new();
    for (key, base64) in body.files()? {
        let kind = match key {
            "medical_image" => FileKind::MedicalImage,
            "ecg_image" => FileKind::EcgImage,
            _ => FileKind::Ecg,
        };
        if let Some(base64) = base64 {
            files.push(file(app, &mut spool, kind, key, &base64).await?);
        }
    }
    let signal_options = SignalOptions::default();
    Ok(ValidatedUpload {
        mrn,
        name,
        rename: Rename::Unconfirmed,
        heart_rate,
        recorded_at: None,
        signal_options,
        files,
    })
}

async fn file(
    app: &App,
    spool: &mut Spool,
    kind: FileKind,
    key: &str,
    base64: &str,
) -> Result<submit::ValidatedFile, Rejected> {
    let about = |error: FileError| match error {
        FileError::Spool(_) => Rejected::Other(error.into_problem(key)),
        error => Rejected::Contract(format!("`{key}` {error}.")),
    };
    let mut file = ArrivingFile::begin(kind, spool, &app.config.limits);
    for piece in decode(base64) {
        let piece = piece.map_err(|_| {
            format!("`{key}` is not valid base64; the standard alphabet with padding is expected.")
        })?;
        file.write(&piece).await.map_err(about)?;
        tokio::task::consume_budget().await;
    }
    file.finish(None).await.map_err(about)
}
