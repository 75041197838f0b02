//! The texts about patients, ECGs and alarms on the screen.

use std::time::Duration;

use proto_json::alarms::{Alarm, AlarmLimits, AlarmRule, AlarmState, StoredLimits};
use proto_json::wards::{Admission, Sex};
use proto_json::{
    CLOCK_TOLERANCE_MS, DamagedRecord, EcgAnalysis, EcgBeatCounts, EcgBeatType, EcgQuality, EcgRecord,
    EcgStatus, HeartRateSource, ImageRecord, NameChange, PatientSummary, Timestamp, ValueTime,
};
use ui::rhythm::{named_intervals, rhythm_name};
use ui::{Caption, format, tr};

use crate::alarms::{Alarms, Limits, Severity, StationEventKind, flashes, paused_ms, rate_severity};
use crate::overview::SplitName;
use crate::paged_list::{Entry, PagedList};
use crate::patient::FrozenEcg;
use crate::wards::EmptyBed;
use crate::window::{self, NameData, OptionData, TileData};

/// The maximum number of findings of the rhythm that are listed with their evidence.
const MAX_FINDINGS: usize = 5;

/// The maximum number of characters of a file name in a list.
const MAX_FILE_NAME: usize = 28;

/// The maximum number of characters of a line in a narrow layout: a date and a time.
const MAX_LINE: usize = 19;

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
        Some(Severity::Low) => window::Severity::Low,
        Some(Severity::Medium) => window::Severity::Medium,
        Some(Severity::High) => window::Severity::High,
    }
}

/// The text of an alarm in the language of the app.
#[must_use]
pub(crate) fn alarm_text(alarm: &Alarm) -> String {
    let beyond = |sign: char| {
        let (worst, limit) = (alarm.worst?, alarm.limit?);
        Some(format!("{worst:.0} {sign} {limit:.0}"))
    };
    let text = match alarm.rule {
        AlarmRule::Asystole => Some(tr!("Asystole").to_owned()),
        AlarmRule::VentricularRun => Some(tr!("Ventricular run").to_owned()),
        AlarmRule::HeartRateExtremeLow | AlarmRule::HeartRateLow => {
            beyond('<').map(|rate| tr!("HR {}", rate))
        }
        AlarmRule::HeartRateExtremeHigh | AlarmRule::HeartRateHigh => {
            beyond('>').map(|rate| tr!("HR {}", rate))
        }
        AlarmRule::Pause => alarm.worst.map(|length| tr!("Pause {} s", format_args!("{length:.1}"))),
        AlarmRule::AtrialFibrillation => Some(tr!("Atrial fibrillation").to_owned()),
        AlarmRule::Spo2Low => beyond('<').map(|value| format!("SpO₂ {value}")),
        AlarmRule::RespirationLow => beyond('<').map(|rate| tr!("Resp {}", rate)),
        AlarmRule::RespirationHigh => beyond('>').map(|rate| tr!("Resp {}", rate)),
        AlarmRule::LeadOff => alarm.text.strip_prefix("Lead off: ").map(|leads| tr!("Lead off: {}", leads)),
        AlarmRule::UnusableSignal => Some(tr!("ECG unusable").to_owned()),
        AlarmRule::SilentDevice => Some(tr!("Device silent").to_owned()),
        AlarmRule::NoData => Some(tr!("No data").to_owned()),
        AlarmRule::Notice => None,
    };
    text.unwrap_or_else(|| ui::text::translated(&alarm.text).to_owned())
}

/// A remaining time as minutes and seconds, for example `1:32`.
#[must_use]
pub(crate) fn countdown(milliseconds: i64) -> String {
    let seconds = (milliseconds.max(0) + 999) / 1000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The state of an alarm: whether its condition is over, who has acknowledged it, and how long its sound is paused. Empty for an
/// alarm that was only raised.
#[must_use]
pub(crate) fn alarm_state(alarm: &Alarm, now: Timestamp) -> String {
    let time = |at| format::time_or_date(at, now);
    let mut parts = Vec::new();
    match (alarm.state, alarm.cleared_at.or(alarm.ended_at)) {
        (AlarmState::Latched | AlarmState::Ended, Some(at)) => parts.push(tr!("over at {}", time(at))),
        (AlarmState::Latched | AlarmState::Ended, None) => parts.push(tr!("over").to_owned()),
        (AlarmState::Raised | AlarmState::Acknowledged, _) => {}
    }
    if let Some(action) = &alarm.acknowledged {
        parts.push(tr!("acknowledged by {}, {}", action.by, time(action.at)));
    }
    if let Some(action) = &alarm.reset {
        parts.push(tr!("reset by {}, {}", action.by, time(action.at)));
    }
    if let Some(left) = paused_ms(alarm, now) {
        parts.push(match &alarm.audio_paused {
            Some(action) => tr!("sound paused {} by {}", countdown(left), action.by),
            None => tr!("sound paused {}", countdown(left)),
        });
    }
    parts.join(" · ")
}

/// When an ended alarm was over, and who acknowledged or reset it: short, for the history.
#[must_use]
pub(crate) fn ended_state(alarm: &Alarm, now: Timestamp) -> String {
    let time = |at| format::time_or_date(at, now);
    let over = alarm.cleared_at.or(alarm.ended_at).map(|at| tr!("until {}", time(at)));
    let action = alarm.acknowledged.as_ref().or(alarm.reset.as_ref());
    let by = action.map_or_else(
        || tr!("not acknowledged").to_owned(),
        |action| format!("{} {}", action.by, time(action.at)),
    );
    over.into_iter().chain([by]).collect::<Vec<_>>().join(" · ")
}

/// The state of an alarm in one word, for a tile, and the number of further alarms. It contains no time, so that the tile does not
/// change every second.
#[must_use]
fn short_alarm_state(alarm: &Alarm, count: usize, now: Timestamp) -> String {
    let state = match alarm.state {
        AlarmState::Acknowledged => tr!("seen"),
        _ if paused_ms(alarm, now).is_some() => tr!("quiet"),
        AlarmState::Latched => tr!("over"),
        AlarmState::Raised | AlarmState::Ended => "",
    };
    match count.saturating_sub(1) {
        0 => state.to_owned(),
        more if state.is_empty() => format!("+{more}"),
        more => format!("{state} +{more}"),
    }
}

/// The data of a tile without its sparkline.
#[must_use]
pub(crate) fn tile(
    patient: &PatientSummary,
    split_name: SplitName,
    alarms: &Alarms,
    now: Timestamp,
    stale_after: Duration,
) -> TileData {
    let alarm = alarms.first(patient.mrn);
    let stale = is_stale(patient, now, stale_after);
    let (mut name, rate) = (name_data(patient, split_name), rate(patient));
    if let Some(change) = unconfirmed_rename(patient, now) {
        name = plain_name(&tr!("{} (was {})", name.full, change.from));
    }
    let state =
        alarm.map(|alarm| short_alarm_state(alarm, alarms.count(patient.mrn), now)).unwrap_or_default();
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
    if let Some(admission) = &patient.admission {
        accessible_text.push_str(&format!(", {}", place(admission)));
    }
    if let Some(alarm) = alarm {
        accessible_text.push_str(&tr!(", alarm {}", alarm_text(alarm)));
        if !state.is_empty() {
            accessible_text.push_str(&format!(", {state}"));
        }
    }
    TileData {
        mrn: patient.mrn.to_string().into(),
        name,
        is_empty: false,
        bed: patient.admission.as_ref().map(|at| at.bed_name.to_string()).unwrap_or_default().into(),
        bed_key: "".into(),
        rate: rate.into(),
        rate_severity: severity(alarms.rate_severity(patient.mrn)),
        severity: severity(alarms.severity(patient.mrn)),
        alarm_severity: severity(alarm.map(|alarm| alarm.priority.into())),
        alarm: alarm.map(alarm_text).unwrap_or_default().into(),
        alarm_state: state.into(),
        flashes: alarm.is_some_and(flashes),
        stale,
        has_sparkline: false,
        sparkline: slint::Image::default(),
        accessible_text: accessible_text.into(),
    }
}

/// The tile of an empty bed.
#[must_use]
pub(crate) fn empty_bed(empty: &EmptyBed) -> TileData {
    TileData {
        name: plain_name(&empty.name),
        is_empty: true,
        bed_key: empty.id.to_string().into(),
        accessible_text: tr!("{}, empty bed", bed(&empty.ward_name, &empty.name)).into(),
        ..TileData::default()
    }
}

/// A bed with its ward.
#[must_use]
pub(crate) fn bed(ward: &str, bed: &str) -> String {
    format!("{ward} · {bed}")
}

/// The bed in which a patient is.
#[must_use]
pub(crate) fn place(admission: &Admission) -> String {
    bed(admission.ward_name.as_str(), admission.bed_name.as_str())
}

/// Age, date of birth and sex of a patient. Empty if none of them is known.
#[must_use]
pub(crate) fn details(patient: &PatientSummary, now: Timestamp) -> String {
    let Some(details) = &patient.details else { return String::new() };
    let born = details.birth_date.map(|date| match date.age_at(now) {
        Some(age) => tr!("{} years, born {}", age, date),
        None => tr!("born {}", date),
    });
    let sex = details.sex.map(|sex| match sex {
        Sex::Female => tr!("female").to_owned(),
        Sex::Male => tr!("male").to_owned(),
        Sex::Other => tr!("sex: other").to_owned(),
        Sex::Unknown => tr!("sex: unknown").to_owned(),
    });
    born.into_iter().chain(sex).collect::<Vec<_>>().join(", ")
}

/// A patient in the drop-down list.
#[must_use]
pub(crate) fn patient_option(
    patient: &PatientSummary,
    split_name: SplitName,
    alarm_severity: Option<Severity>,
) -> OptionData {
    let rate = patient.latest_heart_rate.as_ref().map(|rate| tr!("{} bpm · ", rate.bpm)).unwrap_or_default();
    let place = patient.admission.as_ref().map(|at| format!("{} · ", at.bed_name)).unwrap_or_default();
    OptionData {
        key: patient.mrn.to_string().into(),
        title: name_data(patient, split_name),
        detail: format!("{}{}", place, tr!("{}MRN {}", rate, patient.mrn)).into(),
        severity: severity(alarm_severity),
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
pub(crate) fn ecg_option(record: &EcgRecord, limits: Option<Limits>, now: Timestamp) -> OptionData {
    let mut detail = ecg_state(record);
    if let Some(analysis) = &record.analysis {
        detail.push_str(" · ");
        detail.push_str(quality(analysis.quality));
    }
    let of_rate = record.heart_rate.and_then(|rate| rate_severity(limits, rate.get()));
    let is_technical = record.status == EcgStatus::Failed
        || record.status == EcgStatus::Analyzed && record.heart_rate.is_none();
    OptionData {
        key: record.id.to_string().into(),
        title: plain_name(&when(record.time(now), now)),
        detail: detail.into(),
        severity: severity(of_rate.or(is_technical.then_some(Severity::Technical))),
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

/// The limits of the heart rate of a patient. Empty while they are not loaded.
#[must_use]
pub(crate) fn limits(stored: Option<&StoredLimits>) -> String {
    let Some((stored, limits)) = stored.and_then(|stored| Some((stored, Limits::of(&stored.effective)?)))
    else {
        return String::new();
    };
    tr!(
        "Alarm limits: {} to {} bpm, critical below {} or above {} ({})",
        limits.low,
        limits.high,
        limits.critical_low,
        limits.critical_high,
        if stored.limits == AlarmLimits::default() { tr!("default") } else { tr!("of this patient") }
    )
}

/// An event of the station in one word.
#[must_use]
pub(crate) fn station_event(kind: StationEventKind) -> &'static str {
    match kind {
        StationEventKind::Raised => tr!("raised"),
        StationEventKind::Ended => tr!("ended"),
        StationEventKind::Noticed => tr!("notice"),
    }
}

/// The action that ends the need for attention of an alarm.
#[must_use]
pub(crate) fn acknowledge_label(alarm: &Alarm) -> &'static str {
    if alarm.state == AlarmState::Latched { tr!("Reset") } else { tr!("Acknowledge") }
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

/// The caption of the latest ECG in short lines: the time, and below it the heart rate or state. A word before a date has a line of
/// its own.
#[must_use]
pub(crate) fn short_lines(record: &EcgRecord, now: Timestamp) -> String {
    let time = when(record.time(now), now);
    let time = if time.chars().count() > MAX_LINE { time.replacen(' ', "\n", 1) } else { time };
    format!("{time}\n{}", ecg_state(record))
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
    fn alarm_has_the_name_of_its_rule_and_its_worst_value() {
        let alarm = |rule: &str, text: &str, worst: Option<f64>, limit: Option<f64>| -> Alarm {
            serde_json::from_value(serde_json::json!({
                "id": "0198f0a0-0000-7000-8000-000000000001", "mrn": 7, "rule": rule, "priority": "high", "state": "raised",
                "version": 1, "text": text, "worst": worst, "limit": limit,
                "onset_at": "2026-01-01T00:00:00Z", "raised_at": "2026-01-01T00:00:04Z",
            }))
            .unwrap()
        };
        for (alarm, text) in [
            (alarm("heart_rate_extreme_high", "", Some(152.4), Some(150.0)), "HR 152 > 150"),
            (alarm("heart_rate_low", "", Some(44.0), Some(50.0)), "HR 44 < 50"),
            (alarm("asystole", "No beat for 4 s", None, Some(4.0)), "Asystole"),
            (alarm("pause", "Pause of 3.2 s", Some(3.2), Some(3.0)), "Pause 3.2 s"),
            (alarm("spo2_low", "", Some(84.0), Some(90.0)), "SpO₂ 84 < 90"),
            (alarm("respiration_high", "", Some(31.0), Some(30.0)), "Resp 31 > 30"),
            (alarm("lead_off", "Lead off: II, V1", None, None), "Lead off: II, V1"),
            (alarm("notice", "Read in an emergency", None, None), "Read in an emergency"),
            (alarm("heart_rate_high", "HR is high", None, None), "HR is high"),
        ] {
            assert_eq!(alarm_text(&alarm), text);
        }
    }

    #[test]
    fn lines_of_a_caption_are_not_longer_than_a_date_and_a_time() {
        let record = |time: &str| -> EcgRecord {
            let mut record = serde_json::json!({
                "id": "0198f0a0-0000-7000-8000-000000000001", "upload_id": "0198f0a0-0000-7000-8000-000000000002", "mrn": 7,
                "at": "2026-01-01T10:00:00Z", "received_at": "2026-01-01T10:00:00Z", "status": "pending",
            });
            record[time] = "2026-01-01T10:00:00Z".into();
            serde_json::from_value(record).unwrap()
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (time, words) in [("received_at", 1), ("recorded_at", 0)] {
            for (now, more) in [("2026-01-01T10:00:01Z", 0), ("2026-02-01T10:00:00Z", words)] {
                let lines = short_lines(&record(time), at(now));
                assert_eq!(lines.lines().count(), 2 + more, "{lines:?}");
                assert!(lines.lines().all(|line| line.chars().count() <= MAX_LINE), "{lines:?}");
                assert_eq!(lines.contains("received"), words == 1, "{lines:?}");
            }
        }
    }

    #[test]
    fn countdown_ends_at_zero() {
        assert_eq!([120_000, 92_001, 1, 0, -5].map(countdown), ["2:00", "1:33", "0:01", "0:00", "0:00"]);
    }

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
