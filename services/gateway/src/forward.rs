//! Forwards calls to the services behind the gateway that change something: ingest and alarms.
//!
//! The gateway checks the permission of the role; the service checks the ward of the patient, and answers 404 for patients of
//! wards that the client may not access. The body is read completely before it is sent, because the call is repeated when the
//! service is being replaced. Such calls are idempotent.

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use http_server::internal::AuditHeaders;
use http_server::problem::{ApiError, PROBLEM, ProblemType};
use uuid::Uuid;

use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::Client;
use crate::auth::wards;
use crate::http::format::error_response;
use crate::reads::query::QueryService;

/// Maximum size of the body of a call, in bytes.
const MAX_BODY: usize = 64 << 10;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends a call to `service` and returns its response.
pub(crate) async fn call(
    app: &App,
    service: &QueryService,
    client: &Client,
    notes: &AuditNotes,
    request: Request,
) -> Response {
    let route_path = request.uri().path().to_owned();
    let permit = match app.admission.read(client) {
        Ok(permit) => permit,
        Err(error) => return error_response(&route_path, error),
    };
    let (parts, body) = request.into_parts();
    let mut headers = HeaderMap::new();
    for name in [header::ACCEPT, header::CONTENT_TYPE, IDEMPOTENCY_KEY] {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, HeaderValue::clone(value));
        }
    }
    // The call may be repeated on the way.
    if let (false, Ok(key)) = (headers.contains_key(IDEMPOTENCY_KEY), Uuid::now_v7().to_string().parse()) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    if let Some((name, value)) = wards::actor(client, None).header() {
        headers.insert(name, value);
    }
    let body = match http_body_util::Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let detail = "The body of this request is too long.";
            return error_response(&route_path, ApiError::new(ProblemType::TOO_LARGE, detail));
        }
    };
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let response = service.request_with(parts.method, path, headers, body).await;
    drop(permit);
    match response {
        Ok(mut response) => {
            if let Some(mrn) = AuditHeaders::take(response.headers_mut()).patient {
                notes.patient(mrn);
            }
            let is_problem = response.headers_mut().remove(PROBLEM).is_some();
            let failed =
                response.status().is_server_error() && response.status() != StatusCode::SERVICE_UNAVAILABLE;
            if failed && !is_problem {
                let detail = "The service that handles this request failed.";
                return error_response(&route_path, ApiError::new(ProblemType::BAD_GATEWAY, detail));
            }
            response.map(Body::new).into_response()
        }
        Err(error) => error_response(&route_path, error),
    }
}
