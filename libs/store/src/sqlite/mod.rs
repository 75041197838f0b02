//! The adapter for one SQLite file: the store of one process.
//!
//! The engine in [`sqlite`] opens and locks the file, writes with group commit, and reads concurrently. A write is durable
//! before it returns.

mod alarms;
mod audit;
mod blobs;
mod clock;
mod corrections;
mod failure;
mod lists;
mod maintenance;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod uploads;
mod users;
mod wards;
mod waveforms;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use proto_json::{
    EcgRecord, FormerName, HashedBytes, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary, RecordId,
    Timestamp, UploadId,
};

use crate::search::Search;
use crate::{
    AnalysisResult, BlobKey, BlobReader, BlobStore, ByteStream, NewUpload, PageRequest, PatientReader,
    PatientWriter, PendingEcg, StoreError, StoredBlob, StoredUpload, UploadOutcome,
};

pub use audit::{AuditFile, beside as audit_beside};
pub use corrections::carry_erasures;
pub use maintenance::Verifier;

use sqlite::{DatabaseFile, Readers, Writer};

/// Copies a consistent state of the SQLite file `from` to `to`, which must not exist. Writers go on meanwhile.
///
/// # Errors
/// When one of them cannot be read or written.
pub fn snapshot(from: &Path, to: &Path) -> Result<(), StoreError> {
    Ok(sqlite::snapshot(from, to)?)
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    // Declared before the writer, whose connection is closed last: it then checkpoints the log.
    readers: Readers,
    writer: Writer,
    audit: AuditFile,
    /// One seal of waveforms runs at a time.
    seal: tokio::sync::Mutex<()>,
    alarm_lease: alarms::Lease,
}

impl SqliteStore {
    /// Opens or creates the file, migrates its schema and removes incomplete files.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be opened or written, or another process has it open;
    /// [`StoreError::Corrupt`] when it is damaged, of another program, or of a newer version.
    pub fn open(path: &Path) -> Result<Arc<SqliteStore>, StoreError> {
        let file = DatabaseFile::open(path, &schema::FORMAT)?;
        let audit = AuditFile::open(&audit::beside(path))?;
        let (next, incomplete) = (blobs::next_number(&file.db)?, blobs::incomplete(&file.db)?);
        let writer = Writer::start(file, next, incomplete)?;
        Ok(Arc::new(SqliteStore {
            readers: Readers::new(path),
            writer,
            audit,
            seal: tokio::sync::Mutex::default(),
            alarm_lease: alarms::Lease::default(),
        }))
    }

    /// Assigns a number to each file, for the case that it does not exist.
    fn numbered(&self, files: Vec<HashedBytes>) -> Vec<(blobs::BlobNumber, HashedBytes)> {
        files.into_iter().map(|file| (self.writer.next_file(), file)).collect()
    }
}

#[async_trait]
impl BlobReader for SqliteStore {
    async fn blob(&self, key: BlobKey) -> Result<Option<StoredBlob>, StoreError> {
        blobs::open(&self.readers, key).await
    }
}

#[async_trait]
impl BlobStore for SqliteStore {
    async fn put_blob(&self, key: BlobKey, bytes: u64, body: ByteStream) -> Result<(), StoreError> {
        blobs::put(&self.writer, &self.readers, key, bytes, body).await
    }
}

#[async_trait]
impl PatientWriter for SqliteStore {
    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError> {
        let (upload, files) = (upload.clone(), self.numbered(files));
        self.writer.write(move |connection| uploads::store(connection, &upload, &files)).await
    }

    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError> {
        let (result, files) = (result.clone(), self.numbered(files));
        self.writer.write(move |connection| uploads::store_analysis(connection, &result, &files)).await
    }

    async fn pending_ecgs(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingEcg>, StoreError> {
        self.readers.read(move |connection| lists::pending(connection, before, now, limit)).await
    }

    async fn observe_time(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.writer.write(move |connection| clock::observe(connection, now)).await
    }

    async fn accept_time(&self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.write(move |connection| clock::accept(connection, now)).await
    }

    async fn mark_clock_wrong(&self, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
        self.writer.write(move |connection| clock::mark_wrong(connection, now)).await
    }
}

#[async_trait]
impl PatientReader for SqliteStore {
    async fn highest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(clock::highest).await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
        self.readers.read(move |connection| lists::upload(connection, id)).await
    }

    async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
        self.readers.read(move |connection| lists::patient(connection, mrn)).await
    }

    async fn former_names(&self, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError> {
        self.readers.read(move |connection| lists::former_names(connection, mrn, limit)).await
    }

    async fn patients(
        &self,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError> {
        let (search, after, limit) = (Search::parse(query), page.after_patient()?, page.size());
        self.readers.read(move |connection| lists::patients(connection, search.as_ref(), after, limit)).await
    }

    async fn mrns(&self) -> Result<Vec<Mrn>, StoreError> {
        self.readers.read(lists::mrns).await
    }

    async fn heart_rates(&self, mrn: Mrn, page: PageRequest) -> Result<Page<HeartRateRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        self.readers.read(move |connection| lists::heart_rates(connection, part)).await
    }

    async fn ecgs(&self, mrn: Mrn, page: PageRequest) -> Result<Page<EcgRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        self.readers.read(move |connection| lists::ecgs(connection, part)).await
    }

    async fn images(&self, mrn: Mrn, page: PageRequest) -> Result<Page<ImageRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        self.readers.read(move |connection| lists::images(connection, part)).await
    }

    async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
        self.readers.read(move |connection| lists::ecg(connection, id)).await
    }

    async fn image(&self, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
        self.readers.read(move |connection| lists::image(connection, id)).await
    }

    /// Reads one row and commits an empty transaction, which fails if the writer thread has ended.
    async fn check(&self) -> Result<(), StoreError> {
        self.readers
            .read(|connection| Ok::<_, StoreError>(connection.query_row("SELECT 1", [], |_| Ok(()))?))
            .await?;
        self.writer.write(|_| Ok(())).await
    }
}
