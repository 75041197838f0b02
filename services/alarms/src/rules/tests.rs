//! The rules on sequences of input.

use proptest::prelude::*;
use proto_json::alarms::AlarmLimits;
use proto_json::waveform::{BeatTimes, Numeric, VitalsSource};
use proto_json::{Mrn, UploadId};

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

fn limits() -> Effective {
    Effective::of(AlarmLimits::default())
}

fn numeric(code: &str, value: f64, time: Timestamp) -> Numeric {
    Numeric { code: code.to_owned(), value, unit: "/min".to_owned(), time }
}

/// Vitals of a regular rhythm with this rate.
fn vitals(millis: i64, rate: f64) -> Vitals {
    let time = at(millis);
    let interval = (60_000.0 / rate) as u32;
    Vitals {
        mrn: Mrn::new(7).unwrap(),
        stream: None,
        time,
        values: vec![numeric("MDC_ECG_HEART_RATE", rate, time)],
        rhythm: Some("sinus_rhythm".to_owned()),
        quality: EcgQuality::Good,
        lead_off: Vec::new(),
        source: VitalsSource::Analysis,
        streams: StreamsState::Live,
        beats: Some(BeatTimes {
            last: time.plus_millis(-500),
            silent_ms: 200,
            intervals_ms: vec![interval; BeatTimes::MAX_INTERVALS],
        }),
    }
}

/// Vitals without a beat for this long.
fn silent(millis: i64, silent_ms: u32) -> Vitals {
    let mut vitals = vitals(millis, 72.0);
    if let Some(beats) = &mut vitals.beats {
        beats.silent_ms = silent_ms;
        beats.last = at(millis - i64::from(silent_ms) - 300);
    }
    vitals
}

/// Vitals without any statement.
fn noise(millis: i64) -> Vitals {
    Vitals {
        values: Vec::new(),
        rhythm: None,
        quality: EcgQuality::Unusable,
        beats: None,
        ..vitals(millis, 72.0)
    }
}

fn take(rules: &mut PatientRules, vitals: Vitals) -> Vec<Change> {
    rules.take(&Input::Vitals(Box::new(vitals)), &limits())
}

fn run(rules: &mut PatientRules, all: impl IntoIterator<Item = Vitals>) -> Vec<Change> {
    all.into_iter().flat_map(|vitals| take(rules, vitals)).collect()
}

/// Rules of the changes, with + for raised, * for worse and - for over.
fn short(changes: &[Change]) -> Vec<String> {
    let sign = |change: &Change| match change {
        Change::Raised(..) => '+',
        Change::Worse(..) => '*',
        Change::Over(..) => '-',
        Change::Withdrawn(..) => '!',
    };
    changes.iter().map(|change| format!("{}{}", sign(change), change.rule().name())).collect()
}

fn seconds(range: std::ops::Range<i64>, rate: f64) -> impl Iterator<Item = Vitals> {
    range.map(move |second| vitals(second * 1_000, rate))
}

#[test]
fn asystole_is_raised_at_its_limit_and_over_after_beats_for_three_seconds() {
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..10, 72.0));
    let quarters = (0..12).map(|quarter| silent(10_000 + quarter * 250, 1_750 + quarter as u32 * 250));
    let changes = run(&mut rules, quarters);
    assert_eq!(short(&changes), ["+pause", "*pause", "+asystole"]);
    let Some(Change::Raised(_, onset)) = changes.last() else { panic!("{changes:?}") };
    assert_eq!((onset.onset_at, onset.text.as_str()), (at(12_250), "No beat for 4 s"));
    // Noise says nothing.
    assert!(run(&mut rules, (13..30).map(|second| noise(second * 1_000))).is_empty());
    let changes = run(&mut rules, seconds(30..36, 72.0));
    assert_eq!(short(&changes), ["-asystole"]);
    assert!(matches!(changes[0], Change::Over(_, time) if time == at(33_000)));
}

#[test]
fn gap_in_the_samples_neither_ends_an_asystole_nor_hides_one() {
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..10, 72.0));
    assert_eq!(short(&run(&mut rules, [silent(14_000, 4_000)])), ["+asystole"]);
    // Samples are lost from 14 s to 20 s.
    let after_gap = |millis: i64| {
        let mut vitals = silent(millis, (millis - 20_000) as u32);
        vitals.beats.as_mut().unwrap().last = at(9_700);
        vitals
    };
    let quarters = || (0..20).map(|quarter| after_gap(20_000 + quarter * 250));
    assert!(run(&mut rules, quarters()).is_empty());
    assert_eq!(short(&run(&mut rules, seconds(30..34, 72.0))), ["-asystole"]);
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..10, 72.0));
    let changes = run(&mut rules, quarters());
    assert_eq!(short(&changes), ["+pause", "*pause", "+asystole"]);
    let Some(Change::Raised(_, onset)) = changes.last() else { panic!("{changes:?}") };
    assert_eq!(onset.onset_at, at(24_000));
}

#[test]
fn rate_is_out_of_its_limit_for_the_delay_without_interruption() {
    let mut rules = PatientRules::default();
    let changes =
        run(&mut rules, seconds(0..9, 130.0).chain(seconds(9..10, 110.0)).chain(seconds(10..20, 130.0)));
    assert!(changes.is_empty(), "{changes:?}");
    let changes = run(&mut rules, seconds(20..21, 131.0));
    assert_eq!(short(&changes), ["+heart_rate_high"]);
    let Some(Change::Raised(_, onset)) = changes.first() else { panic!() };
    assert_eq!((onset.onset_at, onset.raised_at), (at(10_000), at(20_000)));
    assert_eq!((onset.value, onset.limit, onset.text.as_str()), (Some(131.0), Some(120.0), "HR 131 > 120"));
    // Within the limit, but not by the margin.
    assert!(run(&mut rules, seconds(21..40, 119.0)).is_empty());
    assert_eq!(short(&run(&mut rules, seconds(40..50, 110.0))), ["-heart_rate_high"]);
}

#[test]
fn extreme_rates_are_raised_at_once_and_suppress_the_lesser_alarm() {
    let mut rules = PatientRules::default();
    assert_eq!(short(&run(&mut rules, seconds(0..20, 180.0))), ["+heart_rate_extreme_high"]);
    let mut rules = PatientRules::default();
    assert_eq!(short(&run(&mut rules, seconds(0..20, 30.0))), ["+heart_rate_extreme_low"]);
    // The rate rises: the lesser alarm follows after its delay.
    assert_eq!(
        short(&run(&mut rules, seconds(20..40, 45.0))),
        ["-heart_rate_extreme_low", "+heart_rate_low"]
    );
}

#[test]
fn short_noise_does_not_interrupt_a_delay_and_a_long_one_does() {
    let mut rules = PatientRules::default();
    let mut changes = run(&mut rules, seconds(0..4, 130.0));
    changes.extend(run(&mut rules, (4..8).map(|second| noise(second * 1_000))));
    changes.extend(run(&mut rules, seconds(8..11, 130.0)));
    assert_eq!(short(&changes), ["+heart_rate_high"]);
    let mut rules = PatientRules::default();
    let mut changes = run(&mut rules, seconds(0..4, 130.0));
    changes.extend(run(&mut rules, (4..12).map(|second| noise(second * 1_000))));
    changes.extend(run(&mut rules, seconds(12..22, 130.0)));
    assert_eq!(short(&changes), [""; 0]);
}

#[test]
fn gap_in_the_input_and_a_restart_end_nothing() {
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..20, 180.0));
    let json = serde_json::to_string(&rules).unwrap();
    let mut restarted: PatientRules = serde_json::from_str(&json).unwrap();
    for rules in [&mut rules, &mut restarted] {
        // Two safe seconds after the gap are not enough.
        assert!(run(rules, seconds(60..62, 72.0)).is_empty());
        assert!(run(rules, seconds(62..64, 180.0)).is_empty(), "it is still raised");
        assert_eq!(short(&run(rules, seconds(64..70, 72.0))), ["-heart_rate_extreme_high"]);
    }
}

#[test]
fn delay_goes_on_after_a_restart() {
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..6, 130.0));
    let json = serde_json::to_string(&rules).unwrap();
    let mut restarted: PatientRules = serde_json::from_str(&json).unwrap();
    let changes = run(&mut restarted, seconds(9..12, 130.0));
    let Some(Change::Raised(AlarmRule::HeartRateHigh, onset)) = changes.first() else {
        panic!("{changes:?}")
    };
    assert_eq!((onset.onset_at, onset.raised_at), (at(0), at(10_000)));
}

#[test]
fn silent_device_is_raised_by_vitals_and_by_missing_vitals_and_an_ended_stream_raises_nothing() {
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..10, 72.0));
    let silent = |second: i64| Vitals { streams: StreamsState::Silent, ..noise(second * 1_000) };
    assert_eq!(short(&run(&mut rules, (10..20).map(silent))), ["+silent_device"]);
    assert_eq!(short(&run(&mut rules, seconds(20..21, 72.0))), ["-silent_device"]);
    let time = |now: i64, since: i64| Input::Time { now: at(now), since: at(since) };
    assert!(rules.take(&time(34_000, 0), &limits()).is_empty());
    assert!(rules.take(&time(40_000, 30_000), &limits()).is_empty(), "nothing could be received");
    assert_eq!(short(&rules.take(&time(46_000, 30_000), &limits())), ["+silent_device"]);
    let mut rules = PatientRules::default();
    run(&mut rules, seconds(0..10, 180.0));
    let ended = Vitals { streams: StreamsState::Ended, ..noise(10_000) };
    assert_eq!(short(&take(&mut rules, ended)), ["-heart_rate_extreme_high"]);
    assert!(rules.take(&time(100_000, 0), &limits()).is_empty());
}

#[test]
fn dismissed_technical_alarm_is_raised_again_only_after_its_condition_was_over() {
    let off = |second: i64| Vitals { lead_off: vec!["II".to_owned()], ..noise(second * 1_000) };
    let mut rules = PatientRules::default();
    assert_eq!(short(&run(&mut rules, (0..10).map(off))), ["+lead_off"]);
    rules.dismiss(AlarmRule::LeadOff);
    assert!(run(&mut rules, (10..30).map(off)).is_empty());
    run(&mut rules, seconds(30..40, 72.0));
    assert_eq!(short(&run(&mut rules, (40..50).map(off))), ["+lead_off"]);
}

#[test]
fn strip_raises_and_ends_alarms_unless_the_patient_is_live() {
    let strip = |number: usize, rate: i64, time: i64| {
        let result = StripResult {
            id: UploadId::from_idempotency_key("", "strip").record("ecg", number),
            at: at(time),
            rate: Bpm::new(rate).ok(),
            has_signal: true,
            quality: Some(EcgQuality::Good),
        };
        Input::Strip(result, at(time + 2_000))
    };
    let mut rules = PatientRules::default();
    let changes = rules.take(&strip(0, 170, 0), &limits());
    assert_eq!(short(&changes), ["+heart_rate_extreme_high"]);
    let Some(Change::Raised(_, onset)) = changes.first() else { panic!() };
    assert!(onset.ecg_id.is_some());
    assert!(rules.take(&strip(0, 170, 0), &limits()).is_empty(), "the same strip again");
    assert_eq!(short(&rules.take(&strip(1, 70, 5_000), &limits())), ["-heart_rate_extreme_high"]);
    let old = StripResult {
        id: UploadId::from_idempotency_key("", "old").record("ecg", 0),
        at: at(-3_600_000),
        rate: Bpm::new(200).ok(),
        has_signal: true,
        quality: Some(EcgQuality::Good),
    };
    assert!(rules.take(&Input::Strip(old, at(6_000)), &limits()).is_empty());
    run(&mut rules, seconds(10..12, 72.0));
    assert!(rules.take(&strip(2, 170, 12_000), &limits()).is_empty(), "live");
}

#[test]
fn admitted_patient_without_data_has_an_alarm_until_there_is_data() {
    let mut rules = PatientRules::default();
    let time = |now: i64| Input::Time { now: at(now), since: at(0) };
    rules.take(&Input::Admission(Some(at(0)), at(0)), &limits());
    assert!(rules.take(&time(599_000), &limits()).is_empty());
    assert_eq!(short(&rules.take(&time(600_000), &limits())), ["+no_data"]);
    run(&mut rules, [vitals(601_000, 72.0)]);
    assert_eq!(short(&rules.take(&time(601_500), &limits())), ["-no_data"]);
}

fn any_vitals() -> impl Strategy<Value = (u8, u16, u32)> {
    (0_u8..6, 20_u16..220, 0_u32..6_000)
}

fn input((kind, rate, silent_ms): (u8, u16, u32), millis: i64) -> Input {
    let vitals = match kind {
        0 => noise(millis),
        1 => silent(millis, silent_ms),
        2 => Vitals { streams: StreamsState::Silent, ..noise(millis) },
        3 => Vitals { lead_off: vec!["II".to_owned()], ..noise(millis) },
        4 => Vitals { rhythm: Some("ventricular_run".to_owned()), ..vitals(millis, f64::from(rate)) },
        _ => vitals(millis, f64::from(rate)),
    };
    Input::Vitals(Box::new(vitals))
}

proptest! {
    /// A replay of the same input raises the same alarms, also if the state was stored and restored in between.
    #[test]
    fn replay_of_the_input_produces_the_same_changes(
        steps in prop::collection::vec((any_vitals(), 1_i64..4), 1..120),
        split in 0_usize..120,
    ) {
        let mut millis = 0;
        let inputs: Vec<Input> = steps
            .into_iter()
            .map(|(vitals, pause)| {
                millis += pause * 1_000;
                input(vitals, millis)
            })
            .collect();
        let run = |rules: &mut PatientRules, inputs: &[Input]| -> Vec<Change> {
            inputs.iter().flat_map(|input| rules.take(input, &limits())).collect()
        };
        let mut rules = PatientRules::default();
        let changes = run(&mut rules, &inputs);
        prop_assert_eq!(&run(&mut PatientRules::default(), &inputs), &changes);

        // An alarm is raised, then worse, then over; never raised twice in a row.
        let mut raised = std::collections::BTreeSet::new();
        for change in &changes {
            match change {
                Change::Raised(rule, _) => prop_assert!(raised.insert(*rule), "{rule:?} is raised twice"),
                Change::Worse(rule, _) => prop_assert!(raised.contains(rule)),
                Change::Over(rule, _) | Change::Withdrawn(rule, ..) => {
                    prop_assert!(raised.remove(rule), "{rule:?} is over twice");
                }
            }
        }
        let now: std::collections::BTreeSet<AlarmRule> = rules.raised().map(|(rule, _)| rule).collect();
        prop_assert_eq!(&now, &raised);

        // A restart raises nothing twice and loses nothing that was raised.
        let (before, after) = inputs.split_at(split.min(inputs.len()));
        let mut first = PatientRules::default();
        let mut all = run(&mut first, before);
        let restored: PatientRules = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        let mut second = restored;
        prop_assert_eq!(
            first.raised().map(|(rule, _)| rule).collect::<Vec<_>>(),
            second.raised().map(|(rule, _)| rule).collect::<Vec<_>>()
        );
        all.extend(run(&mut second, after));
        let mut raised = std::collections::BTreeSet::new();
        for change in &all {
            match change {
                Change::Raised(rule, _) => prop_assert!(raised.insert(*rule)),
                Change::Worse(..) => {}
                Change::Over(rule, _) | Change::Withdrawn(rule, ..) => prop_assert!(raised.remove(rule)),
            }
        }
    }
}

#[test]
fn discharge_ends_technical_alarms_and_raises_them_again_only_after_their_condition_was_over() {
    let mut rules = PatientRules::default();
    rules.take(&Input::Admission(Some(at(0)), at(0)), &limits());
    let off = |millis| Vitals { lead_off: vec!["MDC_ECG_LEAD_II".to_owned()], ..vitals(millis, 180.0) };
    let changes = run(&mut rules, (0..12).map(|second| off(second * 1_000)));
    assert!(short(&changes).contains(&"+lead_off".to_owned()), "{changes:?}");
    assert!(short(&changes).contains(&"+heart_rate_extreme_high".to_owned()), "{changes:?}");
    let discharged = rules.take(&Input::Admission(None, at(12_000)), &limits());
    assert_eq!(
        discharged,
        [Change::Withdrawn(AlarmRule::LeadOff, at(12_000), AlarmEndReason::Discharged)],
        "the alarm of the heart rate stays"
    );
    assert!(rules.take(&Input::Admission(None, at(12_500)), &limits()).is_empty());
    let after = run(&mut rules, (12..30).map(|second| off(second * 1_000)));
    assert!(!short(&after).contains(&"+lead_off".to_owned()), "{after:?}");
    run(&mut rules, seconds(30..40, 180.0));
    let again = run(&mut rules, (40..50).map(|second| off(second * 1_000)));
    assert!(short(&again).contains(&"+lead_off".to_owned()), "{again:?}");
}

#[test]
fn discharge_ends_the_alarm_of_a_patient_without_data() {
    let mut rules = PatientRules::default();
    rules.take(&Input::Admission(Some(at(0)), at(0)), &limits());
    let time = |millis| Input::Time { now: at(millis), since: at(0) };
    assert!(rules.take(&time(NO_DATA_MS - 1), &limits()).is_empty());
    assert_eq!(short(&rules.take(&time(NO_DATA_MS), &limits())), ["+no_data"]);
    let discharged = rules.take(&Input::Admission(None, at(NO_DATA_MS + 5)), &limits());
    assert_eq!(short(&discharged), ["!no_data"]);
    assert!(rules.take(&time(NO_DATA_MS + 500), &limits()).is_empty());
    rules.take(&Input::Admission(Some(at(NO_DATA_MS + 600)), at(NO_DATA_MS + 600)), &limits());
    assert_eq!(short(&rules.take(&time(2 * NO_DATA_MS + 600), &limits())), ["+no_data"], "another stay");
}
