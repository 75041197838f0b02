//! What is known of patients, ECGs and alarms, as it stands on the screen.

use std::time::Duration;

use proto_json::{
    EcgAnalysis, EcgQuality, EcgRecord, EcgStatus, HeartRateSource, ImageRecord, PatientSummary, Timestamp,
};
use ui::words;

use crate::age;
use crate::alarms::{Alarm, Limits, Severity};
use crate::window::{self, ChoiceData, TileData};

/// A patient's name, or words for having none.
#[must_use]
pub(crate) fn name(patient: &PatientSummary) -> String {
    patient.name.clone().unwrap_or_else(|| "No name given".to_owned())
}

/// The heart rate in digits.
#[must_use]
pub(crate) fn rate(patient: &PatientSummary) -> String {
    patient.latest_heart_rate.as_ref().map_or_else(|| "–".to_owned(), |rate| rate.bpm.to_string())
}

/// When the heart rate was recorded; while there is none, when the latest ECG was.
#[must_use]
pub(crate) fn value_at(patient: &PatientSummary) -> Option<Timestamp> {
    let rate = patient.latest_heart_rate.as_ref().map(|rate| rate.at);
    rate.or_else(|| patient.latest_ecg.as_ref().map(|ecg| ecg.at))
}

/// Whether what is shown is too old to look live.
#[must_use]
pub(crate) fn is_stale(patient: &PatientSummary, now: Timestamp, limit: Duration) -> bool {
    value_at(patient).is_some_and(|at| age::is_stale(at, now, limit))
}

/// The age of what a tile shows.
#[must_use]
pub(crate) fn short_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(at) = value_at(patient) else { return "no rate yet".to_owned() };
    let age = words::age(now.millis_since(at));
    if age::is_stale(at, now, limit) { format!("stale · {age}") } else { age }
}

/// The same in full.
#[must_use]
pub(crate) fn long_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(at) = value_at(patient) else { return String::new() };
    let age = match words::age(now.millis_since(at)) {
        now if now == "now" => now,
        age => format!("{age} ago"),
    };
    if age::is_stale(at, now, limit) { format!("stale: {age}") } else { age }
}

/// Where the heart rate comes from.
#[must_use]
pub(crate) fn source(patient: &PatientSummary) -> &'static str {
    match patient.latest_heart_rate.as_ref().map(|rate| rate.source) {
        Some(HeartRateSource::Ecg) => "measured from the last strip",
        Some(HeartRateSource::Reported) => "reported by the uploader",
        None => "No heart rate is known yet.",
    }
}

/// For the window.
#[must_use]
pub(crate) fn severity(severity: Option<Severity>) -> window::Severity {
    match severity {
        None => window::Severity::None,
        Some(Severity::Technical) => window::Severity::Technical,
        Some(Severity::Medium) => window::Severity::Medium,
        Some(Severity::High) => window::Severity::High,
    }
}

/// What became of an alarm, in a word or two; empty for one that nobody has touched.
#[must_use]
pub(crate) fn alarm_state(alarm: &Alarm, now: Timestamp) -> String {
    if alarm.is_acknowledged {
        "acknowledged".to_owned()
    } else if let Some(until) = alarm.silent_until.filter(|until| *until > now) {
        format!("silent {}", words::age(until.millis_since(now) + 999))
    } else if alarm.is_latched {
        "over".to_owned()
    } else {
        String::new()
    }
}

/// A tile without its picture.
#[must_use]
pub(crate) fn tile(
    patient: &PatientSummary,
    alarm: Option<&Alarm>,
    now: Timestamp,
    stale_after: Duration,
) -> TileData {
    let stale = is_stale(patient, now, stale_after);
    let (name, rate) = (name(patient), rate(patient));
    // On a tile the seconds of a silence would move all the time.
    let state = alarm.map_or_else(String::new, |alarm| {
        let state = alarm_state(alarm, now);
        match state.as_str() {
            "acknowledged" => "seen".to_owned(),
            silent if silent.starts_with("silent") => "silent".to_owned(),
            _ => state,
        }
    });
    let mut spoken = format!("{name}, MRN {}, heart rate {rate} bpm", patient.mrn);
    if stale {
        spoken.push_str(", stale");
    }
    if let Some(alarm) = alarm {
        spoken.push_str(&format!(", alarm {}", alarm.text));
        if !state.is_empty() {
            spoken.push_str(&format!(", {state}"));
        }
    }
    TileData {
        mrn: patient.mrn.to_string().into(),
        name: name.into(),
        rate: rate.into(),
        severity: severity(alarm.map(|alarm| alarm.severity)),
        alarm: alarm.map(|alarm| alarm.text.clone()).unwrap_or_default().into(),
        alarm_state: state.into(),
        flashes: alarm.is_some_and(|alarm| alarm.flashes(now)),
        stale,
        has_spark: false,
        spark: slint::Image::default(),
        spoken: spoken.into(),
    }
}

/// A patient in the list to choose from.
#[must_use]
pub(crate) fn patient_choice(patient: &PatientSummary, alarm: Option<&Alarm>) -> ChoiceData {
    let rate =
        patient.latest_heart_rate.as_ref().map(|rate| format!("{} bpm · ", rate.bpm)).unwrap_or_default();
    ChoiceData {
        key: patient.mrn.to_string().into(),
        title: name(patient).into(),
        detail: format!("{rate}MRN {}", patient.mrn).into(),
        severity: severity(alarm.map(|alarm| alarm.severity)),
    }
}

/// How good a signal is.
#[must_use]
pub(crate) fn quality(quality: EcgQuality) -> &'static str {
    match quality {
        EcgQuality::Good => "good signal",
        EcgQuality::Poor => "poor signal",
        EcgQuality::Unusable => "unusable signal",
    }
}

/// Heart rate or state of an ECG.
#[must_use]
pub(crate) fn ecg_state(record: &EcgRecord) -> String {
    match (record.status, record.heart_rate) {
        (_, Some(rate)) => format!("{rate} bpm"),
        (EcgStatus::Pending, _) => "being analysed".to_owned(),
        (EcgStatus::Failed, _) => "not readable".to_owned(),
        (EcgStatus::Analyzed, _) => "no heart rate".to_owned(),
        (EcgStatus::Picture, _) => "picture".to_owned(),
    }
}

/// An ECG in the list to choose from.
#[must_use]
pub(crate) fn ecg_choice(record: &EcgRecord, limits: Limits, now: Timestamp) -> ChoiceData {
    let mut detail = ecg_state(record);
    if let Some(analysis) = &record.analysis {
        detail.push_str(" · ");
        detail.push_str(quality(analysis.quality));
    }
    let of_rate = record.heart_rate.and_then(|rate| {
        let bpm = rate.get();
        if bpm > limits.extreme_high() || bpm < limits.extreme_low() {
            Some(Severity::High)
        } else if bpm > limits.high() || bpm < limits.low() {
            Some(Severity::Medium)
        } else {
            None
        }
    });
    let technical = record.status == EcgStatus::Failed
        || record.status == EcgStatus::Analyzed && record.heart_rate.is_none();
    ChoiceData {
        key: record.id.to_string().into(),
        title: words::clock_or_date(record.at, now).into(),
        detail: detail.into(),
        severity: severity(of_rate.or(technical.then_some(Severity::Technical))),
    }
}

/// An image in the list to choose from.
#[must_use]
pub(crate) fn image_choice(record: &ImageRecord, now: Timestamp) -> ChoiceData {
    ChoiceData {
        key: record.id.to_string().into(),
        title: words::clock_or_date(record.at, now).into(),
        detail: record.file.file_name.clone().unwrap_or_else(|| words::bytes(record.file.bytes)).into(),
        severity: window::Severity::None,
    }
}

/// What the analysis of the last strip found: one line each.
#[must_use]
pub(crate) fn findings(analysis: &EcgAnalysis) -> String {
    let mut lines = Vec::new();
    let lead = analysis.lead.as_ref().map(|lead| format!("lead {lead}, ")).unwrap_or_default();
    lines.push(format!(
        "{}: {lead}{}, {}",
        words::duration(analysis.duration_s),
        quality(analysis.quality),
        words::count(analysis.beat_count, "beat", "beats")
    ));
    if let Some(rate) = &analysis.heart_rate {
        lines.push(format!("{:.0} to {:.0} bpm within the strip", rate.min_bpm, rate.max_bpm));
    }
    if let Some(rr) = &analysis.rr {
        lines.push(format!("RR {:.0} ms (median), SDNN {:.0} ms", rr.median_ms, rr.sdnn_ms));
    }
    lines.extend(analysis.no_heart_rate_reason.iter().cloned());
    lines.extend(analysis.notes.iter().map(|note| note.message.clone()));
    lines.extend(analysis.warnings.iter().take(3).map(|warning| warning.message.clone()));
    lines.join("\n")
}

/// Limits in a line.
#[must_use]
pub(crate) fn limits(limits: Limits, is_own: bool) -> String {
    format!(
        "Alarm limits {} to {} bpm, extreme {} and {} ({})",
        limits.low(),
        limits.high(),
        limits.extreme_low(),
        limits.extreme_high(),
        if is_own { "of this patient" } else { "usual" }
    )
}
