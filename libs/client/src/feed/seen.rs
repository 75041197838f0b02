//! The versions of patients and alarms that a feed has reported already.

use std::collections::HashMap;

use proto_json::alarms::{Alarm, AlarmState};
use proto_json::{Mrn, PatientSummary, RecordId, Timestamp};

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

/// The alarms that a feed has reported already.
#[derive(Debug, Default)]
pub(super) struct SeenAlarms {
    open: Option<HashMap<RecordId, u64>>,
    /// Alarms that have ended: an earlier version that arrives late must not raise them again.
    ended: HashMap<RecordId, u64>,
}

/// The number of ended alarms that are remembered.
const MAX_ENDED: usize = 4096;

impl SeenAlarms {
    /// Replaces the open alarms by those of a snapshot. Returns whether anything has changed.
    pub(super) fn replace(&mut self, snapshot: &[Alarm]) -> bool {
        let open: HashMap<RecordId, u64> = snapshot.iter().map(|alarm| (alarm.id, alarm.version)).collect();
        let changed = self.open.as_ref() != Some(&open);
        for (id, version) in self.open.replace(open.clone()).unwrap_or_default() {
            if !open.contains_key(&id) {
                self.end(id, version);
            }
        }
        // The snapshot decides: after the store was restored from a backup, an ended alarm may be open again.
        self.ended.retain(|id, _| !open.contains_key(id));
        changed
    }

    /// Takes the version of an update. Returns whether it is newer than the reported one.
    pub(super) fn advance(&mut self, alarm: &Alarm) -> bool {
        let open = self.open.get_or_insert_default();
        let known = open.get(&alarm.id).max(self.ended.get(&alarm.id)).copied();
        if known.is_some_and(|version| version >= alarm.version) {
            return false;
        }
        if alarm.state == AlarmState::Ended {
            open.remove(&alarm.id);
            self.end(alarm.id, alarm.version);
        } else {
            open.insert(alarm.id, alarm.version);
            self.ended.remove(&alarm.id);
        }
        true
    }

    fn end(&mut self, id: RecordId, version: u64) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.clear();
        }
        self.ended.insert(id, version);
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
            admission: None,
            details: None,
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
    fn alarm(id: u128, version: u64, state: &str) -> Alarm {
        serde_json::from_value(serde_json::json!({
            "id": RecordId::from_uuid(uuid::Uuid::from_u128(id)), "mrn": 7, "rule": "asystole", "priority": "high",
            "state": state, "version": version, "text": "Asystole", "onset_at": "2026-01-01T00:00:00Z",
            "raised_at": "2026-01-01T00:00:04Z",
        }))
        .unwrap()
    }

    #[test]
    fn ended_alarm_is_not_raised_again_by_a_late_version() {
        let mut seen = SeenAlarms::default();
        assert!(seen.replace(&[]), "the first snapshot is always reported");
        assert!(seen.advance(&alarm(1, 1, "raised")));
        assert!(!seen.advance(&alarm(1, 1, "raised")));
        assert!(seen.advance(&alarm(1, 3, "ended")));
        assert!(!seen.advance(&alarm(1, 2, "latched")), "it arrives late");
        assert!(!seen.replace(&[]));
        assert!(!seen.advance(&alarm(1, 2, "latched")));

        assert!(seen.replace(&[alarm(2, 4, "raised")]));
        assert!(seen.replace(&[]), "it has ended unnoticed");
        assert!(!seen.advance(&alarm(2, 4, "raised")));
        assert!(seen.replace(&[alarm(2, 2, "raised")]), "the store was restored");
        assert!(seen.advance(&alarm(2, 3, "acknowledged")));
    }
}
