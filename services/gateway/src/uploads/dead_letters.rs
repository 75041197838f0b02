//! Dead letters: lists, shows, retries and deletes messages that failed permanently. Requires the admin role.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use bus::{DeadLetter, EnqueueError};
use http_server::problem::{ApiError, ProblemType};
use proto_json::{DeadLetterPage, DeadLetterSummary};
use serde::Deserialize;

use crate::app::App;
use crate::auth::audit_line::AuditNotes;

/// Default page size.
const DEFAULT_LIMIT: usize = 50;
/// Maximum page size.
const MAX_LIMIT: usize = 500;
/// Maximum number of a dead letter. Databases use signed integers.
const MAX_NUMBER: u64 = i64::MAX as u64;

#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

type Number = Result<Path<String>, axum::extract::rejection::PathRejection>;

/// `GET /api/v1/dead-letters`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<DeadLetterPage>, ApiError> {
    let Query(Page { after, limit }) = page.map_err(|rejection| {
        ApiError::invalid(format!("The query string cannot be read: {}.", rejection.body_text()))
    })?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` must be from 1 to {MAX_LIMIT}.")));
    }
    if after.is_some_and(|after| after > MAX_NUMBER) {
        return Err(ApiError::invalid("`after` must be the `next` value of an earlier page."));
    }
    let letters =
        app.bus.dead_letters.dead_letters(after, limit).await.map_err(|error| failed(&error.into()))?;
    let next = letters.last().filter(|_| letters.len() == limit).map(|letter| letter.id);
    Ok(Json(DeadLetterPage { items: letters.iter().map(summary).collect(), next }))
}

/// `GET /api/v1/dead-letters/{id}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(notes): Extension<AuditNotes>,
    id: Number,
) -> Result<Json<proto_json::DeadLetter>, ApiError> {
    let letter = find(&app, &notes, number(id)?).await?;
    let message = serde_json::from_slice(&letter.payload)
        .unwrap_or_else(|_| String::from_utf8_lossy(&letter.payload).into_owned().into());
    Ok(Json(proto_json::DeadLetter { summary: summary(&letter), message }))
}

/// `POST /api/v1/dead-letters/{id}/retry`
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    Extension(notes): Extension<AuditNotes>,
    id: Number,
) -> Result<StatusCode, ApiError> {
    let letter = find(&app, &notes, number(id)?).await?;
    if letter.damaged {
        return Err(ApiError::new(
            ProblemType::DAMAGED,
            "The message is damaged and cannot be sent again; have its upload sent again, then drop it.",
        ));
    }
    let id = letter.id;
    let was_there = app.bus.dead_letters.retry_dead_letter(id).await.map_err(|error| failed(&error))?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found()) }
}

/// `DELETE /api/v1/dead-letters/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(notes): Extension<AuditNotes>,
    id: Number,
) -> Result<StatusCode, ApiError> {
    let id = find(&app, &notes, number(id)?).await?.id;
    let was_there =
        app.bus.dead_letters.delete_dead_letter(id).await.map_err(|error| failed(&error.into()))?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found()) }
}

/// Returns a dead letter and sets its patient and upload in the audit line.
async fn find(app: &App, notes: &AuditNotes, id: u64) -> Result<DeadLetter, ApiError> {
    // Numbers start at 1, and a page starts after the given number.
    let before = id.checked_sub(1).ok_or_else(not_found)?;
    let letters =
        app.bus.dead_letters.dead_letters(Some(before), 1).await.map_err(|error| failed(&error.into()))?;
    let letter = letters.into_iter().find(|letter| letter.id == id).ok_or_else(not_found)?;
    notes.patient(letter.mrn);
    notes.upload_of(letter.upload_id());
    Ok(letter)
}

fn summary(letter: &DeadLetter) -> DeadLetterSummary {
    DeadLetterSummary {
        id: letter.id,
        queue: letter.queue,
        mrn: letter.mrn,
        upload_id: letter.upload_id(),
        reason: letter.reason.clone(),
        attempts: letter.attempts,
        died_at: letter.died_at,
        bytes: letter.payload.len() as u64,
    }
}

fn number(id: Number) -> Result<u64, ApiError> {
    let number = id.ok().and_then(|Path(text)| text.parse().ok());
    number
        .filter(|number| *number <= MAX_NUMBER)
        .ok_or_else(|| ApiError::invalid("The number of a dead letter in the path is none."))
}

fn not_found() -> ApiError {
    ApiError::not_found("There is no dead letter of this number (any more).")
}

fn failed(error: &EnqueueError) -> ApiError {
    match error {
        EnqueueError::Full => ApiError::unavailable("The queue is full for now; try again in a moment.", 5),
        EnqueueError::Bus(cause) => {
            tracing::warn!(%cause, "the broker failed");
            ApiError::unavailable("The message broker cannot be reached for now; try again in a moment.", 2)
        }
    }
}
