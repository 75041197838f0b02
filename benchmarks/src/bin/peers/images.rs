//! Distinct JPEG files of about 25 KB.

use testkit::test_data;

/// About 25 KB as JPEG.
pub(crate) const SIDE: u16 = 162;
/// Number of generated images. A comment makes each copy a distinct file.
const GENERATED: u64 = 16;

pub(crate) struct TestImages(Vec<Vec<u8>>);

impl TestImages {
    pub(crate) fn generate() -> Self {
        TestImages((0..GENERATED).map(|seed| test_data::jpeg(SIDE, seed)).collect())
    }

    /// The image with this number.
    pub(crate) fn get(&self, number: u64) -> Vec<u8> {
        let image = &self.0[(number % GENERATED) as usize];
        let comment = format!("{number:020}");
        let mut bytes = Vec::with_capacity(image.len() + 24);
        // Start of image, then a comment segment, then the rest.
        bytes.extend_from_slice(&image[..2]);
        bytes.extend_from_slice(&[0xFF, 0xFE, 0, 22]);
        bytes.extend_from_slice(comment.as_bytes());
        bytes.extend_from_slice(&image[2..]);
        bytes
    }
}
