//! Wraps a JPEG as DICOM: a Part 10 file with one secondary capture image and encapsulated pixels.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::images::SIDE;

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
/// UIDs below 2.25 are derived from UUIDs (PS3.5, B.2).
const IMPLEMENTATION: &str = "2.25.302043790172249692526321623266752743501";

/// A new UID at each call.
fn instance_uid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static BASE: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    let base =
        BASE.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos()));
    format!("2.25.{base}{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a file: one study and series per patient, one instance per call.
pub(crate) fn wrapped(mrn: u64, jpeg: &[u8]) -> Vec<u8> {
    let instance = instance_uid();
    let mut meta = Vec::new();
    element(&mut meta, (0x0002, 0x0001), b"OB", &[0, 1]);
    text(&mut meta, (0x0002, 0x0002), b"UI", SECONDARY_CAPTURE);
    text(&mut meta, (0x0002, 0x0003), b"UI", &instance);
    text(&mut meta, (0x0002, 0x0010), b"UI", JPEG_BASELINE);
    text(&mut meta, (0x0002, 0x0012), b"UI", IMPLEMENTATION);

    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    element(&mut file, (0x0002, 0x0000), b"UL", &(meta.len() as u32).to_le_bytes());
    file.extend_from_slice(&meta);
    text(&mut file, (0x0008, 0x0016), b"UI", SECONDARY_CAPTURE);
    text(&mut file, (0x0008, 0x0018), b"UI", &instance);
    text(&mut file, (0x0008, 0x0020), b"DA", "20240101");
    text(&mut file, (0x0008, 0x0030), b"TM", "120000");
    text(&mut file, (0x0008, 0x0050), b"SH", "");
    text(&mut file, (0x0008, 0x0060), b"CS", "OT");
    text(&mut file, (0x0008, 0x0064), b"CS", "WSD");
    text(&mut file, (0x0008, 0x0090), b"PN", "");
    text(&mut file, (0x0010, 0x0010), b"PN", &format!("Patient^{mrn}"));
    text(&mut file, (0x0010, 0x0020), b"LO", &mrn.to_string());
    text(&mut file, (0x0010, 0x0030), b"DA", "");
    text(&mut file, (0x0010, 0x0040), b"CS", "");
    text(&mut file, (0x0020, 0x000D), b"UI", &format!("2.25.1{mrn:016}"));
    text(&mut file, (0x0020, 0x000E), b"UI", &format!("2.25.2{mrn:016}"));
    text(&mut file, (0x0020, 0x0010), b"SH", "1");
    text(&mut file, (0x0020, 0x0011), b"IS", "1");
    text(&mut file, (0x0020, 0x0013), b"IS", "1");
    number(&mut file, (0x0028, 0x0002), 1);
    text(&mut file, (0x0028, 0x0004), b"CS", "MONOCHROME2");
    number(&mut file, (0x0028, 0x0010), SIDE);
    number(&mut file, (0x0028, 0x0011), SIDE);
    number(&mut file, (0x0028, 0x0100), 8);
    number(&mut file, (0x0028, 0x0101), 8);
    number(&mut file, (0x0028, 0x0102), 7);
    number(&mut file, (0x0028, 0x0103), 0);
    text(&mut file, (0x0028, 0x2110), b"CS", "01");
    pixels(&mut file, jpeg);
    file
}

/// Pixel data of undefined length: an empty offset table, the JPEG file as one fragment, the end.
fn pixels(file: &mut Vec<u8>, jpeg: &[u8]) {
    tag(file, (0x7FE0, 0x0010));
    file.extend_from_slice(b"OB\0\0\xFF\xFF\xFF\xFF");
    tag(file, (0xFFFE, 0xE000));
    file.extend_from_slice(&0_u32.to_le_bytes());
    tag(file, (0xFFFE, 0xE000));
    let padded = jpeg.len().next_multiple_of(2);
    file.extend_from_slice(&(padded as u32).to_le_bytes());
    file.extend_from_slice(jpeg);
    file.resize(file.len() + padded - jpeg.len(), 0);
    tag(file, (0xFFFE, 0xE0DD));
    file.extend_from_slice(&0_u32.to_le_bytes());
}

fn tag(file: &mut Vec<u8>, (group, element): (u16, u16)) {
    file.extend_from_slice(&group.to_le_bytes());
    file.extend_from_slice(&element.to_le_bytes());
}

/// An element in explicit representation, little endian; `value` has an even length.
fn element(file: &mut Vec<u8>, at: (u16, u16), representation: &[u8; 2], value: &[u8]) {
    tag(file, at);
    file.extend_from_slice(representation);
    if representation == b"OB" {
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        file.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    file.extend_from_slice(value);
}

/// Text is padded to an even length: UIDs with a zero, other values with a space.
fn text(file: &mut Vec<u8>, at: (u16, u16), representation: &[u8; 2], value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(if representation == b"UI" { 0 } else { b' ' });
    }
    element(file, at, representation, &bytes);
}

fn number(file: &mut Vec<u8>, at: (u16, u16), value: u16) {
    element(file, at, b"US", &value.to_le_bytes());
}
