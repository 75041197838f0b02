//! The patient versions that a feed has reported already.

use std::collections::HashMap;

use proto_json::{Mrn, PatientSummary, Timestamp};

/// Reported version and time of change of each patient.
#[derive(Debug, Default)]
pub(super) struct SeenVersions {
    patients: Option<HashMap<Mrn, (u64, Timestamp)>>,
}

impl SeenVersions {
    /// Replaces all versions by those of a snapshot. Returns whether anything has changed.
    ///
    /// The snapshot replaces newer versions, too: after the store was restored from a backup, updates would otherwise never be
    /// newer.
    pub(super) fn replace(&mut self, snapshot: &[PatientSummary]) -> bool {
        let patients =
            snapshot.iter().map(|patient| (patient.mrn, (patient.version, patient.updated_at))).collect();
        let new = self.patients.as_ref() != Some(&patients);
        self.patients = Some(patients);
        new
    }

    /// Takes the version of an update. Returns whether it is newer than the reported one.
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
        let mut seen = SeenVersions::default();
        assert!(seen.replace(&[]), "the first snapshot is always reported");
        assert!(!seen.replace(&[]));
        assert!(seen.replace(&[patient(1, 5)]));
        assert!(!seen.advance(&patient(1, 5)));
        assert!(!seen.advance(&patient(1, 4)));
        assert!(seen.advance(&patient(1, 6)));
        assert!(seen.advance(&patient(2, 1)), "a new patient");
        assert!(!seen.replace(&[patient(2, 1), patient(1, 6)]), "the same versions");
        assert!(seen.replace(&[patient(1, 2)]), "the store was restored");
        assert!(seen.advance(&patient(1, 3)));
    }
}
