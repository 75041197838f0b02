//! Alarms: versions, one open alarm of a patient and a rule, pages, limits, states of rules, and the lease.

use std::time::Duration;

use proto_json::alarms::{Alarm, AlarmAction, AlarmLimits, AlarmPriority, AlarmRule, AlarmState, LimitScope};
use proto_json::{RecordId, WardId};
use store::PageRequest;
use store::alarms::{AlarmQuery, AlarmStore, AlarmWrite, LimitsWrite, ReceiverState, RuleState};
use uuid::Uuid;

use crate::harness::{Fixture, at, mrn, on_every_adapter};

on_every_adapter!(
    alarm_is_replaced_only_in_its_previous_version,
    patient_has_one_open_alarm_of_a_rule,
    history_is_read_by_patient_priority_and_state_page_by_page,
    limits_are_replaced_only_in_their_version,
    states_of_rules_are_replaced_and_removed,
    states_of_receivers_are_replaced,
    one_of_two_holders_has_the_lease_and_the_other_takes_over,
);

pub(crate) fn alarm(number: u64, rule: AlarmRule, millis: i64) -> Alarm {
    Alarm {
        id: Alarm::id_of(mrn(number), rule, at(millis)),
        mrn: mrn(number),
        rule,
        priority: rule.priority(),
        state: AlarmState::Raised,
        version: 1,
        text: "HR 152 > 150".to_owned(),
        worst: Some(152.5),
        worst_at: Some(at(millis + 1)),
        limit: Some(150.0),
        onset_at: at(millis),
        raised_at: at(millis + 1),
        cleared_at: None,
        ended_at: None,
        end_reason: None,
        acknowledged: None,
        audio_paused: None,
        audio_paused_until: None,
        reset: None,
        ecg_id: None,
        stream: None,
    }
}

pub(crate) fn ended(alarm: &Alarm) -> Alarm {
    let by = AlarmAction { by: "Zoë".to_owned(), at: at(99) };
    Alarm {
        state: AlarmState::Ended,
        version: alarm.version + 1,
        ended_at: Some(at(99)),
        acknowledged: Some(by),
        ..alarm.clone()
    }
}

async fn put(store: &dyn AlarmStore, alarm: &Alarm) {
    assert_eq!(store.put_alarm(alarm).await.unwrap(), AlarmWrite::Stored);
}

async fn alarm_is_replaced_only_in_its_previous_version(Fixture { store, .. }: Fixture) {
    let first = alarm(7, AlarmRule::Asystole, 0);
    assert_eq!(store.alarm(first.id).await.unwrap(), None);
    put(&*store, &first).await;
    put(&*store, &first).await;
    assert_eq!(store.alarm(first.id).await.unwrap().as_ref(), Some(&first));
    let seen = Alarm { state: AlarmState::Acknowledged, version: 2, ..first.clone() };
    let latched = Alarm { state: AlarmState::Latched, version: 2, ..first.clone() };
    put(&*store, &seen).await;
    assert_eq!(store.put_alarm(&latched).await.unwrap(), AlarmWrite::Conflict(Box::new(seen.clone())));
    assert_eq!(store.put_alarm(&first).await.unwrap(), AlarmWrite::Conflict(Box::new(seen.clone())));
    put(&*store, &seen).await;
    assert_eq!(store.open_alarms().await.unwrap(), std::slice::from_ref(&seen));
    let over = ended(&seen);
    put(&*store, &over).await;
    assert!(store.open_alarms().await.unwrap().is_empty());
    assert_eq!(store.put_alarm(&seen).await.unwrap(), AlarmWrite::Conflict(Box::new(over)));
    // An unknown alarm cannot be changed.
    let unknown = Alarm { version: 2, ..alarm(8, AlarmRule::Asystole, 0) };
    assert!(store.put_alarm(&unknown).await.is_err());
}

async fn patient_has_one_open_alarm_of_a_rule(Fixture { store, .. }: Fixture) {
    let first = alarm(7, AlarmRule::Asystole, 0);
    put(&*store, &first).await;
    put(&*store, &alarm(7, AlarmRule::LeadOff, 0)).await;
    put(&*store, &alarm(8, AlarmRule::Asystole, 0)).await;
    let second = alarm(7, AlarmRule::Asystole, 5_000);
    assert_eq!(store.put_alarm(&second).await.unwrap(), AlarmWrite::Conflict(Box::new(first.clone())));
    put(&*store, &ended(&first)).await;
    put(&*store, &second).await;
    let open: Vec<_> =
        store.open_alarms().await.unwrap().iter().map(|alarm| (alarm.mrn, alarm.rule)).collect();
    assert_eq!(
        open,
        [(mrn(7), AlarmRule::Asystole), (mrn(7), AlarmRule::LeadOff), (mrn(8), AlarmRule::Asystole)]
    );
}

async fn history_is_read_by_patient_priority_and_state_page_by_page(Fixture { store, .. }: Fixture) {
    let mut all = Vec::new();
    for step in 0..9_i64 {
        let rule = [AlarmRule::Asystole, AlarmRule::HeartRateHigh, AlarmRule::LeadOff][step as usize % 3];
        // Some have the same time.
        let new = alarm(7 + step as u64 % 2, rule, step / 2 * 1_000);
        put(&*store, &new).await;
        let over = ended(&new);
        put(&*store, &over).await;
        all.push(over);
    }
    let open = alarm(7, AlarmRule::Asystole, 60_000);
    put(&*store, &open).await;
    all.push(open.clone());
    all.sort_by_key(|alarm| std::cmp::Reverse((alarm.raised_at, alarm.id)));
    let queries = [
        AlarmQuery::default(),
        AlarmQuery { mrn: Some(mrn(7)), ..AlarmQuery::default() },
        AlarmQuery { priority: Some(AlarmPriority::Medium), ..AlarmQuery::default() },
        AlarmQuery { is_open: Some(true), ..AlarmQuery::default() },
        AlarmQuery { mrn: Some(mrn(7)), is_open: Some(false), priority: Some(AlarmPriority::High) },
    ];
    for query in queries {
        let expected: Vec<RecordId> = all
            .iter()
            .filter(|alarm| query.mrn.is_none_or(|mrn| mrn == alarm.mrn))
            .filter(|alarm| query.priority.is_none_or(|priority| priority == alarm.priority))
            .filter(|alarm| query.is_open.is_none_or(|is_open| is_open == alarm.is_open()))
            .map(|alarm| alarm.id)
            .collect();
        for limit in [1, 2, 100] {
            let mut found = Vec::new();
            let mut page = PageRequest { after: None, limit, include_errors: false };
            loop {
                let list = store.alarms(query, page).await.unwrap();
                assert!(list.items.len() <= limit);
                found.extend(list.items.iter().map(|alarm| alarm.id));
                page.after = list.next;
                if page.after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{query:?} {limit}");
        }
    }
    let wrong =
        PageRequest { after: Some(proto_json::Cursor::Patient(mrn(7))), limit: 1, include_errors: false };
    assert!(matches!(store.alarms(AlarmQuery::default(), wrong).await, Err(store::StoreError::WrongCursor)));
}

async fn limits_are_replaced_only_in_their_version(Fixture { store, .. }: Fixture) {
    let by = |name: &str| AlarmAction { by: name.to_owned(), at: at(5) };
    let high = |rate| AlarmLimits { heart_rate_high: Some(rate), ..AlarmLimits::default() };
    let ward = LimitScope::Ward { ward: WardId::from_uuid(Uuid::from_u128(5)) };
    let patient = LimitScope::Patient { mrn: mrn(7) };
    assert!(store.limits().await.unwrap().is_empty());
    for scope in [LimitScope::Site, ward, patient] {
        assert_eq!(store.put_limits(scope, high(110), 3, by("Ann")).await.unwrap(), LimitsWrite::Conflict(0));
        let largest = store.put_limits(scope, high(110), u64::MAX, by("Ann")).await.unwrap();
        assert_eq!(largest, LimitsWrite::Conflict(0));
        let LimitsWrite::Stored(first) = store.put_limits(scope, high(110), 0, by("Ann")).await.unwrap()
        else {
            panic!("{scope:?}")
        };
        assert_eq!((first.version, first.limits, &first.changed), (1, high(110), &by("Ann")));
        assert_eq!(store.put_limits(scope, high(130), 0, by("Bob")).await.unwrap(), LimitsWrite::Conflict(1));
        let stored = store.put_limits(scope, high(130), 1, by("Zoë")).await.unwrap();
        assert!(matches!(stored, LimitsWrite::Stored(second) if second.version == 2));
    }
    let stored = store.limits().await.unwrap();
    let found: Vec<_> = stored.iter().map(|limits| (limits.scope, limits.version, limits.limits)).collect();
    assert_eq!(found, [patient, LimitScope::Site, ward].map(|scope| (scope, 2, high(130))));
    assert!(stored.iter().all(|limits| limits.changed == by("Zoë")));
}

async fn states_of_rules_are_replaced_and_removed(Fixture { store, .. }: Fixture) {
    let state = |number, text: &str| RuleState { mrn: mrn(number), state: text.to_owned() };
    store.put_rule_states(vec![state(8, "{\"a\":1}"), state(7, "{}")]).await.unwrap();
    store.put_rule_states(vec![state(7, "{\"b\":2}"), state(9, "{}")]).await.unwrap();
    store.put_rule_states(vec![state(9, ""), state(10, "")]).await.unwrap();
    let expected = [state(7, "{\"b\":2}"), state(8, "{\"a\":1}")];
    assert_eq!(store.rule_states().await.unwrap(), expected);
}

async fn states_of_receivers_are_replaced(Fixture { store, .. }: Fixture) {
    let state =
        |receiver: &str, text: &str| ReceiverState { receiver: receiver.to_owned(), state: text.to_owned() };
    for (receiver, text) in [("b", "{}"), ("a", "{\"a\":1}"), ("b", "{\"b\":2}")] {
        store.put_receiver_state(state(receiver, text)).await.unwrap();
    }
    let expected = [state("a", "{\"a\":1}"), state("b", "{\"b\":2}")];
    assert_eq!(store.receiver_states().await.unwrap(), expected);
}

async fn one_of_two_holders_has_the_lease_and_the_other_takes_over(Fixture { store, .. }: Fixture) {
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let long = Duration::from_secs(60);
    assert!(store.lease_alarms(one, long).await.unwrap());
    assert!(!store.lease_alarms(other, long).await.unwrap());
    assert!(store.lease_alarms(one, Duration::from_millis(200)).await.unwrap(), "it is renewed");
    let started = std::time::Instant::now();
    while !store.lease_alarms(other, long).await.unwrap() {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!store.lease_alarms(one, long).await.unwrap());
    store.release_alarms(one).await.unwrap();
    assert!(!store.lease_alarms(one, long).await.unwrap(), "it belongs to the other");
    store.release_alarms(other).await.unwrap();
    assert!(store.lease_alarms(one, long).await.unwrap());
}
