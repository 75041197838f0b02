//! Numbers, dates and clock times in text.

/// Longest field with a decimal comma that is read.
const MAX_COMMA_FIELD: usize = 64;

/// Reads the decimal number at the start of `bytes`. Returns its value and its length in bytes.
///
/// `nan`, `inf` and numbers beyond the range of `f64` are not accepted: a row that contains one has no value.
pub(super) fn prefix(bytes: &[u8], decimal: u8) -> Option<(f64, usize)> {
    if decimal == b'.' {
        return parse(bytes);
    }
    // `fast_float2` accepts points only, so the decimal sign is replaced in a copy.
    let mut copy = [0; MAX_COMMA_FIELD];
    let length = bytes.len().min(MAX_COMMA_FIELD);
    let copied = copy.get_mut(..length)?;
    for (to, from) in copied.iter_mut().zip(bytes) {
        *to = match *from {
            b'.' => b' ',
            byte if byte == decimal => b'.',
            byte => byte,
        };
    }
    parse(copied)
}

fn parse(bytes: &[u8]) -> Option<(f64, usize)> {
    let unsigned = match bytes {
        [b'-' | b'+', rest @ ..] => rest,
        _ => bytes,
    };
    if !matches!(unsigned.first(), Some(b'0'..=b'9' | b'.')) {
        return None;
    }
    let (value, length) = fast_float2::parse_partial::<f64, _>(bytes).ok()?;
    value.is_finite().then_some((value, length))
}

/// Reads a field that contains only a number and white space.
pub(super) fn whole(field: &[u8], decimal: u8) -> Option<f64> {
    let field = field.trim_ascii();
    let (value, length) = prefix(field, decimal)?;
    (length == field.len()).then_some(value)
}

/// A clock time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClockTime {
    /// Seconds since midnight, or since 1970 if the field has a date.
    pub(super) seconds: f64,
    /// Whether the field has a date.
    pub(super) dated: bool,
}

/// Reads `MM:SS.mmm`, `HH:MM:SS.mmm`, or ISO 8601 with a date (`T` or a space between). Brackets and a zone
/// are ignored: only differences matter.
pub(super) fn clock(field: &[u8]) -> Option<ClockTime> {
    let field = field.trim_ascii();
    let field = field.strip_prefix(b"[").unwrap_or(field);
    let field = field.strip_suffix(b"]").unwrap_or(field);
    let (day, time) = match date(field) {
        Some((day, length)) => (Some(day), field.get(length..)?),
        None => (None, field),
    };
    let time = match time.first()? {
        b'T' | b't' | b' ' if day.is_some() => time.get(1..)?.trim_ascii_start(),
        _ => time,
    };
    let (parts, rest) = time_of_day(time)?;
    if !zone_or_date(rest) {
        return None;
    }
    let midnight = day.map_or(0.0, |day| day as f64 * 86_400.0);
    Some(ClockTime { seconds: midnight + parts, dated: day.is_some() })
}

/// Whether a field contains only a date, as in files with separate columns for date and time.
pub(super) fn is_date(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    date(field).is_some_and(|(_, length)| length == field.len())
        || (field.len() >= 8
            && field.len() <= 10
            && field.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'-'))
            && field.iter().filter(|byte| matches!(byte, b'.' | b'/' | b'-')).count() == 2
            && field.first().is_some_and(u8::is_ascii_digit))
}

/// Days since 1970 of a `YYYY-MM-DD` or `YYYY/MM/DD`, and its length in bytes.
fn date(field: &[u8]) -> Option<(i64, usize)> {
    let separator = *field.get(4)?;
    if !matches!(separator, b'-' | b'/') || *field.get(7)? != separator {
        return None;
    }
    let year = digits(field.get(..4)?)?;
    let month = digits(field.get(5..7)?)?;
    let day = digits(field.get(8..10)?)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil date. The year starts in March, so that the leap day is its last day.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    Some((days - 719_468, 10))
}

/// Seconds of a `[HH:]MM:SS[.fff]`, and the bytes after it.
fn time_of_day(field: &[u8]) -> Option<(f64, &[u8])> {
    let mut seconds = 0.0;
    let mut rest = field;
    let mut colons = 0;
    loop {
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 || length > 6 {
            return None;
        }
        let (part, after) = rest.split_at(length);
        if after.first() == Some(&b':') && colons < 2 {
            seconds = (seconds + digits(part)? as f64) * 60.0;
            rest = after.get(1..)?;
            colons += 1;
            continue;
        }
        if colons == 0 {
            return None;
        }
        let decimal = if after.first() == Some(&b',') { b',' } else { b'.' };
        let (value, used) = prefix(rest, decimal)?;
        if value >= 61.0 {
            return None;
        }
        return Some((seconds + value, rest.get(used..)?));
    }
}

/// Whether the bytes after a time of day are empty, a zone such as `Z` or `+02:00`, or a date after a space.
fn zone_or_date(rest: &[u8]) -> bool {
    match rest.first() {
        None => true,
        Some(b'Z' | b'z') => rest.len() == 1,
        Some(b'+' | b'-') => rest.iter().skip(1).all(|byte| byte.is_ascii_digit() || *byte == b':'),
        Some(b' ') => is_date(rest),
        Some(_) => false,
    }
}

fn digits(field: &[u8]) -> Option<i64> {
    (!field.is_empty() && field.len() <= 9).then_some(())?;
    field
        .iter()
        .try_fold(0i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_common_formats() {
        for (text, value) in [
            ("0", 0.0),
            ("-0.145", -0.145),
            ("+2", 2.0),
            (".5", 0.5),
            ("7.", 7.0),
            ("1e-3", 0.001),
            ("-1.5E+02", -150.0),
            ("0.30929848070893795", 0.30929848070893795),
            ("1700000000.123456789123", 1_700_000_000.123_456_7),
            ("0.00000000000000000000000012", 1.2e-25),
            ("1e-400", 0.0),
        ] {
            let (read, length) = prefix(text.as_bytes(), b'.').unwrap();
            assert!((read - value).abs() <= 1e-15 * value.abs(), "{text} was read as {read}");
            assert_eq!(length, text.len(), "{text}");
        }
        assert_eq!(whole(b" 0,25 ", b','), Some(0.25));
        assert_eq!(prefix(b"0.003,-0.1", b'.').unwrap(), (0.003, 5));
    }

    #[test]
    fn words_and_overflow_are_not_numbers() {
        for text in ["", "-", ".", "nan", "NaN", "inf", "e5", "1e999", "d"] {
            assert_eq!(whole(text.as_bytes(), b'.'), None, "{text}");
        }
        assert_eq!(whole(b"1.2.3", b'.'), None);
        assert_eq!(whole(b"12 3", b'.'), None);
    }

    #[test]
    fn clock_times_are_read_in_common_formats() {
        let seconds = |text: &str| clock(text.as_bytes()).map(|time| time.seconds);
        assert_eq!(seconds("00:01:02.500"), Some(62.5));
        assert_eq!(seconds("1:02.5"), Some(62.5));
        assert_eq!(seconds("10:00:00,250"), Some(36_000.25));
        assert_eq!(seconds("[00:00:01.000 01/02/2000]"), Some(1.0));
        assert_eq!(seconds("1970-01-02T00:00:01Z"), Some(86_401.0));
        assert_eq!(seconds("2024-02-29 12:00:00.004"), Some(1_709_208_000.004));
        assert_eq!(seconds("2024-02-29T12:00:00+02:00"), Some(1_709_208_000.0));
        for text in ["", "12", "0.5", "12:", ":12", "2024-02-29", "12:00:99", "a:b", "99999999:00", "12:00x"]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert!(
            is_date(b"2024-02-29") && is_date(b"29.02.2024") && !is_date(b"1.2") && !is_date(b"12345678")
        );
    }
}
