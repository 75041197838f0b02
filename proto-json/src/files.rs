//! Files of uploads: kind, format and hash.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::HashedBytes;
use crate::ids::BlobHash;

/// Kind of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A medical image.
    MedicalImage,
    /// An image of an ECG trace.
    EcgImage,
    /// A raw ECG.
    Ecg,
}

/// Formats of stored files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MediaType {
    /// PNG image.
    #[serde(rename = "image/png")]
    Png,
    /// JPEG image.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// Raw ECG as text.
    #[serde(rename = "text/csv")]
    Csv,
    /// Raw ECG in the European Data Format.
    #[serde(rename = "application/edf")]
    Edf,
    /// Beats and trend of an analysed ECG.
    #[serde(rename = "application/json")]
    Json,
}

impl MediaType {
    /// Returns the `Content-Type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Png => "image/png",
            MediaType::Jpeg => "image/jpeg",
            MediaType::Csv => "text/csv",
            MediaType::Edf => "application/edf",
            MediaType::Json => "application/json",
        }
    }

    /// Returns the usual file name extension, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            MediaType::Png => "png",
            MediaType::Jpeg => "jpg",
            MediaType::Csv => "csv",
            MediaType::Edf => "edf",
            MediaType::Json => "json",
        }
    }
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlobInfo {
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
    /// Length in bytes.
    pub bytes: u64,
    /// Format.
    pub media_type: MediaType,
    /// Name of the uploaded file, if the client stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Width in pixels, if the file is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels, if the file is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

impl BlobInfo {
    /// Describes content of this format, without a file name and without a size in pixels.
    #[must_use]
    pub fn of(content: &HashedBytes, media_type: MediaType) -> Self {
        BlobInfo {
            sha256: content.sha256(),
            bytes: content.len() as u64,
            media_type,
            file_name: None,
            width: None,
            height: None,
        }
    }
}
