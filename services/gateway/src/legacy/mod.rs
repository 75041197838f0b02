//! `POST /api/new_patient`, exactly as its clients know it.

pub(crate) mod body;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use proto_json::{FileKind, Mrn, Rename, SignalOptions};
use runtime::problem::{ApiError, text};
use tokio::runtime::Handle;

use crate::App;
use crate::auth::access::AuditNotes;
use crate::auth::tokens::Client;
use crate::http::body::{BodyReader, Pace};
use crate::legacy::body::{LegacyBody, MrnRefused, decode};
use crate::uploads::arriving_file::{ArrivingFile, FileError};
use crate::uploads::handler::wishes;
use crate::uploads::spool::{Spool, SpooledBody};
use crate::uploads::submit::{self as intake, Draft, Outcome};

/// A body up to this size is parsed where it was read: that takes less than a millisecond, whatever is in it.
const PARSED_AT_ONCE: usize = 128 * 1024;

/// A refusal: 400 with one of the contract's sentences, or what any route can end with.
enum Refused {
    Contract(String),
    Other(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Refused::Other(error)
    }
}

impl From<String> for Refused {
    fn from(sentence: String) -> Self {
        Refused::Contract(sentence)
    }
}

pub(crate) async fn new_patient(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let refused = match take(&app, &client, &notes, &parts.headers, body).await {
        Ok((mrn, outcome)) => return answer(mrn, &outcome),
        Err(refused) => refused,
    };
    metrics::counter!("bedside_gateway_uploads_rejected_total").increment(1);
    match refused {
        Refused::Contract(sentence) => text(StatusCode::BAD_REQUEST, sentence),
        Refused::Other(error) => error.into_text(),
    }
}

fn answer(mrn: Mrn, outcome: &Outcome) -> Response {
    let (status, sentence) = match outcome {
        Outcome::Stored { receipt, .. } if receipt.patient_created => {
            (StatusCode::OK, format!("New patient ID {mrn} is registered"))
        }
        Outcome::Stored { receipt, .. } if receipt.changed => {
            (StatusCode::OK, format!("Patient ID {mrn}'s data has been updated"))
        }
        Outcome::Stored { .. } => (StatusCode::OK, format!("No further updates for Patient ID {mrn}")),
        Outcome::Received(_) => (
            StatusCode::ACCEPTED,
            format!("Patient ID {mrn}'s data has been accepted and will be stored shortly"),
        ),
    };
    text(status, sentence)
}

async fn take(
    app: &Arc<App>,
    client: &Client,
    notes: &AuditNotes,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Mrn, Outcome), Refused> {
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
    let wishes = wishes(app, headers, client, notes)?;
    let draft = match body {
        SpooledBody::Memory { content, .. } if content.len() <= PARSED_AT_ONCE => {
            draft(app, &content).await?
        }
        body => draft_large(app, client, body).await?,
    };
    let mrn = draft.mrn;
    notes.patient(mrn);
    Ok((mrn, intake::accept(app, draft, wishes, permit).await?))
}

/// The whole body. However slowly it arrives, it takes little memory meanwhile.
async fn read(app: &App, reader: &mut BodyReader, headers: &HeaderMap) -> Result<SpooledBody, ApiError> {
    reader.check_length(headers)?;
    let mut spool = app.spool.body();
    let failed = |error| FileError::Spool(error).about("the request body");
    while let Some(chunk) = reader.chunk().await? {
        spool.write(&chunk).await.map_err(failed)?;
    }
    spool.finish().await.map_err(failed)
}

/// Parsing, decoding and hashing a large body takes long enough for others to notice: it is done on a thread of lower
/// priority, for one body of a client after the other, and once there is memory for it.
async fn draft_large(app: &Arc<App>, client: &Client, mut body: SpooledBody) -> Result<Draft, Refused> {
    let reserved = app.admission.body_memory.reserve(&client.name, body.bytes_to_read()).await;
    let (app, runtime) = (app.clone(), Handle::current());
    let work = background::run_long(move || {
        // Until the work is done, even if the client goes before.
        let _reserved = reserved;
        let content = body.read().map_err(|error| FileError::Spool(error).about("the request body"))?;
        runtime.block_on(draft(&app, &content))
    });
    work.await.map_err(ApiError::internal)?
}

/// Checks a body as a whole, the record number first. Nothing has left this process when it returns.
async fn draft(app: &App, body: &[u8]) -> Result<Draft, Refused> {
    let body = LegacyBody::parse(body)?;
    let mrn = body.mrn().map_err(|refused| match refused {
        MrnRefused::Missing => "Make sure to enter the patient id ".to_owned(),
        MrnRefused::NotAnInteger(raw) => format!("The input {raw} cannot be converted into integer"),
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
    Ok(Draft { mrn, name, rename: Rename::Unconfirmed, heart_rate, recorded_at: None, signal_options, files })
}

async fn file(
    app: &App,
    spool: &mut Spool,
    kind: FileKind,
    key: &str,
    base64: &str,
) -> Result<intake::DraftFile, Refused> {
    let about = |error: FileError| match error {
        FileError::Spool(_) => Refused::Other(error.about(key)),
        error => Refused::Contract(format!("`{key}` {error}.")),
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
