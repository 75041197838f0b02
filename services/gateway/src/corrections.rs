//! The routes of corrections. Ingest answers them; the gateway checks the permission.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{delete, post, put};
use axum::{Extension, Router};

use axum::middleware::from_fn_with_state;

use crate::app::App;
use crate::auth::access;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::{Client, Permission};
use crate::forward;

/// Method, path and permission of each route.
pub(crate) const ROUTES: [(&str, &str, Permission); 10] = [
    ("post", "/api/v1/records/{id}/entered-in-error", Permission::Care),
    ("delete", "/api/v1/records/{id}/entered-in-error", Permission::Care),
    ("post", "/api/v1/uploads/{id}/move", Permission::Care),
    ("post", "/api/v1/patients/{mrn}/name", Permission::Care),
    ("post", "/api/v1/patients/{mrn}/merge", Permission::Care),
    ("post", "/api/v1/merges/{id}/undo", Permission::Care),
    ("post", "/api/v1/patients/{mrn}/erase", Permission::Administer),
    ("put", "/api/v1/patients/{mrn}/hold", Permission::Administer),
    ("delete", "/api/v1/patients/{mrn}/hold", Permission::Administer),
    ("post", "/api/v1/retention", Permission::Administer),
];

pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let mut router = Router::new();
    for (method, path, permission) in ROUTES {
        let route = match method {
            "put" => put(forward),
            "delete" => delete(forward),
            _ => post(forward),
        };
        let guarded = from_fn_with_state((app.clone(), permission), access::guard);
        router = router.route(path, route.route_layer(guarded));
    }
    router
}

async fn forward(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    forward::call(&app, &app.records, &client, &notes, request).await
}
