//! Checksums of stored records.
//!
//! A record is stored with a checksum of its content, which is verified whenever the record is read. Disks, controllers and
//! memory change bits; a changed record must not be read as if it were the stored one.
//!
//! The algorithm is CRC-32 (IEEE). It detects every error of up to three bits in a record of up to 11 KB, and every burst of
//! up to 32 bits in a record of any length; a hash of the same size does not guarantee that. Other damage is missed once in
//! four billion records. A checksum has 4 bytes, and the implementation (`crc32fast`, several gigabytes per second) is
//! linked for PNG pictures anyway. A checksum does not protect against deliberate changes. Files have a SHA-256 in addition.

mod sums;

use crc32fast::Hasher;

pub use sums::{Sums, hash_file};

/// Checksum of a record of this kind. It includes the kind, so a record of one kind is not valid as another.
#[must_use]
pub fn of(kind: &str, record: &[u8]) -> u32 {
    let mut fields = Fields::of(kind);
    fields.0.update(record);
    fields.finish()
}

/// Checksum of a record that consists of named fields.
///
/// The encoding of fields is unambiguous: texts have a length prefix, and each value has a type. A field without a value is
/// left out, so that a field that is added later does not change the checksums of older records.
#[derive(Debug, Clone)]
pub struct Fields(Hasher);

impl Fields {
    /// Begins a record of this kind.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        let mut fields = Fields(Hasher::new());
        fields.text(kind.as_bytes());
        fields
    }

    /// Adds a field. `value_type` distinguishes values of different types that have the same bytes.
    pub fn add(&mut self, name: &str, value_type: u8, value: &[u8]) {
        self.text(name.as_bytes());
        self.0.update(&[value_type]);
        self.text(value);
    }

    /// The checksum of the record.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }

    fn text(&mut self, text: &[u8]) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_covers_kind_name_type_and_boundaries_of_values() {
        let fields = |kind, fields: &[(&str, u8, &str)]| {
            let mut sum = Fields::of(kind);
            for (name, value_type, value) in fields {
                sum.add(name, *value_type, value.as_bytes());
            }
            sum.finish()
        };
        let sums = [
            fields("a", &[("x", 1, "12"), ("y", 1, "3")]),
            fields("b", &[("x", 1, "12"), ("y", 1, "3")]),
            fields("a", &[("y", 1, "12"), ("x", 1, "3")]),
            fields("a", &[("x", 2, "12"), ("y", 1, "3")]),
            fields("a", &[("x", 1, "1"), ("y", 1, "23")]),
            fields("a", &[("x", 1, "12")]),
            of("a", b"12"),
            of("b", b"12"),
        ];
        for (index, sum) in sums.iter().enumerate() {
            assert!(!sums[..index].contains(sum), "{index}");
        }
    }

    #[test]
    fn every_flipped_bit_changes_the_checksum() {
        let record = b"{\"bpm\":92}".to_vec();
        let whole = of("heart_rates", &record);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of("heart_rates", &flipped), whole, "bit {bit}");
        }
    }
}
