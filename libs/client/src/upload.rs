//! The content of an upload.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto_json::{Bpm, FileKind, MediaType, SignalOptions, Timestamp};
use serde::{Deserialize, Serialize};

/// One upload. Sent again with the same idempotency key, it is stored once.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Name of the patient, if it is known.
    pub name: Option<String>,
    /// Whether the name may replace another name of the patient. Otherwise the gateway rejects an upload with another name
    /// for a known patient.
    pub rename: bool,
    /// A heart rate that another device has measured.
    pub heart_rate: Option<Bpm>,
    /// When ECGs and heart rate were recorded, if it is known.
    pub recorded_at: Option<Timestamp>,
    /// Whether `recorded_at` was read from the clock of this computer. Before the first attempt to send the upload, an outbox
    /// corrects it if that clock and the server's differ by more than the tolerance.
    pub recorded_by_this_computer: bool,
    /// Sampling rate and lead of the raw ECGs.
    pub signal_options: SignalOptions,
    /// The files, in order.
    pub files: Vec<UploadFile>,
    /// Identifies the upload across retries.
    pub idempotency_key: IdempotencyKey,
    /// Whether the gateway may answer when the upload is durably queued, before it is stored.
    pub respond_async: bool,
}

impl Upload {
    /// An upload of these files with a new idempotency key.
    #[must_use]
    pub fn of(files: Vec<UploadFile>) -> Self {
        Upload {
            name: None,
            rename: false,
            heart_rate: None,
            recorded_at: None,
            recorded_by_this_computer: false,
            signal_options: SignalOptions::default(),
            files,
            idempotency_key: IdempotencyKey::generate(),
            respond_async: false,
        }
    }
}

/// One file of an upload.
#[derive(Debug, Clone)]
pub struct UploadFile {
    /// Kind of the file.
    pub kind: FileKind,
    /// Its content.
    pub content: FileContent,
    /// Its name, for display.
    pub file_name: String,
    /// Its format, if it is known. The gateway checks the content in any case.
    pub media_type: Option<MediaType>,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// A file on disk. It is read while it is sent.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

impl UploadFile {
    /// A file on disk with its own name.
    #[must_use]
    pub fn from_path(kind: FileKind, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let media_type = media_type_of(kind, &path);
        UploadFile { kind, content: FileContent::Path(path), file_name, media_type }
    }

    /// Bytes in memory with this name.
    #[must_use]
    pub fn from_bytes(kind: FileKind, file_name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let file_name = file_name.into();
        let media_type = media_type_of(kind, Path::new(&file_name));
        UploadFile { kind, content: FileContent::Bytes(bytes.into()), file_name, media_type }
    }
}

/// The name of the form field for files of this kind.
pub(crate) fn field(kind: FileKind) -> &'static str {
    match kind {
        FileKind::MedicalImage => "medical_image",
        FileKind::EcgImage => "ecg_image",
        FileKind::Ecg => "ecg",
    }
}

fn media_type_of(kind: FileKind, path: &Path) -> Option<MediaType> {
    let extension = path.extension().and_then(|extension| extension.to_str())?.to_ascii_lowercase();
    match (kind, extension.as_str()) {
        (FileKind::Ecg, "edf" | "bdf") => Some(MediaType::Edf),
        (FileKind::Ecg, "csv" | "tsv" | "txt") => Some(MediaType::Csv),
        (FileKind::MedicalImage | FileKind::EcgImage, "png") => Some(MediaType::Png),
        (FileKind::MedicalImage | FileKind::EcgImage, "jpg" | "jpeg") => Some(MediaType::Jpeg),
        _ => None,
    }
}

/// Identifies an upload across retries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// The text is not a valid idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 128 printable ASCII characters without spaces")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// A new, unique key.
    #[must_use]
    pub fn generate() -> Self {
        IdempotencyKey(uuid::Uuid::now_v7().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;
    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = IdempotencyKeyError;
    fn try_from(text: String) -> Result<Self, IdempotencyKeyError> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(IdempotencyKey(text))
        } else {
            Err(IdempotencyKeyError)
        }
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> String {
        key.0
    }
}
