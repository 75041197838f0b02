//! The condition that raises an alarm, derived from the latest reading of a patient.

use proto_json::{EcgQuality, EcgStatus, PatientSummary, RecordId, Timestamp, ValueTime};
use serde::{Deserialize, Serialize};
use ui::untranslated;

use super::limits::Limits;
use super::severity::Severity;

/// The cause of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The heart rate of the latest strip is above a limit.
    Fast,
    /// The heart rate of the latest strip is below a limit.
    Slow,
    /// The latest strip has no heart rate.
    NoRate,
}

/// The latest strip or reported heart rate of a patient.
pub(super) struct Reading {
    pub(super) id: RecordId,
    /// When it was recorded, if that is known.
    pub(super) recorded_at: Option<Timestamp>,
    /// The heart rate, or the reason why there is none.
    rate: Result<u16, &'static str>,
}

/// A reading outside the limits.
pub(super) struct Condition {
    pub(super) cause: Cause,
    pub(super) severity: Severity,
    /// For example `HR 134 > 120`.
    pub(super) text: String,
}

impl Reading {
    /// The latest reading. `None` if there is none, or if its analysis is still pending.
    pub(super) fn latest(patient: &PatientSummary, now: Timestamp) -> Option<Reading> {
        let recorded_at = |time| match time {
            ValueTime::Recorded(at) => Some(at),
            ValueTime::Received(_) | ValueTime::ClockWrong => None,
        };
        let rate = patient.latest_heart_rate.as_ref();
        if let Some(ecg) = &patient.latest_ecg
            && rate.is_none_or(|rate| ecg.is_after(rate))
        {
            let failure = match (ecg.status, ecg.quality) {
                (EcgStatus::Pending, _) => return None,
                (EcgStatus::Failed, _) => Some(untranslated!("ECG unreadable")),
                (EcgStatus::Analyzed, Some(EcgQuality::Unusable)) => Some(untranslated!("ECG unusable")),
                (EcgStatus::Analyzed, _) if ecg.heart_rate.is_none() => {
                    Some(untranslated!("ECG without a rate"))
                }
                (EcgStatus::Analyzed | EcgStatus::Picture, _) => None,
            };
            if let Some(failure) = failure {
                let recorded_at = recorded_at(ecg.time(now));
                return Some(Reading { id: ecg.id, recorded_at, rate: Err(failure) });
            }
        }
        rate.map(|rate| Reading {
            id: rate.id,
            recorded_at: recorded_at(rate.time(now)),
            rate: Ok(rate.bpm.get()),
        })
    }

    /// The heart rate in beats per minute, if there is one.
    pub(super) fn bpm(&self) -> Option<u16> {
        self.rate.ok()
    }

    /// Compares the reading with the limits. `None` if it is within the limits.
    pub(super) fn condition(&self, limits: Limits) -> Option<Condition> {
        let bpm = match self.rate {
            Ok(bpm) => bpm,
            Err(failure) => {
                let text = failure.to_owned();
                return Some(Condition { cause: Cause::NoRate, severity: Severity::Technical, text });
            }
        };
        let severity = limits.severity(bpm)?;
        let is_high = severity == Severity::High;
        let (cause, sign, limit) = if bpm > limits.high() {
            (Cause::Fast, '>', if is_high { limits.critical_high() } else { limits.high() })
        } else {
            (Cause::Slow, '<', if is_high { limits.critical_low() } else { limits.low() })
        };
        Some(Condition { cause, severity, text: format!("HR {bpm} {sign} {limit}") })
    }
}
