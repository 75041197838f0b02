//! The audit line of a request.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use proto_json::audit::AuditEvent;
use proto_json::{Mrn, RecordId, Timestamp, UploadId, WardId};
use serde::Serialize;
use uuid::Uuid;

use crate::auth::audit::AuditLog;
use crate::auth::audit_chain::{AuditChain, NotStored};
use crate::auth::tokens::Client;
use crate::http::format::is_legacy;

/// Id of a request. Returned as `X-Request-Id` and contained in the audit line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId(pub(crate) Uuid);

/// Address of the client of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Values for the audit line that a handler determines.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default, Clone, Copy)]
struct Notes {
    patient: Option<Mrn>,
    upload_id: Option<UploadId>,
}

impl AuditNotes {
    /// Sets the patient whose data is accessed.
    pub(crate) fn patient(&self, mrn: Mrn) {
        self.0.lock().patient = Some(mrn);
    }

    /// The patient whose data is accessed, if known.
    pub(crate) fn patient_of(&self) -> Option<Mrn> {
        self.0.lock().patient
    }

    /// Sets the upload that the request submits.
    pub(crate) fn upload(&self, id: UploadId) {
        self.upload_of(Some(id));
    }

    pub(crate) fn upload_of(&self, id: Option<UploadId>) {
        self.0.lock().upload_id = id;
    }

    fn read(&self) -> Notes {
        *self.0.lock()
    }
}

/// The audit line of a request. It is written on drop, so that a request whose client disconnects is logged
/// as well.
pub(super) struct AuditLine {
    pub(super) audit: Arc<AuditLog>,
    pub(super) chain: AuditChain,
    pub(super) request_id: Option<Uuid>,
    pub(super) client: Option<Client>,
    pub(super) address: IpAddr,
    pub(super) method: Method,
    pub(super) route: String,
    pub(super) notes: AuditNotes,
    pub(super) id: Option<String>,
    /// `None` until there is a response.
    pub(super) status: Option<u16>,
}

/// The JSON of an audit line. Contains the route template and not the path, because a path may contain a
/// record number.
#[derive(Serialize)]
struct Access<'a> {
    message: &'static str,
    request_id: Option<String>,
    client: Option<&'a str>,
    role: Option<&'static str>,
    address: IpAddr,
    method: &'a str,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_id: Option<UploadId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    status: u16,
    outcome: &'static str,
}

/// Status in the audit line for a client that disconnected before the response. nginx uses the same number.
const CLIENT_GONE: u16 = 499;

fn outcome(status: u16) -> &'static str {
    match status {
        100..=399 => "ok",
        401 | 403 | 429 => "denied",
        CLIENT_GONE => "client gone",
        400..=498 => "rejected",
        _ => "failed",
    }
}

/// Reveals nothing about patients, and is read every few seconds. Operators need it also while the audit cannot be written.
const METRICS: &str = "/metrics";

impl AuditLine {
    /// Whether the request has an entry in the audit.
    pub(super) fn is_stored(&self) -> bool {
        self.route != METRICS
    }

    /// The entry for the audit; `None` for a request that has none, or that has no valid identity.
    fn event(&self, status: u16) -> Option<AuditEvent> {
        if !self.is_stored() {
            return None;
        }
        let Notes { patient, upload_id } = self.notes.read();
        let client = self.client.as_ref()?;
        Some(AuditEvent {
            at: Timestamp::now(),
            client: client.name.to_string(),
            role: client.role.name().to_owned(),
            wards: client.wards.as_deref().map(<[WardId]>::to_vec),
            address: self.address,
            method: self.method.as_str().to_owned(),
            route: self.route.clone(),
            mrn: patient,
            id: self.id.clone(),
            upload_id,
            request_id: self.request_id,
            status,
            outcome: outcome(status).to_owned(),
        })
    }

    /// Completes the line with the status of the response, and stores the entry. The response of a request that reads is sent
    /// only after that.
    ///
    /// # Errors
    /// If the request reads and its entry cannot be stored: the response must not be sent.
    pub(super) async fn complete(&mut self, status: u16) -> Result<(), NotStored> {
        self.status = Some(status);
        let Some(event) = self.event(status) else { return Ok(()) };
        if self.method.is_safe() {
            let stored = self.chain.store(event).await;
            if stored.is_err() {
                self.status = Some(StatusCode::SERVICE_UNAVAILABLE.as_u16());
            }
            stored
        } else {
            self.chain.store_later(event);
            Ok(())
        }
    }
}

impl Drop for AuditLine {
    fn drop(&mut self) {
        if self.status.is_none()
            && let Some(event) = self.event(CLIENT_GONE)
        {
            self.chain.store_later(event);
        }
        let Notes { patient, upload_id } = self.notes.read();
        let status = self.status.unwrap_or(CLIENT_GONE);
        self.audit.write(&Access {
            message: "access",
            request_id: self.request_id.map(|id| id.to_string()),
            client: self.client.as_ref().map(|client| &*client.name),
            role: self.client.as_ref().map(|client| client.role.name()),
            address: self.address,
            method: self.method.as_str(),
            route: &self.route,
            patient: patient.map(|mrn| self.audit.patient(mrn)),
            upload_id,
            id: self.id.as_deref(),
            status,
            outcome: outcome(status),
        });
    }
}

/// The patient or record that a path identifies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NamedInPath {
    pub(super) patient: Option<Mrn>,
    /// Id of a record, an upload or a dead letter. Invalid ids are omitted, because they could contain
    /// anything.
    pub(super) id: Option<String>,
}

pub(super) fn named_in_path(route: &str, name: &str, value: &str) -> NamedInPath {
    let patient = || value.parse::<Mrn>().ok();
    match name {
        // The legacy routes name the record number `id`.
        "mrn" => NamedInPath { patient: patient(), id: None },
        "id" if is_legacy(route) => NamedInPath { patient: patient(), id: None },
        "id" if route.starts_with("/api/v1/dead-letters/") => {
            NamedInPath { patient: None, id: value.parse::<u64>().ok().map(|id| id.to_string()) }
        }
        _ => NamedInPath { patient: None, id: value.parse::<RecordId>().ok().map(|id| id.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parameter_is_logged_only_if_it_is_a_valid_id() {
        let id = UploadId::generate().record("ecg", 0).to_string();
        let named = named_in_path("/api/v1/ecgs/{id}/plot", "id", &id);
        assert_eq!(named, NamedInPath { patient: None, id: Some(id) });
        let letter = named_in_path("/api/v1/dead-letters/{id}/retry", "id", "12");
        assert_eq!(letter, NamedInPath { patient: None, id: Some("12".to_owned()) });
        let patient = NamedInPath { patient: Mrn::new(7).ok(), id: None };
        assert_eq!(named_in_path("/api/get_patient/{id}", "id", " 7"), patient);
        assert_eq!(named_in_path("/api/v1/patients/{mrn}", "mrn", "7"), patient);
        for (route, name) in [("/api/v1/images/{id}", "id"), ("/api/v1/patients/{mrn}/ecgs", "mrn")] {
            assert_eq!(named_in_path(route, name, "Ann Uncommon"), NamedInPath::default());
        }
    }
}
