//! Requests about wards, admissions and details.

use client::ClientError;
use proto_json::Mrn;
use proto_json::PatientSummary;
use proto_json::wards::{AdmitRequest, DetailsUpdate, DischargeRequest, TransferRequest};

use super::{Backend, BackendEvent};

/// A change of where a patient is, or of the details of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CareChange {
    Admit(AdmitRequest),
    Transfer(TransferRequest),
    Discharge(DischargeRequest),
    Details(DetailsUpdate),
}

/// The result of a change: the patient after it, or why nothing was changed, in one sentence.
pub(crate) type CareResult = Result<Box<PatientSummary>, String>;

impl Backend {
    /// Loads all wards. Without a connection, nothing happens: the wards are loaded when there is one.
    pub(crate) fn load_wards(&self) {
        let Some(gateway) = self.gateway.clone() else { return };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let wards = gateway.wards().await.map(|page| page.items).map_err(|error| error.to_string());
            events.send(BackendEvent::Wards(wards));
        });
    }

    /// Changes a patient. Returns `false` if there is no connection.
    pub(crate) fn change_care(&self, mrn: Mrn, change: CareChange) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let changed = match &change {
                CareChange::Admit(request) => gateway.admit(mrn, request).await,
                CareChange::Transfer(request) => gateway.transfer(mrn, request).await,
                CareChange::Discharge(request) => gateway.discharge(mrn, request).await,
                CareChange::Details(update) => gateway.change_details(mrn, update).await,
            };
            let changed = changed.map(Box::new).map_err(|error: ClientError| error.to_string());
            events.send(BackendEvent::CareChanged(mrn, change, changed));
        });
        true
    }
}
