//! Default limits of a gateway.
//!
//! A client that checks them before an upload can name the file that exceeds one. An operator can configure other limits; the
//! gateway decides.

/// Size of an image file in bytes (`--max-image` of the gateway).
pub const MAX_IMAGE_BYTES: u64 = 64_000_000;
/// Pixels of an image (`--max-megapixels` of the gateway).
pub const MAX_IMAGE_PIXELS: u64 = 64_000_000;
/// Size of a raw ECG file in bytes (`--max-file` of the gateway).
pub const MAX_FILE_BYTES: u64 = 1_000_000_000;
