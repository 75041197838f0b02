//! Alarms of the server: their rules, states, limits, and the calls that change them.
//!
//! An alarm belongs to one patient and one rule. Its life cycle is a state machine; docs/ALARMS.md describes it. The service
//! `alarms` is its only writer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// A patient was renamed without confirmation, or a record was read in an emergency.
    Notice,
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

/// Body of an action on an alarm: the version that the user saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmActionRequest {
    /// If the alarm has changed to another rule priority since this version, the action is rejected with 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Seconds for which the sound is paused; only for an audio pause. Default: the setting of the service.
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

/// Limits and delays. An absent value is taken from the ward, then from the site, then from the built-in defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmLimits {
    /// Beats per minute below which a medium alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate_low: Option<u16>,
    /// Beats per minute above which a medium alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate_high: Option<u16>,
    /// Beats per minute below which a high alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate_extreme_low: Option<u16>,
    /// Beats per minute above which a high alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate_extreme_high: Option<u16>,
    /// Seconds that a rate must be outside of a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heart_rate_delay_s: Option<u16>,
    /// Seconds without a beat that raise an asystole alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asystole_s: Option<f64>,
    /// Seconds between two beats that raise a pause alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_s: Option<f64>,
    /// Whether the onset of atrial fibrillation raises an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub atrial_fibrillation: Option<bool>,
    /// Oxygen saturation in percent below which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spo2_low: Option<u16>,
    /// Breaths per minute below which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respiration_low: Option<u16>,
    /// Breaths per minute above which an alarm is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respiration_high: Option<u16>,
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
