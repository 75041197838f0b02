//! Middleware that adds headers to every response: request id, security headers and server time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use proto_json::{CLOCK_PROBLEM_HEADER, TIME_HEADER, Timestamp};
use uuid::Uuid;

use crate::app::App;
use crate::auth::audit_line::RequestId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIME: HeaderName = HeaderName::from_static(TIME_HEADER);
const CLOCK_PROBLEM: HeaderName = HeaderName::from_static(CLOCK_PROBLEM_HEADER);

/// Headers of every response. A handler can set a stricter value.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Gives the request an id. Adds the id and the security headers to the response.
pub(crate) async fn secure(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId(Uuid::now_v7());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::try_from(id.0.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    if app.config.tls.certificate.is_some() {
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// Adds the server time to the response, and the clock problem if there is one.
pub(crate) async fn server_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(time) = HeaderValue::try_from(Timestamp::now().to_string()) {
        response.headers_mut().insert(TIME, time);
    }
    if let Some(problem) = app.clock.problem().and_then(|text| HeaderValue::try_from(&*text).ok()) {
        response.headers_mut().insert(CLOCK_PROBLEM, problem);
    }
    response
}
