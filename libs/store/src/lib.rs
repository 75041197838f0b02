//! Port of the patient store, [`PatientStore`], and what is written through it.
//!
//! Two adapters: `mongo` (MongoDB with GridFS) and `sqlite` (one file). One conformance suite runs on both. Ingest is the
//! only writer, query the only reader; both see only what is in this module.
//!
//! Every write is idempotent: its ids come from the upload, so that the redelivery of a message changes nothing and
//! answers the same. Nothing grows inside a patient, so a write costs the same at the 10,000th upload as at the first.

// Whoever only names the port builds without an adapter; what the adapters share is then idle.
#![cfg_attr(
    not(any(feature = "mongo", feature = "sqlite")),
    allow(dead_code, reason = "no adapter is built")
)]

mod body;
mod error;
#[cfg(feature = "mongo")]
pub mod mongo;
mod records;
mod scrub;
mod search;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod writes;

use std::fmt::Debug;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use proto_json::{
    BlobHash, BlobInfo, Cursor, EcgRecord, FormerName, HashedBytes, HeartRateRecord, ImageRecord, Mrn, Page,
    PatientSummary, RecordId, SignalOptions, Timestamp, UploadId, UploadReceipt,
};

pub use error::StoreError;
pub use scrub::{Scrub, ScrubPosition, ScrubState, ScrubStep};
pub use writes::{AnalysisResult, NewEcg, NewHeartRate, NewImage, NewUpload, Origin};

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Patients, their history and their files.
///
/// Each record is stored with a checksum and compared when it is read. A record that does not match is
/// [`StoreError::Damaged`], or, in a list that has a place for it, among [`Page::damaged`].
#[async_trait]
pub trait PatientStore: Scrub {
    // ---- writing: ingest only ----

    /// Stores a file under its hash and waits until it is durable. A file that is there already is left alone, unread.
    ///
    /// The store remembers who brought it, for [`PatientStore::remove_abandoned`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are not of this length or hash (then nothing is visible under the hash);
    /// [`StoreError::Unavailable`] when the store or the body fails; [`StoreError::Refused`] when a part of the body is not
    /// found where it comes from.
    async fn put_blob(
        &self,
        from: Origin,
        sha256: BlobHash,
        bytes: u64,
        body: ByteStream,
    ) -> Result<(), StoreError>;

    /// Stores everything of an upload: `files`, history, patient summary, and, last, the upload itself. Durable when it
    /// returns. Of the files the upload refers to, those that are not among `files` must be there. What a record refers
    /// to is there before the record; SQLite makes both appear at once.
    ///
    /// An upload that was stored before gives [`UploadOutcome::Stored`] with the same receipt as the first time, and one
    /// that was cut off in the middle is completed; each brings its history once.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a file does not have its hash; nothing is stored then. [`StoreError::Unavailable`]
    /// when the store cannot be reached.
    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError>;

    /// Stores the result of an analysis: `files`, the ECG's status, its heart rate in the history, the patient summary.
    /// Durable when it returns. Files as in [`PatientStore::store_upload`]. A result for an ECG that has one already
    /// changes nothing; `None` then, and for unknown ECGs. Returns the patient after the change.
    ///
    /// # Errors
    /// As [`PatientStore::store_upload`].
    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError>;

    /// Removes a file that was stored for an upload which never came to be, or was refused: one that no other upload
    /// brought, too, that nothing of this upload refers to or may come to refer to, and that was not brought since
    /// `before`. Also what is left of a writing of it that was cut off. Can be repeated.
    ///
    /// From then on, an upload that counted on the file, and whose message nobody has any more, cannot be stored. The
    /// same upload, received anew, can: it brings its files again.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn remove_abandoned(
        &self,
        upload: UploadId,
        sha256: BlobHash,
        before: Timestamp,
    ) -> Result<Removal, StoreError>;

    /// ECGs that wait for their analysis, at most `limit`: those received before `before`, oldest first, then those received
    /// in the future of `now` (see [`Timestamp::is_in_future_of`]), of which nobody can tell how long they wait.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn pending_ecgs(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingEcg>, StoreError>;

    /// Notes durably that the server's clock shows `now`, and gives the highest time that was noted: if that is later than
    /// `now`, the clock was ahead then or is behind now.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn observe_time(&self, now: Timestamp) -> Result<Timestamp, StoreError>;

    /// Forgets higher times than `now`: a person has found that the clock is right now.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn accept_time(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Marks each latest record whose time is in the future of `now` as [`LatestHeartRate::clock_wrong`]: once that time has
    /// come, it would look like a fresh value. Returns the patients that changed. Reads all patients.
    ///
    /// # Errors
    /// When the store cannot be reached.
    ///
    /// [`LatestHeartRate::clock_wrong`]: proto_json::LatestHeartRate::clock_wrong
    async fn mark_clock_wrong(&self, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError>;

    // ---- reading: query, and ingest where it says so ----

    /// What became of an upload; `None` if it is not stored (completely).
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn upload(&self, id: UploadId) -> Result<Option<StoredUpload>, StoreError>;

    /// One patient.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError>;

    /// The names that a patient had before, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn former_names(&self, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError>;

    /// Patients, ascending by number, after the cursor. `query` selects those whose number starts with it, or whose name
    /// contains it, in whatever case.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn patients(
        &self,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError>;

    /// Every number, ascending.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`] when one of the numbers is damaged.
    async fn mrns(&self) -> Result<Vec<Mrn>, StoreError>;

    /// Heart rates of a patient, newest first by time of recording, then by id.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn heart_rates(&self, mrn: Mrn, page: PageRequest) -> Result<Page<HeartRateRecord>, StoreError>;

    /// ECGs of a patient, newest first by time of recording, then by id.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn ecgs(&self, mrn: Mrn, page: PageRequest) -> Result<Page<EcgRecord>, StoreError>;

    /// Images of a patient, newest first by time of receipt, then by id.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn images(&self, mrn: Mrn, page: PageRequest) -> Result<Page<ImageRecord>, StoreError>;

    /// One ECG. Also read by ingest, to know whether a staged signal is still needed.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, StoreError>;

    /// One image.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn image(&self, id: RecordId) -> Result<Option<ImageRecord>, StoreError>;

    /// Opens a file for reading: its length and its bytes. `None` if there is none. Dropping the stream ends the reading.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn blob(&self, sha256: BlobHash) -> Result<Option<StoredBlob>, StoreError>;

    /// The highest time that was noted by [`PatientStore::observe_time`].
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn highest_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Free and total space of the disk that holds the store, where it is not a disk of this process and its server says.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn disk_space(&self) -> Result<Option<DiskSpace>, StoreError> {
        Ok(None)
    }

    /// Whether the store answers now; for readiness.
    ///
    /// # Errors
    /// When it does not.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What is left.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Which part of a list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Where the page before ended; `None` for the first.
    pub after: Option<Cursor>,
    /// Most entries to give; at least 1.
    pub limit: usize,
}

/// A stored file, open for reading.
pub struct StoredBlob {
    /// Length in bytes.
    pub bytes: u64,
    /// The bytes.
    pub body: ByteStream,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadOutcome {
    /// Everything is stored.
    Stored {
        /// What the client is told: the same at every redelivery.
        receipt: UploadReceipt,
        /// The patient as it is now.
        patient: Box<PatientSummary>,
        /// It had been stored before: this was a redelivery or a retry.
        replayed: bool,
    },
    /// An upload of this id with other content (fingerprint or patient) was stored before; nothing was changed.
    Conflict,
}

/// What became of a file that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// There was nothing to remove: it was not there, or something refers to it, or may.
    Kept,
    /// It was brought only lately; ask again later.
    NotYet,
}

/// An upload that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredUpload {
    /// What the client was told.
    pub receipt: UploadReceipt,
    /// SHA-256 over everything the client sent.
    pub fingerprint: BlobHash,
    /// Name of the client that sent it; `None` where it was not recorded.
    pub uploaded_by: Option<String>,
}

/// An ECG that waits for its analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingEcg {
    /// The ECG.
    pub id: RecordId,
    /// The upload that brought it.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When it was received.
    pub received_at: Timestamp,
    /// The signal.
    pub signal: BlobInfo,
    /// How to read it.
    pub options: SignalOptions,
}
