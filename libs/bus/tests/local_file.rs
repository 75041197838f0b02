//! The file of the local bus: who may open it, what a crash leaves in it, and how large it gets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::local::{LocalBus, LocalError};
use bus::{BlobStage, BusError, EventBus, Outgoing, QueueLimits, RetryPolicy, StageKey};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::{BlobHash, Mrn, Queue, UploadId};

fn open(path: &Path) -> Result<Arc<LocalBus>, BusError> {
    let policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    LocalBus::open(path, policy, QueueLimits::default())
}

fn cause(error: BusError) -> LocalError {
    match error {
        BusError::Unavailable(cause) | BusError::Storage(cause) | BusError::Refused(cause) => {
            *cause.downcast().unwrap()
        }
        BusError::Encoding(error) => panic!("{error}"),
    }
}

fn job() -> Outgoing {
    Outgoing {
        queue: Queue::Uploads,
        mrn: Mrn::new(7).unwrap(),
        payload: Bytes::from_static(b"{}"),
        reply_to: None,
        trace_parent: None,
    }
}

/// The files as a process killed now would leave them.
fn as_if_killed(path: &Path, name: &str) -> PathBuf {
    let copy = path.with_file_name(name);
    for ending in ["", "-wal"] {
        let (from, to) = (format!("{}{ending}", path.display()), format!("{}{ending}", copy.display()));
        fs::copy(from, to).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let first = open(&path).unwrap();
    first.enqueue(job()).await.unwrap();
    let refused = cause(open(&path).unwrap_err());
    assert!(matches!(refused, LocalError::InUse(_)), "{refused}");
    drop(first);
    let second = open(&path).unwrap();
    assert_eq!(second.queue_status(Queue::Uploads).await.unwrap().messages, 1);
}

#[tokio::test]
async fn streams_end_with_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder.path().join("bus.sqlite")).unwrap();
    let mut first = bus.consume(Queue::Uploads, 1).await.unwrap();
    let mut second = bus.consume(Queue::Uploads, 1).await.unwrap();
    let ends = tokio::spawn(async move { (first.next().await.is_none(), second.next().await.is_none()) });
    drop(bus);
    assert_eq!(ends.await.unwrap(), (true, true));
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    for _ in 0..500 {
        bus.enqueue(job()).await.unwrap();
    }
    drop(bus);
    let whole = fs::read(&path).unwrap();
    for place in [0, 20, 4_096 * 2 + 1, whole.len() / 2] {
        let mut damaged = whole.clone();
        let end = (place + 3_000).min(damaged.len());
        damaged[place..end].fill(0xA5);
        fs::write(&path, &damaged).unwrap();
        let refused = cause(open(&path).unwrap_err());
        assert!(matches!(refused, LocalError::Damaged(_)), "{place}: {refused}");
        assert!(refused.to_string().contains("bus.sqlite"), "{refused}");
    }
    fs::write(&path, b"this is no database, and longer than the hundred bytes of the header of one, that is for sure, or is it?")
        .unwrap();
    assert!(matches!(cause(open(&path).unwrap_err()), LocalError::Damaged(_)));
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(&path).unwrap().queue_status(Queue::Uploads).await.unwrap().messages, 500);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let refused = open(Path::new("/nowhere/at/all/bus.sqlite")).unwrap_err();
    assert!(refused.to_string().contains("/nowhere/at/all/bus.sqlite"), "{refused}");
}

#[tokio::test]
async fn a_message_that_kills_the_process_again_and_again_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let mut path = folder.path().join("bus-0.sqlite");
    open(&path).unwrap().enqueue(job()).await.unwrap();
    let mut deaths = 0;
    let bus = loop {
        let bus = open(&path).unwrap();
        let mut delivery = bus.consume(Queue::Uploads, 1).await.unwrap().next().await.unwrap();
        delivery.begin().await.unwrap();
        if delivery.is_exhausted() {
            delivery.dead_letter("every attempt ended with the death of its consumer").await.unwrap();
            break bus;
        }
        assert_eq!(delivery.attempt, deaths + 1);
        deaths += 1;
        // The file of this moment: no grace for what is written in passing.
        path = as_if_killed(&path, &format!("bus-{deaths}.sqlite"));
        std::mem::forget(delivery);
    };
    assert_eq!(deaths, 3);
    let dead = bus.dead_letters(None, 2).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_of_a_file_is_gone_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let part = Bytes::from(vec![7; 1 << 20]);
    let key = StageKey { upload: UploadId::generate(), sha256: BlobHash::of(b"never comes") };
    let (reached, mut at_the_gap) = tokio::sync::mpsc::channel::<()>(1);
    let parts = futures::stream::iter(vec![Ok(part.clone()), Ok(part)]);
    let silence = futures::stream::once(async move {
        reached.send(()).await.unwrap();
        std::future::pending().await
    });
    let chunks = |path: &Path| -> u64 {
        let db = rusqlite::Connection::open(path).unwrap();
        db.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0)).unwrap()
    };
    // Within the branch: its end drops the other one, which tidies up.
    let killed = async {
        at_the_gap.recv().await;
        while chunks(&path) == 0 {
            tokio::task::yield_now().await;
        }
        as_if_killed(&path, "copy.sqlite")
    };
    let copy = tokio::select! {
        outcome = bus.put(key, 4 << 20, parts.chain(silence).boxed()) => panic!("{outcome:?}"),
        copy = killed => copy,
    };
    assert!(chunks(&copy) > 0, "nothing to tidy up");
    let bus = open(&copy).unwrap();
    assert!(bus.get(key).await.unwrap().is_none());
    while chunks(&copy) > 0 {
        tokio::task::yield_now().await;
    }
    bus.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_stay_small_however_much_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let bytes = Bytes::from(vec![3; 4 << 20]);
    let sha256 = BlobHash::of(&bytes);
    for _ in 0..60 {
        let key = StageKey { upload: UploadId::generate(), sha256 };
        bus.put_bytes(key, bytes.clone()).await.unwrap();
        bus.get(key).await.unwrap().unwrap();
        bus.delete(key).await.unwrap();
    }
    let size = |ending: &str| fs::metadata(format!("{}{ending}", path.display())).unwrap().len();
    assert!(size("") < 100 << 20, "{} bytes after 240 MiB went through", size(""));
    assert!(size("-wal") < 80 << 20, "a log of {} bytes", size("-wal"));
}
