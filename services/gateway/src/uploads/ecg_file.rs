//! Detects whether a file can contain a raw ECG: text (CSV) or the European Data Format. The worker parses
//! the content.

use proto_json::MediaType;

/// Number of bytes that are examined.
const HEAD: usize = 1024;
/// Version field of an EDF header: "0" and seven spaces.
const EDF_VERSION: &[u8] = b"0       ";
/// Length of the fixed part of an EDF header.
const EDF_HEADER: usize = 256;

/// Why a file is not an ECG file. The message continues a sentence that starts with the field name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EcgFileError {
    #[error("is empty")]
    Empty,
    #[error("is neither text (CSV) nor an EDF file")]
    NotText,
}

/// Examines a file while it arrives.
#[derive(Debug, Default)]
pub(crate) struct EcgFileScan {
    head: Vec<u8>,
}

impl EcgFileScan {
    /// Adds the next bytes of the file.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), EcgFileError> {
        let missing = HEAD - self.head.len();
        if missing > 0 {
            self.head.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
            if self.head.len() == HEAD {
                media_type(&self.head)?;
            }
        }
        Ok(())
    }

    /// Returns the media type after the last byte.
    pub(crate) fn finish(self) -> Result<MediaType, EcgFileError> {
        media_type(&self.head)
    }
}

fn media_type(head: &[u8]) -> Result<MediaType, EcgFileError> {
    if head.is_empty() {
        return Err(EcgFileError::Empty);
    }
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    if head.starts_with(EDF_VERSION) && head.get(..EDF_HEADER).is_some_and(|head| head.iter().all(printable))
    {
        return Ok(MediaType::Edf);
    }
    // UTF-16, which some devices export. Its characters contain zero bytes.
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Ok(MediaType::Csv);
    }
    let control = |byte: &u8| matches!(byte, 0..=8 | 14..=31 | 127) && *byte != 0x1a;
    if head.iter().any(control) { Err(EcgFileError::NotText) } else { Ok(MediaType::Csv) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(file: &[u8]) -> Result<MediaType, EcgFileError> {
        let mut scan = EcgFileScan::default();
        for chunk in file.chunks(7) {
            scan.feed(chunk)?;
        }
        scan.finish()
    }

    #[test]
    fn text_in_common_encodings_and_edf_are_accepted() {
        assert_eq!(scan(b"time,mV\r\n0,0.1\r\n"), Ok(MediaType::Csv));
        assert_eq!(scan("Zeit;µV\n0;1\n".as_bytes()), Ok(MediaType::Csv));
        assert_eq!(scan(b"Zeit;\xb5V\n0;1\n"), Ok(MediaType::Csv));
        assert_eq!(scan(b"\xff\xfet\0,\0m\0\n\0"), Ok(MediaType::Csv));
        let edf = format!("{:<256}\u{0}\u{1}", "0       X X X X");
        assert_eq!(scan(edf.as_bytes()), Ok(MediaType::Edf));
    }

    #[test]
    fn empty_and_binary_files_are_rejected() {
        assert_eq!(scan(b""), Err(EcgFileError::Empty));
        assert_eq!(scan(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Err(EcgFileError::NotText));
        assert_eq!(scan(b"PK\x03\x04"), Err(EcgFileError::NotText));
    }
}
