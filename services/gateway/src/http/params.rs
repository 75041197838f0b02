//! Extractors for path parameters.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use http_server::problem::ApiError;
use proto_json::Mrn;

/// The medical record number in a path.
pub(crate) struct PathMrn(pub(crate) Mrn);

impl<S: Send + Sync> FromRequestParts<S> for PathMrn {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::invalid("The path is not valid UTF-8."))?;
        let text = params.iter().next().map_or("", |(_, value)| value);
        text.parse().map(PathMrn).map_err(|error| ApiError::invalid(format!("In the path, {error}.")))
    }
}
