//! Is it a PNG or JPEG, and how large is the picture: told from the first bytes as they arrive, without decoding anything.
//!
//! A file of a few kilobytes can claim to be 40,000 pixels wide; whoever decodes it later would need gigabytes. So the
//! claim itself is limited.

use proto_json::MediaType;

/// Signature of PNG, section 5.2 of the PNG specification.
const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Signature and the whole IHDR chunk, which comes first: length, type, 13 bytes, checksum.
const PNG_HEADER: usize = 8 + 4 + 4 + 13 + 4;
/// Start of a JPEG: SOI and the first byte of the next marker, ISO/IEC 10918-1 annex B.
const JPEG_SIGNATURE: [u8; 3] = [0xff, 0xd8, 0xff];

/// A picture that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) media_type: MediaType,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Why a file is no picture we take. Each goes on a sentence that names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("is not a PNG or JPEG file")]
    Unknown,
    #[error("is a PNG or JPEG file that is damaged or cut off at its start")]
    Damaged,
    #[error("is a picture of {width} x {height} pixels; at most {max_megapixels} megapixels are taken")]
    TooManyPixels { width: u32, height: u32, max_megapixels: u32 },
}

/// Looks at a file as it arrives.
#[derive(Debug)]
pub(crate) struct PictureScan {
    max_megapixels: u32,
    state: State,
    /// Bytes that wait until there are as many as the state needs.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Signature,
    Png,
    /// Before a marker of a JPEG: two bytes.
    Marker,
    /// Length of a segment that is of no interest: two bytes.
    Length,
    /// In such a segment: this many bytes to go.
    Skip(usize),
    /// Start of frame: length, precision, height, width.
    Frame,
    Done(Picture),
}

impl PictureScan {
    pub(crate) fn new(max_megapixels: u32) -> Self {
        PictureScan { max_megapixels, state: State::Signature, held: Vec::with_capacity(PNG_HEADER) }
    }

    /// Takes the next bytes of the file.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), PictureError> {
        while !bytes.is_empty() {
            let needed = match self.state {
                State::Done(_) => return Ok(()),
                State::Skip(left) => {
                    let skipped = left.min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    self.state = if skipped == left { State::Marker } else { State::Skip(left - skipped) };
                    continue;
                }
                State::Signature => JPEG_SIGNATURE.len(),
                State::Png => PNG_HEADER,
                State::Marker | State::Length => 2,
                State::Frame => 7,
            };
            let taken = needed.saturating_sub(self.held.len()).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() == needed {
                self.step()?;
            }
        }
        Ok(())
    }

    /// The state has the bytes it needs.
    fn step(&mut self) -> Result<(), PictureError> {
        match (self.state, self.held.as_slice()) {
            (State::Signature, held) if *held == JPEG_SIGNATURE => {
                // The third byte begins the first marker.
                self.held.drain(..2);
                self.state = State::Marker;
                return Ok(());
            }
            (State::Signature, held) if PNG_SIGNATURE.starts_with(held) => {
                self.state = State::Png;
                return Ok(());
            }
            (State::Signature, _) => return Err(PictureError::Unknown),
            (State::Png, held) => {
                if !held.starts_with(&PNG_SIGNATURE) {
                    return Err(PictureError::Unknown);
                }
                let [
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    0,
                    0,
                    0,
                    13,
                    b'I',
                    b'H',
                    b'D',
                    b'R',
                    w0,
                    w1,
                    w2,
                    w3,
                    h0,
                    h1,
                    h2,
                    h3,
                    ..,
                ] = *held
                else {
                    return Err(PictureError::Damaged);
                };
                let width = u32::from_be_bytes([w0, w1, w2, w3]);
                let height = u32::from_be_bytes([h0, h1, h2, h3]);
                self.done(MediaType::Png, width, height)?;
            }
            // Any number of fill bytes may stand before a marker.
            (State::Marker, [0xff, 0xff]) => {
                self.held.truncate(1);
                return Ok(());
            }
            // Start of frame, of whatever coding; C4, C8 and CC are something else.
            (State::Marker, [0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf]) => {
                self.state = State::Frame;
            }
            // Markers that stand alone.
            (State::Marker, [0xff, 0x01 | 0xd0..=0xd7]) => {}
            // The picture's data or its end before its size, or no marker at all.
            (State::Marker, [0xff, 0x00 | 0xd8..=0xda] | [0..=0xfe, _]) => return Err(PictureError::Damaged),
            (State::Marker, _) => self.state = State::Length,
            (State::Length, [high, low]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let rest = length.checked_sub(2).ok_or(PictureError::Damaged)?;
                self.state = if rest == 0 { State::Marker } else { State::Skip(rest) };
            }
            (State::Frame, [_, _, _, h0, h1, w0, w1]) => {
                let (width, height) = (u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1]));
                self.done(MediaType::Jpeg, width.into(), height.into())?;
            }
            _ => return Err(PictureError::Damaged),
        }
        self.held.clear();
        Ok(())
    }

    fn done(&mut self, media_type: MediaType, width: u32, height: u32) -> Result<(), PictureError> {
        // The specifications forbid both; a JPEG that tells its height at its end (DNL) is not met in practice.
        if width == 0 || height == 0 {
            return Err(PictureError::Damaged);
        }
        let max_megapixels = self.max_megapixels;
        if u64::from(width) * u64::from(height) > u64::from(max_megapixels) * 1_000_000 {
            return Err(PictureError::TooManyPixels { width, height, max_megapixels });
        }
        self.state = State::Done(Picture { media_type, width, height });
        Ok(())
    }

    /// The file has ended.
    pub(crate) fn finish(self) -> Result<Picture, PictureError> {
        match self.state {
            State::Done(picture) => Ok(picture),
            State::Signature => Err(PictureError::Unknown),
            State::Png if !self.held.starts_with(&PNG_SIGNATURE) => Err(PictureError::Unknown),
            _ => Err(PictureError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(file: &[u8], chunk: usize) -> Result<Picture, PictureError> {
        let mut scan = PictureScan::new(64);
        for chunk in file.chunks(chunk.max(1)) {
            scan.feed(chunk)?;
        }
        scan.finish()
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = PNG_SIGNATURE.to_vec();
        file.extend([0, 0, 0, 13]);
        file.extend(b"IHDR");
        file.extend(width.to_be_bytes());
        file.extend(height.to_be_bytes());
        file.extend([8, 0, 0, 0, 0, 1, 2, 3, 4]);
        file.extend(b"....");
        file
    }

    fn jpeg(width: u16, height: u16) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8, 0xff, 0xe0, 0, 16];
        file.extend([0; 14]);
        // A comment, fill bytes, a table, then a progressive frame.
        file.extend([0xff, 0xfe, 0, 2, 0xff, 0xff, 0xff, 0xc4, 0, 5, 0xff, 0xc0, 0]);
        file.extend([0xff, 0xc2, 0, 11, 8]);
        file.extend(height.to_be_bytes());
        file.extend(width.to_be_bytes());
        file.extend([1, 1, 0x11, 0, 0xff, 0xda]);
        file
    }

    #[test]
    fn size_is_told_from_the_header_however_the_bytes_arrive() {
        for chunk in [1, 2, 3, 7, 1000] {
            let picture = Picture { media_type: MediaType::Png, width: 640, height: 480 };
            assert_eq!(scan(&png(640, 480), chunk), Ok(picture));
            let picture = Picture { media_type: MediaType::Jpeg, width: 640, height: 480 };
            assert_eq!(scan(&jpeg(640, 480), chunk), Ok(picture));
        }
    }

    #[test]
    fn a_claim_of_too_many_pixels_is_refused() {
        assert!(scan(&png(8_000, 8_000), 100).is_ok());
        assert_eq!(
            scan(&png(40_000, 40_000), 100),
            Err(PictureError::TooManyPixels { width: 40_000, height: 40_000, max_megapixels: 64 })
        );
        assert!(matches!(scan(&png(u32::MAX, u32::MAX), 100), Err(PictureError::TooManyPixels { .. })));
        assert!(matches!(scan(&jpeg(65_535, 65_535), 100), Err(PictureError::TooManyPixels { .. })));
        assert_eq!(scan(&png(0, 5), 100), Err(PictureError::Damaged));
        assert_eq!(scan(&jpeg(5, 0), 100), Err(PictureError::Damaged));
    }

    #[test]
    fn a_header_that_is_cut_off_anywhere_is_an_error() {
        let whole = png(640, 480);
        for end in 0..PNG_HEADER {
            assert!(scan(&whole[..end], 5).is_err(), "{end} bytes of a PNG");
        }
        let whole = jpeg(640, 480);
        let frame_end = whole.len() - 6;
        for end in 0..frame_end {
            assert!(scan(&whole[..end], 5).is_err(), "{end} bytes of a JPEG");
        }
        assert!(scan(&whole[..frame_end], 5).is_ok());
    }

    #[test]
    fn other_files_are_no_pictures() {
        for file in
            [&b""[..], b"time,mV\n0,1\n", b"GIF89a..........................................", b"%PDF-1.7"]
        {
            assert_eq!(scan(file, 4), Err(PictureError::Unknown));
        }
        assert_eq!(scan(b"\x89PNG this is none", 4), Err(PictureError::Unknown));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in prop_oneof![Just(PNG_SIGNATURE.to_vec()), Just(JPEG_SIGNATURE.to_vec()), Just(jpeg(4, 4)), Just(vec![])],
                                  rest in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1usize..20) {
            let file = [start, rest].concat();
            let by_chunk = scan(&file, chunk);
            prop_assert_eq!(by_chunk, scan(&file, file.len()));
        }
    }
}
