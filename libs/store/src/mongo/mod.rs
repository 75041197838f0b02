//! The adapter for MongoDB with GridFS: one store for many processes.
//!
//! An upload is one multi-document transaction, and so is the result of an analysis: see [`transaction`]. Each waits for the
//! majority and the journal once, when it commits. Reads are of the majority on the primary; a process that only reads can
//! use secondaries while there is no primary. Transactions require a replica set or a sharded cluster. Every call runs in a
//! task of its own: see [`calls`].

mod alarms;
mod analyses;
mod archive;
#[cfg(test)]
mod archive_tests;
mod audit;
mod blobs;
mod calls;
mod clock;
mod corrections;
mod documents;
mod failure;
mod indexes;
mod maintenance;
mod patients;
mod reading;
mod schema;
mod sealed;
#[cfg(test)]
mod tests;
mod transaction;
mod uploads;
mod users;
mod wards;
mod waveforms;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, RawDocumentBuf};
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
    /// Reads are sent to a secondary while there is no primary, and may then return older values. For processes that only
    /// read.
    pub reads_from_secondary: bool,
}

impl MongoConfig {
    /// Default timeouts: 15 s to find a server, which is longer than an election, and 20 s for an answer.
    #[must_use]
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        MongoConfig {
            uri: uri.into(),
            database: database.into(),
            ca_file: None,
            certificate_file: None,
            server_selection_timeout: Duration::from_secs(15),
            operation_timeout: Duration::from_secs(20),
            reads_from_secondary: false,
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
            .field("reads_from_secondary", &self.reads_from_secondary)
            .finish_non_exhaustive()
    }
}

/// Longest wait for one connection to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to each server, unless the connection string says otherwise.
const POOL: u32 = 100;

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
    wards: Collection<RawDocumentBuf>,
    beds: Collection<RawDocumentBuf>,
    admissions: Collection<RawDocumentBuf>,
    files: Collection<blobs::FileDocument>,
    chunks: Collection<blobs::ChunkDocument>,
    incomplete: Collection<blobs::IncompleteDocument>,
    clock: Collection<documents::ClockDocument>,
    leases: Collection<Document>,
    corrections: Collection<RawDocumentBuf>,
    fates: Collection<RawDocumentBuf>,
    /// Ids of uploads and streams of erased patients, numbers of patients with a legal hold, and what merges have moved.
    erased: Collection<Document>,
    holds: Collection<Document>,
    merged_items: Collection<Document>,
    waveform_streams: Collection<RawDocumentBuf>,
    waveform_pieces: Collection<Document>,
    waveforms: Collection<Document>,
    audit: Collection<audit::EntryDocument>,
    audit_heads: Collection<Document>,
    /// One transaction appends to the audit at a time.
    audit_turn: tokio::sync::Mutex<()>,
    alarms: Collection<RawDocumentBuf>,
    alarm_limits: Collection<RawDocumentBuf>,
    alarm_rules: Collection<RawDocumentBuf>,
    alarm_receivers: Collection<RawDocumentBuf>,
    users: Collection<RawDocumentBuf>,
    sessions: Collection<users::SessionDocument>,
    login_attempts: Collection<users::AttemptsDocument>,
    limit: Duration,
    /// Writers of one patient in this process wait for each other, which costs less than a write conflict. Patients share
    /// these locks by their numbers.
    patient_turns: [tokio::sync::Mutex<()>; PATIENT_TURNS],
    /// Changes of wards and beds in this process wait for each other, for the same reason.
    ward_turn: tokio::sync::Mutex<()>,
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
        let preference = if config.reads_from_secondary {
            ReadPreference::PrimaryPreferred { options: None }
        } else {
            ReadPreference::Primary
        };
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(preference));
        // The driver's default is 10.
        options.max_pool_size.get_or_insert(POOL);
        options.retry_writes = Some(true);
        options.retry_reads = Some(true);
        options.server_selection_timeout = Some(config.server_selection_timeout);
        options.connect_timeout = Some(config.server_selection_timeout.min(CONNECT_TIMEOUT));
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
            wards: database.collection("wards"),
            beds: database.collection("beds"),
            admissions: database.collection("admissions"),
            files: database.collection("blobs.files"),
            chunks: database.collection("blobs.chunks"),
            incomplete: database.collection("blobs.incomplete"),
            clock: database.collection("clock"),
            leases: database.collection("leases"),
            corrections: database.collection("corrections"),
            fates: database.collection("fates"),
            erased: database.collection("erased"),
            holds: database.collection("holds"),
            merged_items: database.collection("merged_items"),
            waveform_streams: database.collection("waveform_streams"),
            waveform_pieces: database.collection("waveform_pieces"),
            waveforms: database.collection("waveforms"),
            audit: database.collection("audit"),
            audit_heads: database.collection("audit_heads"),
            audit_turn: tokio::sync::Mutex::default(),
            alarms: database.collection("alarms"),
            alarm_limits: database.collection("alarm_limits"),
            alarm_rules: database.collection("alarm_rules"),
            alarm_receivers: database.collection("alarm_receivers"),
            users: database.collection("users"),
            sessions: database.collection("sessions"),
            login_attempts: database.collection("login_attempts"),
            database,
            limit: config.operation_timeout,
            patient_turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            ward_turn: tokio::sync::Mutex::default(),
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

    /// Writes the schema version of a new database, or migrates an older one. For the only writer of the store.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses this user, or has a newer schema version or data without a version.
    pub async fn ensure_schema(&self) -> Result<(), PrepareError> {
        schema::ensure(&self.db).await
    }

    /// Verifies that this user may log in and read, and that the database has the schema version of this program. Creates
    /// nothing.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses this user or has another schema version.
    pub async fn verify_access(&self) -> Result<(), PrepareError> {
        schema::has_patient(&self.db).await?;
        schema::verify(&self.db).await
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

    /// Replaces the stored data by a loaded archive. There must be no other writes meanwhile. If it is interrupted, it has to be repeated
    /// with the same archive: [`PatientReader::check`] fails until then.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn exchange(&self, loaded: &Manifest) -> Result<(), StoreError> {
        archive::begin_exchange(&self.db, loaded).await?;
        archive::carry_erasures(&self.db).await?;
        for step in archive::steps(&self.db, loaded).await? {
            archive::take_step(&self.db, &step).await?;
        }
        archive::end_exchange(&self.db).await
    }
}

#[async_trait]
impl BlobReader for MongoStore {
    async fn blob(&self, key: BlobKey) -> Result<Option<StoredBlob>, StoreError> {
        calls::run(&self.db, move |db| async move { blobs::open(&db, key).await }).await
    }
}

#[async_trait]
impl BlobStore for MongoStore {
    async fn put_blob(&self, key: BlobKey, bytes: u64, body: ByteStream) -> Result<(), StoreError> {
        calls::run(
            &self.db,
            move |db| async move { blobs::put(&db, key, bytes, calls::of_caller(body)).await },
        )
        .await
    }
}

#[async_trait]
impl PatientWriter for MongoStore {
    async fn store_upload(
        &self,
        upload: &NewUpload,
        files: Vec<HashedBytes>,
    ) -> Result<UploadOutcome, StoreError> {
        let upload = upload.clone();
        calls::run(&self.db, move |db| async move { uploads::store(&db, &upload, files).await }).await
    }

    async fn store_analysis(
        &self,
        result: &AnalysisResult,
        files: Vec<HashedBytes>,
    ) -> Result<Option<PatientSummary>, StoreError> {
        let result = result.clone();
        calls::run(&self.db, move |db| async move { analyses::store(&db, &result, files).await }).await
    }

    async fn pending_ecgs(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingEcg>, StoreError> {
        calls::run(&self.db, move |db| async move { reading::pending(&db, before, now, limit).await }).await
    }

    async fn observe_time(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        calls::run(&self.db, move |db| async move { clock::observe(&db, now).await }).await
    }

    async fn accept_time(&self, now: Timestamp) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move { clock::accept(&db, now).await }).await
    }

    async fn mark_clock_wrong(&self, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
        calls::run(&self.db, move |db| async move { clock::mark_wrong(&db, now).await }).await
    }
}

#[async_trait]
impl PatientReader for MongoStore {
    async fn highest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        calls::run(&self.db, move |db| async move { clock::highest(&db).await }).await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
        calls::run(&self.db, move |db| async move { uploads::find(&db, id).await }).await
    }

    async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
        calls::run(&self.db, move |db| async move { reading::patient(&db, mrn).await }).await
    }

    async fn former_names(&self, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError> {
        calls::run(&self.db, move |db| async move { reading::former_names(&db, mrn, limit).await }).await
    }

    async fn patients(
        &self,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError> {
        let search = Search::parse(query);
        let (after, limit) = (page.after_patient()?, page.size());
        calls::run(
            &self.db,
            move |db| async move { reading::patients(&db, search.as_ref(), after, limit).await },
        )
        .await
    }

    async fn mrns(&self) -> Result<Vec<Mrn>, StoreError> {
        calls::run(&self.db, move |db| async move { reading::mrns(&db).await }).await
    }

    async fn heart_rates(&self, mrn: Mrn, page: PageRequest) -> Result<Page<HeartRateRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        calls::run(&self.db, move |db| async move {
            let place = |rate: &HeartRateRecord| (rate.at, rate.id);
            reading::history::<documents::HeartRateDocument, _>(&db, &db.heart_rates, part, place).await
        })
        .await
    }

    async fn ecgs(&self, mrn: Mrn, page: PageRequest) -> Result<Page<EcgRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        calls::run(&self.db, move |db| async move {
            let place = |ecg: &EcgRecord| (ecg.at, ecg.id);
            reading::history::<documents::EcgDocument, _>(&db, &db.ecgs, part, place).await
        })
        .await
    }

    async fn images(&self, mrn: Mrn, page: PageRequest) -> Result<Page<ImageRecord>, StoreError> {
        let part = page.of_history(mrn)?;
        calls::run(&self.db, move |db| async move {
            let place = |image: &ImageRecord| (image.at, image.id);
            reading::history::<documents::ImageDocument, _>(&db, &db.images, part, place).await
        })
        .await
    }

    async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
        calls::run(&self.db, move |db| async move {
            reading::one::<documents::EcgDocument, _>(&db, &db.ecgs, id).await
        })
        .await
    }

    async fn image(&self, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
        calls::run(&self.db, move |db| async move {
            reading::one::<documents::ImageDocument, _>(&db, &db.images, id).await
        })
        .await
    }

    async fn check(&self) -> Result<(), StoreError> {
        match calls::run(&self.db, |db| async move { archive::interrupted(&db).await }).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::unavailable(
                "a restore is running or was interrupted; if it does not end by itself, run it again with the same backup",
            )),
        }
    }
}
