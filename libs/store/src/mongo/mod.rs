//! MongoDB with GridFS: for many machines.
//!
//! Every write waits for the majority and the journal, every read is of the majority on the primary. No transactions: the
//! order of the steps and their being repeatable make it safe, see [`uploads`], [`analyses`],
//! [`blobs`] and [`abandoned`].

mod abandoned;
mod analyses;
mod archive;
#[cfg(test)]
mod archive_tests;
mod blobs;
mod clock;
#[cfg(test)]
mod cut_off;
mod documents;
mod failure;
mod indexes;
mod patients;
mod reading;
mod scrub;
mod sealed;
mod uploads;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, Tls, TlsOptions,
    WriteConcern,
};
use mongodb::{Client, Collection};
use proto_json::{
    BlobHash, EcgRecord, FormerName, HashedBytes, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary,
    RecordId, Timestamp, UploadId,
};

pub use archive::{ArchiveError, Manifest, Part, verify as verify_archive};
pub use failure::PrepareError;

use crate::search::Search;
use crate::{
    AnalysisResult, ByteStream, DiskSpace, NewUpload, Origin, PageRequest, PatientStore, PendingEcg, Removal,
    StoreError, StoredBlob, StoredUpload, UploadOutcome,
};

/// Where the database is.
#[derive(Clone)]
pub struct MongoConfig {
    /// Connection string: servers, credentials, TLS.
    pub uri: String,
    /// Name of the database.
    pub database: String,
    /// PEM file of the authorities that vouch for the servers, instead of those of the web. Switches TLS on.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate and its key. Switches TLS on.
    pub certificate_file: Option<PathBuf>,
    /// Longest wait for a server to be found.
    pub server_selection_timeout: Duration,
    /// Longest wait for one answer.
    pub operation_timeout: Duration,
}

impl MongoConfig {
    /// With the usual timeouts: 5 s to find a server, 10 s for an answer.
    #[must_use]
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        MongoConfig {
            uri: uri.into(),
            database: database.into(),
            ca_file: None,
            certificate_file: None,
            server_selection_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
        }
    }
}

/// Without the connection string: it may hold a password.
impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoConfig")
            .field("database", &self.database)
            .field("server_selection_timeout", &self.server_selection_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .finish_non_exhaustive()
    }
}

/// The collections, and how long to wait for an answer.
#[derive(Debug)]
struct Db {
    database: mongodb::Database,
    // Documents with checksums: see `sealed`.
    patients: Collection<RawDocumentBuf>,
    heart_rates: Collection<RawDocumentBuf>,
    ecgs: Collection<RawDocumentBuf>,
    images: Collection<RawDocumentBuf>,
    former_names: Collection<RawDocumentBuf>,
    uploads: Collection<RawDocumentBuf>,
    files: Collection<blobs::FileDocument>,
    chunks: Collection<blobs::ChunkDocument>,
    writing: Collection<blobs::WritingDocument>,
    clock: Collection<documents::ClockDocument>,
    scrub: Collection<Document>,
    limit: Duration,
    /// Writers of one patient in this process wait for each other; patients share these by their numbers.
    patient_turns: [tokio::sync::Mutex<()>; PATIENT_TURNS],
}

/// Patients of which this process can write at the same time, about.
const PATIENT_TURNS: usize = 64;

impl Db {
    fn patient_turn(&self, mrn: Mrn) -> &tokio::sync::Mutex<()> {
        &self.patient_turns[mrn.get() as usize % PATIENT_TURNS]
    }
}

/// The store in a MongoDB database.
#[derive(Debug)]
pub struct MongoStore {
    db: Arc<Db>,
}

impl MongoStore {
    /// Prepares the connection. Connects with the first operation, and again whenever the connection breaks: a server
    /// that is not there yet is no error here; [`PatientStore::check`] tells.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the connection string is wrong.
    pub async fn connect(config: MongoConfig) -> Result<Arc<MongoStore>, StoreError> {
        let mut options =
            ClientOptions::parse(&config.uri).await.map_err(|error| failure::explain(&error))?;
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(config.operation_timeout)
            .build();
        options.app_name.get_or_insert_with(|| "bedside".to_owned());
        options.write_concern = Some(durable);
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.retry_writes = Some(true);
        options.retry_reads = Some(true);
        options.server_selection_timeout = Some(config.server_selection_timeout);
        options.connect_timeout = Some(config.server_selection_timeout);
        if config.ca_file.is_some() || config.certificate_file.is_some() {
            let mut tls = match options.tls.take() {
                Some(Tls::Enabled(tls)) => tls,
                Some(Tls::Disabled) | None => TlsOptions::default(),
            };
            tls.ca_file_path = config.ca_file.or(tls.ca_file_path);
            tls.cert_key_file_path = config.certificate_file.or(tls.cert_key_file_path);
            options.tls = Some(Tls::Enabled(tls));
        }
        let client = Client::with_options(options).map_err(|error| failure::explain(&error))?;
        let database = client.database(&config.database);
        let db = Db {
            patients: database.collection("patients"),
            heart_rates: database.collection("heart_rates"),
            ecgs: database.collection("ecgs"),
            images: database.collection("images"),
            former_names: database.collection("former_names"),
            uploads: database.collection("uploads"),
            files: database.collection("blobs.files"),
            chunks: database.collection("blobs.chunks"),
            writing: database.collection("blobs.writing"),
            clock: database.collection("clock"),
            scrub: database.collection("scrub"),
            database,
            limit: config.operation_timeout,
            patient_turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        };
        Ok(Arc::new(MongoStore { db: Arc::new(db) }))
    }

    /// Creates the indexes that are missing. Once per deployment; again is harmless.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses this user, or has an index of the same name with other keys.
    pub async fn ensure_indexes(&self) -> Result<(), PrepareError> {
        indexes::ensure(&self.db).await
    }

    /// Whether this user may log in and read; creates nothing.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses this user.
    pub async fn verify_access(&self) -> Result<(), PrepareError> {
        let patients = self.db.patients.clone_with_type::<Document>();
        let one = patients.find_one(doc! {}).projection(doc! { "_id": 1 });
        failure::prepared(self.db.limit, one).await.map(drop)
    }

    /// Removes what is left of long files whose writing was cut off and gave no sign of life for `silence`. Runs by itself
    /// (with an hour of silence) before each long file. Returns how many there were.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn sweep_cut_off_files(&self, silence: Duration) -> Result<u64, StoreError> {
        blobs::sweep(&self.db, silence).await
    }
}

/// Backups. See [`archive`](self) for what is safe when.
impl MongoStore {
    /// Writes everything that is stored, as of one moment, while writers go on; compressed by this level of gzip, 0 to 9.
    ///
    /// # Errors
    /// When the store cannot be read or the archive cannot be written; what was written until then is no backup.
    pub async fn write_archive(
        &self,
        to: impl std::io::Write + Send,
        level: u32,
    ) -> Result<Manifest, ArchiveError> {
        archive::write(&self.db, to, level).await
    }

    /// Loads an archive beside what is stored, which stays as it is, and checks it against its manifest.
    /// [`MongoStore::exchange`] then puts it in place.
    ///
    /// # Errors
    /// When the archive is not whole, or the store cannot be written.
    pub async fn load_archive(&self, from: impl std::io::Read + Send) -> Result<Manifest, ArchiveError> {
        archive::load(&self.db, from).await
    }

    /// Puts a loaded archive in the place of everything that is stored. Nobody may write meanwhile. Interrupted, it has to be
    /// completed: [`PatientStore::check`] fails until then.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn exchange(&self, loaded: &Manifest) -> Result<(), StoreError> {
        archive::begin_exchange(&self.db, loaded).await?;
        for step in archive::steps(&self.db, loaded).await? {
            archive::take_step(&self.db, &step).await?;
        }
        archive::end_exchange(&self.db).await
    }
}

#[async_trait]
impl PatientStore for MongoStore {
    async fn put_blob(
        &self,
        from: Origin,
        sha256: BlobHash,
        bytes: u64,
        body: ByteStream,
    ) -> Result<(), StoreError> {
        blobs::put(&self.db, from, sha256, bytes, body).await
    }

    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError> {
        blobs::put_files(&self.db, upload.origin(), files).await?;
        uploads::store(&self.db, upload).await
    }

    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError> {
        blobs::put_files(&self.db, result.from, files).await?;
        analyses::store(&self.db, result).await
    }

    async fn remove_abandoned(
        &self,
        upload: UploadId,
        sha256: BlobHash,
        before: Timestamp,
    ) -> Result<Removal, StoreError> {
        abandoned::remove(&self.db, upload, sha256, before).await
    }

    async fn pending_ecgs(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingEcg>, StoreError> {
        reading::pending(&self.db, before, now, limit).await
    }

    async fn observe_time(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        clock::observe(&self.db, now).await
    }

    async fn accept_time(&self, now: Timestamp) -> Result<(), StoreError> {
        clock::accept(&self.db, now).await
    }

    async fn mark_clock_wrong(&self, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
        clock::mark_wrong(&self.db, now).await
    }

    async fn highest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        clock::highest(&self.db).await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
        uploads::find(&self.db, id).await
    }

    async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
        reading::patient(&self.db, mrn).await
    }

    async fn former_names(&self, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError> {
        reading::former_names(&self.db, mrn, limit).await
    }

    async fn patients(
        &self,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError> {
        let search = Search::parse(query);
        reading::patients(&self.db, search.as_ref(), page.after_patient()?, page.size()).await
    }

    async fn mrns(&self) -> Result<Vec<Mrn>, StoreError> {
        reading::mrns(&self.db).await
    }

    async fn heart_rates(&self, mrn: Mrn, page: PageRequest) -> Result<Page<HeartRateRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
        reading::history::<documents::HeartRateDocument, _>(
            &self.db,
            &self.db.heart_rates,
            part,
            |rate: &HeartRateRecord| (rate.at, rate.id),
        )
        .await
    }

    async fn ecgs(&self, mrn: Mrn, page: PageRequest) -> Result<Page<EcgRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
        reading::history::<documents::EcgDocument, _>(&self.db, &self.db.ecgs, part, |ecg: &EcgRecord| {
            (ecg.at, ecg.id)
        })
        .await
    }

    async fn images(&self, mrn: Mrn, page: PageRequest) -> Result<Page<ImageRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
        reading::history::<documents::ImageDocument, _>(
            &self.db,
            &self.db.images,
            part,
            |image: &ImageRecord| (image.at, image.id),
        )
        .await
    }

    async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
        reading::one::<documents::EcgDocument, _>(&self.db, &self.db.ecgs, id).await
    }

    async fn image(&self, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
        reading::one::<documents::ImageDocument, _>(&self.db, &self.db.images, id).await
    }

    async fn blob(&self, sha256: BlobHash) -> Result<Option<StoredBlob>, StoreError> {
        blobs::open(&self.db, sha256).await
    }

    async fn disk_space(&self) -> Result<Option<DiskSpace>, StoreError> {
        let statistics = self.db.database.run_command(doc! { "dbStats": 1 });
        Ok(disk_space(&failure::within(self.db.limit, statistics).await?))
    }

    async fn check(&self) -> Result<(), StoreError> {
        match archive::interrupted(&self.db).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::unavailable(
                "a restore goes on or was interrupted; if it does not end by itself, run it again with the same backup",
            )),
        }
    }
}

/// What `dbStats` says about the disk; servers of other makes say nothing.
fn disk_space(statistics: &Document) -> Option<DiskSpace> {
    let bytes = |name| match statistics.get(name)? {
        Bson::Double(bytes) if *bytes >= 0.0 => Some(*bytes as u64),
        Bson::Int64(bytes) => u64::try_from(*bytes).ok(),
        Bson::Int32(bytes) => u64::try_from(*bytes).ok(),
        _ => None,
    };
    let (total, used) = (bytes("fsTotalSize")?, bytes("fsUsedSize")?);
    (total > 0).then(|| DiskSpace { free: total.saturating_sub(used), total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_space_is_read_from_the_statistics_of_a_server_that_gives_it() {
        let full = doc! { "db": "bedside", "fsUsedSize": 750.0, "fsTotalSize": 1_000.0, "ok": 1.0 };
        assert_eq!(disk_space(&full), Some(DiskSpace { free: 250, total: 1_000 }));
        let whole = doc! { "fsUsedSize": 750_i64, "fsTotalSize": 1_000_i32 };
        assert_eq!(disk_space(&whole), Some(DiskSpace { free: 250, total: 1_000 }));
        assert_eq!(disk_space(&doc! { "db": "bedside", "totalSize": 0, "ok": 1.0 }), None);
    }
}
