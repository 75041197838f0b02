//! Parses the plain fields of an upload, for both upload routes. An error message continues a sentence that
//! starts with the field name.

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

/// Parses the time of recording. Empty means absent.
pub(crate) fn recorded_at(text: &str, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let at: Timestamp = text
        .parse()
        .map_err(|_| "must be a time as in 2026-03-14T15:09:26Z, with its offset from UTC".to_owned())?;
    if at.is_in_future_of(now) {
        let tolerance = CLOCK_TOLERANCE_MS / 1_000;
        return Err(format!(
            "is more than {tolerance} s in the future of the server, where it is {now}; check the clock of the \
             device"
        ));
    }
    Ok(Some(at))
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
        assert!(error.contains("5 s in the future") && error.contains("2026-03-14T15:00:00.000Z"), "{error}");
        assert!(recorded_at("2026-03-14 15:00", now).is_err());
        assert_eq!(recorded_at(" ", now), Ok(None));
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
