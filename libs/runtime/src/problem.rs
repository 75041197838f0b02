//! Errors of an HTTP API as RFC 9457 problem documents, or as one plain sentence where a route speaks text.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto_json::{NameConflict, Problem};

/// A kind of problem: status, stable name and title go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType {
    /// HTTP status.
    pub status: StatusCode,
    /// Last part of the type URI `urn:bedside:problem:…`.
    pub name: &'static str,
    /// The problem in a few words.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $constant:ident = $status:ident $name:literal $title:literal;)*) => {
        impl ProblemType {
            $($(#[$doc])* pub const $constant: ProblemType =
                ProblemType { status: StatusCode::$status, name: $name, title: $title };)*
        }
    };
}

kinds! {
    /// 400
    INVALID = BAD_REQUEST "invalid-request" "The request is not valid";
    /// 401
    UNAUTHENTICATED = UNAUTHORIZED "unauthenticated" "A token is needed";
    /// 403
    FORBIDDEN = FORBIDDEN "forbidden" "Not allowed";
    /// 404
    NOT_FOUND = NOT_FOUND "not-found" "Not found";
    /// 405
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method-not-allowed" "The method is not allowed here";
    /// 408
    TOO_SLOW = REQUEST_TIMEOUT "request-timeout" "The request took too long to arrive";
    /// 409
    NAME_DIFFERS = CONFLICT "name-differs" "The patient has another name";
    /// 413
    TOO_LARGE = PAYLOAD_TOO_LARGE "too-large" "Too large";
    /// 415
    UNSUPPORTED = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The format is not supported";
    /// 416
    RANGE = RANGE_NOT_SATISFIABLE "range-not-satisfiable" "The range is outside of the file";
    /// 422
    KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency-key-reused" "The Idempotency-Key was used for another upload";
    /// 429
    TOO_MANY_REQUESTS = TOO_MANY_REQUESTS "too-many-requests" "Too many requests";
    /// 500
    DAMAGED = INTERNAL_SERVER_ERROR "record-damaged" "A stored record is damaged";
    /// 500
    INTERNAL = INTERNAL_SERVER_ERROR "internal" "Something went wrong";
    /// 502
    BAD_GATEWAY = BAD_GATEWAY "bad-gateway" "Another service answered wrongly";
    /// 503
    UNAVAILABLE = SERVICE_UNAVAILABLE "unavailable" "Not available for now";
}

/// Header of an answer of an internal service that says which kind of problem it is, where the answer itself does not.
pub const PROBLEM: HeaderName = HeaderName::from_static("bedside-problem");

/// The one error of HTTP handlers.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// What kind of problem it is.
    pub kind: ProblemType,
    /// One sentence on this very case that a person can act on.
    pub detail: String,
    /// Headers that go with it, such as `Retry-After`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The names, for [`ProblemType::NAME_DIFFERS`].
    pub names: Option<Box<NameConflict>>,
}

impl ApiError {
    /// A problem of this kind; `detail` is one sentence a person can act on.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        ApiError { kind, detail: detail.into(), headers: Vec::new(), names: None }
    }

    /// 400 with a sentence.
    pub fn invalid(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::INVALID, detail)
    }

    /// 404 with a sentence.
    pub fn not_found(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::NOT_FOUND, detail)
    }

    /// 503 with a sentence and the seconds after which to try again.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u16) -> Self {
        ApiError::new(ProblemType::UNAVAILABLE, detail).header(header::RETRY_AFTER, retry_after_s.into())
    }

    /// 500: something that is stored is damaged. `detail` says what.
    pub fn damaged(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::DAMAGED, detail)
            .header(PROBLEM, HeaderValue::from_static(ProblemType::DAMAGED.name))
    }

    /// 500. The cause is for the log alone.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        ApiError::new(ProblemType::INTERNAL, "The server failed at this request; its log says why.")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The sentence alone, as routes answer that speak `text/html`.
    #[must_use]
    pub fn into_text(self) -> Response {
        let mut response = text(self.kind.status, self.detail);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A reply of the routes that speak `text/html`: one sentence. What it repeats of a request is never read as HTML.
pub fn text(status: StatusCode, sentence: impl AsRef<str>) -> Response {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, html)], escaped(sentence.as_ref())).into_response()
}

/// Text as HTML that shows the same. Other characters stay as they are: they mean something only within a tag, and none
/// can begin.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:bedside:problem:{}", self.kind.name),
            title: self.kind.title.to_owned(),
            status: self.kind.status.as_u16(),
            detail: Some(self.detail),
            names: self.names.map(|names| *names),
        };
        let json = HeaderValue::from_static("application/problem+json");
        // A struct of texts and a number always becomes JSON.
        let body = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
        let mut response = (self.kind.status, [(header::CONTENT_TYPE, json)], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
