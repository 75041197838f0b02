//! Limits of the heart rate, for all patients and for single ones.

use serde::{Deserialize, Serialize};

use super::Severity;

/// Rates outside of which an alarm is raised, in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Limits {
    low: u16,
    high: u16,
    extreme_low: u16,
    extreme_high: u16,
}

/// The same as it stands in a file or a form, not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {
    /// Below this, a medium alarm.
    pub low: u16,
    /// Above this, a medium alarm.
    pub high: u16,
    /// Below this, a high alarm.
    pub extreme_low: u16,
    /// Above this, a high alarm.
    pub extreme_high: u16,
}

/// Why four numbers are no limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Out of what a heart can do.
    #[error("limits are whole numbers from 10 to 350 beats per minute")]
    OutOfRange,
    /// Nothing between them.
    #[error("the low limit must be below the high limit")]
    Crossed,
    /// An extreme limit that would never be the first to be passed.
    #[error("extreme limits must lie outside of the others")]
    ExtremeInside,
}

impl Default for Limits {
    /// Those of an adult at rest.
    fn default() -> Self {
        Limits { low: 50, high: 120, extreme_low: 35, extreme_high: 150 }
    }
}

impl Limits {
    /// Below this, a medium alarm.
    #[must_use]
    pub fn low(self) -> u16 {
        self.low
    }

    /// Above this, a medium alarm.
    #[must_use]
    pub fn high(self) -> u16 {
        self.high
    }

    /// Below this, a high alarm.
    #[must_use]
    pub fn extreme_low(self) -> u16 {
        self.extreme_low
    }

    /// Above this, a high alarm.
    #[must_use]
    pub fn extreme_high(self) -> u16 {
        self.extreme_high
    }

    /// How severe a heart rate is; `None` within the limits.
    #[must_use]
    pub fn severity(self, bpm: u16) -> Option<Severity> {
        if bpm > self.extreme_high || bpm < self.extreme_low {
            Some(Severity::High)
        } else if bpm > self.high || bpm < self.low {
            Some(Severity::Medium)
        } else {
            None
        }
    }
}

impl TryFrom<Raw> for Limits {
    type Error = LimitsError;
    fn try_from(raw: Raw) -> Result<Self, LimitsError> {
        let Raw { low, high, extreme_low, extreme_high } = raw;
        if [low, high, extreme_low, extreme_high].iter().any(|limit| !(10..=350).contains(limit)) {
            Err(LimitsError::OutOfRange)
        } else if low >= high {
            Err(LimitsError::Crossed)
        } else if extreme_low > low || extreme_high < high {
            Err(LimitsError::ExtremeInside)
        } else {
            Ok(Limits { low, high, extreme_low, extreme_high })
        }
    }
}

impl From<Limits> for Raw {
    fn from(limits: Limits) -> Raw {
        let Limits { low, high, extreme_low, extreme_high } = limits;
        Raw { low, high, extreme_low, extreme_high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_work_are_refused_with_the_reason() {
        let raw = Raw::from(Limits::default());
        assert_eq!(Limits::try_from(raw), Ok(Limits::default()));
        assert_eq!(Limits::try_from(Raw { low: 120, ..raw }), Err(LimitsError::Crossed));
        assert_eq!(Limits::try_from(Raw { extreme_high: 110, ..raw }), Err(LimitsError::ExtremeInside));
        assert_eq!(Limits::try_from(Raw { extreme_low: 60, ..raw }), Err(LimitsError::ExtremeInside));
        assert_eq!(Limits::try_from(Raw { low: 5, ..raw }), Err(LimitsError::OutOfRange));
        assert!(
            serde_json::from_str::<Limits>(r#"{"low":130,"high":120,"extreme_low":1,"extreme_high":2}"#)
                .is_err()
        );
    }
}
