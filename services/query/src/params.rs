//! Extractors for path and query parameters.

use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use http_server::problem::ApiError;
use proto_json::{Cursor, Mrn, RecordId, UploadId};
use serde::Deserialize;
use store::PageRequest;

/// Default page size.
const DEFAULT_LIMIT: usize = 50;
/// Maximum page size.
const MAX_LIMIT: usize = 500;
/// Maximum length of a search text in characters.
const MAX_SEARCH_CHARS: usize = 200;

/// The first path parameter, percent-decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::invalid("The path is not valid UTF-8."))?;
        let value = params.iter().next().map(|(_, value)| value.to_owned());
        Ok(Segment(value.unwrap_or_default()))
    }
}

/// The medical record number in a path.
pub(crate) struct PathMrn(pub(crate) Mrn);

impl<S: Send + Sync> FromRequestParts<S> for PathMrn {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        text.parse().map(PathMrn).map_err(|error| ApiError::invalid(sentence(&error)))
    }
}

/// The id of a record or an upload in a path.
pub(crate) struct PathId<T>(pub(crate) T);

/// Types of ids in paths.
pub(crate) trait Id: FromStr {}
impl Id for RecordId {}
impl Id for UploadId {}

impl<S: Send + Sync, T: Id> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        // Accept one spelling of each id, so that caches and logs have one key for it.
        let hyphenated = text.len() == 36;
        text.parse()
            .ok()
            .filter(|_| hyphenated)
            .map(PathId)
            .ok_or_else(|| ApiError::invalid("The id in the path is not a UUID."))
    }
}

/// `?q=&after=&limit=&include_errors=`
#[derive(Debug, Deserialize)]
struct RawListParams {
    q: Option<String>,
    after: Option<String>,
    limit: Option<String>,
    include_errors: Option<String>,
}

/// The search text and the page of a list request.
pub(crate) struct ListParams {
    pub(crate) query: Option<String>,
    pub(crate) page: PageRequest,
}

impl<S: Send + Sync> FromRequestParts<S> for ListParams {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(raw): Query<RawListParams> =
            Query::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
                ApiError::invalid(format!("The query string cannot be read: {}.", rejection.body_text()))
            })?;
        let after = raw.after.map(|text| text.parse::<Cursor>()).transpose();
        let after = after.map_err(|error| ApiError::invalid(sentence(&error)))?;
        let limit = match raw.limit {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| ApiError::invalid(format!("`limit` must be from 1 to {MAX_LIMIT}.")))?,
        };
        let include_errors = match raw.include_errors.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(ApiError::invalid("`include_errors` must be true or false.")),
        };
        let query = raw.q.filter(|text| !text.is_empty());
        if query.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH_CHARS) {
            return Err(ApiError::invalid(format!("`q` must be at most {MAX_SEARCH_CHARS} characters.")));
        }
        Ok(ListParams { query, page: PageRequest { after, limit, include_errors } })
    }
}

/// Converts an error message to a sentence with a capital letter and a full stop.
pub(crate) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(std::iter::once('.')).collect()
}
