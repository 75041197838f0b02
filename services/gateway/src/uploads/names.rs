//! Protects the names of patients.
//!
//! A wrong record number with another patient's name is the usual sign of an upload for the wrong patient.
//! Therefore an upload under `/api/v1` that names a known patient differently is rejected with 409, unless it
//! asks for the change (`rename=true`). The legacy route replaces names, as its contract states.
//!
//! The gateway compares with the name that the query service returns, before anything is staged. An upload of
//! the same patient that is still in the queue, or an unreachable query service, can hide a difference. Then
//! ingest keeps the stored name and the receipt contains `name_kept`: the upload is not lost, and the name is
//! not replaced.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use http_server::problem::{ApiError, ProblemType};
use proto_json::{Mrn, NameCheck, NameConflict, NameMatch, NameQuery, Rename, match_names};

use crate::app::App;
use crate::auth::tokens::{Client, Permission};
use crate::http::params::PathMrn;
use crate::uploads::fields;
use crate::uploads::submit::ValidatedUpload;

/// Largest body of a name check, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// `POST /api/v1/patients/{mrn}/name-check`: whether a patient has this name.
///
/// The name is in the body, because proxies log URLs. The answer does not contain the stored name.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    mrn: Result<PathMrn, ApiError>,
    request: Request,
) -> Response {
    match answer(&app, mrn, request).await {
        Ok(result) => Json(NameCheck { result }).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(app: &App, mrn: Result<PathMrn, ApiError>, request: Request) -> Result<NameMatch, ApiError> {
    let PathMrn(mrn) = mrn?;
    let body = http_body_util::Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| {
        ApiError::new(ProblemType::TOO_LARGE, format!("A name check has at most {MAX_BODY} bytes."))
    })?;
    let query: NameQuery = http_server::json::read_object(&body.to_bytes())
        .map_err(|_| ApiError::invalid("Send the name as JSON: {\"name\": \"…\"}."))?;
    let name = fields::name(query.name).map_err(|error| ApiError::invalid(format!("`name` {error}.")))?;
    let name = name.ok_or_else(|| ApiError::invalid("`name` is empty."))?;
    Ok(match_names(&name, app.reads.name(mrn).await?.as_deref()))
}

/// Rejects an upload that names its patient differently, unless the client asks for the change.
///
/// # Errors
/// 409 with both names; without the stored name for clients that may not read patients.
pub(crate) async fn protect(app: &App, client: &Client, draft: &ValidatedUpload) -> Result<(), ApiError> {
    let Some(given) = draft.name.as_deref().filter(|_| draft.rename == Rename::No) else { return Ok(()) };
    let stored = match app.reads.name(draft.mrn).await {
        Ok(stored) => stored,
        Err(error) => {
            // Ingest keeps the stored name then.
            tracing::warn!(error = %error.detail, "the name of an upload is not checked");
            return Ok(());
        }
    };
    match stored {
        Some(stored) if match_names(given, Some(&stored)) == NameMatch::Different => {
            Err(differs(draft.mrn, given, client.role.may(Permission::Read).then_some(stored)))
        }
        _ => Ok(()),
    }
}

fn differs(mrn: Mrn, given: &str, stored: Option<String>) -> ApiError {
    let detail = match &stored {
        Some(stored) => format!(
            "Patient {mrn} is {stored:?}, but the upload names {given:?}. Check the record number. To change \
             the name, send the upload again with rename=true."
        ),
        None => format!(
            "Patient {mrn} has another name than {given:?}. Check the record number. To change the name, send \
             the upload again with rename=true."
        ),
    };
    let names = NameConflict { given: given.to_owned(), stored };
    ApiError { names: Some(Box::new(names)), ..ApiError::new(ProblemType::NAME_DIFFERS, detail) }
}
