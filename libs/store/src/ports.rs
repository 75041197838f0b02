//! The ports of the store. A service takes only those that it needs: query takes [`PatientReader`] and [`BlobReader`],
//! ingest takes all of them.
//!
//! Records carry a checksum that is verified on every read. A record that does not match it is [`StoreError::Damaged`], or,
//! in a list, an entry of [`Page::damaged`].
//!
//! Every method fails with [`StoreError::Unavailable`] when the store cannot be reached.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use proto_json::{
    EcgRecord, FormerName, HashedBytes, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary, RecordId,
    Timestamp, UploadId,
};
use uuid::Uuid;

use crate::{
    AnalysisResult, BlobKey, ByteStream, DiskSpace, NewUpload, PageRequest, PendingEcg, ScrubPosition,
    ScrubState, ScrubStep, StoreError, StoredBlob, StoredUpload, UploadOutcome,
};

/// Reads patients, their history and the uploads.
#[async_trait]
pub trait PatientReader: Debug + Send + Sync + 'static {
    /// A stored upload; `None` if it is not stored.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn upload(&self, id: UploadId) -> Result<Option<StoredUpload>, StoreError>;

    /// One patient.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError>;

    /// Former names of a patient, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn former_names(&self, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError>;

    /// Patients after the cursor, ascending by number. `query` selects those whose number starts with it or whose name
    /// contains it, ignoring case.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn patients(
        &self,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError>;

    /// All record numbers, ascending.
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

    /// One ECG.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, StoreError>;

    /// One image.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn image(&self, id: RecordId) -> Result<Option<ImageRecord>, StoreError>;

    /// The highest time passed to [`PatientWriter::observe_time`] so far.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn highest_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Succeeds if the store answers; for readiness.
    ///
    /// # Errors
    /// When it does not.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Writes uploads and results of analyses. Ingest is the only writer.
///
/// Every write is idempotent: all ids are derived from the upload, so a redelivery changes nothing and returns the same.
#[async_trait]
pub trait PatientWriter: PatientReader {
    /// Stores an upload in one transaction: `files`, history, patient and the upload itself. Durable when it returns. Files
    /// that the upload refers to and that are not among `files` must have been stored with [`BlobStore::put_blob`].
    ///
    /// For an upload that is stored already, returns [`UploadOutcome::Stored`] with the first receipt.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be reached; the upload may be stored then, and storing it again is
    /// harmless. [`StoreError::Refused`] when a file is missing; nothing is stored then.
    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError>;

    /// Stores the result of an analysis in one transaction: `files`, the ECG, its heart rate in the history, and the
    /// patient. Durable when it returns. Files as in [`PatientWriter::store_upload`].
    ///
    /// A result of a later version of the analysis ([`EcgAnalysis::algorithm`]) replaces the stored one, and a result
    /// replaces a failure, in the same transaction: the heart rate in the history and the latest values of the patient change
    /// with it, and replaced files become orphaned. A failure replaces nothing.
    ///
    /// Returns the patient after the change; `None`, without any change, for an unknown ECG or one that has a result of the
    /// same or a later version.
    ///
    /// [`EcgAnalysis::algorithm`]: proto_json::EcgAnalysis::algorithm
    ///
    /// # Errors
    /// As [`PatientWriter::store_upload`].
    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError>;

    /// ECGs that wait for their analysis, at most `limit`: those received before `before`, oldest first, then those received
    /// in the future of `now` (see [`Timestamp::is_in_future_of`]), whose waiting time is unknown.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn pending_ecgs(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingEcg>, StoreError>;

    /// Stores durably that the server's clock shows `now`, and returns the highest time stored so far. If that is later
    /// than `now`, the clock was ahead then or is behind now.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn observe_time(&self, now: Timestamp) -> Result<Timestamp, StoreError>;

    /// Replaces the highest time by `now`: an operator has confirmed that the clock is right.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn accept_time(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Marks each latest record whose time is in the future of `now` as [`LatestHeartRate::clock_wrong`]; otherwise it would
    /// look like a fresh value when that time comes. Returns the patients that changed. Reads all patients.
    ///
    /// # Errors
    /// When the store cannot be reached.
    ///
    /// [`LatestHeartRate::clock_wrong`]: proto_json::LatestHeartRate::clock_wrong
    async fn mark_clock_wrong(&self, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError>;
}

/// Reads stored files.
#[async_trait]
pub trait BlobReader: Debug + Send + Sync + 'static {
    /// Opens a file; `None` if it is not stored. Dropping the stream ends the read.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn blob(&self, key: BlobKey) -> Result<Option<StoredBlob>, StoreError>;
}

/// Writes files that do not fit in memory, before the record that refers to them.
#[async_trait]
pub trait BlobStore: BlobReader {
    /// Stores a file durably. A file that exists is left as it is, and `body` is not read.
    ///
    /// Until a record refers to the file, it is orphaned: [`Maintenance::sweep_orphans`] removes it from a certain age on.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes do not have this length or hash, and nothing is stored;
    /// [`StoreError::Unavailable`] when the store or the body fails; [`StoreError::Refused`] when the source of the body has
    /// lost a part of it.
    async fn put_blob(&self, key: BlobKey, bytes: u64, body: ByteStream) -> Result<(), StoreError>;
}

/// Background work on everything that is stored.
///
/// A scrub reads all records and files once, in steps: it can be slow, interrupted and continued. Ingest runs one in the
/// background; `bedside verify` runs one at full speed.
#[async_trait]
pub trait Maintenance: Debug + Send + Sync + 'static {
    /// Verifies about `records` records after `from`; fewer if they are files.
    ///
    /// # Errors
    /// When the store cannot be reached. Damage is not an error.
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError>;

    /// Approximate number of records and files, for progress.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn scrub_total(&self) -> Result<u64, StoreError>;

    /// Acquires or renews the lease of the background scrub: one process scrubs at a time. `None` while another process
    /// holds it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn lease_scrub(&self, holder: Uuid, lease: Duration) -> Result<Option<ScrubState>, StoreError>;

    /// Stores the progress of the scrub, if `holder` still has the lease.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn save_scrub(&self, holder: Uuid, state: &ScrubState) -> Result<(), StoreError>;

    /// Acquires or renews the lease of the sweep: one process sweeps at a time. False while another process holds it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn lease_sweep(&self, holder: Uuid, lease: Duration) -> Result<bool, StoreError>;

    /// Removes orphaned files that were stored before `before`, at most about `limit`: complete ones that no record refers
    /// to, and incomplete ones. Returns how many were removed.
    ///
    /// An upload that comes to refer to such a file at the same time is either stored with the file, or refused.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn sweep_orphans(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Free and total space of the disk that holds the store, if it is a disk of another machine whose server reports it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn disk_space(&self) -> Result<Option<DiskSpace>, StoreError> {
        Ok(None)
    }
}
