//! The adapter for MongoDB with GridFS: one store for many processes.
//!
//! An upload is one multi-document transaction, and so is the result of an analysis: see [`transaction`]. Each waits for the
//! majority and the journal once, when it commits. Reads are of the majority on the primary. Transactions require a replica
//! set or a sharded cluster.

mod analyses;
mod archive;
#[cfg(test)]
mod archive_tests;
mod blobs;
mod clock;
mod documents;
mod failure;
mod indexes;
mod maintenance;
mod patients;
mod reading;
mod sealed;
#[cfg(test)]
mod tests;
mod transaction;
mod uploads;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, Tls, TlsOptions,
    WriteConcern,
};
use mongodb::{Client, Collection};
use proto_json::{
    EcgRecord, FormerName, HashedBytes, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary, RecordId,
    Timestamp, UploadId,
};

pub use archive::{ArchiveError, Manifest, Part, verify as verify_archive};
pub use failure::PrepareError;

use crate::search::Search;
use crate::{
    AnalysisResult, BlobKey, BlobReader, BlobStore, ByteStream, NewUpload, PageRequest, PatientReader,
    PatientWriter, PendingEcg, StoreError, StoredBlob, StoredUpload, UploadOutcome,
};

/// Where the database is.
#[derive(Clone)]
pub struct MongoConfig {
    /// Connection string: servers, credentials, TLS.
    pub uri: String,
    /// Name of the database.
    pub database: String,
    /// PEM file of the certificate authorities, instead of the public ones. Enables TLS.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate and its key. Enables TLS.
    pub certificate_file: Option<PathBuf>,
    /// Longest wait for a server to be found.
    pub server_selection_timeout: Duration,
    /// Longest wait for one answer, or for one transaction with its repetitions.
    pub operation_timeout: Duration,
}

impl MongoConfig {
    /// Default timeouts: 5 s to find a server, 10 s for an answer.
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

/// Without the connection string, which may contain a password.
impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoConfig")
            .field("database", &self.database)
            .field("server_selection_timeout", &self.server_selection_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .finish_non_exhaustive()
    }
}

/// The collections, and the longest wait for an answer.
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
    incomplete: Collection<blobs::IncompleteDocument>,
    clock: Collection<documents::ClockDocument>,
    leases: Collection<Document>,
    limit: Duration,
    /// Writers of one patient in this process wait for each other, which costs less than a write conflict. Patients share
    /// these locks by their numbers.
    patient_turns: [tokio::sync::Mutex<()>; PATIENT_TURNS],
}

/// About how many patients this process can write at the same time.
const PATIENT_TURNS: usize = 64;

impl Db {
    /// The lock that a writer of this patient holds.
    fn patient_turn(&self, mrn: Mrn) -> &tokio::sync::Mutex<()> {
        &self.patient_turns[mrn.get() as usize % PATIENT_TURNS]
    }
}

/// A store in a MongoDB database.
#[derive(Debug)]
pub struct MongoStore {
    db: Arc<Db>,
}

impl MongoStore {
    /// Prepares the connection. The driver connects with the first operation, and again whenever the connection breaks. A
    /// server that is not running yet is no error here; [`PatientReader::check`] reports it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the connection string is wrong.
    pub async fn connect(config: MongoConfig) -> Result<Arc<MongoStore>, StoreError> {
        Self::connect_with(config, |_| {}).await
    }

    /// As [`MongoStore::connect`], with further options of the driver.
    async fn connect_with(
        config: MongoConfig,
        adapt: impl FnOnce(&mut ClientOptions),
    ) -> Result<Arc<MongoStore>, StoreError> {
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
        adapt(&mut options);
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
            incomplete: database.collection("blobs.incomplete"),
            clock: database.collection("clock"),
            leases: database.collection("leases"),
            database,
            limit: config.operation_timeout,
            patient_turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        };
        Ok(Arc::new(MongoStore { db: Arc::new(db) }))
    }

    /// Creates the collections and indexes that are missing. Can be repeated.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses this user, or has an index of the same name with other keys.
    pub async fn ensure_indexes(&self) -> Result<(), PrepareError> {
        indexes::ensure(&self.db).await
    }

    /// Verifies that this user may log in and read. Creates nothing.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses this user.
    pub async fn verify_access(&self) -> Result<(), PrepareError> {
        let patients = self.db.patients.clone_with_type::<Document>();
        let one = patients.find_one(doc! {}).projection(doc! { "_id": 1 });
        failure::prepared(self.db.limit, one).await.map(drop)
    }
}

/// Backups; the module `archive` documents their consistency.
impl MongoStore {
    /// Writes a consistent snapshot of everything, compressed by this level of gzip (0 to 9), while writers go on.
    ///
    /// # Errors
    /// When the store cannot be read or the archive cannot be written; the incomplete archive is not a backup.
    pub async fn write_archive(
        &self,
        to: impl std::io::Write + Send,
        level: u32,
    ) -> Result<Manifest, ArchiveError> {
        archive::write(&self.db, to, level).await
    }

    /// Loads an archive into collections of other names and verifies it against its manifest. The stored data stay as they
    /// are until [`MongoStore::exchange`].
    ///
    /// # Errors
    /// When the archive is damaged or incomplete, or the store cannot be written.
    pub async fn load_archive(&self, from: impl std::io::Read + Send) -> Result<Manifest, ArchiveError> {
        archive::load(&self.db, from).await
    }

    /// Replaces the stored data by a loaded archive. Nobody may write meanwhile. If it is interrupted, it has to be repeated
    /// with the same archive: [`PatientReader::check`] fails until then.
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
impl BlobReader for MongoStore {
    async fn blob(&self, key: BlobKey) -> Result<Option<StoredBlob>, StoreError> {
        blobs::open(&self.db, key).await
    }
}

#[async_trait]
impl BlobStore for MongoStore {
    async fn put_blob(&self, key: BlobKey, bytes: u64, body: ByteStream) -> Result<(), StoreError> {
        blobs::put(&self.db, key, bytes, body).await
    }
}

#[async_trait]
impl PatientWriter for MongoStore {
    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError> {
        uploads::store(&self.db, upload, files).await
    }

    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError> {
        analyses::store(&self.db, result, files).await
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
}

#[async_trait]
impl PatientReader for MongoStore {
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

    async fn check(&self) -> Result<(), StoreError> {
        match archive::interrupted(&self.db).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::unavailable(
                "a restore is running or was interrupted; if it does not end by itself, run it again with the same backup",
            )),
        }
    }
}
