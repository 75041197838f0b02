//! What the reader of a feed was told already.

use std::collections::HashMap;

use proto_json::{Mrn, PatientSummary, Timestamp};

/// Version and time of change of each patient, as told.
#[derive(Debug, Default)]
pub(super) struct Known {
    patients: Option<HashMap<Mrn, (u64, Timestamp)>>,
}

impl Known {
    /// Takes a snapshot over. `false`: it says nothing new.
    ///
    /// The snapshot decides, also where it is older: the store may have been put back, and then nothing else would
    /// ever be newer again.
    pub(super) fn replace(&mut self, snapshot: &[PatientSummary]) -> bool {
        let patients =
            snapshot.iter().map(|patient| (patient.mrn, (patient.version, patient.updated_at))).collect();
        let new = self.patients.as_ref() != Some(&patients);
        self.patients = Some(patients);
        new
    }

    /// Takes an announced patient over. `false`: it is not newer than what was told.
    pub(super) fn advance(&mut self, patient: &PatientSummary) -> bool {
        let patients = self.patients.get_or_insert_default();
        if patients.get(&patient.mrn).is_some_and(|(version, _)| *version >= patient.version) {
            return false;
        }
        patients.insert(patient.mrn, (patient.version, patient.updated_at));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(mrn: u64, version: u64) -> PatientSummary {
        let at = Timestamp::from_millis(version as i64).unwrap();
        PatientSummary {
            mrn: Mrn::new(mrn).unwrap(),
            name: None,
            renamed: None,
            version,
            created_at: at,
            updated_at: at,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
        }
    }

    #[test]
    fn only_higher_versions_pass_and_a_snapshot_decides() {
        let mut known = Known::default();
        assert!(known.replace(&[]), "the first snapshot is always told");
        assert!(!known.replace(&[]));
        assert!(known.replace(&[patient(1, 5)]));
        assert!(!known.advance(&patient(1, 5)));
        assert!(!known.advance(&patient(1, 4)));
        assert!(known.advance(&patient(1, 6)));
        assert!(known.advance(&patient(2, 1)), "a patient nobody knew");
        assert!(!known.replace(&[patient(2, 1), patient(1, 6)]), "nothing new in it");
        assert!(known.replace(&[patient(1, 2)]), "the store was put back");
        assert!(known.advance(&patient(1, 3)));
    }
}
