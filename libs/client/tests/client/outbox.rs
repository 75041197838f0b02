//! The outbox: nothing is lost, nothing is stored twice.

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

use crate::system::{LIMIT, System, client_of, ecg_upload, mrn, named, store, strip};

/// An outbox that is being sent, and what it tells.
struct Sender {
    events: mpsc::UnboundedReceiver<OutboxEvent>,
    task: JoinHandle<()>,
}

impl Sender {
    fn start(outbox: &Outbox, gateway: Gateway) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let outbox = outbox.clone();
        let task =
            tokio::spawn(
                async move { match outbox.run(&gateway, move |event| drop(tell.send(event))).await {} },
            );
        Sender { events, task }
    }

    /// Ends it; the outbox it held is free afterwards.
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
        .unwrap_or_else(|_| panic!("never {what}"))
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
async fn uploads_wait_through_a_restart_and_are_sent_in_order_with_what_was_chosen() {
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
        let told = sender.delayed().await;
        assert!(told.contains("cannot be reached"), "{told}");
        sender.stop().await;
    }
    // What happens to the file afterwards is no longer of interest.
    fs::write(&source, "something else").unwrap();

    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let entries = outbox.entries();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(entries[0].name.as_deref(), Some("Ida Noether"));
    assert_eq!((entries[0].files, entries[0].bytes, entries[1].files), (1, content.len() as u64, 0));

    let system = System::start();
    let door = system.gateway_at(address, gateway::Config::default()).await;
    let gateway = door.client();
    let mut sender = Sender::start(&outbox, gateway.clone());
    let UploadAnswer::Stored(receipt) = sender.delivered(first).await else { panic!("only accepted") };
    assert_eq!(receipt.files[0].file_name.as_deref(), Some("strip.csv"));
    sender.delivered(second).await;
    assert!(outbox.entries().is_empty());
    assert_eq!(sub_folders(outbox.folder()), 0, "nothing of a patient is left behind");
    let back = gateway.signal(receipt.files[0].id).await.unwrap().bytes(1 << 24).await.unwrap();
    assert_eq!(back, content);
    let patient = gateway.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!(patient.name.as_deref(), Some("Ida Bauer"), "the later name wins: they were sent in order");
}

#[tokio::test]
async fn what_the_gateway_has_already_is_stored_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start();
    let gateway = system.gateway().await.client();
    let upload = ecg_upload(strip(10.0, 70.0));
    let outbox = Outbox::open(folder.path()).unwrap();
    let id = put(&outbox, 7, &upload).await;
    // As if the answer had been lost: it is stored, and still in the outbox.
    let before = store(&gateway, 7, &upload).await;
    let mut sender = Sender::start(&outbox, gateway.clone());
    let UploadAnswer::Stored(again) = sender.delivered(id).await else { panic!("only accepted") };
    assert_eq!(again.files, before.files);
    let ecgs = gateway.ecgs(mrn(7), None, None).await.unwrap().items;
    assert_eq!(ecgs.len(), 1);
    assert_ne!(ecgs[0].status, EcgStatus::Failed);
}

#[tokio::test]
async fn a_refused_upload_needs_attention_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start();
    let gateway = system.gateway().await.client();
    let no_picture =
        UploadFile::from_bytes(FileKind::MedicalImage, "x.png", Bytes::from_static(b"no picture"));
    let wrong = Upload::of(vec![no_picture]);
    let told = {
        let outbox = Outbox::open(folder.path()).unwrap();
        let refused = put(&outbox, 7, &wrong).await;
        let fine = put(&outbox, 8, &named("Ida")).await;
        let mut sender = Sender::start(&outbox, gateway.clone());
        let told = sender
            .until("refused", |event| match event {
                OutboxEvent::Refused { id, error } if id == refused => Some(error.to_string()),
                _ => None,
            })
            .await;
        sender.delivered(fine).await;
        let [entry] = outbox.entries().try_into().unwrap();
        assert_eq!(entry.attention.as_ref(), Some(&told));
        sender.stop().await;
        told
    };
    let outbox = Outbox::open(folder.path()).unwrap();
    let [entry] = outbox.entries().try_into().unwrap();
    assert_eq!(entry.attention, Some(told), "the reason survives a restart");
    outbox.retry(entry.id).unwrap();
    assert_eq!(outbox.entries()[0].attention, None);
    outbox.remove(entry.id).unwrap();
    assert!(outbox.entries().is_empty());
    assert_eq!(sub_folders(folder.path()), 0);
}

#[tokio::test]
async fn taking_one_out_while_it_is_sent_cuts_that_off() {
    let folder = tempfile::tempdir().unwrap();
    // Takes connections and never reads: a transfer that hangs.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hole.local_addr().unwrap();
    let under_way = Arc::new(Notify::new());
    let notify = under_way.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(hole.accept().await.unwrap());
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
async fn a_copy_that_fails_or_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let missing = Upload::of(vec![UploadFile::from_path(FileKind::Ecg, folder.path().join("missing.csv"))]);
    let told = outbox.put(mrn(7), &missing, |_| {}).await.unwrap_err();
    assert!(matches!(&told, OutboxError::File { .. }), "{told}");

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
            // Held in the middle of the copy until it has been given up.
            let _ = may_go_on.recv_timeout(Duration::from_secs(30));
        }
    });
    tokio::select! {
        biased;
        told = has_begun => told.unwrap(),
        _ = copying => panic!("it was not given up in time"),
    }
    drop(go_on);
    // The copy drops what it reports to when it has cleaned up.
    let _ = timeout(LIMIT, has_ended).await.unwrap();
    assert_eq!(sub_folders(outbox.folder()), 0);
    assert!(outbox.entries().is_empty());
}

#[tokio::test]
async fn half_written_entries_are_swept_away_and_damaged_ones_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = {
        let outbox = Outbox::open(folder.path()).unwrap();
        put(&outbox, 7, &ecg_upload(Bytes::from_static(b"0.0,1.0\n"))).await
    };
    fs::write(folder.path().join(damaged.to_string()).join("0"), b"0.0").unwrap();
    fs::create_dir(folder.path().join(".new-0190a1b2-0000-7000-8000-000000000000")).unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!((outbox.entries().len(), outbox.damaged()), (0, 1));
    assert!(folder.path().join("damaged").join(damaged.to_string()).is_dir(), "kept for a person to look at");
    assert!(!folder.path().join(".new-0190a1b2-0000-7000-8000-000000000000").exists());
}

/// Changes one bit of a file.
fn flip(path: &Path, byte: usize) {
    let mut content = fs::read(path).unwrap();
    content[byte] ^= 1;
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_damaged_copy_is_not_sent_and_does_not_hold_up_the_next() {
    let system = System::start();
    let door = system.gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    let damaged = put(&outbox, 7, &ecg_upload(strip(10.0, 70.0))).await;
    let next = put(&outbox, 8, &ecg_upload(strip(10.0, 71.0))).await;
    flip(&folder.path().join(damaged.to_string()).join("0"), 100);
    let mut sender = Sender::start(&outbox, door.client());
    let reason = sender
        .until("refused", |event| match event {
            OutboxEvent::Refused { id, error } if id == damaged => Some(error.to_string()),
            _ => None,
        })
        .await;
    assert!(reason.contains("0 is damaged"), "{reason}");
    sender.delivered(next).await;
    assert_eq!(outbox.entries().iter().map(|entry| entry.id).collect::<Vec<_>>(), [damaged]);
    assert!(outbox.entries()[0].attention.as_ref().unwrap().contains("damaged"));
}

#[tokio::test]
async fn a_damaged_manifest_is_set_aside_whatever_bit_is_flipped() {
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
async fn one_outbox_is_open_once_and_for_its_owner_alone() {
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
