//! Numbers and clock times as people write them, read from bytes without copying.

/// Powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Digits that surely fit into 64 bits.
const MAX_DIGITS: u32 = 19;

/// Reads the decimal number at the start of `bytes` and says how many bytes it takes. Right to two units in the last
/// place of a double, which is far more than a clock or an amplifier has, and several times faster than exact.
///
/// Words such as `nan` and `inf` are not numbers here: a row that holds one says nothing.
#[inline]
pub(super) fn prefix(bytes: &[u8], decimal: u8) -> Option<(f64, usize)> {
    let (negative, unsigned) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let (mut mantissa, mut rest) = digits_of(unsigned, 0);
    let mut digits = unsigned.len() - rest.len();
    let mut scale = 0;
    if let [sign, fraction @ ..] = rest
        && *sign == decimal
    {
        (mantissa, rest) = digits_of(fraction, mantissa);
        scale = fraction.len() - rest.len();
        digits += scale;
    }
    if digits == 0 {
        return None;
    }
    if digits > MAX_DIGITS as usize || matches!(rest, [b'e' | b'E', ..]) {
        return long_prefix(bytes, decimal);
    }
    let value = mantissa as f64 / POWERS_OF_TEN[scale];
    Some((if negative { -value } else { value }, bytes.len() - rest.len()))
}

/// Appends the digits at the start of `bytes` to `mantissa`; what follows them.
#[inline]
fn digits_of(mut bytes: &[u8], mut mantissa: u64) -> (u64, &[u8]) {
    while let [byte, rest @ ..] = bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        bytes = rest;
    }
    (mantissa, bytes)
}

/// The rare shapes: more digits than 64 bits hold, or an exponent.
#[cold]
fn long_prefix(bytes: &[u8], decimal: u8) -> Option<(f64, usize)> {
    let mut at = 0;
    let negative = bytes.first() == Some(&b'-');
    if matches!(bytes.first(), Some(b'-' | b'+')) {
        at = 1;
    }
    let (mut mantissa, mut kept, mut exponent) = (0u64, 0u32, 0i64);
    let mut in_fraction = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                if kept < MAX_DIGITS {
                    mantissa = mantissa * 10 + u64::from(byte - b'0');
                    // Leading zeros say nothing, so that they do not use up the digits that count.
                    kept += u32::from(mantissa != 0);
                    exponent -= i64::from(in_fraction);
                } else {
                    exponent += i64::from(!in_fraction);
                }
            }
            _ if byte == decimal && !in_fraction => in_fraction = true,
            _ => break,
        }
        at += 1;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let mut ahead = at + 1;
        let falls = bytes.get(ahead) == Some(&b'-');
        if matches!(bytes.get(ahead), Some(b'-' | b'+')) {
            ahead += 1;
        }
        let power_start = ahead;
        let mut power = 0i64;
        while let Some(digit) =
            bytes.get(ahead).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10)
        {
            power = (power * 10 + i64::from(digit)).min(100_000);
            ahead += 1;
        }
        if ahead > power_start {
            exponent += if falls { -power } else { power };
            at = ahead;
        }
    }
    let magnitude = scaled(mantissa as f64, exponent);
    magnitude.is_finite().then_some((if negative { -magnitude } else { magnitude }, at))
}

/// `value` times ten to the `exponent`.
fn scaled(value: f64, exponent: i64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    // Beyond these a double is zero or infinite anyway.
    let exponent = exponent.clamp(-700, 700) as i32;
    // In two steps, since ten to the -320 on its own has lost its digits.
    value * 10f64.powi(exponent / 2) * 10f64.powi(exponent - exponent / 2)
}

/// Reads a field that is nothing but a number, blanks around it aside.
pub(super) fn whole(field: &[u8], decimal: u8) -> Option<f64> {
    let field = field.trim_ascii();
    let (value, length) = prefix(field, decimal)?;
    (length == field.len()).then_some(value)
}

/// A point of time as a clock shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClockTime {
    /// Seconds since midnight, or since 1970 where the field has a date.
    pub(super) seconds: f64,
    /// Whether the field has a date, so that midnight needs no guess.
    pub(super) dated: bool,
}

/// Reads `MM:SS.mmm`, `HH:MM:SS.mmm`, or ISO 8601 with a date before it (`T` or a blank between). Brackets around it and a
/// zone after it are passed over: only differences matter.
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

/// Whether a field is a date and nothing else, as in files with date and time in columns of their own.
pub(super) fn is_date(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    date(field).is_some_and(|(_, length)| length == field.len())
        || (field.len() >= 8
            && field.len() <= 10
            && field.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'-'))
            && field.iter().filter(|byte| matches!(byte, b'.' | b'/' | b'-')).count() == 2
            && field.first().is_some_and(u8::is_ascii_digit))
}

/// Days since 1970 of a `YYYY-MM-DD` (or with slashes) at the start, and its length.
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
    // Days from civil date, counting years from March so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    Some((days - 719_468, 10))
}

/// Seconds of a `[HH:]MM:SS[.fff]` at the start, and what follows it.
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

/// Whether what follows a time of day is nothing, a zone such as `Z` or `+02:00`, or a date after a blank.
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
    fn numbers_are_read_in_every_common_shape() {
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
    fn clock_times_are_read_in_every_common_shape() {
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
