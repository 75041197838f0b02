//! The plain values of an upload: read and bounded alike for both routes. Errors are the second half of a sentence that
//! begins with the key.

use proto_json::{Bpm, CLOCK_TOLERANCE_MS, Rename, Timestamp};

/// Longest name, in characters.
pub(crate) const MAX_NAME_CHARS: usize = 500;
/// Longest name of a lead, in characters.
const MAX_LEAD_CHARS: usize = 100;
/// Longest name of a file, in characters.
const MAX_FILE_NAME_CHARS: usize = 200;
/// Samples per second of anything called an ECG, with room on both sides.
const SAMPLE_RATES_HZ: std::ops::RangeInclusive<f64> = 1.0..=100_000.0;

/// A patient's name; empty: not given.
pub(crate) fn name(text: String) -> Result<Option<String>, String> {
    bounded(text, MAX_NAME_CHARS)
}

/// Whether the name may replace another one; empty: no.
pub(crate) fn rename(text: &str) -> Result<Rename, String> {
    match text.trim() {
        "" | "false" => Ok(Rename::No),
        "true" => Ok(Rename::Confirmed),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Name or number of a lead; empty: not given.
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

/// A heart rate; empty: not given.
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

/// When something was recorded; empty: not given.
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
            "is more than {tolerance} s in the future of the server, where it is {now}; check the clock of the device"
        ));
    }
    Ok(Some(at))
}

/// Samples per second; empty: not given.
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

/// The last part of a file's path, without anything that could mislead whoever sees or saves it. `None` where nothing is
/// left.
pub(crate) fn file_name(text: &str) -> Option<String> {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    // Letters that turn the direction of text can make "exe.png" of "gnp.exe".
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
    fn heart_rates_are_whole_numbers_a_heart_can_have() {
        assert_eq!(heart_rate(" 72 "), Ok(Some(Bpm::new(72).unwrap())));
        assert_eq!(heart_rate(""), Ok(None));
        for text in ["0", "401", "-1", "+72", "72.0", "seventy", "99999999999999999999", "٧٢"] {
            assert!(heart_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_recording_are_in_the_past() {
        let now: Timestamp = "2026-03-14T15:00:00Z".parse().unwrap();
        assert!(recorded_at("2026-03-14T15:00:05Z", now).unwrap().is_some(), "clocks may differ by 5 s");
        assert!(recorded_at("2026-03-14T16:00:05+01:00", now).unwrap().is_some());
        let error = recorded_at("2026-03-14T15:00:05.001Z", now).unwrap_err();
        assert!(error.contains("5 s in the future") && error.contains("2026-03-14T15:00:00.000Z"), "{error}");
        assert!(recorded_at("2026-03-14 15:00", now).is_err());
        assert_eq!(recorded_at(" ", now), Ok(None));
    }

    #[test]
    fn sample_rates_are_finite_and_plausible() {
        assert_eq!(sample_rate("360"), Ok(Some(360.0)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(sample_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn file_names_lose_folders_and_what_misleads() {
        assert_eq!(file_name("../../etc/passwd"), Some("passwd".to_owned()));
        assert_eq!(file_name("C:\\scans\\x ray.png"), Some("x ray.png".to_owned()));
        assert_eq!(file_name("a\u{202e}gnp\r\n.exe"), Some("agnp.exe".to_owned()));
        for text in ["", "/", "..", ".", "a/", "\u{0}"] {
            assert_eq!(file_name(text), None, "{text:?}");
        }
        assert_eq!(file_name(&"x".repeat(500)).unwrap().len(), 200);
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(name("Ann".to_owned()), Ok(Some("Ann".to_owned())));
        assert_eq!(name(String::new()), Ok(None));
        assert!(name("x".repeat(MAX_NAME_CHARS + 1)).is_err());
        assert!(name("a\u{0}b".to_owned()).is_err());
    }
}
