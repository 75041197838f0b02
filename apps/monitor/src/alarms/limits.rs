//! Limits of the heart rate that are drawn and compared on the screen.

use proto_json::alarms::AlarmLimits;

use super::severity::Severity;

/// The effective limits of the heart rate of a patient, in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rates below raise an alarm of medium severity.
    pub low: u16,
    /// Rates above raise an alarm of medium severity.
    pub high: u16,
    /// Rates below raise an alarm of high severity.
    pub critical_low: u16,
    /// Rates above raise an alarm of high severity.
    pub critical_high: u16,
}

impl Limits {
    /// The limits of the heart rate among effective limits. `None` if the server has sent incomplete ones.
    #[must_use]
    pub fn of(effective: &AlarmLimits) -> Option<Self> {
        Some(Limits {
            low: effective.heart_rate_low?,
            high: effective.heart_rate_high?,
            critical_low: effective.heart_rate_extreme_low?,
            critical_high: effective.heart_rate_extreme_high?,
        })
    }
}

/// How far a heart rate in the history is outside of the current limits. This colours lists and raises no alarm. `None` if it is
/// within the limits, or if they are not known.
#[must_use]
pub fn rate_severity(limits: Option<Limits>, bpm: u16) -> Option<Severity> {
    let limits = limits?;
    if bpm > limits.critical_high || bpm < limits.critical_low {
        Some(Severity::High)
    } else if bpm > limits.high || bpm < limits.low {
        Some(Severity::Medium)
    } else {
        None
    }
}
