//! The error format of a route: problem documents under `/api/v1`, plain text on the legacy routes.

use axum::response::{IntoResponse, Response};
use http_server::problem::ApiError;

/// Returns whether a path belongs to the legacy API.
pub(crate) fn is_legacy(path: &str) -> bool {
    ["/api/new_patient", "/api/get_patient"].iter().any(|route| path.starts_with(route))
}

/// Returns the error in the format of an API route.
pub(crate) fn error_response(path: &str, error: ApiError) -> Response {
    if is_legacy(path) { error.into_text() } else { error.into_response() }
}

/// Returns the error in the format of a path that may be outside of the API: plain text outside of `/api/`.
pub(crate) fn public_error_response(path: &str, error: ApiError) -> Response {
    if path.starts_with("/api/") { error_response(path, error) } else { error.into_text() }
}
