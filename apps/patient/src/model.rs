//! Plain data that controllers, background work and messages share.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use proto_json::NameMatch;

/// Identifies a selected file until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) i32);

/// Size and modification time of a file. A different stamp means that the file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub(crate) bytes: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        FileStamp { bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The name of a file without its folder.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What the preview found in an ECG.
pub(crate) struct Preview {
    pub(crate) name: String,
    /// Mean heart rate in beats per minute.
    pub(crate) mean_bpm: Option<f64>,
}

/// What is known about the record number in the form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PatientLookup {
    /// The gateway was not asked yet.
    Unknown,
    /// No patient has this number.
    NotFound,
    /// A patient has this number, with this name if one was ever uploaded.
    Found(Option<String>),
    /// The access token does not allow reading names. The gateway compared the entered name with the stored one.
    Compared(NameMatch),
    /// The gateway could not be asked, for this reason.
    Unavailable(String),
}

/// How the server's analysis of an ECG compares with the preview.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Comparison {
    /// The server could not analyse the ECG, for this reason if it is known.
    Failed(Option<String>),
    /// Both found this mean heart rate, or both found none.
    Agrees(Option<f64>),
    /// They found different mean heart rates.
    Differs { server: Option<f64>, preview: Option<f64> },
}
