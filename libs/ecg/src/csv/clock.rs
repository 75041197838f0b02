//! Dates and clock times in text.
//!
//! Only differences of times matter. A date is used where its order is known: year first, day first with dots
//! or hyphens, or a month by name. A date with slashes may be day first or month first; its time of day is
//! used alone, and the reader continues it across midnight.

use super::number::{digits, prefix};

const DAY_S: f64 = 86_400.0;
const HALF_DAY_S: f64 = DAY_S / 2.0;

/// A clock time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClockTime {
    /// Seconds since midnight, or since 1970 if the field has a date of known order.
    pub(super) seconds: f64,
    /// Whether the seconds include a date.
    pub(super) dated: bool,
}

/// Reads `MM:SS.mmm`, `HH:MM:SS.mmm`, or either of them with a date before or after it, `AM` or `PM`, brackets
/// and a zone. Brackets and zones are ignored.
pub(super) fn clock(field: &[u8]) -> Option<ClockTime> {
    let field = field.trim_ascii();
    // Most fields are numbers or words, which this excludes quickly.
    memchr::memchr(b':', field)?;
    let field = field.strip_prefix(b"[").unwrap_or(field);
    let field = field.strip_suffix(b"]").unwrap_or(field);
    let (day, time) = match date(field) {
        Some((day, length)) => (Some(day), field.get(length..)?),
        None => (None, field),
    };
    let time = match time.first()? {
        b'T' | b't' | b' ' | b',' | b'_' if day.is_some() => time.get(1..)?.trim_ascii_start(),
        _ if day.is_some() => return None,
        _ => time,
    };
    let (seconds, rest) = time_of_day(time)?;
    let (seconds, rest) = half_of_day(seconds, rest);
    if !zone_or_date(rest) {
        return None;
    }
    let midnight = day.flatten().map_or(0.0, |day| day as f64 * DAY_S);
    Some(ClockTime { seconds: midnight + seconds, dated: day.flatten().is_some() })
}

/// Whether a field contains only a date, as in files with separate columns for date and time.
pub(super) fn is_date(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    date(field).is_some_and(|(_, length)| length == field.len())
}

/// A date at the start of a field: its days since 1970 if the order of day and month is known, and its length
/// in bytes.
fn date(field: &[u8]) -> Option<(Option<i64>, usize)> {
    if let Some(month) = field.get(..3).and_then(month_of_name) {
        return date_with_month_first(field, month);
    }
    let (first, separator, rest) = number_before_separator(field)?;
    let used = |rest: &[u8]| field.len() - rest.len();
    // `28-Feb-2024`
    if matches!(separator, b'-' | b' ')
        && let Some(month) = rest.get(..3).and_then(month_of_name)
    {
        let rest = rest.get(3..)?;
        let rest = (*rest.first()? == separator).then(|| rest.get(1..))??;
        let length = leading_digits(rest);
        let year = digits(rest.get(..length)?).filter(|_| length == 4)?;
        return Some((Some(days(year, month, first.0)?), used(rest.get(length..)?)));
    }
    if !matches!(separator, b'-' | b'/' | b'.') {
        return None;
    }
    let (second, again, rest) = number_before_separator(rest)?;
    if again != separator || second.1 > 2 {
        return None;
    }
    let length = leading_digits(rest);
    let third = digits(rest.get(..length)?)?;
    let rest = rest.get(length..)?;
    let order = match (first.1, length) {
        (4, 1..=2) => Some((first.0, second.0, third)),
        (1..=2, 4) if separator != b'/' => Some((third, second.0, first.0)),
        (1..=2, 4) => None,
        // With two digits, nothing says which of the numbers is the year.
        (1..=2, 2) => None,
        _ => return None,
    };
    match order {
        Some((year, month, day)) => Some((Some(days(year, month, day)?), used(rest))),
        None if (1..=31).contains(&first.0) && (1..=31).contains(&second.0) => Some((None, used(rest))),
        None => None,
    }
}

/// `Feb 28, 2024` or `February 28 2024`, and its length in bytes.
fn date_with_month_first(field: &[u8], month: i64) -> Option<(Option<i64>, usize)> {
    let letters = field.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let rest = field.get(letters..)?.strip_prefix(b" ")?;
    let length = leading_digits(rest);
    let day = digits(rest.get(..length)?).filter(|_| length <= 2)?;
    let rest = rest.get(length..)?;
    let rest = rest.strip_prefix(b",").unwrap_or(rest).strip_prefix(b" ")?;
    let length = leading_digits(rest);
    let year = digits(rest.get(..length)?).filter(|_| length == 4)?;
    Some((Some(days(year, month, day)?), field.len() - rest.len() + length))
}

/// A number with its length, the byte after it, and the rest.
fn number_before_separator(field: &[u8]) -> Option<((i64, usize), u8, &[u8])> {
    let length = leading_digits(field);
    let number = digits(field.get(..length)?).filter(|_| length <= 4)?;
    Some(((number, length), *field.get(length)?, field.get(length + 1..)?))
}

fn leading_digits(field: &[u8]) -> usize {
    field.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn month_of_name(name: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month)).map(|index| index as i64 + 1)
}

/// Days since 1970 of a date in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil date. The year starts in March, so that the leap day is its last day.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    Some(days - 719_468)
}

/// Seconds of a `[HH:]MM:SS[.fff]` or `HH:MM:SS:mmm`, and the bytes after it.
fn time_of_day(field: &[u8]) -> Option<(f64, &[u8])> {
    let mut seconds = 0.0;
    let mut rest = field;
    let mut colons = 0;
    loop {
        let length = leading_digits(rest);
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
        let rest = rest.get(used..)?;
        // Some recorders separate the milliseconds by a colon, too.
        let milliseconds = rest.strip_prefix(b":").filter(|rest| colons == 2 && leading_digits(rest) == 3);
        return Some(match milliseconds {
            Some(rest) => {
                (seconds + value + digits(rest.get(..3)?)? as f64 / 1000.0, rest.get(3..).unwrap_or_default())
            }
            None => (seconds + value, rest),
        });
    }
}

/// Converts a time of 12 hours. Accepts `AM`, `pm`, `a.m.` and `p. m.` after any kind of space.
pub(crate) fn half_of_day(seconds: f64, rest: &[u8]) -> (f64, &[u8]) {
    let mut tail = rest;
    let mut mark = None;
    for byte in [b"am".as_slice(), b"pm"] {
        let mut left = rest;
        let mut matched = 0;
        while matched < 2 {
            left = without_space(left);
            match left.split_first() {
                Some((letter, after)) if letter.to_ascii_lowercase() == byte[matched] => {
                    left = after.strip_prefix(b".").unwrap_or(after);
                    matched += 1;
                }
                _ => break,
            }
        }
        if matched == 2 {
            (mark, tail) = (Some(byte[0]), left);
        }
    }
    // 12 AM is the hour after midnight.
    let hours = seconds % HALF_DAY_S;
    match mark {
        Some(b'a') if seconds < DAY_S / 24.0 * 13.0 => (hours, tail),
        Some(b'p') if seconds < DAY_S / 24.0 * 13.0 => (hours + HALF_DAY_S, tail),
        Some(_) => (seconds, tail),
        None => (seconds, rest),
    }
}

/// Removes spaces of all widths that formatters write.
fn without_space(mut bytes: &[u8]) -> &[u8] {
    loop {
        bytes = match bytes {
            [b' ', rest @ ..] | [0xc2, 0xa0, rest @ ..] | [0xe2, 0x80, 0xaf | 0x89, rest @ ..] => rest,
            _ => return bytes,
        };
    }
}

/// Whether the bytes after a time of day are empty, a zone such as `Z` or `+02:00`, or a date after a space.
fn zone_or_date(rest: &[u8]) -> bool {
    match rest.first() {
        None => true,
        Some(b'Z' | b'z') => rest.len() == 1,
        Some(b'+' | b'-') => rest.iter().skip(1).all(|byte| byte.is_ascii_digit() || *byte == b':'),
        Some(b' ') => {
            let rest = rest.trim_ascii();
            matches!(rest.first(), None | Some(b'+' | b'-')) && zone_or_date(rest) || is_date(rest)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_times_are_read_in_common_formats() {
        let seconds = |text: &str| clock(text.as_bytes()).map(|time| time.seconds);
        assert_eq!(seconds("00:01:02.500"), Some(62.5));
        assert_eq!(seconds("1:02.5"), Some(62.5));
        assert_eq!(seconds("10:00:00,250"), Some(36_000.25));
        assert_eq!(seconds("10:00:00:250"), Some(36_000.25));
        assert_eq!(seconds("[00:00:01.000 01/02/2000]"), Some(1.0));
        assert_eq!(seconds("1970-01-02T00:00:01Z"), Some(86_401.0));
        assert_eq!(seconds("2024-02-29 12:00:00.004"), Some(1_709_208_000.004));
        assert_eq!(seconds("2024-02-29T12:00:00+02:00"), Some(1_709_208_000.0));
        assert_eq!(seconds("2024-02-29 12:00:00 +0200"), Some(1_709_208_000.0));
        for text in ["", "12", "0.5", "12:", ":12", "2024-02-29", "12:00:99", "a:b", "99999999:00", "12:00x"]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_any_order() {
        let noon = 1_709_208_000.0;
        for text in [
            "29.02.2024 12:00:00",
            "29-02-2024 12:00:00",
            "29-Feb-2024 12:00:00",
            "29 Feb 2024 12:00:00",
            "Feb 29, 2024 12:00:00 PM",
            "February 29, 2024, 12:00:00",
            "29.2.2024, 12:00:00",
            "29.02.2024 12:00:00 PM",
        ] {
            assert_eq!(clock(text.as_bytes()), Some(ClockTime { seconds: noon, dated: true }), "{text}");
        }
        for text in
            ["29/02/2024 12:00:00", "02/29/2024 12:00:00 PM", "29.02.24 12:00:00", "2/29/2024, 12:00:00 PM"]
        {
            assert_eq!(clock(text.as_bytes()), Some(ClockTime { seconds: 43_200.0, dated: false }), "{text}");
        }
        for text in ["2024-02-29", "29.02.2024", "28/02/2024", "28.02.24", "1.3.24", "28-Feb-2024"] {
            assert!(is_date(text.as_bytes()), "{text}");
        }
        for text in ["1.2", "12345678", "1.2.3", "99.02.2024", "1-2-3", "0.004", "-0.145", "28-Foo-2024"] {
            assert!(!is_date(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn half_days_are_converted() {
        for (text, hours) in [
            ("12:00:00 AM", 0.0),
            ("1:30:00 AM", 1.5),
            ("12:30:00 PM", 12.5),
            ("11:00:00PM", 23.0),
            ("11:00:00.000 p.m.", 23.0),
            ("11:00:00 p. m.", 23.0),
            ("11:00:00\u{202f}PM", 23.0),
            ("23:00:00 PM", 23.0),
        ] {
            let seconds = clock(text.as_bytes()).map(|time| time.seconds);
            assert_eq!(seconds, Some(hours * 3600.0), "{text}");
        }
    }
}
