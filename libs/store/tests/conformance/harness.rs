//! Stores to test, and uploads to store in them.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::TryStreamExt;
use proto_json::{
    BlobHash, BlobInfo, Bpm, EcgAnalysis, EcgRate, FileKind, HashedBytes, HeartRateSource, MediaType, Mrn,
    PatientSummary, RecordId, SignalOptions, StoredFile, Timestamp, UploadId, UploadReceipt,
};
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::{
    AlarmStore, AnalysisResult, AuditStore, BlobKey, BlobReader, BlobStore, Corrections, Maintenance, NewEcg,
    NewHeartRate, NewImage, NewUpload, PageRequest, PatientWriter, StoreError, UploadOutcome, UserStore,
    WardStore, WaveformStore,
};
use testkit::MongoServer;

/// All ports of a store.
pub(crate) trait Store:
    PatientWriter
    + BlobStore
    + Maintenance
    + WaveformStore
    + AlarmStore
    + AuditStore
    + WardStore
    + Corrections
    + UserStore
{
}

impl<S> Store for S where
    S: PatientWriter
        + BlobStore
        + Maintenance
        + WaveformStore
        + AlarmStore
        + AuditStore
        + WardStore
        + Corrections
        + UserStore
{
}

/// An empty store, and what has to live as long as it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    _keep: Box<dyn Any + Send>,
}

pub(crate) async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    Fixture { store, _keep: Box::new(folder) }
}

pub(crate) async fn mongo() -> Fixture {
    let server = shared_server();
    let store = MongoStore::connect(MongoConfig::new(server.uri(), server.fresh_database())).await.unwrap();
    store.ensure_indexes().await.unwrap();
    Fixture { store, _keep: Box::new(server) }
}

/// One server for all tests of this process that run at the same time; the last one of them ends it.
pub(crate) fn shared_server() -> Arc<MongoServer> {
    static SERVER: Mutex<Weak<MongoServer>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(MongoServer::start());
        *shared = Arc::downgrade(&server);
        server
    })
}

/// Runs each test on each adapter.
macro_rules! on_every_adapter {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::harness::sqlite().await).await;
            })+
        }
        mod mongo {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::harness::mongo().await).await;
            })+
        }
    };
}
pub(crate) use on_every_adapter;

/// Milliseconds after some morning.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

pub(crate) fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

pub(crate) fn bpm(rate: i64) -> Bpm {
    Bpm::new(rate).unwrap()
}

pub(crate) fn blob(content: &str, media_type: MediaType) -> BlobInfo {
    BlobInfo {
        sha256: BlobHash::of(content.as_bytes()),
        bytes: content.len() as u64,
        media_type,
        file_name: Some(format!("$${content}.x")),
        width: (media_type == MediaType::Png).then_some(4_000_000_000),
        height: None,
    }
}

/// The file that [`blob`] describes.
fn content(file: &BlobInfo) -> HashedBytes {
    let name = file.file_name.as_deref().unwrap();
    let content = name.strip_prefix("$$").unwrap().strip_suffix(".x").unwrap();
    HashedBytes::of(Bytes::copy_from_slice(content.as_bytes()))
}

/// The files of an upload.
pub(crate) fn files(upload: &NewUpload) -> Vec<HashedBytes> {
    let ecgs = upload.ecgs.iter().filter_map(|ecg| ecg.signal.as_ref().or(ecg.picture.as_ref()));
    upload.images.iter().map(|image| &image.file).chain(ecgs).map(content).collect()
}

/// Picture and details of an analysis.
pub(crate) fn drawn(result: &AnalysisResult) -> Vec<HashedBytes> {
    result.outcome.iter().flat_map(|(_, plot, detail)| [content(plot), content(detail)]).collect()
}

/// The key of a file of an upload.
pub(crate) fn key(upload: &NewUpload, sha256: BlobHash) -> BlobKey {
    BlobKey { upload: upload.id, sha256 }
}

/// The bytes of a stored file.
pub(crate) async fn get(store: &(impl BlobReader + ?Sized), key: BlobKey) -> Option<Vec<u8>> {
    let blob = store.blob(key).await.unwrap()?;
    let pieces: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    let whole = pieces.concat();
    assert_eq!(whole.len() as u64, blob.bytes);
    Some(whole)
}

/// An upload of this key for patient `number` without records, received `millis` after the start.
pub(crate) fn upload(number: u64, key: &str, millis: i64) -> NewUpload {
    NewUpload {
        id: UploadId::from_idempotency_key("test", key),
        fingerprint: BlobHash::of(key.as_bytes()),
        mrn: mrn(number),
        uploaded_by: Some("uploader".to_owned()),
        received_at: at(millis),
        stored_at: at(millis + 5),
        name: None,
        rename: proto_json::Rename::Confirmed,
        heart_rate: None,
        images: Vec::new(),
        ecgs: Vec::new(),
        files: Vec::new(),
    }
}

/// Adds records to an upload.
pub(crate) trait With: Sized {
    fn name(self, name: &str) -> Self;
    fn rate(self, rate: i64, recorded: i64) -> Self;
    fn image(self) -> Self;
    fn signal(self, recorded: Option<i64>) -> Self;
    fn picture(self, reported: Option<i64>) -> Self;
}

impl With for NewUpload {
    fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    fn rate(mut self, rate: i64, recorded: i64) -> Self {
        self.heart_rate = Some(NewHeartRate {
            id: self.id.record("heart_rate", 0),
            bpm: bpm(rate),
            recorded_at: Some(at(recorded)),
            source: HeartRateSource::Reported,
            ecg_id: None,
        });
        self
    }

    fn image(mut self) -> Self {
        let id = self.id.record("image", self.images.len());
        let file = blob(&format!("{id}"), MediaType::Png);
        self.files.push(stored(id, FileKind::MedicalImage, &file));
        self.images.push(NewImage { id, file });
        self
    }

    fn signal(mut self, recorded: Option<i64>) -> Self {
        let id = self.id.record("ecg", self.ecgs.len());
        let file = blob(&format!("{id}"), MediaType::Csv);
        self.files.push(stored(id, FileKind::Ecg, &file));
        self.ecgs.push(NewEcg {
            id,
            recorded_at: recorded.map(at),
            signal: Some(file),
            options: SignalOptions { sample_rate_hz: Some(250.5), lead: Some("$II".to_owned()) },
            picture: None,
            reported: None,
        });
        self
    }

    fn picture(mut self, reported: Option<i64>) -> Self {
        let id = self.id.record("ecg", self.ecgs.len());
        let file = blob(&format!("{id}"), MediaType::Jpeg);
        self.files.push(stored(id, FileKind::EcgImage, &file));
        self.ecgs.push(NewEcg {
            id,
            recorded_at: None,
            signal: None,
            options: SignalOptions::default(),
            picture: Some(file),
            reported: reported.map(bpm),
        });
        if let Some(rate) = reported {
            self.heart_rate = Some(NewHeartRate {
                id: self.id.record("heart_rate", 0),
                bpm: bpm(rate),
                recorded_at: None,
                source: HeartRateSource::Reported,
                ecg_id: Some(id),
            });
        }
        self
    }
}

fn stored(id: RecordId, kind: FileKind, file: &BlobInfo) -> StoredFile {
    StoredFile { id, kind, sha256: file.sha256, file_name: file.file_name.clone() }
}

/// A good analysis of the first ECG of an upload.
pub(crate) fn analysed(upload: &NewUpload, mean_bpm: f64) -> AnalysisResult {
    let analysis = EcgAnalysis {
        duration_s: 10.5,
        lead: Some("$II".to_owned()),
        heart_rate: Some(EcgRate { mean_bpm, min_bpm: mean_bpm - 1.25, max_bpm: mean_bpm + 1.0 }),
        rows_used: 2625,
        first_skipped_lines: vec![3, 4],
        ..testkit::analysis(mean_bpm)
    };
    AnalysisResult {
        ecg_id: upload.ecgs[0].id,
        upload_id: upload.id,
        mrn: upload.mrn,
        stored_at: at(50_000),
        outcome: Ok((analysis, blob("plot", MediaType::Png), blob("detail", MediaType::Json))),
    }
}

pub(crate) fn failed(upload: &NewUpload, reason: &str) -> AnalysisResult {
    AnalysisResult { outcome: Err(reason.to_owned()), ..analysed(upload, 1.0) }
}

/// The key of a file of an upload that is never stored.
pub(crate) fn orphan(sha256: BlobHash) -> BlobKey {
    key(&upload(7, "files", 0), sha256)
}

/// Stores an upload with its files.
pub(crate) async fn try_put(
    store: &(impl PatientWriter + ?Sized),
    upload: &NewUpload,
) -> Result<UploadOutcome, StoreError> {
    store.store_upload(upload, files(upload)).await
}

/// Stores a result with its files.
pub(crate) async fn put_result(
    store: &(impl PatientWriter + ?Sized),
    result: &AnalysisResult,
) -> Option<PatientSummary> {
    store.store_analysis(result, drawn(result)).await.unwrap()
}

/// Stores an upload that must not conflict.
pub(crate) async fn put(
    store: &(impl PatientWriter + ?Sized),
    upload: &NewUpload,
) -> (UploadReceipt, PatientSummary, bool) {
    match try_put(store, upload).await.unwrap() {
        UploadOutcome::Stored { receipt, patient, replayed } => (receipt, *patient, replayed),
        UploadOutcome::Conflict => panic!("conflict"),
        UploadOutcome::Erased => panic!("erased"),
    }
}

pub(crate) fn first(limit: usize) -> PageRequest {
    PageRequest { after: None, limit, include_errors: false }
}
