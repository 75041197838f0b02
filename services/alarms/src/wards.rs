//! The ward of each patient, as far as summaries of patients state it.

use std::collections::HashMap;

use parking_lot::RwLock;
use proto_json::WardId;
use proto_json::{Mrn, PatientSummary, Timestamp};

/// The wards of all admitted patients.
#[derive(Debug, Default)]
pub(crate) struct Wards(RwLock<HashMap<Mrn, WardId>>);

impl Wards {
    /// The ward of a patient.
    pub(crate) fn of(&self, mrn: Mrn) -> Option<WardId> {
        self.0.read().get(&mrn).copied()
    }

    /// Takes over the admission of a patient: ward and time. `None` if the patient is not admitted.
    pub(crate) fn note(&self, mrn: Mrn, admission: Option<(WardId, Timestamp)>) {
        match admission {
            Some((ward, _)) => self.0.write().insert(mrn, ward),
            None if self.0.read().contains_key(&mrn) => self.0.write().remove(&mrn),
            None => None,
        };
    }
}

/// Ward and time of the admission of a patient.
pub(crate) fn admission(patient: &PatientSummary) -> Option<(WardId, Timestamp)> {
    patient.admission.as_ref().map(|admission| (admission.ward, admission.admitted_at))
}
