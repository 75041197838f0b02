//! Numbers of variable length (LEB128, as in the DWARF and WebAssembly formats), and the checksum of an encoded part.

use proto_json::waveform::StreamId;

use super::CodecError;

/// Length of the checksum at the end of an encoded part, in bytes.
pub(super) const CHECKSUM: usize = 4;

pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Numbers near 0 are short, whatever their sign.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Reads an encoded part.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Layout)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Layout)
    }

    pub(super) fn signed(&mut self) -> Result<i64, CodecError> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A number of elements, each of which has at least one byte: a damaged count reserves no memory.
    pub(super) fn count(&mut self) -> Result<usize, CodecError> {
        let count = usize::try_from(self.number()?).map_err(|_| CodecError::Layout)?;
        if count <= self.0.len() { Ok(count) } else { Err(CodecError::Layout) }
    }
}

/// What an encoded part is and where it belongs; included in its checksum, so that a part is not valid in another
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) part: &'static str,
    pub(super) stream: StreamId,
    pub(super) channel: u16,
    pub(super) window: u64,
}

impl Place {
    fn checksum(&self, bytes: &[u8]) -> [u8; CHECKSUM] {
        let mut fields = checksum::Fields::of(self.part);
        fields.add("stream", 0, self.stream.as_uuid().as_bytes());
        fields.add("channel", 0, &self.channel.to_le_bytes());
        fields.add("window", 0, &self.window.to_le_bytes());
        fields.add("bytes", 0, bytes);
        fields.finish().to_le_bytes()
    }

    /// Appends the checksum.
    pub(super) fn finish(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = self.checksum(&bytes);
        bytes.extend(checksum);
        bytes
    }

    /// Verifies the checksum and returns the rest.
    pub(super) fn verify<'a>(&self, bytes: &'a [u8]) -> Result<Input<'a>, CodecError> {
        let (content, stored) =
            bytes.split_at_checked(bytes.len().wrapping_sub(CHECKSUM)).ok_or(CodecError::Checksum)?;
        if self.checksum(content) == stored { Ok(Input(content)) } else { Err(CodecError::Checksum) }
    }
}
