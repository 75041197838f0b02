//! The patient store: its ports, what is written through them, and the adapters.
//!
//! Two adapters implement the [ports](PatientReader): `mongo` (MongoDB with GridFS) and `sqlite` (one file). One conformance
//! suite runs on both. Ingest is the only writer; query only reads.
//!
//! An upload is stored in one transaction, and so is the result of an analysis. Every write is idempotent, because its ids
//! are derived from the upload: a redelivery changes nothing and returns the same. Nothing grows within a patient, so a
//! write costs the same at the 10,000th upload as at the first.
//!
//! A file is addressed by its upload and its hash, and belongs to that upload alone. Two uploads with the same bytes store
//! two copies. So no upload can depend on a file of another one, and a file can be removed without asking who else uses it.

// Without an adapter, the code that the adapters share is unused.
#![cfg_attr(
    not(any(feature = "mongo", feature = "sqlite")),
    allow(dead_code, reason = "no adapter is built")
)]

pub mod alarms;
mod audit;
mod body;
mod corrections;
mod error;
mod maintenance;
#[cfg(feature = "mongo")]
pub mod mongo;
mod ports;
mod records;
mod search;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod users;
pub mod wards;
pub mod waveforms;
mod writes;

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use proto_json::{
    BlobHash, BlobInfo, Cursor, Mrn, PatientSummary, RecordId, SignalOptions, Timestamp, UploadId,
    UploadReceipt,
};

pub use alarms::AlarmStore;
pub use audit::{AuditFilter, AuditReader, AuditStore};
pub use corrections::{
    CorrectionOutcome, CorrectionReader, CorrectionStep, Corrections, NewCorrection, Refusal,
};
pub use error::StoreError;
pub use maintenance::{ScrubPosition, ScrubState, ScrubStep};
pub use ports::{BlobReader, BlobStore, Maintenance, PatientReader, PatientWriter};
pub use records::replaces_result;
pub use users::UserStore;
pub use wards::{WardReader, WardStore};
pub use waveforms::{WaveformReader, WaveformStore};
pub use writes::{AnalysisResult, NewEcg, NewHeartRate, NewImage, NewUpload};

/// A stream of bytes.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Key of a stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobKey {
    /// The upload that the file belongs to.
    pub upload: UploadId,
    /// SHA-256 of its bytes.
    pub sha256: BlobHash,
}

/// Space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free space.
    pub free: u64,
    /// Total space.
    pub total: u64,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The end of the previous page; `None` for the first page.
    pub after: Option<Cursor>,
    /// Maximum number of entries; at least 1.
    pub limit: usize,
    /// Whether a history contains records that were entered in error.
    pub include_errors: bool,
}

/// A stored file, opened for reading.
pub struct StoredBlob {
    /// Length in bytes.
    pub bytes: u64,
    /// The bytes, verified while they are read.
    pub body: ByteStream,
}

/// Result of storing an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadOutcome {
    /// The upload is stored.
    Stored {
        /// The receipt for the client; the same at every redelivery.
        receipt: UploadReceipt,
        /// The current patient.
        patient: Box<PatientSummary>,
        /// The upload was stored before: this is a redelivery or a retry.
        replayed: bool,
    },
    /// Another upload (with another fingerprint or patient) is stored under this id; nothing was changed.
    Conflict,
    /// The patient or the upload was erased; nothing was changed.
    Erased,
}

/// A stored upload.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredUpload {
    /// The receipt for the client. It names the patient that the upload belongs to now.
    pub receipt: UploadReceipt,
    /// Record number in the request. It differs if the upload was moved, or the patient merged.
    pub addressed_to: Mrn,
    /// SHA-256 of the whole request.
    pub fingerprint: BlobHash,
    /// Name of the client that sent it; `None` if it is unknown.
    pub uploaded_by: Option<String>,
}

/// An ECG that waits for its analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingEcg {
    /// The ECG.
    pub id: RecordId,
    /// The upload that it belongs to.
    pub upload_id: UploadId,
    /// Record number of the patient.
    pub mrn: Mrn,
    /// When it was received.
    pub received_at: Timestamp,
    /// The signal.
    pub signal: BlobInfo,
    /// How to read the signal.
    pub options: SignalOptions,
}
