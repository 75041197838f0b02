//! Heart rates.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Heart rate in whole beats per minute, 1 to 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
#[schemars(with = "u16", extend("minimum" = 1, "maximum" = 400))]
pub struct Bpm(u16);

/// The number is not a valid heart rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a heart rate is a whole number from 1 to 400 beats per minute")]
pub struct BpmError;

impl Bpm {
    /// Creates a heart rate.
    ///
    /// # Errors
    /// [`BpmError`] outside of 1 to 400.
    pub fn new(value: i64) -> Result<Self, BpmError> {
        u16::try_from(value).ok().filter(|value| (1..=400).contains(value)).map(Bpm).ok_or(BpmError)
    }

    /// Rounds to the nearest integer.
    ///
    /// # Errors
    /// [`BpmError`] if the result is outside of 1 to 400, and for NaN.
    pub fn rounded(value: f64) -> Result<Self, BpmError> {
        let rounded = value.round();
        if (1.0..=400.0).contains(&rounded) { Bpm::new(rounded as i64) } else { Err(BpmError) }
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Bpm {
    type Error = BpmError;
    fn try_from(value: u16) -> Result<Self, BpmError> {
        Bpm::new(i64::from(value))
    }
}

impl From<Bpm> for u16 {
    fn from(bpm: Bpm) -> u16 {
        bpm.0
    }
}

impl fmt::Display for Bpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Source of a heart rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeartRateSource {
    /// Reported by the uploading client.
    Reported,
    /// Computed from a raw ECG.
    Ecg,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpm_accepts_only_1_to_400() {
        assert_eq!(Bpm::new(0), Err(BpmError));
        assert_eq!(Bpm::new(401), Err(BpmError));
        assert_eq!(Bpm::new(-1), Err(BpmError));
        assert_eq!(Bpm::new(400).map(Bpm::get), Ok(400));
        assert_eq!(Bpm::rounded(0.4), Err(BpmError));
        assert_eq!(Bpm::rounded(f64::NAN), Err(BpmError));
        assert_eq!(Bpm::rounded(71.5).map(Bpm::get), Ok(72));
        assert!(serde_json::from_str::<Bpm>("0").is_err());
    }
}
