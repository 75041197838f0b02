//! Published changes that do not concern the summary of one patient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarms::{AlarmUpdated, LimitScope};
use crate::ids::Mrn;

/// A published change. It is delivered at most once; a subscriber that misses one loads the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SystemEvent {
    /// An alarm has changed.
    Alarm(Box<AlarmUpdated>),
    /// Limits have changed: load them again.
    Limits {
        /// What they apply to.
        scope: LimitScope,
    },
    /// Wards or beds have changed: load them again.
    Wards,
    /// A patient was merged, erased or corrected beyond its summary: load the patient again, or remove it if it does not
    /// exist any more.
    Patient {
        /// The patient.
        mrn: Mrn,
    },
}

impl SystemEvent {
    /// Returns the subject on which the event is published.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            SystemEvent::Alarm(update) => format!("alarm.{}", update.alarm.mrn),
            SystemEvent::Limits { .. } => "system.limits".to_owned(),
            SystemEvent::Wards => "system.wards".to_owned(),
            SystemEvent::Patient { .. } => "system.patient".to_owned(),
        }
    }

    /// The subjects of all events.
    pub const SUBJECTS: [&'static str; 2] = ["alarm.*", "system.*"];
}
