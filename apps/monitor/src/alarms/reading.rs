//! What the last strip of a patient says, and how severe that is.

use proto_json::{EcgQuality, EcgStatus, PatientSummary, RecordId, Timestamp, ValueTime};

use super::{Cause, Limits, Severity};

/// What a patient's last strip or report says.
pub(super) struct Reading {
    pub(super) id: RecordId,
    /// When it was recorded, if that is known.
    pub(super) at: Option<Timestamp>,
    pub(super) bpm: Option<u16>,
    why_none: &'static str,
}

/// What is wrong with a reading.
pub(super) struct Verdict {
    pub(super) cause: Cause,
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Reading {
    /// The latest one; `None` while it is not known.
    pub(super) fn of(patient: &PatientSummary, now: Timestamp) -> Option<Reading> {
        let recorded = |time| match time {
            ValueTime::Recorded(at) => Some(at),
            ValueTime::Received(_) | ValueTime::ClockWrong => None,
        };
        let rate = patient.latest_heart_rate.as_ref();
        if let Some(ecg) = &patient.latest_ecg
            && rate.is_none_or(|rate| ecg.is_after(rate))
        {
            let why_none = match (ecg.status, ecg.quality) {
                (EcgStatus::Failed, _) => "ECG unreadable",
                (EcgStatus::Analyzed, Some(EcgQuality::Unusable)) => "ECG unusable",
                (EcgStatus::Analyzed, _) if ecg.heart_rate.is_none() => "ECG without a rate",
                (EcgStatus::Analyzed, _) => "",
                (EcgStatus::Picture, _) => "",
                (EcgStatus::Pending, _) => return None,
            };
            if !why_none.is_empty() {
                return Some(Reading { id: ecg.id, at: recorded(ecg.time(now)), bpm: None, why_none });
            }
        }
        rate.map(|rate| Reading {
            id: rate.id,
            at: recorded(rate.time(now)),
            bpm: Some(rate.bpm.get()),
            why_none: "",
        })
    }

    /// What is wrong with it; `None` within the limits.
    pub(super) fn verdict(&self, limits: Limits) -> Option<Verdict> {
        let Some(bpm) = self.bpm else {
            let text = self.why_none.to_owned();
            return Some(Verdict { cause: Cause::NoRate, severity: Severity::Technical, text });
        };
        let severity = limits.severity(bpm)?;
        let is_high = severity == Severity::High;
        let (cause, sign, limit) = if bpm > limits.high() {
            (Cause::Fast, '>', if is_high { limits.extreme_high() } else { limits.high() })
        } else {
            (Cause::Slow, '<', if is_high { limits.extreme_low() } else { limits.low() })
        };
        Some(Verdict { cause, severity, text: format!("HR {bpm} {sign} {limit}") })
    }
}
