//! The ward of each patient.

use std::collections::HashMap;

use http_server::internal::Actor;
use parking_lot::RwLock;
use proto_json::{Mrn, PatientSummary, WardId};
use store::{PatientReader, StoreError};

/// The wards of all admitted patients, as far as summaries and updates have been received. The limits of a patient follow from
/// them.
#[derive(Debug, Default)]
pub(crate) struct Wards(RwLock<HashMap<Mrn, WardId>>);

impl Wards {
    /// The ward of a patient.
    pub(crate) fn of(&self, mrn: Mrn) -> Option<WardId> {
        self.0.read().get(&mrn).copied()
    }

    /// Takes over the admission of a patient.
    pub(crate) fn note(&self, patient: &PatientSummary) {
        match &patient.admission {
            Some(admission) => self.0.write().insert(patient.mrn, admission.ward),
            None if self.0.read().contains_key(&patient.mrn) => self.0.write().remove(&patient.mrn),
            None => None,
        };
    }

    /// The patient does not exist any more.
    pub(crate) fn forget(&self, mrn: Mrn) {
        self.0.write().remove(&mrn);
    }
}

/// The ward of a patient as it is stored.
pub(crate) async fn stored(patients: &dyn PatientReader, mrn: Mrn) -> Result<Option<WardId>, StoreError> {
    let patient = patients.patient(mrn).await?;
    Ok(patient.and_then(|patient| patient.admission).map(|admission| admission.ward))
}

/// Whether a user may access a patient. It is decided by what is stored, because an update may be on its way.
pub(crate) async fn may_access(
    patients: &dyn PatientReader,
    actor: &Actor,
    mrn: Mrn,
) -> Result<bool, StoreError> {
    Ok(actor.may_access_anywhere(mrn) || actor.may_access(mrn, stored(patients, mrn).await?))
}
