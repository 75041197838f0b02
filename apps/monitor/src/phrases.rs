//! What is known of patients, ECGs and alarms, as it stands on the screen.

use std::time::Duration;

use proto_json::{
    CLOCK_TOLERANCE_MS, DamagedRecord, EcgAnalysis, EcgQuality, EcgRecord, EcgStatus, HeartRateSource,
    ImageRecord, NameChange, PatientSummary, Timestamp, ValueTime,
};
use ui::format;

use crate::age;
use crate::alarms::{Alarm, Limits, Severity};
use crate::window::{self, ChoiceData, TileData};

/// Characters of a file name in a list.
pub(crate) const LONGEST_FILE_NAME: usize = 28;

/// A caption in two lines: the time, and below it the rest.
#[must_use]
pub(crate) fn two_lines(caption: &str) -> String {
    caption.replacen(" · ", "\n", 1)
}

/// A patient's name, or words for having none.
#[must_use]
pub(crate) fn name(patient: &PatientSummary) -> String {
    patient.name.clone().unwrap_or_else(|| "No name given".to_owned())
}

/// How long a station shows that a name was replaced without a question.
const RENAME_NOTICE_MS: i64 = 24 * 3_600_000;

/// The name that was replaced without a question in the last 24 hours, and when.
fn unconfirmed_rename(patient: &PatientSummary, now: Timestamp) -> Option<&NameChange> {
    let change = patient.renamed.as_ref().filter(|change| !change.confirmed)?;
    (now.millis_since(change.at) < RENAME_NOTICE_MS).then_some(change)
}

/// Says that a name was replaced without a question; empty if none was.
#[must_use]
pub(crate) fn rename_notice(patient: &PatientSummary, now: Timestamp) -> String {
    unconfirmed_rename(patient, now).map_or_else(String::new, |change| {
        let since = format::time_or_date(change.at, now);
        format!("Until {since}: {}.\nNobody confirmed the new name.", change.from)
    })
}

/// The heart rate in digits.
#[must_use]
pub(crate) fn rate(patient: &PatientSummary) -> String {
    patient.latest_heart_rate.as_ref().map_or_else(|| "–".to_owned(), |rate| rate.bpm.to_string())
}

/// What is shown where the age of a value cannot be told.
const CLOCK_WRONG: &str = "clock wrong";

/// When the heart rate is from; while there is none, when the latest ECG is.
#[must_use]
pub(crate) fn value_time(patient: &PatientSummary, now: Timestamp) -> Option<ValueTime> {
    let rate = patient.latest_heart_rate.as_ref().map(|rate| rate.time(now));
    rate.or_else(|| patient.latest_ecg.as_ref().map(|ecg| ecg.time(now)))
}

/// Whether what is shown is too old to look live, or of an age that nobody can tell.
#[must_use]
pub(crate) fn is_stale(patient: &PatientSummary, now: Timestamp, limit: Duration) -> bool {
    value_time(patient, now).is_some_and(|time| is_time_stale(time, now, limit))
}

fn is_time_stale(time: ValueTime, now: Timestamp, limit: Duration) -> bool {
    match time {
        ValueTime::Recorded(at) | ValueTime::Received(at) => age::is_stale(at, now, limit),
        ValueTime::ClockWrong => true,
    }
}

/// The age of what a tile shows; where the time of recording is not known, when it was received: its age may be any.
#[must_use]
pub(crate) fn short_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(time) = value_time(patient, now) else { return "no rate yet".to_owned() };
    let age = match time {
        ValueTime::Recorded(at) => format::age(now.millis_since(at)),
        ValueTime::Received(at) => format!("received {}", format::minute_or_date(at, now)),
        ValueTime::ClockWrong => return CLOCK_WRONG.to_owned(),
    };
    if is_time_stale(time, now, limit) { format!("stale · {age}") } else { age }
}

/// The same in full.
#[must_use]
pub(crate) fn long_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(time) = value_time(patient, now) else { return String::new() };
    let age = match time {
        ValueTime::Recorded(at) => ago(at, now),
        ValueTime::Received(at) => format!("received {}; when it was recorded is not known", ago(at, now)),
        ValueTime::ClockWrong => {
            return "clock wrong: the time of this value was in the future, so nobody can tell its age"
                .to_owned();
        }
    };
    if is_time_stale(time, now, limit) { format!("stale: {age}") } else { age }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match format::age(now.millis_since(at)) {
        now if now == "now" => now,
        age => format!("{age} ago"),
    }
}

/// When a value is from, as a title; says so where that is the time of receipt, or wrong.
#[must_use]
pub(crate) fn when(time: ValueTime, now: Timestamp) -> String {
    match time {
        ValueTime::Recorded(at) => format::time_or_date(at, now),
        ValueTime::Received(at) => format!("received {}", format::time_or_date(at, now)),
        ValueTime::ClockWrong => CLOCK_WRONG.to_owned(),
    }
}

/// An alarm of the station: what is wrong with the clock of the server or of this computer. `problem` is what the server says
/// of its own clock; `ahead_ms` is by how much it is ahead of this computer's.
#[must_use]
pub(crate) fn clock_alarm(problem: Option<&str>, ahead_ms: Option<i64>) -> Option<String> {
    if let Some(problem) = problem {
        return Some(format!("Clock wrong. {problem}"));
    }
    let ahead = ahead_ms.filter(|ahead| ahead.abs() > CLOCK_TOLERANCE_MS)?;
    let off = format::age(ahead.abs());
    let direction = if ahead > 0 { "behind" } else { "ahead of" };
    Some(format!(
        "This station's clock is {off} {direction} the server's. All times shown are by the server's clock."
    ))
}

/// An alarm of the station: records are damaged and missing from what is shown.
#[must_use]
pub(crate) fn damage_alarm<'a>(mut records: impl Iterator<Item = &'a DamagedRecord>) -> Option<String> {
    let first = records.next()?;
    let others = match records.count() {
        0 => String::new(),
        1 => " and one more".to_owned(),
        others => format!(" and {others} more"),
    };
    let (kind, key) = (first.kind.name(), &first.key);
    Some(format!("Stored data is damaged and not shown: {kind} ({key}){others}. Restore a backup."))
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

/// How severe the heart rate on the screen is, whatever the alarm.
#[must_use]
pub(crate) fn rate_severity(patient: &PatientSummary, limits: Limits) -> window::Severity {
    severity(patient.latest_heart_rate.as_ref().and_then(|rate| limits.severity(rate.bpm.get())))
}

/// When the reason of an alarm is from, if that is not the last strip.
fn reason_time(alarm: &Alarm, now: Timestamp) -> Option<String> {
    alarm.is_reason_past().then(|| match alarm.worst_at() {
        Some(at) => format!("at {}", format::time_or_date(at, now)),
        None => format!("raised {}", format::time_or_date(alarm.since, now)),
    })
}

/// What became of an alarm: when its reason was recorded if that is past, whether it has ended, was acknowledged or is
/// silenced. Empty for a new alarm whose reason is the last strip.
#[must_use]
pub(crate) fn alarm_state(alarm: &Alarm, now: Timestamp) -> String {
    let mut parts = Vec::new();
    parts.extend(reason_time(alarm, now));
    if alarm.is_latched {
        parts.push("ended".to_owned());
    } else if let Some(text) = alarm.less_severe_now() {
        parts.push(format!("now {text}"));
    }
    if alarm.is_acknowledged {
        parts.push("acknowledged".to_owned());
    } else if let Some(until) = alarm.silent_until.filter(|until| *until > now) {
        parts.push(format!("silent {}", format::age(until.millis_since(now) + 999)));
    }
    parts.join(" · ")
}

/// The same in one word, for a tile. It has no seconds, which would change all the time.
#[must_use]
fn short_alarm_state(alarm: &Alarm, now: Timestamp) -> &'static str {
    if alarm.is_acknowledged {
        "seen"
    } else if alarm.is_silent(now) {
        "silent"
    } else if alarm.is_latched {
        "ended"
    } else if alarm.less_severe_now().is_some() {
        "earlier"
    } else {
        ""
    }
}

/// A tile without its picture.
#[must_use]
pub(crate) fn tile(
    patient: &PatientSummary,
    alarm: Option<&Alarm>,
    limits: Limits,
    now: Timestamp,
    stale_after: Duration,
) -> TileData {
    let stale = is_stale(patient, now, stale_after);
    let (mut name, rate) = (name(patient), rate(patient));
    if let Some(change) = unconfirmed_rename(patient, now) {
        name = format!("{name} (was {})", change.from);
    }
    let state = alarm.map_or("", |alarm| short_alarm_state(alarm, now));
    let mut spoken = format!("{name}, MRN {}, heart rate {rate} bpm", patient.mrn);
    if stale {
        spoken.push_str(", stale");
    }
    match value_time(patient, now) {
        Some(ValueTime::Received(at)) => {
            spoken.push_str(&format!(", received {}", format::time_or_date(at, now)));
        }
        Some(ValueTime::ClockWrong) => spoken.push_str(", clock wrong"),
        Some(ValueTime::Recorded(_)) | None => {}
    }
    if let Some(alarm) = alarm {
        spoken.push_str(&format!(", alarm {}", alarm.reason()));
        if let Some(time) = reason_time(alarm, now) {
            spoken.push_str(&format!(" {time}"));
        }
        if !state.is_empty() {
            spoken.push_str(&format!(", {state}"));
        }
    }
    TileData {
        mrn: patient.mrn.to_string().into(),
        name: name.into(),
        rate: rate.into(),
        rate_severity: rate_severity(patient, limits),
        severity: severity(alarm.map(|alarm| alarm.severity)),
        alarm: alarm.map(Alarm::reason).unwrap_or_default().into(),
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
    let of_rate = record.heart_rate.and_then(|rate| limits.severity(rate.get()));
    let technical = record.status == EcgStatus::Failed
        || record.status == EcgStatus::Analyzed && record.heart_rate.is_none();
    ChoiceData {
        key: record.id.to_string().into(),
        title: when(record.time(now), now).into(),
        detail: detail.into(),
        severity: severity(of_rate.or(technical.then_some(Severity::Technical))),
    }
}

/// An image in the list to choose from.
#[must_use]
pub(crate) fn image_choice(record: &ImageRecord, now: Timestamp) -> ChoiceData {
    ChoiceData {
        key: record.id.to_string().into(),
        title: when(record.time(now), now).into(),
        detail: record
            .file
            .file_name
            .as_deref()
            .map_or_else(|| format::bytes(record.file.bytes), |name| format::elided(name, LONGEST_FILE_NAME))
            .into(),
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
        format::duration(analysis.duration_s),
        quality(analysis.quality),
        format::count(analysis.beat_count, "beat", "beats")
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
