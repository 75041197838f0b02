//! The outbox: no upload is lost, and none is stored twice.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{
    EntryId, FileContent, Gateway, IdempotencyKey, Outbox, OutboxError, OutboxEvent, Upload, UploadAnswer,
    UploadFile,
};
use proto_json::{EcgStatus, FileKind};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fixture::{LIMIT, System, client_of, ecg_upload, mrn, named, store, strip};

/// A task that sends the uploads of an outbox, and its events.
struct Sender {
    events: mpsc::UnboundedReceiver<OutboxEvent>,
    task: JoinHandle<()>,
}

impl Sender {
    fn start(outbox: &Outbox, gateway: Gateway) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let outbox = outbox.clone();
        let task = tokio::spawn(async move {
            match outbox.run(&gateway, move |event| drop(sender.send(event))).await {}
        });
        Sender { events, task }
    }

    /// Stops the task and releases the outbox.
    async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(OutboxEvent) -> Option<T>) -> T {
        timeout(LIMIT, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for: {what}"))
    }

    async fn delivered(&mut self, wanted: EntryId) -> UploadAnswer {
        self.until("delivered", |event| match event {
            OutboxEvent::Delivered { id, answer } if id == wanted => Some(answer),
            _ => None,
        })
        .await
    }

    async fn delayed(&mut self) -> String {
        self.until("delayed", |event| match event {
            OutboxEvent::Delayed { error, .. } => Some(error.to_string()),
            _ => None,
        })
        .await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn put(outbox: &Outbox, patient: u64, upload: &Upload) -> EntryId {
    outbox.put(mrn(patient), upload, |_| {}).await.unwrap()
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn sub_folders(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().filter(|found| found.as_ref().unwrap().path().is_dir()).count()
}

#[tokio::test]
async fn uploads_survive_a_restart_and_are_sent_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("strip.csv");
    let content = strip(10.0, 70.0);
    fs::write(&source, &content).unwrap();
    let address = free_address();
    let (first, second);
    {
        let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
        let upload = Upload {
            name: Some("Ida Noether".to_owned()),
            ..Upload::of(vec![UploadFile::from_path(FileKind::Ecg, &source)])
        };
        first = put(&outbox, 7, &upload).await;
        second = put(&outbox, 7, &named("Ida Bauer")).await;
        assert!(first < second);
        let mut sender = Sender::start(&outbox, client_of(address));
        let reason = sender.delayed().await;
        assert!(reason.contains("cannot be reached"), "{reason}");
        sender.stop().await;
    }
    // The outbox holds a copy of the file.
    fs::write(&source, "something else").unwrap();

    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let entries = outbox.entries();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(entries[0].name.as_deref(), Some("Ida Noether"));
    assert_eq!((entries[0].files, entries[0].bytes, entries[1].files), (1, content.len() as u64, 0));

    let system = System::start();
    let server = system.gateway_at(address, gateway::Config::default()).await;
    let gateway = server.client();
    let mut sender = Sender::start(&outbox, gateway.clone());
    let UploadAnswer::Stored(receipt) = sender.delivered(first).await else { panic!("only accepted") };
    assert_eq!(receipt.files[0].file_name.as_deref(), Some("strip.csv"));
    sender.delivered(second).await;
    assert!(outbox.entries().is_empty());
    assert_eq!(sub_folders(outbox.folder()), 0, "no data of a patient is left");
    let back = gateway.signal(receipt.files[0].id).await.unwrap().bytes(1 << 24).await.unwrap();
    assert_eq!(back, content);
    let patient = gateway.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!(
        patient.name.as_deref(),
        Some("Ida Bauer"),
        "the later name is stored: the uploads were sent in order"
    );
}

#[tokio::test]
async fn upload_sent_again_by_the_outbox_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start();
    let gateway = system.gateway().await.client();
    let upload = ecg_upload(strip(10.0, 70.0));
    let outbox = Outbox::open(folder.path()).unwrap();
    let id = put(&outbox, 7, &upload).await;
    // The answer was lost: the upload is stored and still in the outbox.
    let before = store(&gateway, 7, &upload).await;
    let mut sender = Sender::start(&outbox, gateway.clone());
    let UploadAnswer::Stored(again) = sender.delivered(id).await else { panic!("only accepted") };
    assert_eq!(again.files, before.files);
    let ecgs = gateway.ecgs(mrn(7), None, None).await.unwrap().items;
    assert_eq!(ecgs.len(), 1);
    assert_ne!(ecgs[0].status, EcgStatus::Failed);
}

#[tokio::test]
async fn rejected_upload_needs_attention_and_does_not_delay_others() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start();
    let gateway = system.gateway().await.client();
    let no_picture =
        UploadFile::from_bytes(FileKind::MedicalImage, "x.png", Bytes::from_static(b"no picture"));
    let wrong = Upload::of(vec![no_picture]);
    let reason = {
        let outbox = Outbox::open(folder.path()).unwrap();
        let refused = put(&outbox, 7, &wrong).await;
        let fine = put(&outbox, 8, &named("Ida")).await;
        let mut sender = Sender::start(&outbox, gateway.clone());
        let reason = sender
            .until("rejected", |event| match event {
                OutboxEvent::Rejected { id, error } if id == refused => Some(error.to_string()),
                _ => None,
            })
            .await;
        sender.delivered(fine).await;
        let [entry] = outbox.entries().try_into().unwrap();
        assert_eq!(entry.attention.as_ref(), Some(&reason));
        sender.stop().await;
        reason
    };
    let outbox = Outbox::open(folder.path()).unwrap();
    let [entry] = outbox.entries().try_into().unwrap();
    assert_eq!(entry.attention, Some(reason), "the reason survives a restart");
    outbox.retry(entry.id).unwrap();
    assert_eq!(outbox.entries()[0].attention, None);
    outbox.remove(entry.id).unwrap();
    assert!(outbox.entries().is_empty());
    assert_eq!(sub_folders(folder.path()), 0);
}

#[tokio::test]
async fn removing_an_upload_cancels_its_transfer() {
    let folder = tempfile::tempdir().unwrap();
    // Accepts connections and never reads, so that the transfer hangs.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let under_way = Arc::new(Notify::new());
    let notify = under_way.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
            notify.notify_one();
        }
    });
    let outbox = Outbox::open(folder.path()).unwrap();
    let big = put(&outbox, 7, &ecg_upload(Bytes::from(vec![b'1'; 32 << 20]))).await;
    let small = put(&outbox, 7, &named("Ida")).await;
    let mut sender = Sender::start(&outbox, client_of(address));
    timeout(LIMIT, under_way.notified()).await.unwrap();
    outbox.remove(big).unwrap();
    sender
        .until("the next one is sent", |event| match event {
            OutboxEvent::Progress { id, .. } if id == small => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(outbox.entries().len(), 1);
}

#[tokio::test]
async fn failed_or_cancelled_copy_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let missing = Upload::of(vec![UploadFile::from_path(FileKind::Ecg, folder.path().join("missing.csv"))]);
    let error = outbox.put(mrn(7), &missing, |_| {}).await.unwrap_err();
    assert!(matches!(&error, OutboxError::File { .. }), "{error}");

    let source = folder.path().join("long.csv");
    fs::write(&source, vec![b'1'; 8 << 20]).unwrap();
    let long = Upload::of(vec![UploadFile::from_path(FileKind::Ecg, &source)]);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let begun = std::sync::Mutex::new(Some(begun));
    let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
    let copying = outbox.put(mrn(7), &long, move |_| {
        let _ = &ended;
        if let Some(begun) = begun.lock().unwrap().take() {
            let _ = begun.send(());
            // Blocks the copy until it was cancelled.
            let _ = may_go_on.recv_timeout(Duration::from_secs(30));
        }
    });
    tokio::select! {
        biased;
        begun = has_begun => begun.unwrap(),
        _ = copying => panic!("the copy was not cancelled in time"),
    }
    drop(go_on);
    // The copy drops its progress callback after it has removed its files.
    let _ = timeout(LIMIT, has_ended).await.unwrap();
    assert_eq!(sub_folders(outbox.folder()), 0);
    assert!(outbox.entries().is_empty());
}

#[tokio::test]
async fn unfinished_entries_are_deleted_and_damaged_ones_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = {
        let outbox = Outbox::open(folder.path()).unwrap();
        put(&outbox, 7, &ecg_upload(Bytes::from_static(b"0.0,1.0\n"))).await
    };
    fs::write(folder.path().join(damaged.to_string()).join("0"), b"0.0").unwrap();
    fs::create_dir(folder.path().join(".new-0190a1b2-0000-7000-8000-000000000000")).unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!((outbox.entries().len(), outbox.damaged()), (0, 1));
    assert!(
        folder.path().join("damaged").join(damaged.to_string()).is_dir(),
        "the files can still be recovered"
    );
    assert!(!folder.path().join(".new-0190a1b2-0000-7000-8000-000000000000").exists());
}

/// Flips one bit of a file.
fn flip(path: &Path, byte: usize) {
    let mut content = fs::read(path).unwrap();
    content[byte] ^= 1;
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn damaged_copy_is_not_sent_and_does_not_delay_others() {
    let system = System::start();
    let server = system.gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    let damaged = put(&outbox, 7, &ecg_upload(strip(10.0, 70.0))).await;
    let next = put(&outbox, 8, &ecg_upload(strip(10.0, 71.0))).await;
    flip(&folder.path().join(damaged.to_string()).join("0"), 100);
    let mut sender = Sender::start(&outbox, server.client());
    let reason = sender
        .until("rejected", |event| match event {
            OutboxEvent::Rejected { id, error } if id == damaged => Some(error.to_string()),
            _ => None,
        })
        .await;
    assert!(reason.contains("0 is damaged"), "{reason}");
    sender.delivered(next).await;
    assert_eq!(outbox.entries().iter().map(|entry| entry.id).collect::<Vec<_>>(), [damaged]);
    assert!(outbox.entries()[0].attention.as_ref().unwrap().contains("damaged"));
}

#[tokio::test]
async fn manifest_with_any_flipped_bit_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let outbox = Outbox::open(folder.path()).unwrap();
        put(&outbox, 7, &named("Ida Noether")).await
    };
    let entry = folder.path().join(id.to_string());
    let aside = folder.path().join("damaged").join(id.to_string());
    for name in ["manifest.json", "SHA256SUMS"] {
        for byte in 0..fs::metadata(entry.join(name)).unwrap().len() as usize {
            flip(&entry.join(name), byte);
            let outbox = Outbox::open(folder.path()).unwrap();
            assert_eq!((outbox.entries().len(), outbox.damaged()), (0, 1), "byte {byte} of {name}");
            fs::rename(&aside, &entry).unwrap();
            flip(&entry.join(name), byte);
        }
    }
    assert_eq!(Outbox::open(folder.path()).unwrap().entries().len(), 1);
}

#[tokio::test]
async fn outbox_is_locked_and_readable_by_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let second = Outbox::open(folder.path().join("outbox"));
    assert!(matches!(second, Err(OutboxError::InUse(_))));
    let key: IdempotencyKey = "a-key".parse().unwrap();
    let upload = Upload { idempotency_key: key, ..ecg_upload(Bytes::from_static(b"1\n")) };
    assert!(matches!(upload.files[0].content, FileContent::Bytes(_)));
    let id = put(&outbox, 7, &upload).await;
    let manifest = outbox.folder().join(id.to_string()).join("manifest.json");
    assert!(fs::read_to_string(&manifest).unwrap().contains("a-key"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&manifest), mode(manifest.parent().unwrap())), (0o600, 0o700));
    }
    drop(outbox);
    assert!(Outbox::open(folder.path().join("outbox")).is_ok());
}
