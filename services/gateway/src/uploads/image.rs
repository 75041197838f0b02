//! Detects PNG and JPEG files and reads their dimensions from the first bytes while they arrive, without
//! decoding.
//!
//! A file of a few kilobytes can declare a width of 40,000 pixels, and decoding it would need gigabytes.
//! Therefore the declared size is limited. The `image` crate is not used, because it needs the whole file or
//! a seekable reader.

use proto_json::MediaType;

/// PNG signature, section 5.2 of the PNG specification.
const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Signature and IHDR chunk, which must be first: length, type, 13 bytes of data, checksum.
const PNG_HEADER: usize = 8 + 4 + 4 + 13 + 4;
/// Start of a JPEG file: SOI and the first byte of the next marker, ISO/IEC 10918-1 annex B.
const JPEG_SIGNATURE: [u8; 3] = [0xff, 0xd8, 0xff];

/// Type and dimensions of a valid image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageInfo {
    pub(crate) media_type: MediaType,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Why an image is rejected. The message continues a sentence that starts with the field name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("is not a PNG or JPEG file")]
    Unknown,
    #[error("is a PNG or JPEG file that is damaged or cut off at its start")]
    Damaged,
    #[error("is a picture of {width} x {height} pixels; at most {max_megapixels} megapixels are taken")]
    TooManyPixels { width: u32, height: u32, max_megapixels: u32 },
}

/// Examines a file while it arrives.
#[derive(Debug)]
pub(crate) struct ImageScan {
    max_megapixels: u32,
    state: State,
    /// Bytes collected for the current state.
    collected: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Signature,
    Png,
    /// Before a JPEG marker: two bytes.
    Marker,
    /// Length of a segment that is skipped: two bytes.
    Length,
    /// In a skipped segment: number of remaining bytes.
    Skip(usize),
    /// Start of frame: length, precision, height, width.
    Frame,
    Done(ImageInfo),
}

impl ImageScan {
    pub(crate) fn new(max_megapixels: u32) -> Self {
        ImageScan { max_megapixels, state: State::Signature, collected: Vec::with_capacity(PNG_HEADER) }
    }

    /// Adds the next bytes of the file.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
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
            let taken = needed.saturating_sub(self.collected.len()).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            self.collected.extend_from_slice(now);
            bytes = later;
            if self.collected.len() == needed {
                self.step()?;
            }
        }
        Ok(())
    }

    /// Handles a state whose bytes are complete.
    fn step(&mut self) -> Result<(), ImageError> {
        match (self.state, self.collected.as_slice()) {
            (State::Signature, held) if *held == JPEG_SIGNATURE => {
                // The third byte is the start of the first marker.
                self.collected.drain(..2);
                self.state = State::Marker;
                return Ok(());
            }
            (State::Signature, held) if PNG_SIGNATURE.starts_with(held) => {
                self.state = State::Png;
                return Ok(());
            }
            (State::Signature, _) => return Err(ImageError::Unknown),
            (State::Png, held) => {
                if !held.starts_with(&PNG_SIGNATURE) {
                    return Err(ImageError::Unknown);
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
                    return Err(ImageError::Damaged);
                };
                let width = u32::from_be_bytes([w0, w1, w2, w3]);
                let height = u32::from_be_bytes([h0, h1, h2, h3]);
                self.done(MediaType::Png, width, height)?;
            }
            // Any number of fill bytes may precede a marker.
            (State::Marker, [0xff, 0xff]) => {
                self.collected.truncate(1);
                return Ok(());
            }
            // Start of frame of any coding process. C4, C8 and CC are other markers.
            (State::Marker, [0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf]) => {
                self.state = State::Frame;
            }
            // Markers without a length.
            (State::Marker, [0xff, 0x01 | 0xd0..=0xd7]) => {}
            // Image data or the end of the image before its dimensions, or not a marker.
            (State::Marker, [0xff, 0x00 | 0xd8..=0xda] | [0..=0xfe, _]) => return Err(ImageError::Damaged),
            (State::Marker, _) => self.state = State::Length,
            (State::Length, [high, low]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let rest = length.checked_sub(2).ok_or(ImageError::Damaged)?;
                self.state = if rest == 0 { State::Marker } else { State::Skip(rest) };
            }
            (State::Frame, [_, _, _, h0, h1, w0, w1]) => {
                let (width, height) = (u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1]));
                self.done(MediaType::Jpeg, width.into(), height.into())?;
            }
            _ => return Err(ImageError::Damaged),
        }
        self.collected.clear();
        Ok(())
    }

    fn done(&mut self, media_type: MediaType, width: u32, height: u32) -> Result<(), ImageError> {
        // The specifications forbid zero. JPEG files that define the height at the end (DNL) are not used in
        // practice.
        if width == 0 || height == 0 {
            return Err(ImageError::Damaged);
        }
        let max_megapixels = self.max_megapixels;
        if u64::from(width) * u64::from(height) > u64::from(max_megapixels) * 1_000_000 {
            return Err(ImageError::TooManyPixels { width, height, max_megapixels });
        }
        self.state = State::Done(ImageInfo { media_type, width, height });
        Ok(())
    }

    /// Returns the result after the last byte.
    pub(crate) fn finish(self) -> Result<ImageInfo, ImageError> {
        match self.state {
            State::Done(picture) => Ok(picture),
            State::Signature => Err(ImageError::Unknown),
            State::Png if !self.collected.starts_with(&PNG_SIGNATURE) => Err(ImageError::Unknown),
            _ => Err(ImageError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(file: &[u8], chunk: usize) -> Result<ImageInfo, ImageError> {
        let mut scan = ImageScan::new(64);
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
    fn dimensions_do_not_depend_on_chunk_boundaries() {
        for chunk in [1, 2, 3, 7, 1000] {
            let picture = ImageInfo { media_type: MediaType::Png, width: 640, height: 480 };
            assert_eq!(scan(&png(640, 480), chunk), Ok(picture));
            let picture = ImageInfo { media_type: MediaType::Jpeg, width: 640, height: 480 };
            assert_eq!(scan(&jpeg(640, 480), chunk), Ok(picture));
        }
    }

    #[test]
    fn image_with_too_many_declared_pixels_is_rejected() {
        assert!(scan(&png(8_000, 8_000), 100).is_ok());
        assert_eq!(
            scan(&png(40_000, 40_000), 100),
            Err(ImageError::TooManyPixels { width: 40_000, height: 40_000, max_megapixels: 64 })
        );
        assert!(matches!(scan(&png(u32::MAX, u32::MAX), 100), Err(ImageError::TooManyPixels { .. })));
        assert!(matches!(scan(&jpeg(65_535, 65_535), 100), Err(ImageError::TooManyPixels { .. })));
        assert_eq!(scan(&png(0, 5), 100), Err(ImageError::Damaged));
        assert_eq!(scan(&jpeg(5, 0), 100), Err(ImageError::Damaged));
    }

    #[test]
    fn header_truncated_at_any_byte_is_rejected() {
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
    fn other_file_types_are_rejected() {
        for file in
            [&b""[..], b"time,mV\n0,1\n", b"GIF89a..........................................", b"%PDF-1.7"]
        {
            assert_eq!(scan(file, 4), Err(ImageError::Unknown));
        }
        assert_eq!(scan(b"\x89PNG but not really", 4), Err(ImageError::Unknown));
    }

    proptest! {
        #[test]
        fn any_input_is_scanned_without_panic_and_independently_of_chunks(start in prop_oneof![Just(PNG_SIGNATURE.to_vec()), Just(JPEG_SIGNATURE.to_vec()), Just(jpeg(4, 4)), Just(vec![])],
                                  rest in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1usize..20) {
            let file = [start, rest].concat();
            let by_chunk = scan(&file, chunk);
            prop_assert_eq!(by_chunk, scan(&file, file.len()));
        }
    }
}
