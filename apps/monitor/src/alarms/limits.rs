//! Limits of the heart rate.

use serde::{Deserialize, Serialize};
use ui::tr;

use super::severity::Severity;

/// Alarm limits of the heart rate in beats per minute: critical low <= low < high <= critical high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedLimits", into = "UncheckedLimits")]
pub struct Limits {
    low: u16,
    high: u16,
    critical_low: u16,
    critical_high: u16,
}

/// Limits as they are in a file or a form, in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncheckedLimits {
    /// Rates below raise an alarm of medium severity.
    pub low: u16,
    /// Rates above raise an alarm of medium severity.
    pub high: u16,
    /// Rates below raise an alarm of high severity.
    #[serde(alias = "extreme_low")]
    pub critical_low: u16,
    /// Rates above raise an alarm of high severity.
    #[serde(alias = "extreme_high")]
    pub critical_high: u16,
}

/// The reason why four numbers are not valid limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// A limit is not a plausible heart rate.
    #[error("{}", tr!("limits are whole numbers from 10 to 350 beats per minute"))]
    OutOfRange,
    /// No rate is within the limits.
    #[error("{}", tr!("the low limit must be below the high limit"))]
    Crossed,
    /// A critical limit is within the other limits.
    #[error("{}", tr!("the critical limits must not be between the low and the high limit"))]
    CriticalInside,
}

impl Default for Limits {
    /// The limits for an adult at rest.
    fn default() -> Self {
        Limits { low: 50, high: 120, critical_low: 35, critical_high: 150 }
    }
}

impl Limits {
    /// Rates below raise an alarm of medium severity.
    #[must_use]
    pub fn low(self) -> u16 {
        self.low
    }

    /// Rates above raise an alarm of medium severity.
    #[must_use]
    pub fn high(self) -> u16 {
        self.high
    }

    /// Rates below raise an alarm of high severity.
    #[must_use]
    pub fn critical_low(self) -> u16 {
        self.critical_low
    }

    /// Rates above raise an alarm of high severity.
    #[must_use]
    pub fn critical_high(self) -> u16 {
        self.critical_high
    }

    /// The severity of a heart rate. `None` if it is within the limits.
    #[must_use]
    pub fn severity(self, bpm: u16) -> Option<Severity> {
        if bpm > self.critical_high || bpm < self.critical_low {
            Some(Severity::High)
        } else if bpm > self.high || bpm < self.low {
            Some(Severity::Medium)
        } else {
            None
        }
    }
}

impl TryFrom<UncheckedLimits> for Limits {
    type Error = LimitsError;
    fn try_from(limits: UncheckedLimits) -> Result<Self, LimitsError> {
        let UncheckedLimits { low, high, critical_low, critical_high } = limits;
        if [low, high, critical_low, critical_high].iter().any(|limit| !(10..=350).contains(limit)) {
            Err(LimitsError::OutOfRange)
        } else if low >= high {
            Err(LimitsError::Crossed)
        } else if critical_low > low || critical_high < high {
            Err(LimitsError::CriticalInside)
        } else {
            Ok(Limits { low, high, critical_low, critical_high })
        }
    }
}

impl From<Limits> for UncheckedLimits {
    fn from(limits: Limits) -> UncheckedLimits {
        let Limits { low, high, critical_low, critical_high } = limits;
        UncheckedLimits { low, high, critical_low, critical_high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_limits_are_rejected_with_the_reason() {
        let valid = UncheckedLimits::from(Limits::default());
        assert_eq!(Limits::try_from(valid), Ok(Limits::default()));
        let cases = [
            (UncheckedLimits { low: 120, ..valid }, LimitsError::Crossed),
            (UncheckedLimits { critical_high: 110, ..valid }, LimitsError::CriticalInside),
            (UncheckedLimits { critical_low: 60, ..valid }, LimitsError::CriticalInside),
            (UncheckedLimits { low: 5, ..valid }, LimitsError::OutOfRange),
        ];
        for (limits, error) in cases {
            assert_eq!(Limits::try_from(limits), Err(error));
        }
        let crossed = r#"{"low":130,"high":120,"critical_low":11,"critical_high":200}"#;
        assert!(serde_json::from_str::<Limits>(crossed).is_err());
    }
}
