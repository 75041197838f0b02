//! Every route of the public door.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use runtime::problem::{ApiError, ProblemType, text};
use runtime::{Metrics, admin, observe};
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::access;
use crate::auth::tokens::Need;
use crate::http::clock;
use crate::uploads::{dead_letters, handler as upload, names};
use crate::{App, events, legacy, openapi, reads};

/// Routes that query answers, and what they ask of a client.
pub(crate) const READS: [(&str, Need); 15] = [
    ("/api/v1/patients", Need::Read),
    ("/api/v1/patients/{mrn}", Need::Read),
    ("/api/v1/patients/{mrn}/heart-rates", Need::Read),
    ("/api/v1/patients/{mrn}/ecgs", Need::Read),
    ("/api/v1/patients/{mrn}/images", Need::Read),
    ("/api/v1/patients/{mrn}/names", Need::Read),
    ("/api/v1/ecgs/{id}", Need::Read),
    ("/api/v1/ecgs/{id}/plot", Need::Read),
    ("/api/v1/ecgs/{id}/signal", Need::Read),
    ("/api/v1/ecgs/{id}/detail", Need::Read),
    ("/api/v1/images/{id}", Need::Read),
    ("/api/v1/uploads/{id}", Need::ReadUpload),
    ("/api/v1/clock", Need::Read),
    ("/api/get_patient", Need::Read),
    ("/api/get_patient/{id}", Need::Read),
];

/// Routes that the gateway answers itself, with their method.
#[cfg(test)]
pub(crate) const OWN: [(&str, &str); 11] = [
    ("get", "/"),
    ("get", "/api/openapi.json"),
    ("post", "/api/new_patient"),
    ("post", "/api/v1/patients/{mrn}/uploads"),
    ("post", "/api/v1/patients/{mrn}/name-check"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/patients/{mrn}/events"),
    ("get", "/api/v1/dead-letters"),
    ("get", "/api/v1/dead-letters/{id}"),
    ("delete", "/api/v1/dead-letters/{id}"),
    ("post", "/api/v1/dead-letters/{id}/retry"),
];

/// The documented routes speak text; everything else under `/api` speaks problem documents.
pub(crate) fn is_legacy(path: &str) -> bool {
    ["/api/new_patient", "/api/get_patient"].iter().any(|route| path.starts_with(route))
}

pub(crate) fn router(app: &Arc<App>, health: Option<Vec<admin::Check>>) -> Router {
    let guarded = |need| from_fn_with_state((app.clone(), need), access::guard);
    let public = || from_fn_with_state(app.clone(), access::limit_public);
    let mut reads = Router::new();
    for (path, need) in READS {
        reads = reads.route(path, get(reads::forward).route_layer(guarded(need)));
    }
    let uploads = Router::new()
        .route("/api/new_patient", post(legacy::new_patient))
        .route("/api/v1/patients/{mrn}/uploads", post(upload::upload))
        .route("/api/v1/patients/{mrn}/name-check", post(names::check))
        .route_layer(guarded(Need::Upload));
    let events = Router::new()
        .route("/api/v1/events", get(events::of_all))
        .route("/api/v1/patients/{mrn}/events", get(events::of_patient))
        .route_layer(guarded(Need::Read));
    let dead_letters = Router::new()
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/{id}", get(dead_letters::show).delete(dead_letters::forget))
        .route("/api/v1/dead-letters/{id}/retry", post(dead_letters::retry))
        .route_layer(guarded(Need::Operate));
    let open = Router::new().route("/", get(async || text(StatusCode::OK, "Server is on"))).route(
        "/api/openapi.json",
        get(async || {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], openapi::DOCUMENT)
        }),
    );
    let open = open.route_layer(public());
    let mut router = reads.merge(uploads).merge(events).merge(dead_letters).merge(open);
    if let Some(checks) = health {
        let health = admin::health("gateway", checks.clone());
        // Who is here to look after it has a token, where others can come: figures tell how much there is to do.
        let figures = admin::figures("gateway", checks, Metrics::install()).route_layer(guarded(Need::Read));
        router = router.merge(health.route_layer(public()).with_state(())).merge(figures.with_state(()));
    }
    router
        .fallback(not_found.layer(public()))
        .method_not_allowed_fallback(method_not_allowed.layer(public()))
        .layer(from_fn_with_state(app.clone(), access::only_this_machine))
        .layer(CatchPanicLayer::custom(|_panic| {
            ApiError::internal("a handler panicked; its message is above").into_response()
        }))
        .layer(from_fn_with_state(app.clone(), access::secure))
        .layer(from_fn_with_state(app.clone(), clock::stamp))
        .layer(from_fn(|request, next| observe::requests("gateway", request, next)))
        .with_state(app.clone())
}

async fn not_found(request: Request) -> Response {
    access::in_format_of(request.uri().path(), ApiError::not_found("There is nothing at this path."))
}

async fn method_not_allowed(request: Request) -> Response {
    let sentence = "This path does not take this method; the Allow header says which ones it takes.";
    access::in_format_of(request.uri().path(), ApiError::new(ProblemType::METHOD_NOT_ALLOWED, sentence))
}
