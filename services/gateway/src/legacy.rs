//! `POST /api/new_patient`, exactly as its clients know it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use proto_json::{FileKind, Mrn, SignalOptions};
use runtime::problem::{ApiError, text};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::App;
use crate::access::AuditNotes;
use crate::body::BodyReader;
use crate::files_in::{ArrivingFile, FileError};
use crate::intake::{self, Draft, Outcome};
use crate::legacy_body::{LegacyBody, MrnRefused, decode};
use crate::spool::Spool;
use crate::tokens::Client;
use crate::upload::wishes;

/// Memory for bodies is taken in steps of so many bytes.
const STEP: usize = 64 * 1024;
/// A body up to this size is parsed where it was read: that takes less than a millisecond, whatever is in it.
const PARSED_AT_ONCE: usize = 128 * 1024;
/// How long a body waits for others to give memory back.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

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
    let mut reader = BodyReader::new(body, headers, app.config.limits.max_legacy_body, app.config.body_idle);
    let read = match app.upload_place(client) {
        Ok(place) => read(app, &mut reader, headers).await.map(|read| (place, read)),
        Err(error) => Err(error),
    };
    let (place, (body, memory)) = match read {
        Ok(read) => read,
        Err(error) => {
            reader.discard().await;
            return Err(error.into());
        }
    };
    let wishes = wishes(app, headers, client, notes)?;
    let draft = if body.len() <= PARSED_AT_ONCE {
        draft(app, &body).await?
    } else {
        // Parsing, decoding and hashing so much takes long enough for others to notice.
        let turn = app.at_parsing.of(&client.name).acquire_owned().await;
        let (app, runtime) = (app.clone(), Handle::current());
        let work = background::run_long(move || {
            // Until it is done, even if the client goes before.
            let _held = (memory, turn);
            runtime.block_on(draft(&app, &body))
        });
        work.await.map_err(ApiError::internal)??
    };
    let mrn = draft.mrn;
    notes.patient(mrn);
    Ok((mrn, intake::accept(app, draft, wishes, place).await?))
}

/// The whole body, with the permit for the memory it takes.
async fn read(
    app: &App,
    reader: &mut BodyReader,
    headers: &HeaderMap,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let length = reader.check_length(headers)?.and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::with_capacity(length.unwrap_or(STEP).min(STEP));
    let mut memory: Option<OwnedSemaphorePermit> = None;
    while let Some(chunk) = reader.chunk().await? {
        let allowed = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) + STEP;
        let more = (body.len() + chunk.len()).saturating_sub(allowed);
        if more > 0 {
            let step = u32::try_from(more.next_multiple_of(STEP)).unwrap_or(u32::MAX);
            let taken = app.body_memory.clone().acquire_many_owned(step);
            match (tokio::time::timeout(MEMORY_WAIT, taken).await, &mut memory) {
                (Ok(Ok(more)), Some(memory)) => memory.merge(more),
                (Ok(Ok(more)), none) => *none = Some(more),
                _ => {
                    return Err(ApiError::unavailable(
                        "Too many large uploads at the same time; try again.",
                        5,
                    ));
                }
            }
            // Once, where the head says how much will come; memory that is not written to is not taken.
            if let Some(length) = length {
                body.reserve_exact(length.saturating_sub(body.len()));
            }
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, memory))
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
    Ok(Draft { mrn, name, heart_rate, recorded_at: None, signal_options, files })
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
