//! The adapter for one SQLite file: the store of one process.
//!
//! One thread writes, with group commit ([`writer`]); a pool of connections reads beside it ([`readers`]). The write-ahead
//! log with `synchronous=FULL` makes a write durable before it returns. A lock file excludes a second process.

mod blobs;
mod clock;
mod failure;
mod lists;
mod maintenance;
mod readers;
mod rows;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod uploads;
mod writer;

use std::fs::{File, TryLockError};
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

pub use maintenance::Verifier;
pub use snapshot::snapshot;

use readers::Readers;
use writer::Writer;

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    readers: Readers,
    // Declared before the lock, which is released after the last write.
    writer: Writer,
    _lock: File,
}

impl SqliteStore {
    /// Opens or creates the file, migrates its schema and removes incomplete files.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be opened or written, or another process has it open;
    /// [`StoreError::Corrupt`] when it is damaged, of another program, or of a newer version.
    pub fn open(path: &Path) -> Result<Arc<SqliteStore>, StoreError> {
        let lock = lock(path)?;
        let writer = Writer::start(schema::open_writer(path)?)?;
        Ok(Arc::new(SqliteStore { readers: Readers::new(path.to_owned()), writer, _lock: lock }))
    }

    /// Assigns a number to each file, for the case that it does not exist.
    fn numbered(&self, files: Vec<HashedBytes>) -> Vec<(blobs::BlobNumber, HashedBytes)> {
        files.into_iter().map(|file| (self.writer.next_blob(), file)).collect()
    }
}

/// Excludes other processes. The system releases the lock however the process ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&name).map_err(|error| {
        StoreError::unavailable(format!(
            "{} cannot be written, so the database file cannot be opened ({error})",
            Path::new(&name).display()
        ))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::unavailable(format!(
            "{} is in use by another process of Bedside; end that one first",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
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
        let part = (mrn, page.after_record()?, page.size());
        self.readers.read(move |connection| lists::heart_rates(connection, part)).await
    }

    async fn ecgs(&self, mrn: Mrn, page: PageRequest) -> Result<Page<EcgRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
        self.readers.read(move |connection| lists::ecgs(connection, part)).await
    }

    async fn images(&self, mrn: Mrn, page: PageRequest) -> Result<Page<ImageRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
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
        self.readers.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await?;
        self.writer.write(|_| Ok(())).await
    }
}
