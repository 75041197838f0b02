//! Parses the plain fields of an upload, for both upload routes. An error message continues a sentence that
//! starts with the field name.

use std::borrow::Cow;

use proto_json::{Bpm, CLOCK_TOLERANCE_MS, Rename, Timestamp};

/// Maximum length of a patient's name in characters.
pub(crate) const MAX_NAME_CHARS: usize = 500;
/// Maximum length of a lead name in characters.
const MAX_LEAD_CHARS: usize = 100;
/// Maximum length of a file name in characters.
const MAX_FILE_NAME_CHARS: usize = 200;
/// Accepted sample rates: those of ECG devices, with a margin.
const SAMPLE_RATES_HZ: std::ops::RangeInclusive<f64> = 1.0..=100_000.0;

/// Parses a patient's name. Empty means absent.
pub(crate) fn name(text: String) -> Result<Option<String>, String> {
    bounded(text, MAX_NAME_CHARS)
}

/// Parses whether the name may replace another one. Empty means no.
pub(crate) fn rename(text: &str) -> Result<Rename, String> {
    match text.trim() {
        "" | "false" => Ok(Rename::No),
        "true" => Ok(Rename::Confirmed),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Parses the name or number of a lead. Empty means absent.
pub(crate) fn lead(text: String) -> Result<Option<String>, String> {
    bounded(text, MAX_LEAD_CHARS)
}

fn bounded(text: String, max: usize) -> Result<Option<String>, String> {
    if text.chars().count() > max {
        return Err(format!("may have at most {max} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Parses a heart rate. Empty means absent.
pub(crate) fn heart_rate(text: &str) -> Result<Option<Bpm>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || "must be a whole number from 1 to 400".to_owned();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value: i64 = text.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    Bpm::new(value).map(Some).map_err(|_| wrong())
}

/// Why a time of recording is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// It is no time.
    Invalid(String),
    /// The clock of the device or of the server is wrong. Depends on the time of the request, so a schema cannot
    /// express it.
    InFuture(String),
}

/// Parses the time of recording. Empty means absent.
pub(crate) fn recorded_at(text: &str, now: Timestamp) -> Result<Option<Timestamp>, TimeError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let text = with_nanoseconds(text);
    // The range of `Timestamp` ends before that of RFC 3339, in the last days of the year 9999.
    let is_after_range = || {
        let rest = text.strip_prefix("9999-12-");
        rest.is_some_and(|rest| format!("9998-12-{rest}").parse::<Timestamp>().is_ok())
    };
    let at = match text.parse::<Timestamp>() {
        Ok(at) => Some(at),
        Err(_) if is_after_range() => None,
        Err(_) => {
            let form = "must be a time as in 2026-03-14T15:09:26Z, with its offset from UTC";
            return Err(TimeError::Invalid(form.to_owned()));
        }
    };
    let Some(at) = at.filter(|at| !at.is_in_future_of(now)) else {
        let tolerance = CLOCK_TOLERANCE_MS / 1_000;
        return Err(TimeError::InFuture(format!(
            "is more than {tolerance} s in the future of the server, where it is {now}; check the clock of the \
             device"
        )));
    };
    Ok(Some(at))
}

/// Removes digits after the nanoseconds. RFC 3339 allows any number of digits.
fn with_nanoseconds(text: &str) -> Cow<'_, str> {
    let Some((seconds, rest)) = text.split_once('.') else { return text.into() };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match (rest.get(..9), rest.get(digits..)) {
        (Some(fraction), Some(offset)) if digits > 9 => format!("{seconds}.{fraction}{offset}").into(),
        _ => text.into(),
    }
}

/// Parses the sample rate. Empty means absent.
pub(crate) fn sample_rate(text: &str) -> Result<Option<f64>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let rate = text.parse().ok().filter(|rate| SAMPLE_RATES_HZ.contains(rate));
    rate.map(Some).ok_or_else(|| {
        let (low, high) = (SAMPLE_RATES_HZ.start(), SAMPLE_RATES_HZ.end());
        format!("must be a number of samples per second from {low} to {high}")
    })
}

/// Returns the last component of a path without characters that could mislead a reader, or `None` if nothing
/// remains.
pub(crate) fn file_name(text: &str) -> Option<String> {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    // Bidirectional control characters can display "gnp.exe" as "exe.png".
    let shown = |letter: &char| {
        !letter.is_control()
            && !matches!(letter, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = last.chars().filter(shown).take(MAX_FILE_NAME_CHARS).collect();
    let name = name.trim();
    (!name.trim_matches('.').is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_rate_must_be_a_plausible_integer() {
        assert_eq!(heart_rate(" 72 "), Ok(Some(Bpm::new(72).unwrap())));
        assert_eq!(heart_rate(""), Ok(None));
        for text in ["0", "401", "-1", "+72", "72.0", "seventy", "99999999999999999999", "٧٢"] {
            assert!(heart_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn recording_time_must_not_be_in_the_future() {
        let now: Timestamp = "2026-03-14T15:00:00Z".parse().unwrap();
        assert!(recorded_at("2026-03-14T15:00:05Z", now).unwrap().is_some(), "clocks may differ by 5 s");
        assert!(recorded_at("2026-03-14T16:00:05+01:00", now).unwrap().is_some());
        let error = recorded_at("2026-03-14T15:00:05.001Z", now).unwrap_err();
        let TimeError::InFuture(text) = error else { panic!("{error:?}") };
        assert!(text.contains("5 s in the future") && text.contains("2026-03-14T15:00:00.000Z"), "{text}");
        for text in ["3259-01-01T00:00:00Z", "9999-12-31T23:59:60.9+00:00", "9999-12-31T23:59:59-23:59"] {
            assert!(matches!(recorded_at(text, now), Err(TimeError::InFuture(_))), "{text}");
        }
        for text in [
            "2026-03-14 15:00",
            "3259",
            "2026-13-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "9999-12-32T00:00:00Z",
            "1e9",
        ] {
            assert!(matches!(recorded_at(text, now), Err(TimeError::Invalid(_))), "{text}");
        }
        assert_eq!(recorded_at(" ", now), Ok(None));
    }

    /// Forms of RFC 3339, which the API document allows.
    #[test]
    fn every_form_of_a_past_time_is_accepted() {
        let now: Timestamp = "2026-03-14T15:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("0001-01-01T00:00:00+23:59", "0000-12-31T00:01:00.000Z"),
            ("0000-01-01T00:00:00+23:59", "-000001-12-31T00:01:00.000Z"),
            ("2000-02-29t12:00:00z", "2000-02-29T12:00:00.000Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("2016-12-31T23:59:60.5-00:00", "2016-12-31T23:59:59.500Z"),
            ("2000-01-01T00:00:00.1Z", "2000-01-01T00:00:00.100Z"),
            ("2000-01-01T00:00:00.1239999999999999999999-01:00", "2000-01-01T01:00:00.123Z"),
        ] {
            let at = recorded_at(text, now).unwrap_or_else(|error| panic!("{text}: {error:?}")).unwrap();
            assert_eq!(at.to_string(), expected, "{text}");
            assert_eq!(at.to_string().parse(), Ok(at), "{text} round trips");
        }
    }

    #[test]
    fn sample_rate_must_be_finite_and_plausible() {
        assert_eq!(sample_rate("360"), Ok(Some(360.0)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(sample_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn file_name_loses_folders_and_misleading_characters() {
        assert_eq!(file_name("../../etc/passwd"), Some("passwd".to_owned()));
        assert_eq!(file_name("C:\\scans\\x ray.png"), Some("x ray.png".to_owned()));
        assert_eq!(file_name("a\u{202e}gnp\r\n.exe"), Some("agnp.exe".to_owned()));
        for text in ["", "/", "..", ".", "a/", "\u{0}"] {
            assert_eq!(file_name(text), None, "{text:?}");
        }
        assert_eq!(file_name(&"x".repeat(500)).unwrap().len(), 200);
    }

    #[test]
    fn name_length_and_characters_are_limited() {
        assert_eq!(name("Ann".to_owned()), Ok(Some("Ann".to_owned())));
        assert_eq!(name(String::new()), Ok(None));
        assert!(name("x".repeat(MAX_NAME_CHARS + 1)).is_err());
        assert!(name("a\u{0}b".to_owned()).is_err());
    }
}
