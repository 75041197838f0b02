//! Calls that change wards, beds, admissions and details. Ingest carries them out.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{patch, post};

use crate::app::App;
use crate::auth::access;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::{Client, Permission};
use crate::forward;

/// Routes that the gateway forwards to ingest, with their method.
#[cfg(test)]
pub(crate) const ROUTES: [(&str, &str); 10] = [
    ("post", "/api/v1/wards"),
    ("patch", "/api/v1/wards/{ward}"),
    ("delete", "/api/v1/wards/{ward}"),
    ("post", "/api/v1/wards/{ward}/beds"),
    ("patch", "/api/v1/wards/{ward}/beds/{bed}"),
    ("delete", "/api/v1/wards/{ward}/beds/{bed}"),
    ("patch", "/api/v1/patients/{mrn}"),
    ("post", "/api/v1/patients/{mrn}/admit"),
    ("post", "/api/v1/patients/{mrn}/transfer"),
    ("post", "/api/v1/patients/{mrn}/discharge"),
];

pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let guarded = |permission| from_fn_with_state((app.clone(), permission), access::guard);
    let places = Router::new()
        .route("/api/v1/wards", post(call))
        .route("/api/v1/wards/{ward}", patch(call).delete(call))
        .route("/api/v1/wards/{ward}/beds", post(call))
        .route("/api/v1/wards/{ward}/beds/{bed}", patch(call).delete(call))
        .route_layer(guarded(Permission::Administer));
    let care = Router::new()
        .route("/api/v1/patients/{mrn}", patch(call))
        .route("/api/v1/patients/{mrn}/admit", post(call))
        .route("/api/v1/patients/{mrn}/transfer", post(call))
        .route("/api/v1/patients/{mrn}/discharge", post(call))
        .route_layer(guarded(Permission::Care));
    places.merge(care)
}

async fn call(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    forward::call(&app, &app.records, &client, &notes, request).await
}
