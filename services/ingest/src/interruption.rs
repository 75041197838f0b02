//! Ingest that is interrupted at any point of an upload or a result stores each exactly once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bus::{BusPorts, Delivery, Outcome, StagingKey};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::{
    BlobInfo, Bpm, EcgAnalyzed, EcgOutcome, EcgStatus, FileKind, HashedBytes, MediaType, Mrn, Queue,
    SignalOptions, StagedFile, Timestamp, UploadId, UploadReceived,
};
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::{BlobKey, PageRequest};
use testkit::MongoServer;

use crate::{Ports, analyses, uploads};

/// A future that is polled at most so many times; `None` if it is not ready then.
struct LimitedPolls<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for LimitedPolls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

/// Processes a delivery, polling at most `polls` times.
async fn take(ports: &Ports, queue: Queue, delivery: &Arc<Delivery>, polls: usize) -> Option<Outcome> {
    let work = async {
        match queue {
            Queue::Uploads => uploads::take(ports, delivery).await,
            _ => analyses::take(ports, delivery).await,
        }
    };
    LimitedPolls { future: Box::pin(work), left: polls }.await
}

/// Processes the next message of a queue: first interrupted after `polls` polls, then completely. False if the first attempt
/// was complete.
async fn interrupt(
    ports: &Ports,
    queue: Queue,
    deliveries: &mut BoxStream<'static, Delivery>,
    polls: usize,
) -> bool {
    let mut is_interrupted = false;
    let mut polls = polls;
    loop {
        let delivery = Arc::new(deliveries.next().await.unwrap());
        let outcome = take(ports, queue, &delivery, polls).await;
        polls = usize::MAX;
        let delivery = Arc::into_inner(delivery).unwrap();
        match outcome {
            Some(Outcome::Done) => {
                delivery.ack().await.unwrap();
                return is_interrupted;
            }
            // Dropped without an acknowledgement, it is redelivered.
            None => is_interrupted = true,
            // The write of the first attempt may still be in progress.
            Some(Outcome::Retry(_)) => {
                let is_dead_letter = delivery.fail("retry").await.unwrap();
                assert!(!is_dead_letter);
            }
            Some(Outcome::Defer(_)) => delivery.defer().await.unwrap(),
            Some(outcome) => panic!("{outcome:?}"),
        }
    }
}

fn bus_in(folder: &tempfile::TempDir, name: &str) -> Arc<bus::local::LocalBus> {
    let policy = bus::RetryPolicy { backoff: vec![Duration::from_millis(5)], ..bus::RetryPolicy::default() };
    let path = folder.path().join(name);
    bus::local::LocalBus::open(&path, policy, bus::QueueLimits::default()).unwrap()
}

async fn stage(ports: &Ports, upload: UploadId, file: &HashedBytes) {
    let key = StagingKey { upload, sha256: file.sha256() };
    ports.bus.staging.put_bytes(key, file.bytes().clone()).await.unwrap();
}

/// An upload with a heart rate and, as files, an image and an ECG. The image is too long for the transaction.
async fn send_upload(ports: &Ports, number: u64) -> UploadReceived {
    let upload_id = UploadId::generate();
    let image = HashedBytes::of(vec![number as u8; 4_500_000].into());
    let signal = HashedBytes::of(format!("signal {number}").into_bytes().into());
    let mut files = Vec::new();
    for (file, kind, media_type) in
        [(&image, FileKind::MedicalImage, MediaType::Png), (&signal, FileKind::Ecg, MediaType::Csv)]
    {
        stage(ports, upload_id, file).await;
        files.push(StagedFile { kind, blob: BlobInfo::of(file, media_type) });
    }
    let upload = UploadReceived {
        upload_id,
        mrn: Mrn::new(number).unwrap(),
        uploaded_by: None,
        received_at: Timestamp::now(),
        recorded_at: None,
        name: Some("Ann".to_owned()),
        rename: proto_json::Rename::No,
        heart_rate: Some(Bpm::new(60).unwrap()),
        files,
        signal_options: SignalOptions::default(),
        fingerprint: image.sha256(),
    };
    bus::send(&*ports.bus.queue, &upload, None, None).await.unwrap();
    upload
}

async fn send_result(ports: &Ports, upload: &UploadReceived) {
    let plot = HashedBytes::of(format!("plot {}", upload.mrn).into_bytes().into());
    let detail = HashedBytes::of(format!("detail {}", upload.mrn).into_bytes().into());
    stage(ports, upload.upload_id, &plot).await;
    stage(ports, upload.upload_id, &detail).await;
    let analysis = testkit::analysis(70.0);
    let result = EcgAnalyzed {
        ecg_id: upload.upload_id.record("ecg", 1),
        upload_id: upload.upload_id,
        mrn: upload.mrn,
        received_at: upload.received_at,
        analyzed_at: Timestamp::now(),
        signal: upload.files[1].blob.sha256,
        outcome: EcgOutcome::Analyzed {
            analysis: Box::new(analysis),
            plot: BlobInfo::of(&plot, MediaType::Png),
            detail: BlobInfo::of(&detail, MediaType::Json),
        },
    };
    bus::send(&*ports.bus.queue, &result, None, None).await.unwrap();
}

async fn assert_stored_once(ports: &Ports, upload: &UploadReceived, is_analysed: bool) {
    let page = PageRequest { after: None, limit: 9, include_errors: false };
    let store = &ports.store;
    let (version, rates) = if is_analysed { (2, 2) } else { (1, 1) };
    let patient = store.patient(upload.mrn).await.unwrap().unwrap();
    assert_eq!((patient.version, patient.name.as_deref()), (version, Some("Ann")));
    assert_eq!(store.images(upload.mrn, page).await.unwrap().items.len(), 1);
    assert_eq!(store.heart_rates(upload.mrn, page).await.unwrap().items.len(), rates);
    let ecgs = store.ecgs(upload.mrn, page).await.unwrap().items;
    assert_eq!(ecgs.len(), 1);
    assert_eq!(ecgs[0].status, if is_analysed { EcgStatus::Analyzed } else { EcgStatus::Pending });
    let mut files: Vec<_> = upload.files.iter().map(|file| file.blob.sha256).collect();
    files.extend([&ecgs[0].plot, &ecgs[0].detail].into_iter().flatten().map(|file| file.sha256));
    for sha256 in files {
        let key = BlobKey { upload: upload.upload_id, sha256 };
        let stored = ports.files.blob(key).await.unwrap().expect("the file is stored");
        bus::collect(stored.body, stored.bytes).await.unwrap();
    }
}

/// Interrupts an upload and a result after 0, 1, 2, ... polls, until neither is interrupted any more.
async fn each_interruption(ports: Ports) {
    let mut uploads = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
    let mut results = ports.bus.queue.consume(Queue::EcgResults, 1).await.unwrap();
    let mut interruptions = 0;
    for polls in 0.. {
        let upload = send_upload(&ports, polls as u64 + 1).await;
        let mut is_interrupted = interrupt(&ports, Queue::Uploads, &mut uploads, polls).await;
        assert_stored_once(&ports, &upload, false).await;
        send_result(&ports, &upload).await;
        is_interrupted |= interrupt(&ports, Queue::EcgResults, &mut results, polls).await;
        assert_stored_once(&ports, &upload, true).await;
        if !is_interrupted {
            break;
        }
        interruptions += 1;
    }
    assert!(interruptions > 5, "{interruptions} interruptions");
    // What the interrupted attempts have left is incomplete or orphaned, and the sweep removes it.
    let later = Timestamp::now().plus_millis(60_000);
    while ports.maintenance.sweep_orphans(later, 100).await.unwrap() > 0 {}
}

#[tokio::test]
async fn upload_and_result_are_stored_once_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus_in(&folder, "queues.db");
    let store = SqliteStore::open(&folder.path().join("patients.db")).unwrap();
    each_interruption(Ports::of(BusPorts::of(&bus), store)).await;
}

#[tokio::test]
async fn upload_and_result_are_stored_once_in_mongodb() {
    let folder = tempfile::tempdir().unwrap();
    let server = MongoServer::start();
    let store = MongoStore::connect(MongoConfig::new(server.uri(), server.fresh_database())).await.unwrap();
    store.ensure_indexes().await.unwrap();
    let bus = bus_in(&folder, "queues.db");
    each_interruption(Ports::of(BusPorts::of(&bus), store)).await;
}

#[tokio::test]
async fn upload_in_two_ingest_processes_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = MongoServer::start();
    let config = MongoConfig::new(server.uri(), server.fresh_database());
    let (one, other) = tokio::join!(MongoStore::connect(config.clone()), MongoStore::connect(config));
    let (one, other) = (one.unwrap(), other.unwrap());
    one.ensure_indexes().await.unwrap();
    let (bus, other_bus) = (bus_in(&folder, "queues.db"), bus_in(&folder, "other.db"));
    // Both processes have a delivery of the same upload, and the staged files of it.
    let ports = Ports::of(BusPorts::of(&bus), one);
    let other = Ports::of(BusPorts::of(&other_bus), other);
    for number in 1..=4 {
        let upload = send_upload(&ports, number).await;
        for (key, _) in ports.bus.staging.list().await.unwrap() {
            let staged = ports.bus.staging.get(key).await.unwrap().unwrap();
            other.bus.staging.put(key, staged.bytes, staged.body).await.unwrap();
        }
        bus::send(&*other.bus.queue, &upload, None, None).await.unwrap();
        let mut first = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        let mut second = other.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        tokio::join!(
            interrupt(&ports, Queue::Uploads, &mut first, usize::MAX),
            interrupt(&other, Queue::Uploads, &mut second, usize::MAX),
        );
        assert_stored_once(&ports, &upload, false).await;
    }
}
