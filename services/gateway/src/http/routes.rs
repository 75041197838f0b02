//! The routing table of the public API.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use http_server::problem::{ApiError, ProblemType};
use http_server::{admin, observe};
use runtime::Metrics;
use runtime::health::Health;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::auth::tokens::Permission;
use crate::auth::{access, local};
use crate::http::format::public_error_response;
use crate::http::headers;
use crate::sessions::routes;
use crate::uploads::{dead_letters, handler, names, preview};
use crate::waves::{self, device, live};
use crate::{alarms, asyncapi, corrections, events, legacy, openapi, reads, reanalysis, wards, web};

/// Routes that the query service answers, with the permission they require.
pub(crate) const READS: &[(&str, Permission)] = &[
    ("/api/v1/patients", Permission::Read),
    ("/api/v1/patients/{mrn}", Permission::Read),
    ("/api/v1/patients/{mrn}/heart-rates", Permission::Read),
    ("/api/v1/patients/{mrn}/ecgs", Permission::Read),
    ("/api/v1/patients/{mrn}/images", Permission::Read),
    ("/api/v1/patients/{mrn}/names", Permission::Read),
    ("/api/v1/patients/{mrn}/admissions", Permission::Read),
    ("/api/v1/patients/{mrn}/corrections", Permission::Read),
    ("/api/v1/patients/{mrn}/waveforms", Permission::Read),
    ("/api/v1/patients/{mrn}/waveforms/channels", Permission::Read),
    ("/api/v1/patients/{mrn}/waveforms/export", Permission::Read),
    ("/api/v1/ecgs/{id}", Permission::Read),
    ("/api/v1/ecgs/{id}/plot", Permission::Read),
    ("/api/v1/ecgs/{id}/page", Permission::Read),
    ("/api/v1/ecgs/{id}/samples", Permission::Read),
    ("/api/v1/ecgs/{id}/signal", Permission::Read),
    ("/api/v1/ecgs/{id}/detail", Permission::Read),
    ("/api/v1/images/{id}", Permission::Read),
    ("/api/v1/uploads/{id}", Permission::ReadUpload),
    ("/api/v1/wards", Permission::Read),
    ("/api/v1/clock", Permission::Read),
    ("/api/v1/audit", Permission::Audit),
    ("/api/v1/audit/verification", Permission::Audit),
    ("/api/get_patient", Permission::Read),
    ("/api/get_patient/{id}", Permission::Read),
];

/// Routes that the gateway answers itself, with their method.
#[cfg(test)]
pub(crate) const OWN: &[(&str, &str)] = &[
    ("get", "/"),
    ("get", "/api/openapi.json"),
    ("post", "/api/new_patient"),
    ("post", "/api/v1/patients/{mrn}/uploads"),
    ("post", "/api/v1/patients/{mrn}/name-check"),
    ("post", "/api/v1/ecg/preview"),
    ("get", "/api/asyncapi.json"),
    ("get", "/api/v1/live"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/patients/{mrn}/events"),
    ("get", "/api/v1/dead-letters"),
    ("get", "/api/v1/dead-letters/{id}"),
    ("delete", "/api/v1/dead-letters/{id}"),
    ("post", "/api/v1/dead-letters/{id}/retry"),
    ("post", "/api/v1/ecgs/{id}/reanalyse"),
    ("get", "/api/v1/session"),
    ("post", "/api/v1/session"),
    ("delete", "/api/v1/session"),
    ("get", "/api/v1/session/oidc"),
    ("get", "/api/v1/session/oidc/callback"),
    ("get", "/api/v1/users"),
    ("post", "/api/v1/users"),
    ("patch", "/api/v1/users/{name}"),
    ("delete", "/api/v1/users/{name}"),
    ("post", "/api/v1/users/{name}/password"),
    ("post", "/api/v1/patients/{mrn}/break-glass"),
];

pub(crate) fn router(app: &Arc<App>, health: Option<Health>) -> Router {
    let guarded = |permission| from_fn_with_state((app.clone(), permission), access::guard);
    let public = || from_fn_with_state(app.clone(), access::limit_public);
    let mut reads = Router::new();
    for &(path, permission) in READS {
        reads = reads.route(path, get(reads::forward).route_layer(guarded(permission)));
    }
    let uploads = Router::new()
        .route("/api/new_patient", post(legacy::new_patient))
        .route("/api/v1/patients/{mrn}/uploads", post(handler::upload))
        .route("/api/v1/patients/{mrn}/name-check", post(names::check))
        .route("/api/v1/ecg/preview", post(preview::preview))
        .route_layer(guarded(Permission::Upload));
    let events = Router::new()
        .route("/api/v1/events", get(events::of_all))
        .route("/api/v1/patients/{mrn}/events", get(events::of_patient))
        .route_layer(guarded(Permission::Read));
    let live = Router::new().route("/api/v1/live", get(live::open)).route_layer(guarded(Permission::Read));
    // Behind the routing table, because the route is also one of `READS`.
    let devices = Router::new()
        .route(waves::DEVICE_ROUTE, get(device::open))
        .route_layer(guarded(Permission::Stream))
        .with_state(app.clone());
    let mut alarms = Router::new();
    for (path, permission) in alarms::READS {
        alarms = alarms.route(path, get(alarms::forward).route_layer(guarded(permission)));
    }
    for (path, permission) in alarms::ACTIONS {
        alarms = alarms.route(path, post(alarms::forward).route_layer(guarded(permission)));
    }
    for (path, permission) in alarms::CHANGES {
        alarms = alarms.route(path, put(alarms::forward).route_layer(guarded(permission)));
    }
    let operations = Router::new()
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/{id}", get(dead_letters::show).delete(dead_letters::delete))
        .route("/api/v1/dead-letters/{id}/retry", post(dead_letters::retry))
        .route("/api/v1/ecgs/{id}/reanalyse", post(reanalysis::request))
        .route_layer(guarded(Permission::Operate));
    let users = Router::new()
        .route("/api/v1/users", get(routes::forward).post(routes::forward))
        .route("/api/v1/users/{name}", patch(routes::forward).delete(routes::forward))
        .route_layer(guarded(Permission::Administer));
    let password = Router::new()
        .route("/api/v1/users/{name}/password", post(routes::change_password))
        .route_layer(guarded(Permission::Session));
    let emergency = Router::new()
        .route(access::BREAK_GLASS, post(routes::break_glass))
        .route_layer(guarded(Permission::Care));
    let sessions = Router::new()
        .route("/api/v1/session", get(routes::show).post(routes::log_in).delete(routes::log_out))
        .route("/api/v1/session/oidc", get(routes::begin_oidc))
        .route("/api/v1/session/oidc/callback", get(routes::finish_oidc))
        .route_layer(public());
    let document = |document: &'static str| {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        get(async move || (headers, document))
    };
    let corrections = corrections::router(app);
    let open = web::router()
        .route("/api/openapi.json", document(openapi::DOCUMENT))
        .route("/api/asyncapi.json", document(asyncapi::DOCUMENT));
    let open = open.route_layer(public());
    let mut router =
        reads.merge(uploads).merge(events).merge(live).merge(alarms).merge(operations).merge(corrections);
    router = router.merge(wards::router(app)).merge(open);
    router = router.merge(users).merge(password).merge(emergency).merge(sessions);
    if let Some(health) = health {
        // The metrics reveal the load, so they require a token where other machines can connect.
        let metrics = admin::metrics_router("gateway", health.clone(), Metrics::install())
            .route_layer(guarded(Permission::Read));
        let health = admin::health_router("gateway", health);
        router = router.merge(health.route_layer(public()).with_state(())).merge(metrics.with_state(()));
    }
    router
        .fallback(not_found.layer(public()))
        .method_not_allowed_fallback(method_not_allowed.layer(public()))
        .layer(from_fn_with_state(devices, waves::select_device))
        .layer(from_fn_with_state(app.clone(), local::only_this_machine))
        .layer(CatchPanicLayer::custom(|_panic| {
            ApiError::internal("a handler panicked; its message is logged above").into_response()
        }))
        .layer(from_fn_with_state(app.clone(), headers::secure))
        .layer(from_fn_with_state(app.clone(), headers::server_time))
        .layer(from_fn(|request, next| observe::requests("gateway", request, next)))
        .with_state(app.clone())
}

async fn not_found(request: Request) -> Response {
    public_error_response(request.uri().path(), ApiError::not_found("There is nothing at this path."))
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = "This path does not take this method; the Allow header says which ones it takes.";
    public_error_response(request.uri().path(), ApiError::new(ProblemType::METHOD_NOT_ALLOWED, detail))
}
