//! Alarms are raised, escalated, acknowledged, paused, latched and ended.

use std::time::Duration;

use proto_json::{
    Bpm, EcgQuality, EcgStatus, HeartRateSource, LatestEcg, LatestHeartRate, Mrn, PatientSummary, RecordId,
    Timestamp, UploadId,
};

use super::alarm_list::MAX_HISTORY;
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn id(number: i64) -> RecordId {
    UploadId::from_idempotency_key("", &number.to_string()).record("rate", 0)
}

fn mrn() -> Mrn {
    Mrn::new(7).unwrap()
}

/// A patient whose latest strip was recorded at `second` and has the rate `bpm`, or no rate if `bpm` is 0.
fn patient(second: i64, bpm: i64) -> PatientSummary {
    let rate = Bpm::new(bpm).ok();
    PatientSummary {
        mrn: mrn(),
        name: None,
        renamed: None,
        version: second as u64,
        created_at: at(0),
        updated_at: at(second),
        latest_heart_rate: rate.map(|bpm| LatestHeartRate {
            id: id(second),
            bpm,
            at: at(second),
            received_at: None,
            recorded_at: Some(at(second)),
            source: HeartRateSource::Ecg,
            ecg_id: None,
            upload_version: 0,
            clock_wrong: false,
        }),
        latest_ecg: Some(LatestEcg {
            id: id(second),
            at: at(second),
            received_at: None,
            recorded_at: Some(at(second)),
            status: EcgStatus::Analyzed,
            heart_rate: rate,
            quality: Some(if rate.is_some() { EcgQuality::Good } else { EcgQuality::Unusable }),
            upload_version: 0,
            clock_wrong: false,
        }),
        latest_image: None,
    }
}

fn evaluate(alarms: &mut Alarms, second: i64, bpm: i64) -> Option<Alarm> {
    alarms.evaluate(&patient(second, bpm), at(second));
    alarms.get(mrn()).cloned()
}

fn events(alarms: &Alarms) -> Vec<AlarmEvent> {
    let mut events: Vec<AlarmEvent> = alarms.history().map(|entry| entry.event).collect();
    events.reverse();
    events
}

#[test]
fn alarm_is_raised_only_beyond_a_limit_and_names_the_limit() {
    let cases = [
        (120, None),
        (121, Some((Severity::Medium, "HR 121 > 120"))),
        (150, Some((Severity::Medium, "HR 150 > 120"))),
        (151, Some((Severity::High, "HR 151 > 150"))),
        (50, None),
        (49, Some((Severity::Medium, "HR 49 < 50"))),
        (34, Some((Severity::High, "HR 34 < 35"))),
    ];
    for (bpm, expected) in cases {
        let alarm = evaluate(&mut Alarms::default(), 1, bpm);
        let found = alarm.as_ref().map(|alarm| (alarm.severity, alarm.text.as_str()));
        assert_eq!(found, expected, "{bpm}");
    }
}

#[test]
fn strip_without_a_rate_raises_a_technical_alarm() {
    let alarm = evaluate(&mut Alarms::default(), 1, 0).unwrap();
    assert_eq!((alarm.cause, alarm.severity), (Cause::NoRate, Severity::Technical));
    assert!(!alarm.flashes(at(1)));
    assert_eq!(alarm.text, "ECG unusable");
}

#[test]
fn older_rate_is_not_used_for_a_strip_without_a_rate() {
    let mut known = patient(5, 0);
    known.latest_heart_rate = patient(3, 140).latest_heart_rate;
    let mut alarms = Alarms::default();
    alarms.evaluate(&known, at(5));
    assert_eq!(alarms.get(mrn()).unwrap().cause, Cause::NoRate);
}

#[test]
fn pending_strip_does_not_change_the_alarm() {
    let mut alarms = Alarms::default();
    evaluate(&mut alarms, 1, 134);
    let mut waiting = patient(2, 0);
    waiting.latest_heart_rate = patient(1, 134).latest_heart_rate;
    if let Some(ecg) = &mut waiting.latest_ecg {
        ecg.status = EcgStatus::Pending;
    }
    assert!(!alarms.evaluate(&waiting, at(2)));
    assert_eq!(alarms.get(mrn()).unwrap().text, "HR 134 > 120");
}

#[test]
fn acknowledged_alarm_flashes_again_when_it_escalates() {
    let mut alarms = Alarms::default();
    assert!(evaluate(&mut alarms, 1, 134).unwrap().flashes(at(1)));
    assert!(alarms.acknowledge(mrn(), at(2)));
    assert!(!alarms.acknowledge(mrn(), at(2)));
    let still = evaluate(&mut alarms, 3, 136).unwrap();
    assert_eq!(still.text, "HR 136 > 120");
    assert!(!still.flashes(at(3)));
    let escalated = evaluate(&mut alarms, 4, 160).unwrap();
    assert_eq!(escalated.severity, Severity::High);
    assert!(escalated.flashes(at(4)));
    assert_eq!(events(&alarms), [AlarmEvent::Raised, AlarmEvent::Acknowledged, AlarmEvent::Escalated]);
}

#[test]
fn pause_ends_after_its_length_or_when_the_alarm_escalates() {
    let mut alarms = Alarms::default();
    evaluate(&mut alarms, 1, 134);
    assert!(alarms.pause(mrn(), Duration::from_secs(120), at(1)));
    let alarm = evaluate(&mut alarms, 60, 135).unwrap();
    assert!(!alarm.flashes(at(120)));
    assert!(alarm.flashes(at(121)));
    assert!(alarms.pause(mrn(), Duration::from_secs(120), at(130)));
    assert!(evaluate(&mut alarms, 140, 155).unwrap().flashes(at(140)));
}

#[test]
fn high_alarm_is_latched_and_medium_alarm_ends_with_its_condition() {
    let mut alarms = Alarms::default();
    evaluate(&mut alarms, 1, 134);
    assert_eq!(evaluate(&mut alarms, 2, 80), None);
    evaluate(&mut alarms, 3, 170);
    let latched = evaluate(&mut alarms, 4, 80).unwrap();
    assert!(latched.is_latched && latched.flashes(at(4)));
    assert_eq!(latched.text, "HR 170 > 150");
    evaluate(&mut alarms, 5, 82);
    assert!(alarms.acknowledge(mrn(), at(6)));
    assert_eq!(alarms.get(mrn()), None);
    let ended = events(&alarms).into_iter().filter(|one| *one == AlarmEvent::Ended).count();
    assert_eq!(ended, 2, "each alarm ended once");
}

#[test]
fn latched_alarm_keeps_its_worst_reading_and_its_time() {
    let mut alarms = Alarms::default();
    for (second, bpm) in [(1, 152), (2, 160), (3, 155)] {
        let alarm = evaluate(&mut alarms, second, bpm).unwrap();
        assert_eq!(
            (alarm.reason(), alarm.is_reason_past()),
            (&*format!("HR {bpm} > 150"), false),
            "the latest strip is the reason"
        );
    }
    let alarm = evaluate(&mut alarms, 4, 127).unwrap();
    assert_eq!(alarm.severity, Severity::High, "not acknowledged");
    assert_eq!(
        (alarm.reason(), alarm.is_reason_past(), alarm.worst_at()),
        ("HR 160 > 150", true, Some(at(2)))
    );
    assert_eq!(alarm.less_severe_now(), Some("HR 127 > 120"));
    let alarm = evaluate(&mut alarms, 5, 90).unwrap();
    assert!(alarm.is_latched);
    assert_eq!(
        (alarm.reason(), alarm.is_reason_past(), alarm.worst_at()),
        ("HR 160 > 150", true, Some(at(2)))
    );
    assert_eq!(alarm.less_severe_now(), None);
    let ended = alarms.history().next().unwrap();
    assert_eq!((ended.event, ended.text.as_str()), (AlarmEvent::Ended, "HR 160 > 150"));
    let alarm = evaluate(&mut alarms, 6, 130).unwrap();
    assert_eq!((alarm.reason(), alarm.is_latched), ("HR 160 > 150", false), "still not acknowledged");
    alarms.acknowledge(mrn(), at(7));
    let alarm = evaluate(&mut alarms, 8, 128).unwrap();
    assert_eq!(
        (alarm.severity, alarm.reason(), alarm.is_reason_past()),
        (Severity::Medium, "HR 128 > 120", false)
    );
}

#[test]
fn worst_of_slow_rates_is_the_lowest() {
    let mut alarms = Alarms::default();
    for (second, bpm) in [(1, 33), (2, 28), (3, 31), (4, 70)] {
        evaluate(&mut alarms, second, bpm);
    }
    let alarm = alarms.get(mrn()).unwrap();
    assert_eq!((alarm.reason(), alarm.is_reason_past(), alarm.worst_at()), ("HR 28 < 35", true, Some(at(2))));
}

#[test]
fn alarm_stored_by_an_earlier_version_is_read() {
    let stored = r#"{"on": {"7": {"cause": "fast", "severity": "high", "text": "HR 127 > 120", "since": "2026-11-29T02:11:07.554Z",
        "reading": "b41c1810-b851-59c1-a4eb-1810a410df54", "is_latched": true, "is_acknowledged": false, "silent_until": null}}}"#;
    let mut alarms: Alarms = serde_json::from_str(stored).unwrap();
    let alarm = alarms.get(mrn()).unwrap();
    assert_eq!((alarm.reason(), alarm.is_reason_past(), alarm.worst_at()), ("HR 127 > 120", true, None));
    assert_eq!(evaluate(&mut alarms, 9, 170).unwrap().reason(), "HR 170 > 150");
}

#[test]
fn acknowledged_high_alarm_ends_with_its_condition() {
    let mut alarms = Alarms::default();
    evaluate(&mut alarms, 1, 170);
    alarms.acknowledge(mrn(), at(2));
    assert_eq!(evaluate(&mut alarms, 3, 80), None);
}

#[test]
fn lead_off_does_not_replace_an_unacknowledged_high_alarm() {
    let mut alarms = Alarms::default();
    evaluate(&mut alarms, 1, 170);
    let alarm = evaluate(&mut alarms, 2, 0).unwrap();
    assert_eq!((alarm.severity, alarm.is_latched), (Severity::High, true));
    alarms.acknowledge(mrn(), at(3));
    assert_eq!(evaluate(&mut alarms, 4, 0).unwrap().cause, Cause::NoRate);
}

#[test]
fn limits_of_one_patient_do_not_affect_others() {
    let mut alarms = Alarms::default();
    let own = Limits::try_from(UncheckedLimits { low: 40, high: 140, critical_low: 30, critical_high: 160 })
        .unwrap();
    alarms.set_limits(Some(mrn()), Some(own));
    assert_eq!(evaluate(&mut alarms, 1, 134), None);
    assert_eq!(alarms.limits(Mrn::new(8).unwrap()), Limits::default());
    alarms.set_limits(Some(mrn()), None);
    assert!(evaluate(&mut alarms, 1, 134).is_some(), "the same strip is evaluated again");
}

#[test]
fn limits_acknowledgements_and_history_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("alarms.json");
    let mut alarms = load(&path).unwrap();
    assert_eq!(alarms, Alarms::default());
    let own = Limits::try_from(UncheckedLimits { low: 55, high: 110, critical_low: 40, critical_high: 140 })
        .unwrap();
    alarms.set_limits(Some(mrn()), Some(own));
    evaluate(&mut alarms, 1, 134);
    alarms.acknowledge(mrn(), at(2));
    save(&path, &alarms).unwrap();
    let mut again = load(&path).unwrap();
    assert_eq!(again.limits(mrn()), own);
    assert!(!again.evaluate(&patient(1, 134), at(9)), "the same strip is not a new alarm");
    assert!(again.get(mrn()).unwrap().is_acknowledged);
    assert_eq!(again.history().count(), 2);
}

#[test]
fn damaged_file_is_renamed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alarms.json");
    std::fs::write(&path, "{\"defaults\":").unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("default limits"), "{error}");
    assert!(!path.exists() && folder.path().join("alarms.unreadable").exists());
    assert_eq!(load(&path).unwrap(), Alarms::default());
}

#[test]
fn history_is_bounded() {
    let mut alarms = Alarms::default();
    for second in 0..(MAX_HISTORY as i64 * 2) {
        evaluate(&mut alarms, second, if second % 2 == 0 { 134 } else { 80 });
    }
    assert_eq!(alarms.history().count(), MAX_HISTORY);
    assert_eq!(alarms.history().next().unwrap().event, AlarmEvent::Ended);
}
