//! Entries, events and errors of an outbox.

use std::fmt;
use std::path::PathBuf;

use proto_json::{Mrn, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ClientError, Progress, UploadAnswer};

/// Errors of an outbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Another process has the outbox open.
    #[error("the folder {0} is in use by another window of this program: close that one first")]
    InUse(PathBuf),
    /// A file to upload cannot be read.
    #[error("the file {path} cannot be read: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The folder of the outbox cannot be read or written.
    #[error("the upload cannot be kept in {folder}: {reason}")]
    Disk {
        /// Folder of the outbox.
        folder: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The copy was cancelled.
    #[error("the upload was cancelled")]
    Cancelled,
}

/// Identifies an upload in an outbox. Later uploads have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub(super) Uuid);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An upload in an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Id of the entry.
    pub id: EntryId,
    /// Record number of the patient.
    pub mrn: Mrn,
    /// Name of the patient, if the upload has one.
    pub name: Option<String>,
    /// When the upload was put into the outbox.
    pub created_at: Timestamp,
    /// Number of files.
    pub files: usize,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Why the upload was rejected. It is not sent again before [`Outbox::retry`].
    pub attention: Option<String>,
    /// Whether it was rejected because the patient has another name; see [`Outbox::retry_with_rename`].
    pub name_differs: bool,
}

/// What happens to an upload of an outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxEvent {
    /// The upload is being sent.
    Progress {
        /// Id of the upload.
        id: EntryId,
        /// Progress of the attempt.
        progress: Progress,
    },
    /// The gateway has accepted the upload. It was removed from the outbox.
    Delivered {
        /// Id of the upload.
        id: EntryId,
        /// Answer of the gateway.
        answer: UploadAnswer,
    },
    /// The upload was rejected. It stays in the outbox and needs attention.
    Rejected {
        /// Id of the upload.
        id: EntryId,
        /// The reason.
        error: ClientError,
    },
    /// The attempt failed. The upload is sent again later, before all uploads behind it.
    Delayed {
        /// Id of the upload.
        id: EntryId,
        /// The reason.
        error: ClientError,
    },
}
