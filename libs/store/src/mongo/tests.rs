//! Transactions that are interrupted, meet a write conflict or have an unknown commit result, and writes of long files.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use mongodb::bson::doc;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use proto_json::{
    BlobHash, BlobInfo, Bpm, EcgStatus, FileKind, HeartRateSource, MediaType, SignalOptions, StoredFile,
    UploadId, UploadReceipt,
};
use testkit::MongoServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Maintenance, NewEcg, NewHeartRate, NewImage};

use super::*;

/// An upload with its files, and the result of its ECG with the files of the result.
pub(super) struct Sample {
    pub(super) upload: NewUpload,
    pub(super) files: Vec<HashedBytes>,
    pub(super) result: AnalysisResult,
    pub(super) result_files: Vec<HashedBytes>,
}

/// What a [`Sample`] contains besides a heart rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    Image,
    Ecg,
    ImageAndEcg,
}

pub(super) fn sample(mrn: u64, key: &str, content: Content) -> Sample {
    let id = UploadId::from_idempotency_key("", &format!("{mrn}/{key}"));
    let at = Timestamp::from_millis(1_800_000_000_000).unwrap();
    let file = |name: &str, length| {
        let mut content = format!("{name} {mrn} {key}").into_bytes();
        content.resize(length, 7);
        HashedBytes::of(Bytes::from(content))
    };
    let (image, signal) = (file("image", 300_000), file("signal", 2_000));
    let (plot, detail) = (file("plot", 3_000), file("detail", 100));
    let (image_id, ecg_id) = (id.record("image", 0), id.record("ecg", 0));
    let stored =
        |id, kind, file: &HashedBytes| StoredFile { id, kind, sha256: file.sha256(), file_name: None };
    let mut upload = NewUpload {
        id,
        fingerprint: BlobHash::of(id.to_string().as_bytes()),
        mrn: Mrn::new(mrn).unwrap(),
        received_at: at,
        stored_at: at,
        uploaded_by: None,
        name: Some(format!("Patient {mrn}")),
        rename: proto_json::Rename::No,
        heart_rate: None,
        images: Vec::new(),
        ecgs: Vec::new(),
        files: Vec::new(),
    };
    let mut files = Vec::new();
    if content != Content::Ecg {
        upload.images.push(NewImage { id: image_id, file: BlobInfo::of(&image, MediaType::Png) });
        upload.files.push(stored(image_id, FileKind::MedicalImage, &image));
        files.push(image);
    }
    if content != Content::Image {
        upload.ecgs.push(NewEcg {
            id: ecg_id,
            recorded_at: None,
            signal: Some(BlobInfo::of(&signal, MediaType::Csv)),
            options: SignalOptions::default(),
            picture: None,
            reported: None,
        });
        upload.files.push(stored(ecg_id, FileKind::Ecg, &signal));
        files.push(signal);
    }
    if content == Content::ImageAndEcg {
        upload.heart_rate = Some(NewHeartRate {
            id: id.record("heart_rate", 0),
            bpm: Bpm::new(60).unwrap(),
            recorded_at: Some(at),
            source: HeartRateSource::Reported,
            ecg_id: None,
        });
    }
    let analysis = testkit::analysis(70.0);
    let result = AnalysisResult {
        ecg_id,
        upload_id: id,
        mrn: upload.mrn,
        stored_at: at,
        outcome: Ok((analysis, BlobInfo::of(&plot, MediaType::Png), BlobInfo::of(&detail, MediaType::Json))),
    };
    Sample { upload, files, result, result_files: vec![plot, detail] }
}

struct Fixture {
    store: Arc<MongoStore>,
    server: MongoServer,
    database: String,
}

impl Fixture {
    async fn start() -> Self {
        Self::on(MongoServer::start()).await
    }

    async fn on(server: MongoServer) -> Self {
        let database = server.fresh_database();
        let store = MongoStore::connect(MongoConfig::new(server.uri(), database.clone())).await.unwrap();
        store.ensure_indexes().await.unwrap();
        Fixture { store, server, database }
    }

    /// Another connection to the same database, as of a second process.
    async fn second(&self) -> Arc<MongoStore> {
        MongoStore::connect(MongoConfig::new(self.server.uri(), self.database.clone())).await.unwrap()
    }

    /// The store of a process that reaches the server through a proxy.
    async fn through(&self, proxy: &Proxy) -> Arc<MongoStore> {
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", proxy.port);
        let mut config = MongoConfig::new(uri, self.database.clone());
        config.server_selection_timeout = Duration::from_millis(200);
        config.operation_timeout = Duration::from_millis(1_000);
        MongoStore::connect(config).await.unwrap()
    }

    /// Aborts the transactions of clients that have gone, as the server does after `transactionLifetimeLimitSeconds`.
    async fn abort_abandoned_transactions(&self) {
        let admin = self.store.db.database.client().database("admin");
        admin.run_command(doc! { "killAllSessions": [] }).await.unwrap();
    }

    /// Asserts that exactly the records of a sample are stored, each once.
    async fn assert_stored_once(&self, sample: &Sample, is_analysed: bool) {
        let Sample { upload, files, result_files, .. } = sample;
        let page = PageRequest { after: None, limit: 99, include_errors: false };
        let store = &self.store;
        let mut rates = usize::from(upload.heart_rate.is_some());
        let mut stored_files: Vec<_> = files.iter().collect();
        if is_analysed {
            rates += 1;
            stored_files.extend(result_files);
        }
        assert_eq!(store.images(upload.mrn, page).await.unwrap().items.len(), upload.images.len());
        assert_eq!(store.ecgs(upload.mrn, page).await.unwrap().items.len(), upload.ecgs.len());
        assert_eq!(store.heart_rates(upload.mrn, page).await.unwrap().items.len(), rates);
        let patient = store.patient(upload.mrn).await.unwrap().unwrap();
        assert_eq!(patient.version, if is_analysed { 2 } else { 1 });
        let owner = doc! { "metadata.upload": documents::upload(upload.id) };
        assert_eq!(store.db.files.count_documents(owner).await.unwrap(), stored_files.len() as u64);
        for file in stored_files {
            let key = BlobKey { upload: upload.id, sha256: file.sha256() };
            let stored = store.blob(key).await.unwrap().unwrap();
            let pieces: Vec<_> = stored.body.collect().await;
            let bytes: usize = pieces.into_iter().map(|piece| piece.unwrap().len()).sum();
            assert_eq!(bytes, file.len());
        }
    }

    async fn count(&self, collection: &str) -> u64 {
        self.store.db.database.collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
    }
}

async fn put(store: &MongoStore, sample: &Sample) -> Result<(UploadReceipt, bool), StoreError> {
    match store.store_upload(&sample.upload, sample.files.clone()).await? {
        UploadOutcome::Stored { receipt, replayed, .. } => Ok((receipt, replayed)),
        UploadOutcome::Conflict => panic!("conflict"),
        UploadOutcome::Erased => panic!("erased"),
    }
}

async fn put_result(store: &MongoStore, sample: &Sample) -> Result<Option<PatientSummary>, StoreError> {
    store.store_analysis(&sample.result, sample.result_files.clone()).await
}

/// A proxy in front of the server. It counts statements of transactions, including the commit, and can lose one.
struct Proxy {
    port: u16,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    statements: AtomicUsize,
    cut: Mutex<Option<Cut>>,
    /// No connection is served any more, as if the process behind it had been killed.
    is_dead: AtomicBool,
}

/// Closes the connection at a statement.
#[derive(Clone, Copy)]
struct Cut {
    /// Number of the statement, or `None` for the next commit.
    statement: Option<usize>,
    /// The server gets the statement, and its answer is lost.
    is_forwarded: bool,
    /// All connections are lost from then on.
    is_kill: bool,
}

impl Proxy {
    async fn start(server: &MongoServer) -> Self {
        let uri = server.uri();
        let address = uri.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control::default());
        let shared = Arc::clone(&control);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.is_dead.load(Ordering::SeqCst) {
                    tokio::spawn(Arc::clone(&shared).serve(client, address.clone()));
                }
            }
        });
        Proxy { port, control }
    }

    fn cut(&self, cut: Cut) {
        self.control.statements.store(0, Ordering::SeqCst);
        *self.control.cut.lock().unwrap() = Some(cut);
    }
}

impl Control {
    async fn serve(self: Arc<Self>, client: TcpStream, server: String) {
        let server = TcpStream::connect(server).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let is_answer_lost = AtomicBool::new(false);
        let requests = async {
            loop {
                let Ok(length) = from_client.read_u32_le().await else { return };
                let mut message = length.to_le_bytes().to_vec();
                message.resize(length as usize, 0);
                if from_client.read_exact(&mut message[4..]).await.is_err()
                    || !self.pass(&message, &is_answer_lost)
                {
                    return;
                }
                if to_server.write_all(&message).await.is_err() {
                    return;
                }
            }
        };
        let answers = async {
            let mut piece = vec![0; 1 << 16];
            loop {
                let Ok(read @ 1..) = from_server.read(&mut piece).await else { return };
                if is_answer_lost.load(Ordering::SeqCst) || self.is_dead.load(Ordering::SeqCst) {
                    return;
                }
                if to_client.write_all(&piece[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! { () = requests => {}, () = answers => {} }
    }

    /// Whether a message is forwarded to the server.
    fn pass(&self, message: &[u8], is_answer_lost: &AtomicBool) -> bool {
        if self.is_dead.load(Ordering::SeqCst) {
            return false;
        }
        let contains = |text: &[u8]| message.windows(text.len()).any(|part| part == text);
        if !contains(b"autocommit\0") {
            return true;
        }
        let statement = self.statements.fetch_add(1, Ordering::SeqCst);
        let mut cut = self.cut.lock().unwrap();
        let is_cut = cut.is_some_and(|cut| match cut.statement {
            Some(number) => number == statement,
            None => contains(b"commitTransaction\0"),
        });
        let Some(Cut { is_forwarded, is_kill, .. }) = cut.filter(|_| is_cut) else { return true };
        *cut = None;
        self.is_dead.store(is_kill, Ordering::SeqCst);
        is_answer_lost.store(true, Ordering::SeqCst);
        is_forwarded
    }
}

/// Stores in a process that is killed at each statement of its transaction, before or after the server gets it. Then another
/// process stores the same. Ends when no statement is left.
async fn killed_at_each_statement(is_result: bool, content: Content) {
    let fixture = Fixture::start().await;
    let (mut mrn, mut kills) = (1, 0);
    'statements: for statement in 0.. {
        for is_forwarded in [false, true] {
            mrn += 1;
            let sample = sample(mrn, "killed", content);
            let proxy = Proxy::start(&fixture.server).await;
            let killed = fixture.through(&proxy).await;
            if is_result {
                put(&fixture.store, &sample).await.unwrap();
            }
            killed.patient(sample.upload.mrn).await.unwrap();
            proxy.cut(Cut { statement: Some(statement), is_forwarded, is_kill: true });
            let write = async {
                if is_result {
                    put_result(&killed, &sample).await.map(drop)
                } else {
                    put(&killed, &sample).await.map(drop)
                }
            };
            // A killed process does not go on: it is dropped at the moment of the cut.
            let result = tokio::select! {
                result = write => Some(result),
                () = cut_happened(&proxy) => None,
            };
            let is_last = proxy.control.cut.lock().unwrap().is_some();
            proxy.control.is_dead.store(true, Ordering::SeqCst);
            drop(killed);
            if is_last {
                result.expect("the write has ended").unwrap();
                break 'statements;
            }
            kills += 1;
            fixture.abort_abandoned_transactions().await;
            if is_result {
                put_result(&fixture.store, &sample).await.unwrap();
                assert_eq!(put_result(&fixture.store, &sample).await.unwrap(), None);
                let ecg = fixture.store.ecg(sample.result.ecg_id).await.unwrap().unwrap();
                assert_eq!(ecg.status, EcgStatus::Analyzed);
            } else {
                let (receipt, _) = put(&fixture.store, &sample).await.unwrap();
                assert!(receipt.patient_created && receipt.changed);
                assert_eq!(put(&fixture.store, &sample).await.unwrap(), (receipt, true));
            }
            fixture.assert_stored_once(&sample, is_result).await;
        }
    }
    assert!(kills >= 12, "{kills} kills");
}

/// Returns after the proxy has cut a connection.
async fn cut_happened(proxy: &Proxy) {
    while proxy.control.cut.lock().unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The statement arrives at the server.
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_upload_whose_process_is_killed_at_any_statement_is_stored_once() {
    killed_at_each_statement(false, Content::Image).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ecg_upload_whose_process_is_killed_at_any_statement_is_stored_once() {
    killed_at_each_statement(false, Content::Ecg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_whose_process_is_killed_at_any_statement_is_stored_once() {
    killed_at_each_statement(true, Content::Ecg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_is_closed_at_any_statement_is_survived() {
    let fixture = Fixture::start().await;
    for (mrn, statement) in (1..).zip(0..8) {
        let sample = sample(mrn, "closed", Content::ImageAndEcg);
        let proxy = Proxy::start(&fixture.server).await;
        let mut config = MongoConfig::new(
            format!("mongodb://127.0.0.1:{}/?directConnection=true", proxy.port),
            fixture.database.clone(),
        );
        config.operation_timeout = Duration::from_secs(30);
        let store = MongoStore::connect(config).await.unwrap();
        store.patient(sample.upload.mrn).await.unwrap();
        proxy.cut(Cut { statement: Some(statement), is_forwarded: true, is_kill: false });
        let stored = put(&store, &sample).await;
        assert!(stored.unwrap().0.patient_created, "{statement}");
        fixture.assert_stored_once(&sample, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_whose_answer_is_lost_is_repeated_and_stored_once() {
    let fixture = Fixture::start().await;
    let proxy = Proxy::start(&fixture.server).await;
    let store = fixture.through(&proxy).await;
    for mrn in 1..=3 {
        let sample = sample(mrn, "lost answer", Content::ImageAndEcg);
        proxy.cut(Cut { statement: None, is_forwarded: true, is_kill: false });
        let (receipt, replayed) = put(&store, &sample).await.unwrap();
        assert!(receipt.patient_created && !replayed);
        fixture.assert_stored_once(&sample, false).await;
        proxy.cut(Cut { statement: None, is_forwarded: true, is_kill: false });
        assert!(put_result(&store, &sample).await.unwrap().is_some());
        fixture.assert_stored_once(&sample, true).await;
        assert!(proxy.control.cut.lock().unwrap().is_none(), "both commits were cut");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_conflict_is_retried() {
    let fixture = Fixture::start().await;
    let sample_of = |key: &str| sample(1, key, Content::Image);
    put(&fixture.store, &sample_of("first")).await.unwrap();
    let mut other = fixture.store.db.database.client().start_session().await.unwrap();
    other.start_transaction().await.unwrap();
    let patients = fixture.store.db.patients.clone_with_type::<Document>();
    let change = doc! { "$set": { "unknown": 1 } };
    patients.update_one(doc! { "_id": 1_i64 }, change).session(&mut other).await.unwrap();
    let second = sample_of("second");
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.commit_transaction().await.unwrap();
    };
    let (stored, ()) = tokio::join!(put(&fixture.store, &second), release);
    assert_eq!(stored.unwrap().0.version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicting_transactions_of_two_processes_are_all_stored_once() {
    const UPLOADS: usize = 8;
    let fixture = Fixture::start().await;
    let second = fixture.second().await;
    let writes = [&fixture.store, &second].into_iter().enumerate().map(|(process, store)| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for n in 0..UPLOADS {
                let sample = sample(1, &format!("{process} {n}"), Content::ImageAndEcg);
                versions.push(put(&store, &sample).await.unwrap().0.version);
            }
            versions
        })
    });
    let mut versions = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        versions.extend(write.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=2 * UPLOADS as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_and_result_in_two_processes_are_stored_once() {
    let fixture = Fixture::start().await;
    let second = fixture.second().await;
    for mrn in 1..=8 {
        let sample = sample(mrn, "same", Content::ImageAndEcg);
        let (one, other) = tokio::join!(put(&fixture.store, &sample), put(&second, &sample));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.0, other.0);
        assert_eq!(u8::from(one.1) + u8::from(other.1), 1, "one of them was first");
        let (one, other) = tokio::join!(put_result(&fixture.store, &sample), put_result(&second, &sample));
        assert_eq!([one.unwrap(), other.unwrap()].iter().flatten().count(), 1);
        fixture.assert_stored_once(&sample, true).await;
    }
}

/// Counts all commands, and those that wait for the majority.
#[derive(Default)]
struct Commands {
    all: AtomicUsize,
    majority: AtomicUsize,
}

impl Commands {
    fn observe(&self, event: &CommandEvent) {
        let CommandEvent::Started(event) = event else { return };
        if ["hello", "ismaster", "isMaster", "endSessions"].contains(&event.command_name.as_str()) {
            return;
        }
        self.all.fetch_add(1, Ordering::SeqCst);
        let is_majority = event
            .command
            .get_document("writeConcern")
            .is_ok_and(|concern| concern.get_str("w").is_ok_and(|w| w == "majority"));
        if is_majority {
            self.majority.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The numbers since the last call.
    fn take(&self) -> (usize, usize) {
        (self.all.swap(0, Ordering::SeqCst), self.majority.swap(0, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn upload_and_result_wait_for_the_majority_at_most_twice() {
    let fixture = Fixture::start().await;
    let commands = Arc::new(Commands::default());
    let observer = Arc::clone(&commands);
    let config = MongoConfig::new(fixture.server.uri(), fixture.database.clone());
    let store = MongoStore::connect_with(config, |options| {
        let handler = EventHandler::callback(move |event| observer.observe(&event));
        options.command_event_handler = Some(handler);
    });
    let store = store.await.unwrap();
    for (mrn, name, content) in [(1, "image upload", Content::Image), (2, "ECG upload", Content::Ecg)] {
        // For a new patient, and for a known one.
        for key in ["first", "second"] {
            let sample = sample(mrn, key, content);
            commands.take();
            put(&store, &sample).await.unwrap();
            let (all, majority) = commands.take();
            println!("{name}: {all} commands, {majority} majority waits");
            assert!((1..=2).contains(&majority) && all <= 9, "{name}: {all}, {majority}");
            if content == Content::Ecg {
                assert!(put_result(&store, &sample).await.unwrap().is_some());
                let (all, majority) = commands.take();
                println!("result: {all} commands, {majority} majority waits");
                assert!((1..=2).contains(&majority) && all <= 11, "result: {all}, {majority}");
            }
        }
    }
}

fn long_file() -> (BlobKey, Bytes) {
    let content = Bytes::from(vec![1; 9_000_000]);
    let upload = UploadId::from_idempotency_key("", "files");
    (BlobKey { upload, sha256: BlobHash::of(&content) }, content)
}

#[tokio::test]
async fn incomplete_write_is_swept_and_cannot_be_completed() {
    let fixture = Fixture::start().await;
    let (key, content) = long_file();
    let mut write = blobs::ChunkedWrite::begin(&fixture.store.db, key).await.unwrap();
    write.add(&content[..600_000]).await.unwrap();
    let now = Timestamp::now();
    assert_eq!(fixture.store.sweep_orphans(now.plus_millis(-60_000), 9).await.unwrap(), 0, "it is too young");
    assert_eq!(fixture.count("blobs.chunks").await, 3);
    assert_eq!(fixture.store.sweep_orphans(now.plus_millis(60_000), 9).await.unwrap(), 1);
    assert_eq!((fixture.count("blobs.chunks").await, fixture.count("blobs.incomplete").await), (0, 0));
    let error = write.finish(600_000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(fixture.count("blobs.files").await, 0);
}

#[tokio::test]
async fn chunks_of_a_file_with_a_wrong_hash_are_removed() {
    let fixture = Fixture::start().await;
    let (key, content) = long_file();
    let key = BlobKey { sha256: BlobHash::of(b"other"), ..key };
    let body = stream::iter([Ok(content)]).boxed();
    fixture.store.put_blob(key, 9_000_000, body).await.unwrap_err();
    // A task in the background removes them.
    while fixture.count("blobs.incomplete").await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((fixture.count("blobs.chunks").await, fixture.count("blobs.files").await), (0, 0));
}

#[tokio::test]
async fn concurrent_writes_of_one_long_file_leave_one_copy() {
    let fixture = Fixture::start().await;
    let (key, content) = long_file();
    let body = || stream::iter([Ok(content.clone())]).boxed();
    let (one, other) = tokio::join!(
        fixture.store.put_blob(key, 9_000_000, body()),
        fixture.store.put_blob(key, 9_000_000, body()),
    );
    one.and(other).unwrap();
    while fixture.count("blobs.incomplete").await > 0 {
        tokio::task::yield_now().await;
    }
    let chunks = content.len().div_ceil(255 * 1024) as u64;
    assert_eq!((fixture.count("blobs.files").await, fixture.count("blobs.chunks").await), (1, chunks));
}

#[tokio::test]
async fn call_whose_caller_is_dropped_is_completed() {
    let fixture = Fixture::start().await;
    let sample = sample(1, "dropped", Content::ImageAndEcg);
    let mut call = Box::pin(put(&fixture.store, &sample));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    while fixture.store.upload(sample.upload.id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    fixture.assert_stored_once(&sample, false).await;
}

#[tokio::test]
async fn body_of_a_dropped_caller_leaves_nothing() {
    let fixture = Fixture::start().await;
    let (key, content) = long_file();
    let begun = stream::iter([Ok(content.slice(..8_000_000))]);
    let mut call = fixture.store.put_blob(key, 9_000_000, begun.chain(stream::pending()).boxed());
    while fixture.count("blobs.chunks").await == 0 {
        assert!(futures::poll!(&mut call).is_pending());
    }
    drop(call);
    while fixture.count("blobs.incomplete").await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((fixture.count("blobs.chunks").await, fixture.count("blobs.files").await), (0, 0));
}

#[tokio::test]
async fn stalled_server_is_reported_within_the_limit_and_the_call_goes_on() {
    let fixture = Fixture::on(MongoServer::start_own()).await;
    let mut config = MongoConfig::new(fixture.server.uri(), fixture.database.clone());
    config.operation_timeout = Duration::from_millis(500);
    let store = MongoStore::connect(config).await.unwrap();
    let sample = sample(1, "stalled", Content::Image);
    store.patient(sample.upload.mrn).await.unwrap();
    fixture.server.pause();
    let started = std::time::Instant::now();
    let error = put(&store, &sample).await.unwrap_err();
    let waited = started.elapsed();
    fixture.server.resume();
    assert!(error.to_string().contains("did not answer within 0.5 s"), "{error}");
    assert!((500..3_000).contains(&waited.as_millis()), "{waited:?}");
    // The caller repeats the upload, whether or not the first call has ended.
    while put(&store, &sample).await.is_err() {}
    fixture.assert_stored_once(&sample, false).await;
}

/// Reads outside of transactions without a time limit, by their names.
#[tokio::test]
async fn every_read_has_a_time_limit_on_the_server() {
    let fixture = Fixture::start().await;
    let sample = sample(1, "read", Content::ImageAndEcg);
    put(&fixture.store, &sample).await.unwrap();
    let unlimited = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&unlimited);
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let config = MongoConfig::new(fixture.server.uri(), fixture.database.clone());
    let store = MongoStore::connect_with(config, |options| {
        assert_eq!(options.max_pool_size, Some(100));
        assert_eq!(options.server_selection_timeout, Some(Duration::from_secs(15)));
        let handler = move |event| {
            let CommandEvent::Started(event) = event else { return };
            if event.command_name != "find" || event.command.contains_key("txnNumber") {
                return;
            }
            counter.fetch_add(1, Ordering::SeqCst);
            if event.command.get("maxTimeMS").is_none() {
                seen.lock().unwrap().push(event.command.to_string());
            }
        };
        options.command_event_handler = Some(EventHandler::callback(handler));
    });
    let store = store.await.unwrap();
    let (mrn, now) = (sample.upload.mrn, Timestamp::now());
    let page = PageRequest { after: None, limit: 9, include_errors: false };
    store.patient(mrn).await.unwrap();
    store.patients(Some("1"), page).await.unwrap();
    store.mrns().await.unwrap();
    store.former_names(mrn, 9).await.unwrap();
    store.heart_rates(mrn, page).await.unwrap();
    store.images(mrn, page).await.unwrap();
    let ecgs = store.ecgs(mrn, page).await.unwrap();
    store.ecg(ecgs.items[0].id).await.unwrap();
    store.pending_ecgs(now, now, 9).await.unwrap();
    store.upload(sample.upload.id).await.unwrap();
    store.highest_time().await.unwrap();
    store.mark_clock_wrong(now).await.unwrap();
    store.sweep_orphans(now, 9).await.unwrap();
    let key = BlobKey { upload: sample.upload.id, sha256: sample.files[0].sha256() };
    store.blob(key).await.unwrap().unwrap().body.for_each(|_| async {}).await;
    let mut position = None;
    loop {
        position = store.scrub(position, 100).await.unwrap().next;
        if position.is_none() {
            break;
        }
    }
    assert!(count.load(Ordering::SeqCst) >= 20);
    assert_eq!(*unlimited.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn store_of_a_reader_prefers_the_primary() {
    let mut config = MongoConfig::new("mongodb://127.0.0.1:1", "bedside");
    config.reads_from_secondary = true;
    let store = MongoStore::connect_with(config, |options| {
        let criteria = options.selection_criteria.clone();
        assert_eq!(criteria, Some(ReadPreference::PrimaryPreferred { options: None }.into()));
    });
    store.await.unwrap();
}

#[tokio::test]
async fn one_process_sweeps_at_a_time_and_another_takes_over() {
    let fixture = Fixture::start().await;
    let store = &fixture.store;
    let (one, other, minute) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2), Duration::from_secs(60));
    assert!(store.lease_sweep(one, minute).await.unwrap());
    assert!(!store.lease_sweep(other, minute).await.unwrap(), "the lease is held");
    assert!(store.lease_sweep(one, Duration::ZERO).await.unwrap(), "the holder renews it");
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The lease has ended.
    assert!(store.lease_sweep(other, minute).await.unwrap());
    assert!(!store.lease_sweep(one, minute).await.unwrap());
}

#[tokio::test]
async fn database_of_another_schema_version_is_not_used() {
    let fixture = Fixture::start().await;
    fixture.store.verify_access().await.unwrap();
    fixture.store.ensure_schema().await.unwrap();
    put(&fixture.store, &sample(1, "schema", Content::Image)).await.unwrap();
    fixture.store.ensure_schema().await.unwrap();
    let schemas = fixture.store.db.database.collection::<Document>("schema");
    let set = async |version: i32| {
        schemas.update_one(doc! {}, doc! { "$set": { "version": version } }).await.unwrap();
    };
    set(2).await;
    let refused = fixture.store.verify_access().await.unwrap_err();
    assert!(matches!(refused, PrepareError::Schema { found: 2, needed: 1 }), "{refused}");
    let refused = fixture.store.ensure_schema().await.unwrap_err();
    assert!(refused.to_string().contains("use a newer version"), "{refused}");
    // Data without a version is older than the first version.
    schemas.delete_many(doc! {}).await.unwrap();
    let refused = fixture.store.ensure_schema().await.unwrap_err();
    assert!(refused.to_string().contains("use another name"), "{refused}");
    schemas.insert_one(doc! { "_id": "schema", "version": 0 }).await.unwrap();
    let waiting = fixture.store.verify_access().await.unwrap_err();
    assert!(matches!(waiting, PrepareError::Store(StoreError::Unavailable(_))), "{waiting}");
}
