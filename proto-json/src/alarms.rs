//! Alarms of the server: their rules, states, limits, and the calls that change them.
//!
//! An alarm belongs to one patient and one rule. Its life cycle is a state machine; docs/ALARMS.md describes it. The service
//! `alarms` is its only writer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Mrn, RecordId, StreamId, WardId};
use crate::time::Timestamp;

/// The rule that raises an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmRule {
    /// No beat for some seconds on a usable live lead.
    Asystole,
    /// Onset of ventricular fibrillation or a fast ventricular rhythm.
    VentricularRun,
    /// The heart rate is below the extreme low limit.
    HeartRateExtremeLow,
    /// The heart rate is above the extreme high limit.
    HeartRateExtremeHigh,
    /// The heart rate is below the low limit.
    HeartRateLow,
    /// The heart rate is above the high limit.
    HeartRateHigh,
    /// A pause between two beats.
    Pause,
    /// Onset of atrial fibrillation.
    AtrialFibrillation,
    /// The oxygen saturation is below its limit.
    Spo2Low,
    /// The respiration rate is below its limit.
    RespirationLow,
    /// The respiration rate is above its limit.
    RespirationHigh,
    /// An electrode or sensor is disconnected.
    LeadOff,
    /// The signal supports no heart rate.
    UnusableSignal,
    /// A device that was sending has stopped.
    SilentDevice,
    /// An admitted patient has no data.
    NoData,
    /// A person has accessed the patient of another ward in an emergency.
    Notice,
}

impl AlarmRule {
    /// All rules.
    pub const ALL: [AlarmRule; 16] = [
        AlarmRule::Asystole,
        AlarmRule::VentricularRun,
        AlarmRule::HeartRateExtremeLow,
        AlarmRule::HeartRateExtremeHigh,
        AlarmRule::HeartRateLow,
        AlarmRule::HeartRateHigh,
        AlarmRule::Pause,
        AlarmRule::AtrialFibrillation,
        AlarmRule::Spo2Low,
        AlarmRule::RespirationLow,
        AlarmRule::RespirationHigh,
        AlarmRule::LeadOff,
        AlarmRule::UnusableSignal,
        AlarmRule::SilentDevice,
        AlarmRule::NoData,
        AlarmRule::Notice,
    ];

    /// Returns the name of the rule in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AlarmRule::Asystole => "asystole",
            AlarmRule::VentricularRun => "ventricular_run",
            AlarmRule::HeartRateExtremeLow => "heart_rate_extreme_low",
            AlarmRule::HeartRateExtremeHigh => "heart_rate_extreme_high",
            AlarmRule::HeartRateLow => "heart_rate_low",
            AlarmRule::HeartRateHigh => "heart_rate_high",
            AlarmRule::Pause => "pause",
            AlarmRule::AtrialFibrillation => "atrial_fibrillation",
            AlarmRule::Spo2Low => "spo2_low",
            AlarmRule::RespirationLow => "respiration_low",
            AlarmRule::RespirationHigh => "respiration_high",
            AlarmRule::LeadOff => "lead_off",
            AlarmRule::UnusableSignal => "unusable_signal",
            AlarmRule::SilentDevice => "silent_device",
            AlarmRule::NoData => "no_data",
            AlarmRule::Notice => "notice",
        }
    }

    /// Returns the priority of the alarms of this rule.
    #[must_use]
    pub fn priority(self) -> AlarmPriority {
        match self {
            AlarmRule::Asystole
            | AlarmRule::VentricularRun
            | AlarmRule::HeartRateExtremeLow
            | AlarmRule::HeartRateExtremeHigh => AlarmPriority::High,
            AlarmRule::HeartRateLow
            | AlarmRule::HeartRateHigh
            | AlarmRule::Pause
            | AlarmRule::Spo2Low
            | AlarmRule::RespirationLow
            | AlarmRule::RespirationHigh => AlarmPriority::Medium,
            AlarmRule::AtrialFibrillation | AlarmRule::Notice => AlarmPriority::Low,
            AlarmRule::LeadOff | AlarmRule::UnusableSignal | AlarmRule::SilentDevice | AlarmRule::NoData => {
                AlarmPriority::Technical
            }
        }
    }
}

/// Priority of an alarm, as in IEC 60601-1-8, and technical alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmPriority {
    /// The condition concerns the measurement, not the patient.
    Technical,
    /// Awareness is required.
    Low,
    /// Prompt response is required.
    Medium,
    /// Immediate response is required. The alarm latches: it stays until it is reset.
    High,
}

impl AlarmPriority {
    /// All priorities, ascending.
    pub const ALL: [AlarmPriority; 4] =
        [AlarmPriority::Technical, AlarmPriority::Low, AlarmPriority::Medium, AlarmPriority::High];

    /// Returns the name of the priority in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AlarmPriority::Technical => "technical",
            AlarmPriority::Low => "low",
            AlarmPriority::Medium => "medium",
            AlarmPriority::High => "high",
        }
    }
}

/// State of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// The condition is present and nobody has acknowledged the alarm.
    Raised,
    /// The condition is present, and the alarm is acknowledged.
    Acknowledged,
    /// The condition is over; the alarm latches until it is acknowledged or reset.
    Latched,
    /// The alarm is over.
    Ended,
}

/// Namespace of the ids of alarms.
const ALARMS: Uuid = Uuid::from_u128(0x2a3c_5d17_9b61_4e0f_8d42_6c1e_70f9_b3d4);

impl Alarm {
    /// Returns the id of the alarm of a patient and a rule whose condition began at `onset_at`. It begins with that time.
    #[must_use]
    pub fn id_of(mrn: Mrn, rule: AlarmRule, onset_at: Timestamp) -> RecordId {
        let hash =
            Uuid::new_v5(&ALARMS, format!("{mrn}/{}/{}", rule.name(), onset_at.as_millis()).as_bytes());
        let mut bytes = *hash.as_bytes();
        let time = onset_at.as_millis().to_be_bytes();
        bytes[..6].copy_from_slice(&time[2..]);
        RecordId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Returns whether the alarm has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != AlarmState::Ended
    }
}

/// An alarm of a patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// Id of the alarm. It is derived from patient, rule and time of the onset, so a replay of the same input raises the same
    /// alarm.
    pub id: RecordId,
    /// The patient.
    pub mrn: Mrn,
    /// The rule.
    pub rule: AlarmRule,
    /// Priority.
    pub priority: AlarmPriority,
    /// State.
    pub state: AlarmState,
    /// Each change increases the version. Of two states of an alarm, the one with the higher version is newer.
    pub version: u64,
    /// What raised the alarm, for example `HR 152 > 150`. The worst value so far.
    pub text: String,
    /// The worst value since the onset, in the unit of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<f64>,
    /// When the worst value was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_at: Option<Timestamp>,
    /// The limit that was exceeded, in the unit of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Time of the input that began the condition.
    pub onset_at: Timestamp,
    /// Time of the input that raised the alarm, after the delay of the rule.
    pub raised_at: Timestamp,
    /// When the condition was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<Timestamp>,
    /// When the alarm ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended, if neither its condition was over nor a user has ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<AlarmEndReason>,
    /// Who acknowledged it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<AlarmAction>,
    /// Who paused its sound, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_paused: Option<AlarmAction>,
    /// Until when its sound is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_paused_until: Option<Timestamp>,
    /// Who reset it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<AlarmAction>,
    /// The ECG that raised it, if a strip did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_id: Option<RecordId>,
    /// The stream that raised it, if live waveforms did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
}

/// Why an alarm ended although its condition was not known to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmEndReason {
    /// The patient was discharged; only technical alarms.
    Discharged,
    /// The patient was merged into another one.
    Merged,
    /// The patient was erased.
    Erased,
    /// The record that raised the alarm is not one of the patient any more.
    RecordCorrected,
}

/// An action of a user on an alarm or on limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmAction {
    /// Name of the user or of the client.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Open alarms, or the history of alarms, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmPage {
    /// Alarms.
    pub items: Vec<Alarm>,
    /// Cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A notification that a receiver did not take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UndeliveredAlarm {
    /// URL of the receiver, without user, password and query.
    pub receiver: String,
    /// Version of the state that was to be delivered.
    pub version: u64,
    /// The alarm as it is now.
    pub alarm: Alarm,
    /// Number of attempts.
    pub attempts: u32,
    /// Why the last one failed.
    pub reason: String,
    /// When it was given up.
    pub given_up_at: Timestamp,
}

/// Notifications that receivers did not take, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UndeliveredAlarms {
    /// At most 1000 of each receiver.
    pub items: Vec<UndeliveredAlarm>,
}

/// Body of an action on an alarm: the version that the user saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmActionRequest {
    /// If the alarm has changed since this version, the action is rejected with 409 and the alarm stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: Option<u64>,
}

/// Body of an audio pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioPauseRequest {
    /// As in [`AlarmActionRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: Option<u64>,
    /// Seconds for which the sound is paused. Default: the setting of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub seconds: Option<u32>,
}

/// What limits apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum LimitScope {
    /// Everyone.
    Site,
    /// The patients of a ward.
    Ward {
        /// The ward.
        ward: WardId,
    },
    /// One patient.
    Patient {
        /// The patient.
        mrn: Mrn,
    },
}

impl std::fmt::Display for LimitScope {
    /// The text is a key: `site`, `ward/` and the id, or `patient/` and the number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LimitScope::Site => f.write_str("site"),
            LimitScope::Ward { ward } => write!(f, "ward/{ward}"),
            LimitScope::Patient { mrn } => write!(f, "patient/{mrn}"),
        }
    }
}

impl std::str::FromStr for LimitScope {
    type Err = LimitScopeError;

    fn from_str(text: &str) -> Result<Self, LimitScopeError> {
        if let Some(ward) = text.strip_prefix("ward/") {
            return ward.parse().map(|ward| LimitScope::Ward { ward }).map_err(|_| LimitScopeError);
        }
        if let Some(mrn) = text.strip_prefix("patient/") {
            return mrn.parse().map(|mrn| LimitScope::Patient { mrn }).map_err(|_| LimitScopeError);
        }
        if text == "site" { Ok(LimitScope::Site) } else { Err(LimitScopeError) }
    }
}

/// The text is not the key of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text names neither the site nor a ward nor a patient")]
pub struct LimitScopeError;

/// Body of a change of limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// The limits that the scope sets from now on. An absent value is taken from the ward, the site or the defaults.
    pub limits: AlarmLimits,
    /// The version that the user saw; 0 if nothing is stored. Another version is rejected with 409.
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: u64,
}

/// Limits and delays. An absent value is taken from the ward, then from the site, then from the built-in defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmLimits {
    /// Beats per minute below which a medium alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 350))]
    pub heart_rate_low: Option<u16>,
    /// Beats per minute above which a medium alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 350))]
    pub heart_rate_high: Option<u16>,
    /// Beats per minute below which a high alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 350))]
    pub heart_rate_extreme_low: Option<u16>,
    /// Beats per minute above which a high alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 350))]
    pub heart_rate_extreme_high: Option<u16>,
    /// Seconds that a rate must be outside of a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60))]
    pub heart_rate_delay_s: Option<u16>,
    /// Seconds without a beat that raise an asystole alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2.5, max = 8.0))]
    pub asystole_s: Option<f64>,
    /// Seconds between two beats that raise a pause alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.5, max = 6.0))]
    pub pause_s: Option<f64>,
    /// Whether the onset of atrial fibrillation raises an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub atrial_fibrillation: Option<bool>,
    /// Oxygen saturation in percent below which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 100))]
    pub spo2_low: Option<u16>,
    /// Breaths per minute below which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 150))]
    pub respiration_low: Option<u16>,
    /// Breaths per minute above which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 150))]
    pub respiration_high: Option<u16>,
}

impl AlarmLimits {
    /// Returns these limits; absent values are those of `other`.
    #[must_use]
    pub fn or(self, other: AlarmLimits) -> AlarmLimits {
        AlarmLimits {
            heart_rate_low: self.heart_rate_low.or(other.heart_rate_low),
            heart_rate_high: self.heart_rate_high.or(other.heart_rate_high),
            heart_rate_extreme_low: self.heart_rate_extreme_low.or(other.heart_rate_extreme_low),
            heart_rate_extreme_high: self.heart_rate_extreme_high.or(other.heart_rate_extreme_high),
            heart_rate_delay_s: self.heart_rate_delay_s.or(other.heart_rate_delay_s),
            asystole_s: self.asystole_s.or(other.asystole_s),
            pause_s: self.pause_s.or(other.pause_s),
            atrial_fibrillation: self.atrial_fibrillation.or(other.atrial_fibrillation),
            spo2_low: self.spo2_low.or(other.spo2_low),
            respiration_low: self.respiration_low.or(other.respiration_low),
            respiration_high: self.respiration_high.or(other.respiration_high),
        }
    }
}

/// Stored limits of a scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredLimits {
    /// What they apply to.
    pub scope: LimitScope,
    /// The limits that this scope sets.
    pub limits: AlarmLimits,
    /// The limits that apply after those of ward, site and the built-in defaults; no value is absent.
    pub effective: AlarmLimits,
    /// Each change increases the version; 0 if nothing is stored.
    pub version: u64,
    /// Who changed them last, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<AlarmAction>,
}

/// alarms -> subscribers: an alarm has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmUpdated {
    /// The alarm after the change. Apply it only if its version is higher than the known one.
    pub alarm: Alarm,
    /// When it was published, in server time.
    pub sent_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rules_and_priorities_are_those_in_json() {
        for rule in AlarmRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
        for priority in AlarmPriority::ALL {
            assert_eq!(serde_json::to_value(priority).unwrap(), priority.name());
        }
    }

    #[test]
    fn id_depends_on_patient_rule_and_onset_and_begins_with_the_time() {
        let at = |millis: i64| Timestamp::from_millis(1_800_000_000_000 + millis).unwrap();
        let mrn = |number| Mrn::new(number).unwrap();
        let id = Alarm::id_of(mrn(7), AlarmRule::Asystole, at(0));
        assert_eq!(id, Alarm::id_of(mrn(7), AlarmRule::Asystole, at(0)));
        assert_ne!(id, Alarm::id_of(mrn(8), AlarmRule::Asystole, at(0)));
        assert_ne!(id, Alarm::id_of(mrn(7), AlarmRule::Pause, at(0)));
        assert!(id < Alarm::id_of(mrn(7), AlarmRule::Asystole, at(1)));
    }

    #[test]
    fn scope_is_restored_from_its_key() {
        let scopes = [
            LimitScope::Site,
            LimitScope::Ward { ward: WardId::from_uuid(Uuid::from_u128(5)) },
            LimitScope::Patient { mrn: Mrn::new(7).unwrap() },
        ];
        for scope in scopes {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!("patient/x".parse::<LimitScope>(), Err(LimitScopeError));
    }
}
