//! Uploads: progress, cancellation and retries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::{Progress, RetryPolicy, Upload, UploadAnswer, UploadFile};
use proto_json::FileKind;
use tokio::sync::Notify;

use crate::fixture::{System, client_of, ecg_upload, mrn, named, store, strip};

#[tokio::test]
async fn progress_grows_to_the_total_while_a_file_is_sent_from_disk() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    let content = strip(300.0, 70.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fünf \"Minuten\".csv");
    std::fs::write(&path, &content).unwrap();
    let upload = Upload::of(vec![UploadFile::from_path(FileKind::Ecg, &path)]);
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let log = seen.clone();
    let answer =
        gateway.upload(mrn(7), &upload, move |progress| log.lock().unwrap().push(progress)).await.unwrap();
    let UploadAnswer::Stored(receipt) = answer else { panic!("{answer:?}") };
    assert_eq!(receipt.files[0].file_name.as_deref(), Some("fünf _Minuten_.csv"));
    let seen = seen.lock().unwrap().clone();
    let total = seen[0].total;
    assert!(total == content.len() as u64 && seen.len() > 10, "{} steps of {total}", seen.len());
    assert_eq!((seen[0].sent, seen[seen.len() - 1].sent), (0, total));
    assert!(
        seen.is_sorted_by_key(|progress| progress.sent)
            && seen.iter().all(|progress| progress.total == total)
    );
    let back = gateway.signal(receipt.files[0].id).await.unwrap().bytes(64 << 20).await.unwrap();
    assert_eq!(back, content);
}

#[tokio::test]
async fn cancelled_upload_stores_nothing() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    let upload = ecg_upload(Bytes::from(vec![b'1'; 64 << 20]));
    let under_way = Arc::new(Notify::new());
    let notify = under_way.clone();
    let sending = gateway.upload(mrn(8), &upload, move |progress| {
        if progress.sent > 1 << 20 {
            notify.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = under_way.notified() => {}
        answer = sending => panic!("the upload was not cancelled in time: {answer:?}"),
    }
    // When the gateway accepts another upload, it has handled the end of the first.
    store(&gateway, 9, &named("Ida")).await;
    assert_eq!(gateway.patient(mrn(8)).await.unwrap(), None);
    assert!(system.bus.staging.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn upload_sent_again_is_stored_once() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    let upload = ecg_upload(strip(10.0, 60.0));
    let first = store(&gateway, 7, &upload).await;
    let again = store(&gateway, 7, &upload.clone()).await;
    assert_eq!((first.upload_id, &first.files), (again.upload_id, &again.files));
    assert_eq!(gateway.ecgs(mrn(7), None, None).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_is_retried_until_the_gateway_is_up() {
    let system = System::start();
    let address = system.gateway().await.stop().await;
    let begun = Arc::new(Notify::new());
    let tried = begun.clone();
    let sending = tokio::spawn(async move {
        let policy =
            RetryPolicy { attempts: 200, longest_wait: Duration::from_millis(100), ..RetryPolicy::default() };
        let upload = ecg_upload(strip(10.0, 60.0));
        client_of(address).upload_with_retries(mrn(7), &upload, policy, move |_| tried.notify_one()).await
    });
    begun.notified().await;
    let server = system.gateway_at(address, gateway::Config::default()).await;
    let answer = sending.await.unwrap().unwrap();
    assert!(matches!(answer, UploadAnswer::Stored(_)), "{answer:?}");
    assert_eq!(server.client().ecgs(mrn(7), None, None).await.unwrap().items.len(), 1);
}
