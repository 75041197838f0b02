//! One active alarm.

use proto_json::{RecordId, Timestamp};
use serde::{Deserialize, Serialize};

use super::condition::{Cause, Condition, Reading};
use super::severity::Severity;

/// The maximum time for which flashing can be paused.
const MAX_PAUSE_MS: i64 = 600_000;

/// An active alarm.
///
/// Its severity is the highest one since it was raised or acknowledged, and the alarm stores the reading with that severity.
/// The latest reading may be less severe or within the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The cause.
    pub cause: Cause,
    /// The highest severity since the alarm was raised or acknowledged.
    pub severity: Severity,
    /// The text of the worst reading, for example `HR 134 > 120`.
    pub text: String,
    /// The heart rate of the worst reading. `None` if it has none or an earlier version stored the alarm.
    #[serde(default)]
    worst_bpm: Option<u16>,
    /// When the worst reading was recorded. `None` if that is not known or an earlier version stored the alarm.
    #[serde(default)]
    worst_at: Option<Timestamp>,
    /// The severity and the text of the latest reading. `None` once the condition has ended.
    #[serde(default)]
    current: Option<(Severity, String)>,
    /// When the alarm was raised, by the clock of the server.
    pub since: Timestamp,
    /// The reading that was evaluated last.
    #[serde(alias = "reading")]
    pub reading_id: RecordId,
    /// The condition has ended, but the alarm has not been acknowledged.
    pub is_latched: bool,
    /// The alarm has been acknowledged.
    pub is_acknowledged: bool,
    /// The alarm does not flash before this time.
    #[serde(alias = "silent_until")]
    pub paused_until: Option<Timestamp>,
}

impl Alarm {
    /// A new alarm.
    pub(super) fn raise(reading: &Reading, condition: Condition, now: Timestamp) -> Self {
        let Condition { cause, severity, text } = condition;
        Alarm {
            cause,
            severity,
            text: text.clone(),
            worst_bpm: reading.bpm(),
            worst_at: reading.recorded_at,
            current: Some((severity, text)),
            since: now,
            reading_id: reading.id,
            is_latched: false,
            is_acknowledged: false,
            paused_until: None,
        }
    }

    /// Takes over another reading with the same cause.
    pub(super) fn update(&mut self, reading: &Reading, condition: Condition) {
        let Condition { severity, text, .. } = condition;
        // An acknowledged reading is no longer the worst one: the severity follows the readings again.
        if self.is_acknowledged || self.is_worse(severity, reading.bpm()) {
            self.severity = severity;
            self.text.clone_from(&text);
            (self.worst_bpm, self.worst_at) = (reading.bpm(), reading.recorded_at);
        }
        (self.reading_id, self.is_latched) = (reading.id, false);
        self.current = Some((severity, text));
    }

    /// Keeps the alarm although its condition has ended.
    pub(super) fn latch(&mut self) {
        (self.is_latched, self.current) = (true, None);
    }

    /// Whether the alarm flashes.
    #[must_use]
    pub fn flashes(&self, now: Timestamp) -> bool {
        self.severity > Severity::Technical && !self.is_acknowledged && !self.is_paused(now)
    }

    /// The reason for the severity: the text of the latest reading if that has the same severity, otherwise the text of the
    /// worst reading.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.current {
            Some((severity, text)) if *severity == self.severity => text,
            _ => &self.text,
        }
    }

    /// Whether [`Alarm::reason`] is not the text of the latest reading.
    #[must_use]
    pub fn is_reason_past(&self) -> bool {
        self.current.as_ref().is_none_or(|(severity, _)| *severity != self.severity)
    }

    /// When the worst reading was recorded, if that is known.
    #[must_use]
    pub fn worst_at(&self) -> Option<Timestamp> {
        self.worst_at
    }

    /// The text of the latest reading if it is outside the limits, but less severe than the alarm.
    #[must_use]
    pub fn less_severe_now(&self) -> Option<&str> {
        self.current
            .as_ref()
            .filter(|(severity, _)| *severity != self.severity)
            .map(|(_, text)| text.as_str())
    }

    /// Whether a reading is worse than the worst reading so far.
    fn is_worse(&self, severity: Severity, bpm: Option<u16>) -> bool {
        let exceeds = match (self.cause, bpm, self.worst_bpm) {
            (Cause::Fast, Some(bpm), Some(worst)) => bpm > worst,
            (Cause::Slow, Some(bpm), Some(worst)) => bpm < worst,
            _ => true,
        };
        severity > self.severity || severity == self.severity && exceeds
    }

    /// Whether flashing is paused.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        // A clock that is set back must not extend a pause beyond the maximum.
        self.paused_until.is_some_and(|until| until > now && until.millis_since(now) <= MAX_PAUSE_MS)
    }
}
