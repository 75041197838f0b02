//! What the last strip of a patient says, and what to think of it.

use proto_json::{EcgQuality, EcgStatus, PatientSummary, RecordId};

use super::{Cause, Limits, Severity};

/// What a patient's last strip or report says.
pub(super) struct Reading {
    pub(super) id: RecordId,
    bpm: Option<u16>,
    why_none: &'static str,
}

impl Reading {
    /// The latest one; `None` while it is not known.
    pub(super) fn of(patient: &PatientSummary) -> Option<Reading> {
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
                return Some(Reading { id: ecg.id, bpm: None, why_none });
            }
        }
        rate.map(|rate| Reading { id: rate.id, bpm: Some(rate.bpm.get()), why_none: "" })
    }

    pub(super) fn verdict(&self, limits: Limits) -> Option<(Cause, Severity, String)> {
        let Some(bpm) = self.bpm else {
            return Some((Cause::NoRate, Severity::Technical, self.why_none.to_owned()));
        };
        let fast = |limit: u16, severity| (Cause::Fast, severity, format!("HR {bpm} > {limit}"));
        let slow = |limit: u16, severity| (Cause::Slow, severity, format!("HR {bpm} < {limit}"));
        if bpm > limits.extreme_high() {
            Some(fast(limits.extreme_high(), Severity::High))
        } else if bpm < limits.extreme_low() {
            Some(slow(limits.extreme_low(), Severity::High))
        } else if bpm > limits.high() {
            Some(fast(limits.high(), Severity::Medium))
        } else if bpm < limits.low() {
            Some(slow(limits.low(), Severity::Medium))
        } else {
            None
        }
    }
}
