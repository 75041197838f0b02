//! Routes of the service of the alarms: alarms, actions on them, and limits. The gateway checks the permission of the role, and
//! forwards the call with the name of the user.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;

use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::{Client, Permission};
use crate::forward;

/// Routes that are read.
pub(crate) const READS: [(&str, Permission); 5] = [
    ("/api/v1/alarms", Permission::Read),
    ("/api/v1/alarms/undelivered", Permission::Operate),
    ("/api/v1/limits", Permission::Read),
    ("/api/v1/wards/{ward}/limits", Permission::Read),
    ("/api/v1/patients/{mrn}/limits", Permission::Read),
];

/// Routes with POST.
pub(crate) const ACTIONS: [(&str, Permission); 4] = [
    ("/api/v1/alarms/{id}/acknowledge", Permission::Care),
    ("/api/v1/alarms/{id}/audio-pause", Permission::Care),
    ("/api/v1/alarms/{id}/reset", Permission::Care),
    ("/api/v1/patients/{mrn}/alarms/acknowledge", Permission::Care),
];

/// Routes with PUT.
pub(crate) const CHANGES: [(&str, Permission); 3] = [
    ("/api/v1/limits", Permission::WardLimits),
    ("/api/v1/wards/{ward}/limits", Permission::WardLimits),
    ("/api/v1/patients/{mrn}/limits", Permission::Care),
];

/// Forwards a call.
pub(crate) async fn forward(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    forward::call(&app, &app.alarms, &client, &notes, request).await
}
