//! The texts about patients, ECGs and alarms on the screen.

use std::time::Duration;

use proto_json::{
    CLOCK_TOLERANCE_MS, DamagedRecord, EcgAnalysis, EcgBeatCounts, EcgBeatType, EcgQuality, EcgRecord,
    EcgStatus, HeartRateSource, ImageRecord, NameChange, PatientSummary, Timestamp, ValueTime,
};
use ui::rhythm::{named_intervals, rhythm_name};
use ui::{Caption, format, tr};

use crate::alarms::{Alarm, AlarmEvent, Limits, Severity};
use crate::overview::SplitName;
use crate::paged_list::{Entry, PagedList};
use crate::patient::FrozenEcg;
use crate::window::{self, NameData, OptionData, TileData};

/// The maximum number of findings of the rhythm that are listed with their evidence.
const MAX_FINDINGS: usize = 5;

/// The maximum number of characters of a file name in a list.
const MAX_FILE_NAME: usize = 28;

/// A caption in two lines: the time, and below it the rest.
#[must_use]
pub(crate) fn two_lines(caption: &str) -> String {
    caption.replacen(" · ", "\n", 1)
}

/// The name of a patient, or a text that there is none.
#[must_use]
pub(crate) fn name(patient: &PatientSummary) -> String {
    patient.name.clone().unwrap_or_else(|| tr!("No name given").to_owned())
}

/// A text that is shortened after its beginning, if it is shortened.
#[must_use]
pub(crate) fn plain_name(text: &str) -> NameData {
    NameData { full: text.into(), start: text.into(), end: "".into() }
}

/// The name of a patient for the window. `split` is the name, split where it differs from similar names.
#[must_use]
pub(crate) fn name_data(patient: &PatientSummary, split: SplitName) -> NameData {
    let full = name(patient);
    if split.end.is_empty() {
        plain_name(&full)
    } else {
        NameData { full: full.into(), start: split.start.into(), end: split.end.into() }
    }
}

/// The time for which the notice of an unconfirmed renaming is shown.
const RENAME_NOTICE_MS: i64 = 24 * 3_600_000;

/// The unconfirmed renaming of the last 24 hours.
fn unconfirmed_rename(patient: &PatientSummary, now: Timestamp) -> Option<&NameChange> {
    let change = patient.renamed.as_ref().filter(|change| !change.confirmed)?;
    (now.millis_since(change.at) < RENAME_NOTICE_MS).then_some(change)
}

/// The notice of an unconfirmed renaming. Empty if there was none.
#[must_use]
pub(crate) fn rename_notice(patient: &PatientSummary, now: Timestamp) -> String {
    unconfirmed_rename(patient, now).map_or_else(String::new, |change| {
        let since = format::time_or_date(change.at, now);
        tr!("Until {}: {}.\nNobody confirmed the new name.", since, change.from)
    })
}

/// The heart rate without its unit. A dash if there is none.
#[must_use]
pub(crate) fn rate(patient: &PatientSummary) -> String {
    patient.latest_heart_rate.as_ref().map_or_else(|| "–".to_owned(), |rate| rate.bpm.to_string())
}

/// Shown instead of the age of a value with a time in the future.
fn clock_wrong() -> String {
    tr!("clock wrong").to_owned()
}

/// The time of the heart rate, or of the latest ECG if there is no heart rate.
#[must_use]
pub(crate) fn value_time(patient: &PatientSummary, now: Timestamp) -> Option<ValueTime> {
    let rate = patient.latest_heart_rate.as_ref().map(|rate| rate.time(now));
    rate.or_else(|| patient.latest_ecg.as_ref().map(|ecg| ecg.time(now)))
}

/// Whether the shown value is stale. A value of unknown age is stale.
#[must_use]
pub(crate) fn is_stale(patient: &PatientSummary, now: Timestamp, limit: Duration) -> bool {
    value_time(patient, now).is_some_and(|time| is_time_stale(time, now, limit))
}

fn is_time_stale(time: ValueTime, now: Timestamp, limit: Duration) -> bool {
    match time {
        ValueTime::Recorded(at) | ValueTime::Received(at) => is_older_than(at, now, limit),
        ValueTime::ClockWrong => true,
    }
}

/// Whether a time is older than the limit. A time in the future is not.
fn is_older_than(at: Timestamp, now: Timestamp, limit: Duration) -> bool {
    u128::try_from(now.millis_since(at)).is_ok_and(|age| age > limit.as_millis())
}

/// The age of the value on a tile. If the time of recording is not known, the time of receipt instead of an age.
#[must_use]
pub(crate) fn short_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(time) = value_time(patient, now) else { return tr!("no rate yet").to_owned() };
    let age = match time {
        ValueTime::Recorded(at) => format::age(now.millis_since(at)),
        ValueTime::Received(at) => tr!("received {}", format::minute_or_date(at, now)),
        ValueTime::ClockWrong => return clock_wrong(),
    };
    if is_time_stale(time, now, limit) { tr!("stale · {}", age) } else { age }
}

/// The age of the value on the patient page.
#[must_use]
pub(crate) fn long_age(patient: &PatientSummary, now: Timestamp, limit: Duration) -> String {
    let Some(time) = value_time(patient, now) else { return String::new() };
    let age = match time {
        ValueTime::Recorded(at) => ago(at, now),
        ValueTime::Received(at) => tr!("received {}; the time of recording is not known", ago(at, now)),
        ValueTime::ClockWrong => {
            return tr!("clock wrong: the time of this value was in the future, so its age is not known")
                .to_owned();
        }
    };
    if is_time_stale(time, now, limit) { tr!("stale: {}", age) } else { age }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let age = format::age(now.millis_since(at));
    if now.millis_since(at) < 1000 { age } else { tr!("{} ago", age) }
}

/// The time of a value as a title. Marks the time of receipt and a wrong clock.
#[must_use]
pub(crate) fn when(time: ValueTime, now: Timestamp) -> String {
    match time {
        ValueTime::Recorded(at) => format::time_or_date(at, now),
        ValueTime::Received(at) => tr!("received {}", format::time_or_date(at, now)),
        ValueTime::ClockWrong => clock_wrong(),
    }
}

/// The technical alarm about a wrong clock. `problem` is the problem that the server reports about its own clock. `ahead_ms` is
/// how much that clock is ahead of the clock of this computer.
#[must_use]
pub(crate) fn clock_alarm(problem: Option<&str>, ahead_ms: Option<i64>) -> Option<String> {
    if let Some(problem) = problem {
        return Some(tr!("Clock wrong. {}", problem));
    }
    let ahead = ahead_ms.filter(|ahead| ahead.abs() > CLOCK_TOLERANCE_MS)?;
    let off = format::age(ahead.abs());
    Some(if ahead > 0 {
        tr!("This station's clock is {} behind the server's. All times shown are by the server's clock.", off)
    } else {
        tr!(
            "This station's clock is {} ahead of the server's. All times shown are by the server's clock.",
            off
        )
    })
}

/// The technical alarm about damaged records, which cannot be shown.
#[must_use]
pub(crate) fn damage_alarm<'a>(mut records: impl Iterator<Item = &'a DamagedRecord>) -> Option<String> {
    let first = records.next()?;
    let others = match records.count() {
        0 => String::new(),
        1 => tr!(" and one more").to_owned(),
        others => tr!(" and {} more", others),
    };
    let (kind, key) = (first.kind.name(), &first.key);
    Some(tr!("Stored data is damaged and not shown: {} ({}){}. Restore a backup.", kind, key, others))
}

/// The source of the heart rate.
#[must_use]
pub(crate) fn source(patient: &PatientSummary) -> &'static str {
    match patient.latest_heart_rate.as_ref().map(|rate| rate.source) {
        Some(HeartRateSource::Ecg) => tr!("measured from the latest strip"),
        Some(HeartRateSource::Reported) => tr!("reported by the uploader"),
        None => tr!("There is no heart rate yet."),
    }
}

/// Converts a severity for the window.
#[must_use]
pub(crate) fn severity(severity: Option<Severity>) -> window::Severity {
    match severity {
        None => window::Severity::None,
        Some(Severity::Technical) => window::Severity::Technical,
        Some(Severity::Medium) => window::Severity::Medium,
        Some(Severity::High) => window::Severity::High,
    }
}

/// The severity of the shown heart rate. It may differ from that of the alarm.
#[must_use]
pub(crate) fn rate_severity(patient: &PatientSummary, limits: Limits) -> window::Severity {
    severity(patient.latest_heart_rate.as_ref().and_then(|rate| limits.severity(rate.bpm.get())))
}

/// The text of an alarm in the language of the app. Alarms are stored in English.
#[must_use]
pub(crate) fn alarm_text(text: &str) -> String {
    match text.strip_prefix("HR ") {
        Some(rate) => tr!("HR {}", rate),
        None => ui::text::translated(text).to_owned(),
    }
}

/// The time of the reason of an alarm, if that is not the latest strip.
fn reason_time(alarm: &Alarm, now: Timestamp) -> Option<String> {
    alarm.is_reason_past().then(|| match alarm.worst_at() {
        Some(at) => tr!("at {}", format::time_or_date(at, now)),
        None => tr!("raised {}", format::time_or_date(alarm.since, now)),
    })
}

/// The state of an alarm: when its reason was recorded if that is not the latest strip, and whether it has ended, has been
/// acknowledged or is paused. Empty for a new alarm about the latest strip.
#[must_use]
pub(crate) fn alarm_state(alarm: &Alarm, now: Timestamp) -> String {
    let mut parts = Vec::new();
    parts.extend(reason_time(alarm, now));
    if alarm.is_latched {
        parts.push(tr!("ended").to_owned());
    } else if let Some(text) = alarm.less_severe_now() {
        parts.push(tr!("now {}", alarm_text(text)));
    }
    if alarm.is_acknowledged {
        parts.push(tr!("acknowledged").to_owned());
    } else if let Some(until) = alarm.paused_until.filter(|until| *until > now) {
        parts.push(tr!("flashing paused {}", format::age(until.millis_since(now) + 999)));
    }
    parts.join(" · ")
}

/// The state of an alarm in one word, for a tile. It contains no time, so that the tile does not change every second.
#[must_use]
fn short_alarm_state(alarm: &Alarm, now: Timestamp) -> &'static str {
    if alarm.is_acknowledged {
        tr!("seen")
    } else if alarm.is_paused(now) {
        tr!("paused")
    } else if alarm.is_latched {
        tr!("ended")
    } else if alarm.less_severe_now().is_some() {
        tr!("earlier")
    } else {
        ""
    }
}

/// The data of a tile without its sparkline.
#[must_use]
pub(crate) fn tile(
    patient: &PatientSummary,
    split_name: SplitName,
    alarm: Option<&Alarm>,
    limits: Limits,
    now: Timestamp,
    stale_after: Duration,
) -> TileData {
    let stale = is_stale(patient, now, stale_after);
    let (mut name, rate) = (name_data(patient, split_name), rate(patient));
    if let Some(change) = unconfirmed_rename(patient, now) {
        name = plain_name(&tr!("{} (was {})", name.full, change.from));
    }
    let state = alarm.map_or("", |alarm| short_alarm_state(alarm, now));
    let mut accessible_text = tr!("{}, MRN {}, heart rate {} bpm", name.full, patient.mrn, rate);
    if stale {
        accessible_text.push_str(tr!(", stale"));
    }
    match value_time(patient, now) {
        Some(ValueTime::Received(at)) => {
            accessible_text.push_str(&tr!(", received {}", format::time_or_date(at, now)));
        }
        Some(ValueTime::ClockWrong) => accessible_text.push_str(tr!(", clock wrong")),
        Some(ValueTime::Recorded(_)) | None => {}
    }
    if let Some(alarm) = alarm {
        accessible_text.push_str(&tr!(", alarm {}", alarm_text(alarm.reason())));
        if let Some(time) = reason_time(alarm, now) {
            accessible_text.push_str(&format!(" {time}"));
        }
        if !state.is_empty() {
            accessible_text.push_str(&format!(", {state}"));
        }
    }
    TileData {
        mrn: patient.mrn.to_string().into(),
        name,
        rate: rate.into(),
        rate_severity: rate_severity(patient, limits),
        severity: severity(alarm.map(|alarm| alarm.severity)),
        alarm: alarm.map(|alarm| alarm_text(alarm.reason())).unwrap_or_default().into(),
        alarm_state: state.into(),
        flashes: alarm.is_some_and(|alarm| alarm.flashes(now)),
        stale,
        has_sparkline: false,
        sparkline: slint::Image::default(),
        accessible_text: accessible_text.into(),
    }
}

/// A patient in the drop-down list.
#[must_use]
pub(crate) fn patient_option(
    patient: &PatientSummary,
    split_name: SplitName,
    alarm: Option<&Alarm>,
) -> OptionData {
    let rate = patient.latest_heart_rate.as_ref().map(|rate| tr!("{} bpm · ", rate.bpm)).unwrap_or_default();
    OptionData {
        key: patient.mrn.to_string().into(),
        title: name_data(patient, split_name),
        detail: tr!("{}MRN {}", rate, patient.mrn).into(),
        severity: severity(alarm.map(|alarm| alarm.severity)),
    }
}

/// The quality of a signal.
#[must_use]
pub(crate) fn quality(quality: EcgQuality) -> &'static str {
    match quality {
        EcgQuality::Good => tr!("good signal"),
        EcgQuality::Poor => tr!("poor signal"),
        EcgQuality::Unusable => tr!("unusable signal"),
    }
}

/// The heart rate of an ECG, or its state if it has none.
#[must_use]
pub(crate) fn ecg_state(record: &EcgRecord) -> String {
    match (record.status, record.heart_rate) {
        (_, Some(rate)) => tr!("{} bpm", rate),
        (EcgStatus::Pending, _) => tr!("being analysed").to_owned(),
        (EcgStatus::Failed, _) => tr!("not readable").to_owned(),
        (EcgStatus::Analyzed, _) => tr!("no heart rate").to_owned(),
        (EcgStatus::Picture, _) => tr!("picture").to_owned(),
    }
}

/// An ECG in the drop-down list.
#[must_use]
pub(crate) fn ecg_option(record: &EcgRecord, limits: Limits, now: Timestamp) -> OptionData {
    let mut detail = ecg_state(record);
    if let Some(analysis) = &record.analysis {
        detail.push_str(" · ");
        detail.push_str(quality(analysis.quality));
    }
    let rate_severity = record.heart_rate.and_then(|rate| limits.severity(rate.get()));
    let is_technical = record.status == EcgStatus::Failed
        || record.status == EcgStatus::Analyzed && record.heart_rate.is_none();
    OptionData {
        key: record.id.to_string().into(),
        title: plain_name(&when(record.time(now), now)),
        detail: detail.into(),
        severity: severity(rate_severity.or(is_technical.then_some(Severity::Technical))),
    }
}

/// An image in the drop-down list.
#[must_use]
pub(crate) fn image_option(record: &ImageRecord, now: Timestamp) -> OptionData {
    OptionData {
        key: record.id.to_string().into(),
        title: plain_name(&when(record.time(now), now)),
        detail: record
            .file
            .file_name
            .as_deref()
            .map_or_else(|| format::bytes(record.file.bytes), |name| format::elided(name, MAX_FILE_NAME))
            .into(),
        severity: window::Severity::None,
    }
}

/// The findings of an analysis, one per line.
#[must_use]
pub(crate) fn findings(analysis: &EcgAnalysis) -> String {
    let mut lines = Vec::new();
    let lead = analysis.lead.as_ref().map(|lead| tr!("lead {}, ", lead)).unwrap_or_default();
    lines.push(format!(
        "{}: {lead}{}, {}",
        format::duration(analysis.duration_s),
        quality(analysis.quality),
        format::count(analysis.beat_count, tr!("beat"), tr!("beats"))
    ));
    if let Some(rate) = &analysis.heart_rate {
        lines.push(tr!(
            "{} to {} bpm within the strip",
            format_args!("{:.0}", rate.min_bpm),
            format_args!("{:.0}", rate.max_bpm)
        ));
    }
    if let Some(rr) = &analysis.rr {
        lines.push(tr!(
            "RR {} ms (median), SDNN {} ms",
            format_args!("{:.0}", rr.median_ms),
            format_args!("{:.0}", rr.sdnn_ms)
        ));
    }
    lines.extend(analysis.no_heart_rate_reason.iter().cloned());
    for finding in analysis.rhythm.iter().take(MAX_FINDINGS) {
        let (from, to) = (finding.start_s, finding.end_s);
        let name = rhythm_name(finding);
        let span = if from <= 0.5 && to >= analysis.duration_s - 0.5 {
            name.into_owned()
        } else {
            tr!("{}, {} to {} s", name, format_args!("{from:.1}"), format_args!("{to:.1}"))
        };
        lines.push(format!("{span}: {}", finding.evidence));
    }
    lines.extend(beat_counts(&analysis.beat_types));
    let spreads = named_intervals(analysis).into_iter().map(|(name, interval)| {
        format!("{name} {:.0} ± {:.0}", interval.median_ms, interval.spread_ms / 2.0)
    });
    let spreads = spreads.collect::<Vec<_>>().join(", ");
    if !spreads.is_empty() {
        lines.push(tr!("{} ms (median ± half of the interquartile range)", spreads));
    }
    let levels = analysis.st.iter().filter_map(|st| Some((&st.lead, st.j60?.median_mv)));
    let levels = levels.map(|(lead, mv)| format!("{lead} {mv:+.2}")).collect::<Vec<_>>().join(", ");
    if !levels.is_empty() {
        lines.push(tr!("ST level 60 ms after the J point: {} mV", levels));
    }
    lines.extend(analysis.notes.iter().map(|note| note.message.clone()));
    lines.extend(analysis.warnings.iter().take(3).map(|warning| warning.message.clone()));
    lines.join("\n")
}

/// The number of ectopic and paced beats. `None` if there are none.
fn beat_counts(counts: &EcgBeatCounts) -> Option<String> {
    let counted = [
        (counts.ventricular, tr!("ventricular")),
        (counts.supraventricular, tr!("supraventricular")),
        (counts.paced, tr!("paced")),
    ];
    let parts = counted.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| tr!("Beats: {}", parts.join(", ")))
}

/// The label of a beat on a plot. Empty for a normal beat and for a beat of unknown type.
#[must_use]
pub(crate) fn beat_label(beat_type: EcgBeatType) -> &'static str {
    match beat_type {
        EcgBeatType::Normal | EcgBeatType::Unknown => "",
        EcgBeatType::Supraventricular => "S",
        EcgBeatType::Ventricular => "V",
        EcgBeatType::Paced => "P",
    }
}

/// The limits of a patient.
#[must_use]
pub(crate) fn limits(limits: Limits, is_own: bool) -> String {
    tr!(
        "Alarm limits: {} to {} bpm, critical below {} or above {} ({})",
        limits.low(),
        limits.high(),
        limits.critical_low(),
        limits.critical_high(),
        if is_own { tr!("of this patient") } else { tr!("default") }
    )
}

/// An event of the history in one word.
#[must_use]
pub(crate) fn alarm_event(event: AlarmEvent) -> &'static str {
    match event {
        AlarmEvent::Raised => tr!("raised"),
        AlarmEvent::Escalated => tr!("escalated"),
        AlarmEvent::Ended => tr!("ended"),
        AlarmEvent::Acknowledged => tr!("acknowledged"),
        AlarmEvent::Paused => tr!("paused"),
        AlarmEvent::Noticed => tr!("notice"),
    }
}

/// The caption of an image: its time and its file name.
#[must_use]
pub(crate) fn image_caption(record: &ImageRecord, now: Timestamp) -> String {
    let name = record.file.file_name.as_deref().unwrap_or(tr!("no name"));
    format!("{} · {}", when(record.time(now), now), format::elided(name, MAX_FILE_NAME))
}

/// The caption of an ECG: its time, and its heart rate or state.
#[must_use]
pub(crate) fn ecg_caption(record: &EcgRecord, now: Timestamp) -> String {
    format!("{} · {}", when(record.time(now), now), ecg_state(record))
}

/// The caption that a saved picture of an ECG gets: the patient, and the time with its time zone.
#[must_use]
pub(crate) fn picture_caption(
    patient: Option<&PatientSummary>,
    record: &EcgRecord,
    now: Timestamp,
) -> Caption {
    let name = patient.map_or_else(|| tr!("No name given").to_owned(), name);
    let detail = match record.time(now) {
        ValueTime::Recorded(at) => tr!("Recorded {}", format::date_time_zone(at)),
        ValueTime::Received(at) => {
            tr!("Received {}; the time of recording is not known", format::date_time_zone(at))
        }
        ValueTime::ClockWrong => tr!("The time of recording is not known").to_owned(),
    };
    Caption { title: tr!("{} · MRN {}", name, record.mrn), detail }
}

/// The mark of a frozen ECG: since when, and the number of newer ECGs.
#[must_use]
pub(crate) fn frozen_mark(frozen: &FrozenEcg, now: Timestamp) -> String {
    let newer = match frozen.newer_count() {
        0 => tr!("no newer ECG").to_owned(),
        count => format::count(count as u64, tr!("newer ECG"), tr!("newer ECGs")),
    };
    tr!("Frozen {} · {}", format::time_or_date(frozen.at, now), newer)
}

/// The state of a loadable list: the number of its entries, or why there are none.
#[must_use]
pub(crate) fn list_note<T: Entry>(
    list: &PagedList<T>,
    failure: Option<&str>,
    singular: &str,
    plural: &str,
) -> String {
    let count = format::count(list.entries().len() as u64, singular, plural);
    match failure {
        Some(reason) => format::sentence(reason),
        None if list.is_complete() => count,
        None if list.entries().is_empty() => tr!("Loading…").to_owned(),
        None => tr!("{}, more as you scroll", count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_stale_only_beyond_the_limit_and_never_from_the_future() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let limit = Duration::from_secs(60);
        assert!(!is_older_than(at(0), at(60_000), limit));
        assert!(is_older_than(at(0), at(60_001), limit));
        assert!(!is_older_than(at(5000), at(0), limit));
    }

    #[test]
    fn rhythm_and_intervals_are_one_line_and_each_finding_has_its_evidence() {
        let mut analysis: EcgAnalysis = serde_json::from_value(serde_json::json!({
            "duration_s": 10.0, "sample_rate_hz": 250.0, "quality": "good", "beat_count": 12, "notes": [], "warnings": [],
            "rows_used": 2500, "rows_skipped": 0, "first_skipped_lines": [],
            "intervals": {
                "pr": {"median_ms": 160.0, "spread_ms": 8.0, "beats": 11},
                "qtc_fridericia": {"median_ms": 421.4, "spread_ms": 12.0, "beats": 11},
            },
            "rhythm": [
                {"code": "sinus_rhythm", "message": "", "evidence": "P before each QRS.", "start_s": 0.0, "end_s": 10.0},
                {"code": "couplet", "message": "", "evidence": "2 V in a row.", "start_s": 2.0, "end_s": 3.25},
                {"code": "couplet", "message": "", "evidence": "2 V in a row.", "start_s": 6.0, "end_s": 7.0},
                {"code": "new", "message": "Something new", "evidence": "It is new.", "start_s": 6.0, "end_s": 7.0},
            ],
            "beat_types": {"normal": 8, "ventricular": 4},
            "st": [{"lead": "II", "j60": {"median_mv": 0.12, "spread_mv": 0.02, "beats": 8}}],
        }))
        .unwrap();
        let rhythm_line = ui::rhythm::rhythm_line;
        assert_eq!(rhythm_line(&analysis), "Sinus rhythm · Couplet · Something new · PR 160 · QTc 421 ms");
        let text = findings(&analysis);
        for line in [
            "Sinus rhythm: P before each QRS.",
            "Couplet, 2.0 to 3.2 s: 2 V in a row.",
            "Beats: 4 ventricular",
            "PR 160 ± 4, QTc 421 ± 6 ms (median ± half of the interquartile range)",
            "ST level 60 ms after the J point: II +0.12 mV",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        (analysis.rhythm, analysis.intervals) = (Vec::new(), Default::default());
        assert_eq!(rhythm_line(&analysis), "");
    }
}
