//! SIGKILL of a process during uploads, then a restart: each upload answered with 2xx is stored exactly once, each ECG is
//! analysed, and there are no dead letters.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use client::{Gateway, RetryPolicy, Upload, UploadAnswer, UploadFile};
use proto_json::{BlobHash, EcgStatus, FileKind, Mrn, UploadId};
use testkit::{Mode, Service, System, test_data, within};

const CLIENTS: u64 = 4;
/// Number of successful uploads after the last crash, before the stored data is checked.
const AFTER_LAST_CRASH: usize = 12;
const CRASHES: usize = 3;

#[tokio::test]
async fn uploads_are_stored_once_when_bedside_is_killed() {
    crash(Mode::Standalone, Service::Gateway).await;
}

#[tokio::test]
async fn uploads_are_stored_once_when_the_gateway_is_killed() {
    crash(Mode::Processes, Service::Gateway).await;
}

#[tokio::test]
async fn uploads_are_stored_once_when_ingest_is_killed() {
    crash(Mode::Processes, Service::Ingest).await;
}

#[tokio::test]
async fn uploads_are_stored_once_when_the_ecg_worker_is_killed() {
    crash(Mode::Processes, Service::EcgWorker).await;
}

#[tokio::test]
async fn uploads_are_stored_once_when_query_is_killed() {
    crash(Mode::Processes, Service::Query).await;
}

/// An upload that was answered with success.
struct Promise {
    upload: UploadId,
    mrn: Mrn,
    ecg: BlobHash,
    image: BlobHash,
}

async fn crash(mode: Mode, victim: Service) {
    let mut system = System::start_with(mode, &["--receipt-wait", "2s"]);
    let gateway = system.gateway();
    let done = Arc::new(AtomicBool::new(false));
    let confirmed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(upload_until(gateway.clone(), client, done.clone(), confirmed.clone())))
        .collect();

    for _ in 0..CRASHES {
        let before = confirmed.load(Ordering::Relaxed);
        wait_for(&confirmed, before + 5).await;
        system.service(victim).kill();
        system.service(victim).restart();
    }
    let before = confirmed.load(Ordering::Relaxed);
    wait_for(&confirmed, before + AFTER_LAST_CRASH).await;
    done.store(true, Ordering::Relaxed);
    let mut promises = Vec::new();
    for client in clients {
        promises.extend(client.await.unwrap());
    }

    let gateway = system.gateway();
    for promise in &promises {
        let receipt = within("each accepted upload is stored", || async {
            gateway.upload_status(promise.upload).await.ok().flatten().map(|status| status.receipt)
        })
        .await;
        assert_eq!(receipt.mrn, promise.mrn);
    }
    for client in 0..CLIENTS {
        let mrn = mrn_of(client);
        let promised: Vec<_> = promises.iter().filter(|promise| promise.mrn == mrn).collect();
        let ecgs = within("each ECG is analysed", || async {
            let ecgs = gateway.ecgs(mrn, None, Some(500)).await.ok()?.items;
            ecgs.iter().all(|ecg| ecg.status != EcgStatus::Pending).then_some(ecgs)
        })
        .await;
        let images = gateway.images(mrn, None, Some(500)).await.unwrap().items;
        assert!(ecgs.iter().all(|ecg| ecg.status == EcgStatus::Analyzed), "{}", system.logs());
        let stored: BTreeSet<_> = ecgs.iter().map(|ecg| ecg.signal.as_ref().unwrap().sha256).collect();
        assert_eq!(stored.len(), ecgs.len(), "each upload is stored once");
        assert_eq!(images.iter().map(|image| image.file.sha256).collect::<BTreeSet<_>>().len(), images.len());
        assert!(promised.iter().all(|promise| stored.contains(&promise.ecg)));
        assert!(promised.iter().all(|promise| images.iter().any(|image| image.file.sha256 == promise.image)));
        // Every upload was retried until it succeeded, so nothing else may be stored.
        assert_eq!((ecgs.len(), images.len()), (promised.len(), promised.len()));
        // The stored bytes are the uploaded ones.
        let last = ecgs.first().unwrap();
        let bytes = gateway.signal(last.id).await.unwrap().bytes(1 << 20).await.unwrap();
        assert_eq!(BlobHash::of(&bytes), last.signal.as_ref().unwrap().sha256);
    }
    assert_eq!(dead_letters(&mut system).await, 0, "{}", system.logs());
}

async fn wait_for(confirmed: &AtomicUsize, count: usize) {
    within("uploads continue", || async { (confirmed.load(Ordering::Relaxed) >= count).then_some(()) }).await;
}

fn mrn_of(client: u64) -> Mrn {
    Mrn::new(100 + client).unwrap()
}

async fn upload_until(
    gateway: Gateway,
    client: u64,
    done: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
) -> Vec<Promise> {
    let mut promises = Vec::new();
    let retries = RetryPolicy {
        attempts: 200,
        first_wait: Duration::from_millis(50),
        longest_wait: Duration::from_millis(500),
    };
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let seed = client * 10_000 + number;
        let ecg = test_data::strip_csv(75.0, 5.0, seed);
        let image = test_data::jpeg(60, seed);
        let (ecg_hash, image_hash) = (BlobHash::of(&ecg), BlobHash::of(&image));
        let upload = Upload::of(vec![
            UploadFile::from_bytes(FileKind::Ecg, "strip.csv", ecg),
            UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", image),
        ]);
        let mrn = mrn_of(client);
        let answer = gateway.upload_with_retries(mrn, &upload, retries, |_| {}).await;
        let id = match answer.unwrap_or_else(|error| panic!("upload {number} of client {client}: {error}")) {
            UploadAnswer::Stored(receipt) => receipt.upload_id,
            UploadAnswer::Accepted(received) => received.upload_id,
        };
        promises.push(Promise { upload: id, mrn, ecg: ecg_hash, image: image_hash });
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
    promises
}

/// Number of dead letters in the metrics of ingest.
async fn dead_letters(system: &mut System) -> u64 {
    let url = system.admin_url(Service::Ingest);
    within("ingest reports dead letters", || async {
        let text =
            testkit::http_client().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with("bedside_dead_letters "))?;
        line.rsplit(' ').next()?.parse::<f64>().ok().map(|count| count as u64)
    })
    .await
}
