//! Sizes in settings and in messages.
//!
//! The `bytesize` crate is not used: it formats 64,000,000 bytes as "64.0 MB", and responses of the public
//! and the legacy API contain "64 MB".

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Parses `64MB`, `1GB` or `500000`; units are decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("B", 1)];

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.trim().to_ascii_uppercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, bytes)| Some((upper.strip_suffix(name)?, *bytes)))
            .unwrap_or((&upper, 1));
        let number: Option<u64> = number.trim().parse().ok();
        number
            .and_then(|number| number.checked_mul(unit))
            .map(ByteSize)
            .ok_or_else(|| "a size is written as in 64MB, 1GB or 500000".to_owned())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (name, bytes) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{} {}", self.0 / bytes, if name == "B" { "bytes" } else { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_with_decimal_units_are_parsed() {
        assert_eq!("64MB".parse(), Ok(ByteSize(64_000_000)));
        assert_eq!(" 1 gb".parse(), Ok(ByteSize(1_000_000_000)));
        assert_eq!("7".parse(), Ok(ByteSize(7)));
        for text in ["", "MB", "-1", "1.5GB", "99999999999GB", "1 TB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(64_000_000).to_string(), "64 MB");
        assert_eq!(ByteSize(1_001).to_string(), "1001 bytes");
    }
}
