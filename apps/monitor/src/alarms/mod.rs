//! Alarms of the last strip of each patient: raised, acknowledged, silenced for a while, latched, remembered.
//!
//! An uploaded strip is not telemetry. What is judged is the last strip that came; that none comes is never an alarm of
//! the heart, only makes the value stale. Severity and behaviour follow the conventions of IEC 60601-1-8.

mod limits;
mod reading;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto_json::{Mrn, PatientSummary, RecordId, Timestamp};
use serde::{Deserialize, Serialize};

use reading::{Reading, Verdict};

pub use limits::{Limits, LimitsError, Raw as RawLimits};
pub use store::{StoreError, load, save};

/// Entries the history keeps.
const REMEMBERED: usize = 2000;

/// Longest time for which an alarm can be silenced.
pub const LONGEST_SILENCE_MS: i64 = 600_000;

/// How grave an alarm is; later ones are graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The system or the signal needs attention, not the patient: cyan, steady.
    Technical,
    /// Yellow, flashes at 0.6 Hz.
    Medium,
    /// Red, flashes at 2 Hz.
    High,
}

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The heart rate of the last strip is above the limit.
    Fast,
    /// The heart rate of the last strip is below the limit.
    Slow,
    /// The last strip gave no heart rate.
    NoRate,
}

/// An alarm that is on.
///
/// Its severity is the highest since it was raised or acknowledged, and so is the reading that is kept with it. The reading of
/// the last strip may be less severe, or within the limits again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What about.
    pub cause: Cause,
    /// The highest severity since it was raised or acknowledged.
    pub severity: Severity,
    /// What the worst reading says, as in `HR 134 > 120`.
    pub text: String,
    /// The heart rate of the worst reading; none if it has none, or if an earlier version kept the alarm.
    #[serde(default)]
    worst_bpm: Option<u16>,
    /// When the worst reading was recorded; none if that is not known, or if an earlier version kept the alarm.
    #[serde(default)]
    worst_at: Option<Timestamp>,
    /// What the last reading says, and how severe it is. None once the condition has ended.
    #[serde(default)]
    current: Option<(Severity, String)>,
    /// When it was raised, by the clock of the server.
    pub since: Timestamp,
    /// What it was last judged by.
    pub reading: RecordId,
    /// The condition has ended, but nobody has acknowledged the alarm yet.
    pub is_latched: bool,
    /// Somebody has seen it.
    pub is_acknowledged: bool,
    /// It does not flash before this time.
    pub silent_until: Option<Timestamp>,
}

impl Alarm {
    /// Whether it asks for attention now.
    #[must_use]
    pub fn flashes(&self, now: Timestamp) -> bool {
        self.severity > Severity::Technical && !self.is_acknowledged && !self.is_silent(now)
    }

    /// Why the alarm has its severity: what the last reading says if that is as severe, and else what the worst reading said.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.current {
            Some((severity, text)) if *severity == self.severity => text,
            _ => &self.text,
        }
    }

    /// Whether [`Alarm::reason`] is not what the last reading says.
    #[must_use]
    pub fn is_reason_past(&self) -> bool {
        self.current.as_ref().is_none_or(|(severity, _)| *severity != self.severity)
    }

    /// When the worst reading was recorded, if that is known.
    #[must_use]
    pub fn worst_at(&self) -> Option<Timestamp> {
        self.worst_at
    }

    /// What the last reading says if it is still outside of the limits, but less severe than the alarm.
    #[must_use]
    pub fn less_severe_now(&self) -> Option<&str> {
        self.current
            .as_ref()
            .filter(|(severity, _)| *severity != self.severity)
            .map(|(_, text)| text.as_str())
    }

    /// Whether a reading is worse than the worst one known.
    fn is_worse(&self, severity: Severity, bpm: Option<u16>) -> bool {
        let further = match (self.cause, bpm, self.worst_bpm) {
            (Cause::Fast, Some(bpm), Some(worst)) => bpm > worst,
            (Cause::Slow, Some(bpm), Some(worst)) => bpm < worst,
            _ => true,
        };
        severity > self.severity || severity == self.severity && further
    }

    /// Whether somebody has silenced it for now.
    #[must_use]
    pub fn is_silent(&self, now: Timestamp) -> bool {
        // A clock that is set back must not make a silence longer than any can be.
        self.silent_until.is_some_and(|until| until > now && until.millis_since(now) <= LONGEST_SILENCE_MS)
    }
}

/// Which alarms stay on after their condition is over, until somebody acknowledges them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latching {
    /// None.
    Never,
    /// Those of high severity.
    #[default]
    High,
    /// Those of high and medium severity.
    All,
}

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// It came on.
    Raised,
    /// It became graver.
    Escalated,
    /// Its condition is over.
    Ended,
    /// Somebody acknowledged it.
    Acknowledged,
    /// Somebody silenced it for a while.
    Silenced,
    /// Not an alarm: something about the patient that a person should know.
    Noticed,
}

impl Happening {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Happening::Raised => "raised",
            Happening::Escalated => "graver",
            Happening::Ended => "ended",
            Happening::Acknowledged => "acknowledged",
            Happening::Silenced => "silenced",
            Happening::Noticed => "notice",
        }
    }
}

/// An entry of the history. It names no patient but by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// When, by the clock of the server.
    pub at: Timestamp,
    /// Whose alarm; none for the station's own.
    pub mrn: Option<Mrn>,
    /// What happened.
    pub happening: Happening,
    /// How grave it was.
    pub severity: Severity,
    /// What it said.
    pub text: String,
}

/// All alarms of a station.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarms {
    defaults: Limits,
    own: BTreeMap<Mrn, Limits>,
    latching: Latching,
    on: BTreeMap<Mrn, Alarm>,
    history: VecDeque<Remembered>,
    /// Counts changes worth keeping.
    #[serde(skip)]
    changes: u64,
}

impl Alarms {
    /// Limits of patients who have none of their own.
    #[must_use]
    pub fn defaults(&self) -> Limits {
        self.defaults
    }

    /// Limits of a patient.
    #[must_use]
    pub fn limits(&self, mrn: Mrn) -> Limits {
        self.own.get(&mrn).copied().unwrap_or(self.defaults)
    }

    /// Whether a patient has limits of their own.
    #[must_use]
    pub fn has_own_limits(&self, mrn: Mrn) -> bool {
        self.own.contains_key(&mrn)
    }

    /// Sets limits: of one patient, or of all who have none of their own. `None` gives a patient the common ones back.
    /// The readings must be judged again.
    pub fn set_limits(&mut self, mrn: Option<Mrn>, limits: Option<Limits>) {
        match (mrn, limits) {
            (Some(mrn), Some(limits)) => drop(self.own.insert(mrn, limits)),
            (Some(mrn), None) => drop(self.own.remove(&mrn)),
            (None, limits) => self.defaults = limits.unwrap_or_default(),
        }
        self.changes += 1;
    }

    /// Which alarms stay on until they are acknowledged.
    #[must_use]
    pub fn latching(&self) -> Latching {
        self.latching
    }

    /// See [`Alarms::latching`].
    pub fn set_latching(&mut self, latching: Latching) {
        self.latching = latching;
        self.changes += 1;
    }

    /// The alarm of a patient, if one is on.
    #[must_use]
    pub fn of(&self, mrn: Mrn) -> Option<&Alarm> {
        self.on.get(&mrn)
    }

    /// All alarms that are on, by number of the patient.
    pub fn all(&self) -> impl Iterator<Item = (Mrn, &Alarm)> {
        self.on.iter().map(|(mrn, alarm)| (*mrn, alarm))
    }

    /// What happened, the latest first.
    pub fn history(&self) -> impl Iterator<Item = &Remembered> {
        self.history.iter().rev()
    }

    /// Grows whenever something changed that should be kept on disk.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Judges what is known of a patient. Gives whether the alarm changed.
    pub fn judge(&mut self, patient: &PatientSummary, now: Timestamp) -> bool {
        let mrn = patient.mrn;
        let Some(reading) = Reading::of(patient, now) else {
            // Not analysed yet: the last word stands.
            return false;
        };
        let before = self.on.get(&mrn).cloned();
        match reading.verdict(self.limits(mrn)) {
            Some(verdict) => self.condition(mrn, &reading, verdict, now),
            None => self.no_condition(mrn, now),
        }
        let changed = self.on.get(&mrn) != before.as_ref();
        self.changes += u64::from(changed);
        changed
    }

    fn condition(&mut self, mrn: Mrn, reading: &Reading, verdict: Verdict, now: Timestamp) {
        let Verdict { cause, severity, text } = verdict;
        match self.on.get_mut(&mrn) {
            Some(alarm) if alarm.cause == cause => {
                let escalates = severity > alarm.severity;
                // A new strip after a latched one is a new alarm of the same kind.
                let anew = alarm.is_latched && alarm.reading != reading.id;
                // What somebody has acknowledged is no longer the worst: the severity follows the readings again.
                if alarm.is_acknowledged || alarm.is_worse(severity, reading.bpm) {
                    alarm.severity = severity;
                    alarm.text.clone_from(&text);
                    (alarm.worst_bpm, alarm.worst_at) = (reading.bpm, reading.at);
                }
                (alarm.reading, alarm.is_latched) = (reading.id, false);
                alarm.current = Some((severity, text.clone()));
                if escalates || anew {
                    (alarm.is_acknowledged, alarm.silent_until) = (false, None);
                }
                if escalates {
                    self.remember(now, Some(mrn), Happening::Escalated, severity, text);
                } else if anew {
                    self.remember(now, Some(mrn), Happening::Raised, severity, text);
                }
            }
            // What needs a person is not pushed aside by what needs a technician before somebody has seen it.
            Some(alarm) if severity < alarm.severity && self.latching.holds(alarm) => {
                (alarm.is_latched, alarm.current) = (true, None);
            }
            _ => {
                self.remember(now, Some(mrn), Happening::Raised, severity, text.clone());
                let alarm = Alarm {
                    cause,
                    severity,
                    text: text.clone(),
                    worst_bpm: reading.bpm,
                    worst_at: reading.at,
                    current: Some((severity, text)),
                    since: now,
                    reading: reading.id,
                    is_latched: false,
                    is_acknowledged: false,
                    silent_until: None,
                };
                self.on.insert(mrn, alarm);
            }
        }
    }

    fn no_condition(&mut self, mrn: Mrn, now: Timestamp) {
        let Some(alarm) = self.on.get_mut(&mrn) else { return };
        let (severity, text, was_latched) = (alarm.severity, alarm.text.clone(), alarm.is_latched);
        if self.latching.holds(alarm) {
            (alarm.is_latched, alarm.current) = (true, None);
        } else {
            self.on.remove(&mrn);
        }
        if !was_latched {
            self.remember(now, Some(mrn), Happening::Ended, severity, text);
        }
    }

    /// Somebody has seen the alarm of a patient. Gives whether there was one to see.
    pub fn acknowledge(&mut self, mrn: Mrn, now: Timestamp) -> bool {
        let Some(alarm) = self.on.get_mut(&mrn).filter(|alarm| !alarm.is_acknowledged) else { return false };
        alarm.is_acknowledged = true;
        alarm.silent_until = None;
        let (severity, text, has_ended) = (alarm.severity, alarm.reason().to_owned(), alarm.is_latched);
        if has_ended {
            self.on.remove(&mrn);
        }
        self.remember(now, Some(mrn), Happening::Acknowledged, severity, text);
        self.changes += 1;
        true
    }

    /// Keeps the alarm of a patient from flashing for a while; a new or graver one flashes all the same. Gives whether
    /// there was one to silence.
    pub fn silence(&mut self, mrn: Mrn, length: Duration, now: Timestamp) -> bool {
        let until = i64::try_from(length.as_millis())
            .ok()
            .and_then(|length| Timestamp::from_millis(now.as_millis().saturating_add(length)).ok());
        let Some(alarm) = self.on.get_mut(&mrn).filter(|alarm| alarm.flashes(now)) else { return false };
        alarm.silent_until = until;
        let (severity, text) = (alarm.severity, alarm.reason().to_owned());
        self.remember(now, Some(mrn), Happening::Silenced, severity, text);
        self.changes += 1;
        true
    }

    /// Forgets the alarms of patients that are no longer there.
    pub fn retain(&mut self, is_there: impl Fn(Mrn) -> bool) {
        let before = self.on.len();
        self.on.retain(|mrn, _| is_there(*mrn));
        self.changes += u64::from(self.on.len() != before);
    }

    /// Adds to the history what happened to the station itself.
    pub fn remember_station(&mut self, happening: Happening, text: String, now: Timestamp) {
        self.remember(now, None, happening, Severity::Technical, text);
        self.changes += 1;
    }

    /// Adds to the history something about a patient that is not an alarm.
    pub fn remember_notice(&mut self, mrn: Mrn, text: String, now: Timestamp) {
        self.remember(now, Some(mrn), Happening::Noticed, Severity::Technical, text);
        self.changes += 1;
    }

    fn remember(
        &mut self,
        at: Timestamp,
        mrn: Option<Mrn>,
        happening: Happening,
        severity: Severity,
        text: String,
    ) {
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(Remembered { at, mrn, happening, severity, text });
    }
}

impl Latching {
    /// Whether an alarm must stay on although its condition is over.
    fn holds(self, alarm: &Alarm) -> bool {
        let least = match self {
            Latching::Never => return false,
            Latching::High => Severity::High,
            Latching::All => Severity::Medium,
        };
        alarm.severity >= least && !alarm.is_acknowledged
    }
}

#[cfg(test)]
mod tests;
