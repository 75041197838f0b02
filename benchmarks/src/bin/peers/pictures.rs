//! JPEG files of about 25 KB, no two of the same bytes.

use testkit::material;

/// About 25 KB as JPEG.
pub(crate) const SIDE: u16 = 162;
/// Drawn before the clock runs; a comment makes each copy another file.
const DRAWN: u64 = 16;

pub(crate) struct Pictures(Vec<Vec<u8>>);

impl Pictures {
    pub(crate) fn draw() -> Self {
        Pictures((0..DRAWN).map(|seed| material::jpeg(SIDE, seed)).collect())
    }

    /// The picture of this number.
    pub(crate) fn get(&self, number: u64) -> Vec<u8> {
        let drawn = &self.0[(number % DRAWN) as usize];
        let comment = format!("{number:020}");
        let mut bytes = Vec::with_capacity(drawn.len() + 24);
        // Start of image, then a comment segment, then the rest.
        bytes.extend_from_slice(&drawn[..2]);
        bytes.extend_from_slice(&[0xFF, 0xFE, 0, 22]);
        bytes.extend_from_slice(comment.as_bytes());
        bytes.extend_from_slice(&drawn[2..]);
        bytes
    }
}
