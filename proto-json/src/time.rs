//! Timestamps with millisecond precision.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A time in UTC with millisecond precision. Its text form is RFC 3339 with three digits of milliseconds and
/// `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "date-time"))]
pub struct Timestamp(jiff::Timestamp);

/// Difference between the clocks of two machines, in milliseconds, above which one of them is considered
/// wrong.
pub const CLOCK_TOLERANCE_MS: i64 = 5_000;

/// Header of every HTTP response of the gateway: its current time, as the text form of [`Timestamp`].
pub const TIME_HEADER: &str = "bedside-time";
/// Header of responses while the server's clock is unreliable: the reason, one sentence in ASCII.
pub const CLOCK_PROBLEM_HEADER: &str = "bedside-clock-problem";

/// The text or number is not a valid time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in 2026-03-14T15:09:26Z, with its offset from UTC")]
pub struct TimestampError;

impl Timestamp {
    /// Returns the current time of this machine.
    #[must_use]
    pub fn now() -> Self {
        Timestamp::from_jiff(jiff::Timestamp::now())
    }

    fn from_jiff(time: jiff::Timestamp) -> Self {
        // Rounds towards zero, so the result of a valid time is in range.
        jiff::Timestamp::from_millisecond(time.as_millisecond()).map_or(Timestamp(time), Timestamp)
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Creates a timestamp from milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`TimestampError`] for years outside of -9999 to 9999.
    pub fn from_millis(millis: i64) -> Result<Self, TimestampError> {
        jiff::Timestamp::from_millisecond(millis).map(Timestamp).map_err(|_| TimestampError)
    }

    /// Creates a timestamp from a date (year, month, day) and a time of day (hour, minute, second,
    /// millisecond). `offset_s` is the offset from UTC in seconds; `None` selects the time zone of this
    /// machine.
    ///
    /// # Errors
    /// [`TimestampError`] if the time does not exist.
    pub fn from_calendar(
        (year, month, day): (i16, i8, i8),
        (hour, minute, second, millisecond): (i8, i8, i8, i16),
        offset_s: Option<i32>,
    ) -> Result<Self, TimestampError> {
        let nanosecond = i32::from(millisecond) * 1_000_000;
        let zone = match offset_s {
            Some(offset) => jiff::tz::Offset::from_seconds(offset).map(jiff::tz::TimeZone::fixed),
            None => Ok(jiff::tz::TimeZone::system()),
        };
        jiff::civil::DateTime::new(year, month, day, hour, minute, second, nanosecond)
            .and_then(|time| time.to_zoned(zone?))
            .map(|time| Timestamp::from_jiff(time.timestamp()))
            .map_err(|_| TimestampError)
    }

    /// Returns the milliseconds from `earlier` to this time. Negative if this time is before `earlier`.
    #[must_use]
    pub fn millis_since(self, earlier: Timestamp) -> i64 {
        self.as_millis() - earlier.as_millis()
    }

    /// Adds milliseconds. Returns the time unchanged if the result is out of range.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Timestamp {
        Timestamp::from_millis(self.as_millis().saturating_add(millis)).unwrap_or(self)
    }

    /// Returns whether this time is more than [`CLOCK_TOLERANCE_MS`] after `now`. If so, the clock of one of
    /// the two times is wrong.
    #[must_use]
    pub fn is_in_future_of(self, now: Timestamp) -> bool {
        self.millis_since(now) > CLOCK_TOLERANCE_MS
    }

    /// Formats as `YYYY-MM-DD HH:MM:SS` in the time zone of this machine.
    #[must_use]
    pub fn local_seconds(self) -> String {
        self.0.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse().map(Timestamp::from_jiff).map_err(|_| TimestampError)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;
    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_with_milliseconds() {
        let time: Timestamp = "2026-03-14T15:09:26.5357+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-03-14T14:09:26.535Z");
        assert_eq!(Timestamp::from_millis(time.as_millis()), Ok(time));
        assert_eq!("2026-03-14T15:09:26".parse::<Timestamp>(), Err(TimestampError));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimestampError));
    }

    #[test]
    fn calendar_time_uses_its_offset_or_the_local_zone() {
        let at = |offset| Timestamp::from_calendar((2026, 3, 14), (15, 9, 26, 535), offset).unwrap();
        assert_eq!(at(Some(3600)).to_string(), "2026-03-14T14:09:26.535Z");
        assert_eq!(at(None).local_seconds(), "2026-03-14 15:09:26");
        assert_eq!(Timestamp::from_calendar((2026, 2, 30), (0, 0, 0, 0), None), Err(TimestampError));
        assert_eq!(Timestamp::from_calendar((2026, 2, 3), (24, 0, 0, 0), Some(0)), Err(TimestampError));
    }

    #[test]
    fn time_is_in_the_future_only_beyond_the_clock_tolerance() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        assert!(!at(5_000).is_in_future_of(at(0)));
        assert!(at(5_001).is_in_future_of(at(0)));
        assert!(!at(-1).is_in_future_of(at(0)));
        assert_eq!(at(1).plus_millis(-2), at(-1));
        assert_eq!(at(1).plus_millis(i64::MAX), at(1), "out of range");
    }
}
