//! Numbers in text, with the signs and the grouping that formatters write.

/// Longest field with a decimal comma that is read.
const MAX_COMMA_FIELD: usize = 64;
/// Longest field with other signs or groups of thousands that is read.
const MAX_WRITTEN_FIELD: usize = 48;

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

/// Reads a field that contains only a number and white space. The minus may be one of typography.
pub(super) fn whole(field: &[u8], decimal: u8) -> Option<f64> {
    plain(field, decimal).or_else(|| written(field, decimal, false))
}

/// Like [`whole`], and accepts groups of thousands: `1,024.5`, `1.024,5`, `1 024,5`, `1'024.5`.
///
/// The first group does not start with zero, so that `0,004` is not 4.
pub(super) fn value_of(field: &[u8], decimal: u8) -> Option<f64> {
    plain(field, decimal).or_else(|| written(field, decimal, true))
}

#[inline]
fn plain(field: &[u8], decimal: u8) -> Option<f64> {
    let field = field.trim_ascii();
    let (value, length) = prefix(field, decimal)?;
    (length == field.len()).then_some(value)
}

/// Reads a number after replacing the signs that a formatter writes for people.
#[cold]
fn written(field: &[u8], decimal: u8, grouped: bool) -> Option<f64> {
    let field = field.trim_ascii();
    if !field.last()?.is_ascii_digit() && field.last() != Some(&decimal) || field.len() > MAX_WRITTEN_FIELD {
        return None;
    }
    let mut copy = [0; MAX_WRITTEN_FIELD];
    let mut length = 0;
    let mut group = Groups::default();
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, tail) = match rest {
            // Minus sign, hyphens and dashes; a small and a wide hyphen.
            [0xe2, 0x88, 0x92, tail @ ..] | [0xe2, 0x80, 0x90..=0x93, tail @ ..] => (b'-', tail),
            [0xef, 0xb9, 0xa3, tail @ ..] | [0xef, 0xbc, 0x8d, tail @ ..] => (b'-', tail),
            [0x96, tail @ ..] if length == 0 => (b'-', tail),
            // Spaces and apostrophes between thousands.
            [0xc2, 0xa0, tail @ ..] | [0xe2, 0x80, 0xaf | 0x89, tail @ ..] => (b' ', tail),
            [0xe2, 0x80, 0x99, tail @ ..] => (b'\'', tail),
            _ => (first, after),
        };
        rest = tail;
        match byte {
            b' ' | b'\'' | b',' | b'.' if byte != decimal => {
                if !grouped || !group.separate(byte) {
                    return None;
                }
                continue;
            }
            b'0'..=b'9' => group.digit(byte),
            b'-' | b'+' if length == 0 => {}
            _ => group.end()?,
        }
        *copy.get_mut(length)? = if byte == decimal { b'.' } else { byte };
        length += 1;
    }
    group.end()?;
    let copy = copy.get(..length)?;
    let (value, used) = parse(copy)?;
    (used == length).then_some(value)
}

/// Checks that thousands are grouped by three digits with one kind of separator.
#[derive(Default)]
struct Groups {
    separator: Option<u8>,
    digits: usize,
    starts_with_zero: bool,
    ended: bool,
}

impl Groups {
    fn digit(&mut self, digit: u8) {
        self.starts_with_zero |= self.digits == 0 && self.separator.is_none() && digit == b'0';
        self.digits += 1;
    }

    /// Whether a separator may be here.
    fn separate(&mut self, separator: u8) -> bool {
        let is_first = self.separator.is_none();
        let complete = if is_first { (1..=3).contains(&self.digits) } else { self.digits == 3 };
        let valid = complete
            && !self.ended
            && !self.starts_with_zero
            && self.separator.is_none_or(|known| known == separator);
        self.separator = Some(separator);
        self.digits = 0;
        valid
    }

    /// The end of the part before the decimal sign or the exponent.
    fn end(&mut self) -> Option<()> {
        let complete = self.ended || self.separator.is_none() || self.digits == 3;
        self.ended = true;
        complete.then_some(())
    }
}

/// A number of up to nine digits and nothing else.
pub(super) fn digits(field: &[u8]) -> Option<i64> {
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
    fn minus_signs_of_typography_are_read() {
        for minus in ["\u{2212}", "\u{2013}", "\u{2010}", "\u{2011}", "\u{fe63}", "\u{ff0d}"] {
            assert_eq!(whole(format!("{minus}0.145").as_bytes(), b'.'), Some(-0.145), "{minus}");
            assert_eq!(whole(format!(" {minus}0,145").as_bytes(), b','), Some(-0.145), "{minus}");
            assert_eq!(whole(format!("1.5e{minus}3").as_bytes(), b'.'), Some(0.0015), "{minus}");
        }
        // The en dash of Windows-1252.
        assert_eq!(whole(b"\x960.145", b'.'), Some(-0.145));
        assert_eq!(whole("\u{2212}".as_bytes(), b'.'), None);
        assert_eq!(whole("5\u{2212}".as_bytes(), b'.'), None);
    }

    #[test]
    fn thousands_are_read_if_groups_are_complete() {
        for (text, decimal, value) in [
            ("1,024", b'.', 1024.0),
            ("-1,024.5", b'.', -1024.5),
            ("12,345,678.25", b'.', 12_345_678.25),
            ("1.024,5", b',', 1024.5),
            ("1 024,5", b',', 1024.5),
            ("1\u{a0}024,5", b',', 1024.5),
            ("1\u{202f}024,5", b',', 1024.5),
            ("\u{2212}1'024.5", b'.', -1024.5),
            ("1\u{2019}024.5", b'.', 1024.5),
        ] {
            assert_eq!(value_of(text.as_bytes(), decimal), Some(value), "{text}");
            assert_eq!(whole(text.as_bytes(), decimal), None, "{text}");
        }
        for text in
            ["0,004", "1,02", "1,0245", "1,024,5", "12 3", "1234,567", ",123", "1,024 567", "1,", "a,123"]
        {
            assert_eq!(value_of(text.as_bytes(), b'.'), None, "{text}");
        }
    }
}
