//! Decoding, scaling and rejecting pictures.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use image::{DynamicImage, ImageFormat, RgbImage};
use ui::{Picture, PictureError};

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::new(width, height)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn large_picture_is_scaled_down_and_keeps_its_aspect_ratio() {
    let picture = Picture::from_bytes(&png(800, 400), Some((100, 100))).unwrap();
    assert_eq!((picture.size(), picture.original_size()), ((100, 50), (800, 400)));
    let small = Picture::from_bytes(&png(40, 20), Some((100, 100))).unwrap();
    assert_eq!(small.size(), (40, 20), "a small picture is not enlarged");
}

#[test]
fn other_formats_and_damaged_pictures_are_rejected() {
    assert!(matches!(Picture::from_bytes(b"0.0,1.0\n", None), Err(PictureError::Format)));
    let mut cut = png(64, 64);
    cut.truncate(cut.len() / 2);
    assert!(matches!(Picture::from_bytes(&cut, None), Err(PictureError::Damaged(_))));
}

#[test]
fn decompression_bomb_is_rejected_before_it_is_decoded() {
    let mut bomb = png(1, 1);
    // Width and height have fixed positions in the header. Its checksum follows.
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    let error = Picture::from_bytes(&bomb, None).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { width: 60_000, height: 60_000 }), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}
