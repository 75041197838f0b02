//! The life cycle of an alarm: a state machine without I/O. docs/ALARMS.md draws it.
//!
//! ```text
//! raised ──acknowledge──▶ acknowledged ──condition over──▶ ended
//! raised ──condition over──▶ latched (priority high) or ended
//! latched ──condition present again──▶ raised
//! latched ──acknowledge or reset──▶ ended
//! any ──withdrawn──▶ ended
//! ```
//!
//! - A reset of an alarm whose condition is present is recorded and counts as an acknowledgement. A technical alarm ends at its
//!   reset (technical alarm conditions may be inactivated: IEC 60601-1-8, clause 6.8).
//! - A notice has no condition that lasts: it begins as latched, and another one makes it unseen again.
//! - An alarm is withdrawn when its patient is discharged (technical alarms only), merged or erased, and when the record that
//!   raised it is not one of the patient any more.
//! - An audio pause does not change the state. It expires.
//! - Each transition increases the version by one. An action that changes nothing leaves the version.

use proto_json::Mrn;
use proto_json::Timestamp;
use proto_json::alarms::{Alarm, AlarmAction, AlarmEndReason, AlarmPriority, AlarmRule, AlarmState};

use crate::rules::Onset;

/// An action of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The user has noticed the alarm.
    Acknowledge,
    /// No sound for this many seconds.
    AudioPause {
        /// Seconds.
        seconds: u32,
    },
    /// The user ends a latched or technical alarm.
    Reset,
}

/// The alarm has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the alarm has ended already")]
pub struct HasEnded;

/// Time in which the repetition of an action that has ended an alarm is no error.
const REPEATED_MS: i64 = 10_000;

/// Whether an alarm stays until a user has seen it.
fn latches(priority: AlarmPriority) -> bool {
    priority == AlarmPriority::High
}

/// A new alarm.
#[must_use]
pub fn raise(mrn: Mrn, rule: AlarmRule, onset: &Onset) -> Alarm {
    Alarm {
        id: Alarm::id_of(mrn, rule, onset.onset_at),
        mrn,
        rule,
        priority: rule.priority(),
        state: AlarmState::Raised,
        version: 1,
        text: onset.text.clone(),
        worst: onset.value,
        worst_at: onset.value.map(|_| onset.value_at),
        limit: onset.limit,
        onset_at: onset.onset_at,
        raised_at: onset.raised_at,
        cleared_at: None,
        ended_at: None,
        end_reason: None,
        acknowledged: None,
        audio_paused: None,
        audio_paused_until: None,
        reset: None,
        ecg_id: onset.ecg_id,
        stream: onset.stream,
    }
}

fn changed(alarm: &Alarm) -> Alarm {
    Alarm { version: alarm.version + 1, ..alarm.clone() }
}

fn ended(alarm: &Alarm, at: Timestamp) -> Alarm {
    Alarm { state: AlarmState::Ended, ended_at: Some(at), audio_paused_until: None, ..changed(alarm) }
}

/// The condition is present again. `None` if that changes nothing.
#[must_use]
pub fn recur(alarm: &Alarm, onset: &Onset) -> Option<Alarm> {
    (alarm.state == AlarmState::Latched).then(|| {
        let mut next =
            Alarm { state: AlarmState::Raised, cleared_at: None, acknowledged: None, ..changed(alarm) };
        // Another occurrence: the pause of the sound was for the earlier one.
        next.audio_paused_until = None;
        next.text.clone_from(&onset.text);
        next.worst = onset.value;
        next.worst_at = onset.value.map(|_| onset.value_at);
        next
    })
}

/// The value is worse. `None` if that changes nothing.
#[must_use]
pub fn worsen(alarm: &Alarm, onset: &Onset) -> Option<Alarm> {
    let is_present = matches!(alarm.state, AlarmState::Raised | AlarmState::Acknowledged);
    (is_present && (alarm.worst, &alarm.text) != (onset.value, &onset.text)).then(|| Alarm {
        worst: onset.value,
        worst_at: Some(onset.value_at),
        text: onset.text.clone(),
        ..changed(alarm)
    })
}

/// The condition is over. `None` if that changes nothing.
#[must_use]
pub fn clear(alarm: &Alarm, at: Timestamp) -> Option<Alarm> {
    match alarm.state {
        AlarmState::Raised if latches(alarm.priority) => {
            Some(Alarm { state: AlarmState::Latched, cleared_at: Some(at), ..changed(alarm) })
        }
        AlarmState::Raised | AlarmState::Acknowledged => {
            Some(Alarm { cleared_at: Some(at), ..ended(alarm, at) })
        }
        AlarmState::Latched | AlarmState::Ended => None,
    }
}

/// The alarm ends without its condition being over. `None` if that changes nothing.
#[must_use]
pub fn withdraw(alarm: &Alarm, at: Timestamp, reason: AlarmEndReason) -> Option<Alarm> {
    alarm.is_open().then(|| Alarm { end_reason: Some(reason), ..ended(alarm, at) })
}

/// A notice that begins, or the open notice of the patient after another one. `None` if this one is contained already.
#[must_use]
pub fn notice(open: Option<&Alarm>, mrn: Mrn, text: &str, at: Timestamp) -> Option<Alarm> {
    let onset = Onset {
        onset_at: at,
        raised_at: at,
        value: None,
        value_at: at,
        limit: None,
        text: text.to_owned(),
        ecg_id: None,
        stream: None,
    };
    let Some(open) = open else {
        let raised = raise(mrn, AlarmRule::Notice, &onset);
        return Some(Alarm { state: AlarmState::Latched, cleared_at: Some(at), ..raised });
    };
    (open.cleared_at < Some(at)).then(|| Alarm {
        text: onset.text,
        cleared_at: Some(at),
        audio_paused_until: None,
        ..changed(open)
    })
}

/// The time of an audio pause is over. `None` if that changes nothing.
#[must_use]
pub fn expire_pause(alarm: &Alarm, now: Timestamp) -> Option<Alarm> {
    let is_due = alarm.is_open() && alarm.audio_paused_until.is_some_and(|until| until <= now);
    is_due.then(|| Alarm { audio_paused_until: None, ..changed(alarm) })
}

/// Whether `action` was taken by the same user a moment ago, so that this is a repetition of the call.
fn is_repeated(action: Option<&AlarmAction>, by: &str, at: Timestamp) -> bool {
    action.is_some_and(|action| action.by == by && (0..REPEATED_MS).contains(&at.millis_since(action.at)))
}

/// A user acts. Returns the alarm after the action, or `None` if the action changes nothing.
///
/// # Errors
/// [`HasEnded`] if the alarm has ended, unless the same user has ended it in the same way a moment ago.
pub fn act(alarm: &Alarm, action: Action, by: &str, at: Timestamp) -> Result<Option<Alarm>, HasEnded> {
    let taken = || Some(AlarmAction { by: by.to_owned(), at });
    let next = match (action, alarm.state) {
        (Action::Acknowledge, AlarmState::Raised) => {
            Alarm { state: AlarmState::Acknowledged, acknowledged: taken(), ..changed(alarm) }
        }
        (Action::Acknowledge, AlarmState::Acknowledged) => return Ok(None),
        (Action::Acknowledge, AlarmState::Latched) => Alarm { acknowledged: taken(), ..ended(alarm, at) },
        (Action::Acknowledge, AlarmState::Ended) => {
            return if is_repeated(alarm.acknowledged.as_ref(), by, at) { Ok(None) } else { Err(HasEnded) };
        }
        (Action::Reset, AlarmState::Ended) => {
            return if is_repeated(alarm.reset.as_ref(), by, at) { Ok(None) } else { Err(HasEnded) };
        }
        (Action::Reset, AlarmState::Latched) => Alarm { reset: taken(), ..ended(alarm, at) },
        (Action::Reset, _) if alarm.priority == AlarmPriority::Technical => {
            Alarm { reset: taken(), ..ended(alarm, at) }
        }
        (Action::Reset, AlarmState::Raised) => {
            Alarm { state: AlarmState::Acknowledged, acknowledged: taken(), reset: taken(), ..changed(alarm) }
        }
        (Action::Reset, AlarmState::Acknowledged) if is_repeated(alarm.reset.as_ref(), by, at) => {
            return Ok(None);
        }
        (Action::Reset, AlarmState::Acknowledged) => Alarm { reset: taken(), ..changed(alarm) },
        (Action::AudioPause { .. }, AlarmState::Ended) => return Err(HasEnded),
        (Action::AudioPause { seconds }, _) => {
            let until = at.plus_millis(i64::from(seconds) * 1_000);
            Alarm { audio_paused: taken(), audio_paused_until: Some(until), ..changed(alarm) }
        }
    };
    Ok(Some(next))
}

/// Whether a user has ended the alarm while its condition may be present.
#[must_use]
pub fn is_dismissed(alarm: &Alarm) -> bool {
    alarm.state == AlarmState::Ended && alarm.cleared_at.is_none() && alarm.end_reason.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000).unwrap()
    }

    fn onset(value: f64) -> Onset {
        Onset {
            onset_at: at(0),
            raised_at: at(1),
            value: Some(value),
            value_at: at(1),
            limit: Some(150.0),
            text: format!("HR {value} > 150"),
            ecg_id: None,
            stream: None,
        }
    }

    fn alarm(rule: AlarmRule) -> Alarm {
        raise(Mrn::new(7).unwrap(), rule, &onset(160.0))
    }

    #[test]
    fn high_alarm_latches_until_it_is_seen_and_a_medium_one_does_not() {
        let high = alarm(AlarmRule::HeartRateExtremeHigh);
        let latched = clear(&high, at(5)).unwrap();
        assert_eq!((latched.state, latched.cleared_at), (AlarmState::Latched, Some(at(5))));
        assert_eq!(clear(&latched, at(6)), None);
        let seen = act(&latched, Action::Acknowledge, "Ann", at(7)).unwrap().unwrap();
        assert_eq!((seen.state, seen.ended_at, seen.version), (AlarmState::Ended, Some(at(7)), 3));
        assert_eq!(seen.acknowledged.unwrap().by, "Ann");
        let medium = clear(&alarm(AlarmRule::HeartRateHigh), at(5)).unwrap();
        assert_eq!((medium.state, medium.ended_at), (AlarmState::Ended, Some(at(5))));
    }

    #[test]
    fn condition_that_returns_makes_a_latched_alarm_unseen_again() {
        let latched = clear(&alarm(AlarmRule::Asystole), at(5)).unwrap();
        let again = recur(&latched, &onset(190.0)).unwrap();
        assert_eq!((again.state, again.cleared_at, again.worst), (AlarmState::Raised, None, Some(190.0)));
        assert_eq!(again.id, latched.id);
        assert_eq!(recur(&again, &onset(195.0)), None);
    }

    #[test]
    fn reset_ends_a_technical_alarm_and_acknowledges_another_one() {
        let technical = alarm(AlarmRule::LeadOff);
        let reset = act(&technical, Action::Reset, "Ann", at(3)).unwrap().unwrap();
        assert_eq!(reset.state, AlarmState::Ended);
        assert!(is_dismissed(&reset));
        let high = act(&alarm(AlarmRule::Asystole), Action::Reset, "Ann", at(3)).unwrap().unwrap();
        assert_eq!(high.state, AlarmState::Acknowledged);
        assert!(high.reset.is_some() && high.acknowledged.is_some());
    }

    #[test]
    fn repeated_call_changes_nothing_and_a_late_action_is_rejected() {
        let seen = act(&alarm(AlarmRule::HeartRateHigh), Action::Acknowledge, "Ann", at(3)).unwrap().unwrap();
        assert_eq!(act(&seen, Action::Acknowledge, "Bob", at(4)), Ok(None));
        let over = clear(&seen, at(5)).unwrap();
        assert_eq!(act(&over, Action::Acknowledge, "Ann", at(6)), Ok(None), "the same call again");
        assert_eq!(act(&over, Action::Acknowledge, "Bob", at(6)), Err(HasEnded));
        assert_eq!(act(&over, Action::AudioPause { seconds: 120 }, "Ann", at(6)), Err(HasEnded));
        assert_eq!(act(&over, Action::Reset, "Ann", at(6)), Err(HasEnded));
    }

    #[test]
    fn audio_pause_expires_and_leaves_the_state() {
        let paused = act(&alarm(AlarmRule::Asystole), Action::AudioPause { seconds: 120 }, "Ann", at(3));
        let paused = paused.unwrap().unwrap();
        assert_eq!((paused.state, paused.audio_paused_until), (AlarmState::Raised, Some(at(123))));
        assert_eq!(expire_pause(&paused, at(122)), None);
        let loud = expire_pause(&paused, at(123)).unwrap();
        assert_eq!((loud.audio_paused_until, loud.version), (None, 3));
    }

    #[test]
    fn withdrawn_alarm_ends_whatever_its_priority_and_is_no_dismissal() {
        for rule in [AlarmRule::Asystole, AlarmRule::LeadOff] {
            let over = withdraw(&alarm(rule), at(5), AlarmEndReason::Merged).unwrap();
            assert_eq!((over.state, over.ended_at), (AlarmState::Ended, Some(at(5))));
            assert_eq!((over.end_reason, over.version), (Some(AlarmEndReason::Merged), 2));
            assert!(!is_dismissed(&over));
            assert_eq!(withdraw(&over, at(6), AlarmEndReason::Erased), None);
        }
    }

    #[test]
    fn notice_stays_until_it_is_seen_and_the_same_one_changes_nothing() {
        let mrn = Mrn::new(7).unwrap();
        let first = notice(None, mrn, "Emergency access by Ann", at(1)).unwrap();
        assert_eq!((first.state, first.priority), (AlarmState::Latched, AlarmPriority::Low));
        assert_eq!(notice(Some(&first), mrn, "Emergency access by Ann", at(1)), None);
        let second = notice(Some(&first), mrn, "Emergency access by Bob", at(2)).unwrap();
        assert_eq!((second.id, second.version), (first.id, 2));
        assert_eq!(second.text, "Emergency access by Bob");
        let seen = act(&second, Action::Acknowledge, "Zoë", at(3)).unwrap().unwrap();
        assert_eq!(seen.state, AlarmState::Ended);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Act(Action),
        Clear,
        Recur,
        Worsen(u8),
        Expire,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Act(Action::Acknowledge)),
            Just(Step::Act(Action::Reset)),
            (1_u32..600).prop_map(|seconds| Step::Act(Action::AudioPause { seconds })),
            Just(Step::Clear),
            Just(Step::Recur),
            any::<u8>().prop_map(Step::Worsen),
            Just(Step::Expire),
        ]
    }

    proptest! {
        /// In any order of actions and changes: versions grow by one, an ended alarm stays as it is, and a high alarm ends only
        /// after a user has seen it.
        #[test]
        fn every_order_of_actions_keeps_the_invariants(
            rule in prop::sample::select(AlarmRule::ALL.to_vec()),
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let mut current = alarm(rule);
            for (second, step) in (2..).zip(steps) {
                let next = match step {
                    Step::Act(action) => act(&current, action, "Ann", at(second * 20)).ok().flatten(),
                    Step::Clear => clear(&current, at(second * 20)),
                    Step::Recur => recur(&current, &onset(170.0)),
                    Step::Worsen(by) => worsen(&current, &onset(f64::from(by) + 160.0)),
                    Step::Expire => expire_pause(&current, at(second * 20)),
                };
                let Some(next) = next else { continue };
                prop_assert!(current.is_open(), "an ended alarm has changed: {step:?}");
                prop_assert_eq!(next.version, current.version + 1);
                prop_assert_eq!((next.id, next.mrn, next.rule), (current.id, current.mrn, current.rule));
                prop_assert_eq!((next.onset_at, next.raised_at), (current.onset_at, current.raised_at));
                prop_assert_eq!(next.ended_at.is_some(), !next.is_open());
                if !next.is_open() && next.priority == AlarmPriority::High {
                    prop_assert!(next.acknowledged.is_some() || next.reset.is_some());
                }
                current = next;
            }
        }
    }
}
