//! The severity of an alarm.

use proto_json::alarms::AlarmPriority;
use serde::{Deserialize, Serialize};

/// The severity of an alarm, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The system or the signal needs attention, not the patient. Cyan, does not flash.
    Technical,
    /// Yellow, does not flash.
    Low,
    /// Yellow, flashes at 0.6 Hz.
    Medium,
    /// Red, flashes at 2 Hz.
    High,
}

impl From<AlarmPriority> for Severity {
    fn from(priority: AlarmPriority) -> Self {
        match priority {
            AlarmPriority::Technical => Severity::Technical,
            AlarmPriority::Low => Severity::Low,
            AlarmPriority::Medium => Severity::Medium,
            AlarmPriority::High => Severity::High,
        }
    }
}
