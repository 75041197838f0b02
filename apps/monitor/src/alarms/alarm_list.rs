//! The active alarms of all patients, their limits, and the history.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto_json::{Mrn, PatientSummary, Timestamp};
use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::condition::{Condition, Reading};
use super::limits::Limits;
use super::severity::Severity;

/// The maximum number of entries in the history.
pub(super) const MAX_HISTORY: usize = 2000;

/// Which alarms stay active after their condition has ended, until they are acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latching {
    /// None.
    Never,
    /// Alarms of high severity.
    #[default]
    High,
    /// Alarms of high and medium severity.
    All,
}

impl Latching {
    /// Whether an alarm stays active although its condition has ended.
    fn applies_to(self, alarm: &Alarm) -> bool {
        let lowest = match self {
            Latching::Never => return false,
            Latching::High => Severity::High,
            Latching::All => Severity::Medium,
        };
        alarm.severity >= lowest && !alarm.is_acknowledged
    }
}

/// An event in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmEvent {
    /// The alarm was raised.
    Raised,
    /// The severity of the alarm increased.
    Escalated,
    /// The condition of the alarm ended.
    Ended,
    /// The alarm was acknowledged.
    Acknowledged,
    /// Flashing of the alarm was paused.
    #[serde(alias = "silenced")]
    Paused,
    /// Not an alarm: information about a patient.
    Noticed,
}

/// An entry of the history. It contains the number of the patient, but not the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When the event happened, by the clock of the server.
    pub at: Timestamp,
    /// The patient. `None` for an alarm about this station.
    pub mrn: Option<Mrn>,
    /// The event.
    #[serde(alias = "happening")]
    pub event: AlarmEvent,
    /// The severity of the alarm.
    pub severity: Severity,
    /// The text of the alarm.
    pub text: String,
}

/// The alarms of all patients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarms {
    defaults: Limits,
    #[serde(alias = "own")]
    patient_limits: BTreeMap<Mrn, Limits>,
    latching: Latching,
    #[serde(alias = "on")]
    active: BTreeMap<Mrn, Alarm>,
    history: VecDeque<HistoryEntry>,
    /// Increases with every change that has to be saved.
    #[serde(skip)]
    revision: u64,
}

impl Alarms {
    /// The limits of patients without limits of their own.
    #[must_use]
    pub fn defaults(&self) -> Limits {
        self.defaults
    }

    /// The limits of a patient.
    #[must_use]
    pub fn limits(&self, mrn: Mrn) -> Limits {
        self.patient_limits.get(&mrn).copied().unwrap_or(self.defaults)
    }

    /// Whether a patient has limits of their own.
    #[must_use]
    pub fn has_own_limits(&self, mrn: Mrn) -> bool {
        self.patient_limits.contains_key(&mrn)
    }

    /// Sets the limits of a patient, or the default limits if `mrn` is `None`. `None` as limits resets them. The caller has
    /// to evaluate all patients again.
    pub fn set_limits(&mut self, mrn: Option<Mrn>, limits: Option<Limits>) {
        match (mrn, limits) {
            (Some(mrn), Some(limits)) => drop(self.patient_limits.insert(mrn, limits)),
            (Some(mrn), None) => drop(self.patient_limits.remove(&mrn)),
            (None, limits) => self.defaults = limits.unwrap_or_default(),
        }
        self.revision += 1;
    }

    /// Which alarms stay active until they are acknowledged.
    #[must_use]
    pub fn latching(&self) -> Latching {
        self.latching
    }

    /// Sets which alarms stay active until they are acknowledged.
    pub fn set_latching(&mut self, latching: Latching) {
        self.latching = latching;
        self.revision += 1;
    }

    /// The active alarm of a patient.
    #[must_use]
    pub fn get(&self, mrn: Mrn) -> Option<&Alarm> {
        self.active.get(&mrn)
    }

    /// The severity of the active alarm of a patient.
    #[must_use]
    pub fn severity(&self, mrn: Mrn) -> Option<Severity> {
        self.active.get(&mrn).map(|alarm| alarm.severity)
    }

    /// All active alarms, ordered by the number of the patient.
    pub fn iter(&self) -> impl Iterator<Item = (Mrn, &Alarm)> {
        self.active.iter().map(|(mrn, alarm)| (*mrn, alarm))
    }

    /// The history, newest first.
    pub fn history(&self) -> impl Iterator<Item = &HistoryEntry> {
        self.history.iter().rev()
    }

    /// Increases with every change that has to be saved.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Evaluates the latest reading of a patient. Returns whether the alarm has changed.
    pub fn evaluate(&mut self, patient: &PatientSummary, now: Timestamp) -> bool {
        let mrn = patient.mrn;
        // While the analysis is pending, the alarm stays as it is.
        let Some(reading) = Reading::latest(patient, now) else { return false };
        let before = self.active.get(&mrn).cloned();
        match reading.condition(self.limits(mrn)) {
            Some(condition) => self.apply_condition(mrn, &reading, condition, now),
            None => self.end_condition(mrn, now),
        }
        let changed = self.active.get(&mrn) != before.as_ref();
        self.revision += u64::from(changed);
        changed
    }

    fn apply_condition(&mut self, mrn: Mrn, reading: &Reading, condition: Condition, now: Timestamp) {
        let (severity, text) = (condition.severity, condition.text.clone());
        match self.active.get_mut(&mrn) {
            Some(alarm) if alarm.cause == condition.cause => {
                let escalates = severity > alarm.severity;
                // A new reading after a latched alarm raises the alarm again.
                let is_raised_again = alarm.is_latched && alarm.reading_id != reading.id;
                alarm.update(reading, condition);
                if escalates || is_raised_again {
                    (alarm.is_acknowledged, alarm.paused_until) = (false, None);
                }
                if escalates {
                    self.record(now, Some(mrn), AlarmEvent::Escalated, severity, text);
                } else if is_raised_again {
                    self.record(now, Some(mrn), AlarmEvent::Raised, severity, text);
                }
            }
            // A less severe alarm does not replace a latched one before that is acknowledged.
            Some(alarm) if severity < alarm.severity && self.latching.applies_to(alarm) => alarm.latch(),
            _ => {
                self.record(now, Some(mrn), AlarmEvent::Raised, severity, text);
                self.active.insert(mrn, Alarm::raise(reading, condition, now));
            }
        }
    }

    fn end_condition(&mut self, mrn: Mrn, now: Timestamp) {
        let Some(alarm) = self.active.get_mut(&mrn) else { return };
        let (severity, text, was_latched) = (alarm.severity, alarm.text.clone(), alarm.is_latched);
        if self.latching.applies_to(alarm) {
            alarm.latch();
        } else {
            self.active.remove(&mrn);
        }
        if !was_latched {
            self.record(now, Some(mrn), AlarmEvent::Ended, severity, text);
        }
    }

    /// Acknowledges the alarm of a patient. Returns whether there was an alarm to acknowledge.
    pub fn acknowledge(&mut self, mrn: Mrn, now: Timestamp) -> bool {
        let alarm = self.active.get_mut(&mrn).filter(|alarm| !alarm.is_acknowledged);
        let Some(alarm) = alarm else { return false };
        (alarm.is_acknowledged, alarm.paused_until) = (true, None);
        let (severity, text, has_ended) = (alarm.severity, alarm.reason().to_owned(), alarm.is_latched);
        if has_ended {
            self.active.remove(&mrn);
        }
        self.record(now, Some(mrn), AlarmEvent::Acknowledged, severity, text);
        true
    }

    /// Pauses flashing of the alarm of a patient. A new or more severe alarm flashes nevertheless. Returns whether there was
    /// a flashing alarm.
    pub fn pause(&mut self, mrn: Mrn, length: Duration, now: Timestamp) -> bool {
        let until = i64::try_from(length.as_millis())
            .ok()
            .and_then(|length| Timestamp::from_millis(now.as_millis().saturating_add(length)).ok());
        let Some(alarm) = self.active.get_mut(&mrn).filter(|alarm| alarm.flashes(now)) else { return false };
        alarm.paused_until = until;
        let (severity, text) = (alarm.severity, alarm.reason().to_owned());
        self.record(now, Some(mrn), AlarmEvent::Paused, severity, text);
        true
    }

    /// Removes the alarms of patients that no longer exist.
    pub fn retain(&mut self, exists: impl Fn(Mrn) -> bool) {
        let before = self.active.len();
        self.active.retain(|mrn, _| exists(*mrn));
        self.revision += u64::from(self.active.len() != before);
    }

    /// Adds an event of this station to the history.
    pub fn record_station_event(&mut self, event: AlarmEvent, text: String, now: Timestamp) {
        self.record(now, None, event, Severity::Technical, text);
    }

    /// Adds information about a patient to the history.
    pub fn record_notice(&mut self, mrn: Mrn, text: String, now: Timestamp) {
        self.record(now, Some(mrn), AlarmEvent::Noticed, Severity::Technical, text);
    }

    fn record(
        &mut self,
        at: Timestamp,
        mrn: Option<Mrn>,
        event: AlarmEvent,
        severity: Severity,
        text: String,
    ) {
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(HistoryEntry { at, mrn, event, severity, text });
        self.revision += 1;
    }
}
