//! The model of the server's alarms, the log of the station, and the file of earlier versions.

use proto_json::alarms::{Alarm, AlarmPriority, AlarmState};
use proto_json::{Mrn, RecordId, Timestamp, UploadId};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

fn id(number: u64) -> RecordId {
    UploadId::from_idempotency_key("", &number.to_string()).record("rate", 0)
}

fn alarm(number: u64, patient: u64, priority: &str, state: &str, version: u64) -> Alarm {
    serde_json::from_value(serde_json::json!({
        "id": id(number), "mrn": patient, "rule": "heart_rate_high", "priority": priority, "state": state,
        "version": version, "text": "HR 134 > 120", "worst": 134.0, "limit": 120.0,
        "onset_at": at(number as i64), "raised_at": at(number as i64 + 10),
    }))
    .unwrap()
}

#[test]
fn alarm_is_replaced_only_by_a_higher_version() {
    let mut alarms = Alarms::default();
    assert!(alarms.apply(alarm(1, 7, "high", "raised", 2)));
    assert!(!alarms.apply(alarm(1, 7, "high", "acknowledged", 2)));
    assert!(!alarms.apply(alarm(1, 7, "high", "acknowledged", 1)));
    assert_eq!(alarms.first(mrn(7)).unwrap().state, AlarmState::Raised);
    assert!(alarms.apply(alarm(1, 7, "high", "ended", 4)));
    assert!(alarms.first(mrn(7)).is_none() && alarms.iter().next().is_none());
    assert!(!alarms.apply(alarm(1, 7, "high", "latched", 3)), "it has ended");
    assert_eq!(alarms.ended().count(), 1);
    alarms.add_history(vec![
        alarm(1, 7, "high", "ended", 4),
        alarm(3, 7, "low", "ended", 4),
        alarm(2, 7, "low", "ended", 2),
    ]);
    let order: Vec<RecordId> = alarms.ended().map(|alarm| alarm.id).collect();
    assert_eq!(order, [id(3), id(2), id(1)], "newest first, each once");
}

#[test]
fn snapshot_replaces_all_open_alarms_and_names_the_changed_patients() {
    let mut alarms = Alarms::default();
    alarms.apply(alarm(1, 7, "high", "raised", 1));
    alarms.apply(alarm(2, 8, "low", "raised", 1));
    alarms.set_unavailable("the service is down".to_owned());
    let changed = alarms.replace(vec![alarm(2, 8, "low", "raised", 1), alarm(3, 9, "medium", "raised", 1)]);
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), [mrn(7), mrn(9)]);
    assert_eq!((alarms.count(mrn(7)), alarms.count(mrn(8)), alarms.unavailable()), (0, 1, None));
}

#[test]
fn what_needs_attention_is_shown_first_but_no_technical_alarm_hides_the_patient() {
    let mut alarms = Alarms::default();
    alarms.apply(alarm(1, 7, "high", "acknowledged", 2));
    alarms.apply(alarm(2, 7, "technical", "raised", 1));
    assert_eq!(alarms.first(mrn(7)).unwrap().id, id(1));
    alarms.apply(alarm(3, 7, "medium", "raised", 1));
    assert_eq!(alarms.first(mrn(7)).unwrap().id, id(3));
    let order: Vec<RecordId> = alarms.of(mrn(7)).iter().map(|alarm| alarm.id).collect();
    assert_eq!(order, [id(3), id(1), id(2)]);
    assert_eq!(alarms.severity(mrn(7)), Some(Severity::High));
    assert_eq!(alarms.rate_severity(mrn(7)), Some(Severity::High));
    alarms.apply(alarm(1, 7, "high", "latched", 3));
    assert_eq!(alarms.rate_severity(mrn(7)), Some(Severity::Medium), "the extreme rate is over");
}

#[test]
fn filters_select_by_state_and_severity() {
    let mut acknowledged = alarm(1, 7, "high", "acknowledged", 2);
    acknowledged.acknowledged = Some(proto_json::alarms::AlarmAction { by: "Nurse".to_owned(), at: at(20) });
    let raised = alarm(2, 7, "low", "raised", 1);
    let shows = |state, severity| {
        let filter = Filter { state, severity };
        [filter.includes(&acknowledged), filter.includes(&raised)]
    };
    assert_eq!(shows(StateFilter::All, None), [true, true]);
    assert_eq!(shows(StateFilter::Unacknowledged, None), [false, true]);
    assert_eq!(shows(StateFilter::Acknowledged, None), [true, false]);
    assert_eq!(shows(StateFilter::All, Some(Severity::Low)), [false, true]);
    assert_eq!(shows(StateFilter::Acknowledged, Some(Severity::Low)), [false, false]);
}

#[test]
fn pause_of_the_sound_ends_and_does_not_include_later_alarms() {
    let mut paused = alarm(1, 7, "high", "raised", 2);
    paused.audio_paused_until = Some(at(120));
    assert_eq!(paused_ms(&paused, at(100)), Some(20_000));
    assert_eq!(paused_ms(&paused, at(120)), None);
    assert!(flashes(&paused), "the pause concerns the sound only");
    let mut pause = LocalPause::default();
    pause.pause([id(1)], at(120), true);
    assert!(
        pause.includes(id(1), at(119)) && !pause.includes(id(1), at(120)) && !pause.includes(id(2), at(1))
    );
    assert_eq!(pause.station_until(at(119)), Some(at(120)));
    pause.end_station();
    assert_eq!(pause.station_until(at(119)), None);
}

#[test]
fn severities_keep_the_order_of_priorities() {
    let all = [AlarmPriority::Technical, AlarmPriority::Low, AlarmPriority::Medium, AlarmPriority::High];
    let severities = all.map(Severity::from);
    assert!(severities.is_sorted() && all.is_sorted());
    let limits = Limits { low: 50, high: 120, critical_low: 35, critical_high: 150 };
    let expected = [
        (34, Some(Severity::High)),
        (35, Some(Severity::Medium)),
        (50, None),
        (121, Some(Severity::Medium)),
        (151, Some(Severity::High)),
    ];
    for (bpm, severity) in expected {
        assert_eq!(rate_severity(Some(limits), bpm), severity, "{bpm}");
    }
    assert_eq!(rate_severity(None, 300), None);
}

#[test]
fn log_of_the_station_keeps_the_latest_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor.station.json");
    assert_eq!(StationLog::load(&path).unwrap(), StationLog::default());
    let mut log = StationLog::default();
    for second in 0..station::MAX_EVENTS as i64 + 3 {
        let text = "Connection lost".to_owned();
        log.record(StationEvent { at: at(second), mrn: None, kind: StationEventKind::Raised, text });
    }
    log.save(&path).unwrap();
    let loaded = StationLog::load(&path).unwrap();
    assert!(loaded.iter().eq(log.iter()) && loaded.iter().count() == station::MAX_EVENTS);
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(StationLog::load(&path), Err(StoreError::Read(_))));
    assert!(folder.path().join("monitor.station.unreadable").is_file());
}

#[test]
fn limits_of_earlier_versions_are_kept_and_reported_only_if_somebody_had_set_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor.alarms.json");
    assert_eq!(OldAlarms::retire(&path), None);
    let defaults =
        r#"{"defaults":{"low":50,"high":120,"critical_low":35,"critical_high":150},"latching":"high"}"#;
    std::fs::write(&path, defaults).unwrap();
    assert_eq!(OldAlarms::retire(&path), None, "nothing to compare");
    assert!(!path.exists());
    for custom in [
        r#"{"defaults":{"low":50,"high":130,"extreme_low":35,"extreme_high":150}}"#,
        r#"{"own":{"7":{"low":40,"high":120,"critical_low":35,"critical_high":150}}}"#,
        r#"{"latching":"never"}"#,
        "unreadable",
    ] {
        std::fs::write(&path, custom).unwrap();
        let kept = OldAlarms::retire(&path).expect(custom);
        assert_eq!(std::fs::read_to_string(kept).unwrap(), custom);
        assert!(!path.exists());
    }
}
