//! Errors of the HTTP API: RFC 9457 problem documents under `/api/v1`, plain text on the legacy routes.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto_json::{Mrn, NameConflict, Problem};

/// The type of a problem: HTTP status, stable name and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType {
    /// HTTP status.
    pub status: StatusCode,
    /// Last component of the type URI `urn:bedside:problem:…`.
    pub name: &'static str,
    /// Short summary of the problem type.
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
    /// 409
    TIME_IN_FUTURE = CONFLICT "time-in-future" "The time is in the future of the server";
    /// 409
    NOT_ANALYSABLE = CONFLICT "not-analysable" "The ECG cannot be analysed again";
    /// 409
    STATE_CONFLICT = CONFLICT "state-conflict" "The state is another one";
    /// 409
    NAME_TAKEN = CONFLICT "name-taken" "The name is in use";
    /// 409
    ID_TAKEN = CONFLICT "id-taken" "The id is in use";
    /// 409
    LIMIT_REACHED = CONFLICT "limit-reached" "There are as many as possible";
    /// 409
    VERSION_CONFLICT = CONFLICT "version-conflict" "Someone else has changed it";
    /// 409
    IN_USE = CONFLICT "in-use" "It is in use";
    /// 409
    BED_OCCUPIED = CONFLICT "bed-occupied" "The bed is occupied";
    /// 409
    ALREADY_ADMITTED = CONFLICT "already-admitted" "The patient is already in a bed";
    /// 409
    NOT_ADMITTED = CONFLICT "not-admitted" "The patient is not admitted";
    /// 409
    NOT_CORRECTABLE = CONFLICT "not-correctable" "The correction cannot be made";
    /// 410
    ERASED = GONE "erased" "The patient was erased";
    /// 409
    CONFLICT = CONFLICT "conflict" "The state does not allow this";
    /// 413
    TOO_LARGE = PAYLOAD_TOO_LARGE "too-large" "Too large";
    /// 415
    UNSUPPORTED = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The format is not supported";
    /// 416
    RANGE = RANGE_NOT_SATISFIABLE "range-not-satisfiable" "The range is outside of the file";
    /// 422
    KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency-key-reused" "The Idempotency-Key was used for another upload";
    /// 422
    LIMITS = UNPROCESSABLE_ENTITY "invalid-limits" "The limits cannot be used";
    /// 422
    UNPROCESSABLE = UNPROCESSABLE_ENTITY "unprocessable" "The values are not valid";
    /// 422
    NOT_AN_ECG = UNPROCESSABLE_ENTITY "not-an-ecg" "The file is not a usable ECG";
    /// 422
    ECG_NEEDS_OPTIONS = UNPROCESSABLE_ENTITY "ecg-needs-options" "The ECG needs a sampling rate or a lead";
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

/// Response header of an internal service. Contains the problem type name if the status alone does not
/// identify it.
pub const PROBLEM: HeaderName = HeaderName::from_static("bedside-problem");

/// The error type of HTTP handlers.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The problem type.
    pub kind: ProblemType,
    /// One sentence about this occurrence that tells the client what to do.
    pub detail: String,
    /// Additional response headers, such as `Retry-After`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Both names, for [`ProblemType::NAME_DIFFERS`].
    pub names: Option<Box<NameConflict>>,
    /// The surviving patient, if the number was merged into another one.
    pub merged_into: Option<Mrn>,
}

impl ApiError {
    /// Returns an error of this type. `detail` is one sentence that tells the client what to do.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        ApiError { kind, detail: detail.into(), headers: Vec::new(), names: None, merged_into: None }
    }

    /// Returns a 400 error.
    pub fn invalid(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::INVALID, detail)
    }

    /// Returns a 404 error.
    pub fn not_found(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::NOT_FOUND, detail)
    }

    /// Returns a 503 error with `Retry-After` in seconds.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u16) -> Self {
        ApiError::new(ProblemType::UNAVAILABLE, detail).header(header::RETRY_AFTER, retry_after_s.into())
    }

    /// Returns a 500 error for a damaged stored record. `detail` identifies the record.
    pub fn damaged(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemType::DAMAGED, detail)
            .header(PROBLEM, HeaderValue::from_static(ProblemType::DAMAGED.name))
    }

    /// Returns a 500 error. The cause is logged and not sent to the client.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        ApiError::new(ProblemType::INTERNAL, "The server failed at this request; its log says why.")
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Converts the error to a `text/html` response that contains only the detail.
    #[must_use]
    pub fn into_text(self) -> Response {
        let mut response = text(self.kind.status, self.detail);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Returns a `text/html` response. The message is escaped, because it may contain text of the request.
pub fn text(status: StatusCode, message: impl AsRef<str>) -> Response {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, html)], escaped(message.as_ref())).into_response()
}

/// Escapes text for HTML content. Only `&` and `<` need it; other characters have no meaning outside of a
/// tag.
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
            merged_into: self.merged_into,
        };
        let json = HeaderValue::from_static("application/problem+json");
        // Serialising strings and a number cannot fail.
        let body = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
        let mut response = (self.kind.status, [(header::CONTENT_TYPE, json)], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
