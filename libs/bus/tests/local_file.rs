//! The queue file of the local adapter: locking, crashes, damage and size.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::local::{LocalBus, LocalError};
use bus::{BusError, DeadLetters, Outgoing, QueueLimits, RetryPolicy, StagingKey, StagingStore, WorkQueue};
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
        attachments: Vec::new(),
    }
}

/// Copies the files as a process that is killed now would leave them.
fn copy_as_if_killed(path: &Path, name: &str) -> PathBuf {
    let copy = path.with_file_name(name);
    for ending in ["", "-wal"] {
        let (from, to) = (format!("{}{ending}", path.display()), format!("{}{ending}", copy.display()));
        fs::copy(from, to).unwrap();
    }
    copy
}

#[tokio::test]
async fn second_process_is_refused_while_the_first_is_running() {
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
async fn streams_end_when_the_adapter_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder.path().join("bus.sqlite")).unwrap();
    let mut first = bus.consume(Queue::Uploads, 1).await.unwrap();
    let mut second = bus.consume(Queue::Uploads, 1).await.unwrap();
    let ends = tokio::spawn(async move { (first.next().await.is_none(), second.next().await.is_none()) });
    drop(bus);
    assert_eq!(ends.await.unwrap(), (true, true));
}

#[tokio::test]
async fn damaged_file_is_refused_with_a_clear_error() {
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

#[tokio::test]
async fn file_of_the_previous_version_is_migrated_and_an_older_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    bus.enqueue(job()).await.unwrap();
    drop(bus);
    let execute = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    execute(
        "CREATE TABLE claims (upload BLOB PRIMARY KEY); DROP TABLE waves; DROP TABLE wave_floors;
         PRAGMA user_version = 2;",
    );
    assert_eq!(open(&path).unwrap().queue_status(Queue::Uploads).await.unwrap().messages, 1);
    assert_eq!(bus::local::verify(&path).unwrap().damaged, Vec::<String>::new());
    execute("PRAGMA user_version = 1;");
    let refused = cause(open(&path).unwrap_err());
    assert!(matches!(refused, LocalError::TooOld(_)), "{refused}");
}

#[test]
fn error_names_a_missing_folder() {
    let refused = open(Path::new("/nowhere/at/all/bus.sqlite")).unwrap_err();
    assert!(refused.to_string().contains("/nowhere/at/all/bus.sqlite"), "{refused}");
}

#[tokio::test]
async fn message_that_kills_the_process_repeatedly_becomes_a_dead_letter() {
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
        // Copied at this moment, without waiting for deferred writes.
        path = copy_as_if_killed(&path, &format!("bus-{deaths}.sqlite"));
        std::mem::forget(delivery);
    };
    assert_eq!(deaths, 3);
    let dead = bus.dead_letters(None, 2).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_an_interrupted_put_are_deleted_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let part = Bytes::from(vec![7; 1 << 20]);
    let key = StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(b"never complete") };
    let (reached, mut at_the_pause) = tokio::sync::mpsc::channel::<()>(1);
    let parts = futures::stream::iter(vec![Ok(part.clone()), Ok(part)]);
    let pause = futures::stream::once(async move {
        reached.send(()).await.unwrap();
        std::future::pending().await
    });
    let chunks = |path: &Path| -> u64 {
        let db = rusqlite::Connection::open(path).unwrap();
        db.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0)).unwrap()
    };
    // Copied before the other branch is dropped, which deletes the chunks.
    let killed = async {
        at_the_pause.recv().await;
        while chunks(&path) == 0 {
            tokio::task::yield_now().await;
        }
        copy_as_if_killed(&path, "copy.sqlite")
    };
    let copy = tokio::select! {
        outcome = bus.put(key, 4 << 20, parts.chain(pause).boxed()) => panic!("{outcome:?}"),
        copy = killed => copy,
    };
    assert!(chunks(&copy) > 0, "there are no chunks to delete");
    let bus = open(&copy).unwrap();
    assert!(bus.get(key).await.unwrap().is_none());
    while chunks(&copy) > 0 {
        tokio::task::yield_now().await;
    }
    bus.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_do_not_grow_with_throughput() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let bytes = Bytes::from(vec![3; 4 << 20]);
    let sha256 = BlobHash::of(&bytes);
    for _ in 0..60 {
        let key = StagingKey { upload: UploadId::generate(), sha256 };
        bus.put_bytes(key, bytes.clone()).await.unwrap();
        bus.get(key).await.unwrap().unwrap();
        bus.delete(key).await.unwrap();
    }
    let size = |ending: &str| fs::metadata(format!("{}{ending}", path.display())).unwrap().len();
    assert!(size("") < 100 << 20, "{} bytes after 240 MiB went through", size(""));
    assert!(size("-wal") < 80 << 20, "a log of {} bytes", size("-wal"));
}

/// Flips one bit of `part`, which occurs once in the file.
fn flip(path: &Path, part: &[u8]) {
    let mut file = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..file.len() - part.len()).filter(|place| &file[*place..*place + part.len()] == part).collect();
    assert_eq!(places.len(), 1, "{:?}", String::from_utf8_lossy(part));
    file[places[0] + part.len() / 2] ^= 4;
    fs::write(path, file).unwrap();
}

fn checkpoint(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[tokio::test]
async fn damaged_message_becomes_a_dead_letter_that_cannot_be_retried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    for number in 0..3 {
        let payload = Bytes::from(format!("{{\"message\":\"number {number} of three\"}}"));
        bus.enqueue(Outgoing { payload, ..job() }).await.unwrap();
    }
    drop(bus);
    checkpoint(&path);
    flip(&path, b"number 1 of three");
    assert_eq!(bus::local::verify(&path).unwrap().damaged, ["the queued message (id 2) is damaged"]);

    let bus = open(&path).unwrap();
    let mut deliveries = bus.consume(Queue::Uploads, 1).await.unwrap();
    for number in [0, 2] {
        let delivery = deliveries.next().await.unwrap();
        assert!(String::from_utf8_lossy(&delivery.payload).contains(&format!("number {number} of")));
        delivery.ack().await.unwrap();
    }
    let dead = bus.dead_letters(None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].damaged, dead[0].mrn.get()), (1, true, 7));
    assert!(dead[0].reason.contains("is damaged on the disk and cannot be sent again"), "{}", dead[0].reason);
    let refused = bus.retry_dead_letter(dead[0].id).await.unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);
    assert_eq!(
        bus::local::verify(&path).unwrap().damaged,
        ["the dead letter (id 1) holds a damaged message"]
    );
    assert!(bus.delete_dead_letter(dead[0].id).await.unwrap());
    assert_eq!(bus::local::verify(&path).unwrap().damaged, Vec::<String>::new());
}

#[tokio::test]
async fn dead_letter_that_is_damaged_later_is_listed_and_cannot_be_retried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    bus.enqueue(Outgoing { payload: Bytes::from_static(b"{\"a\":\"message\"}"), ..job() }).await.unwrap();
    let mut deliveries = bus.consume(Queue::Uploads, 1).await.unwrap();
    deliveries.next().await.unwrap().dead_letter("for a reason").await.unwrap();
    drop(deliveries);
    drop(bus);
    checkpoint(&path);
    rusqlite::Connection::open(&path).unwrap().execute_batch("VACUUM").unwrap();
    checkpoint(&path);
    flip(&path, b"{\"a\":\"message\"}");
    let bus = open(&path).unwrap();
    let dead = bus.dead_letters(None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].damaged), (1, true));
    bus.retry_dead_letter(dead[0].id).await.unwrap_err();
    assert_eq!(bus.dead_letters(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn damaged_staged_file_is_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let bytes = Bytes::from(vec![9; 300_000]);
    let key = StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(&bytes) };
    bus.put_bytes(key, bytes.clone()).await.unwrap();
    drop(bus);
    checkpoint(&path);
    assert_eq!(bus::local::verify(&path).unwrap().damaged, Vec::<String>::new());
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let place = flipped.windows(64).rposition(|part| part == [9; 64]).unwrap();
    flipped[place + 32] ^= 4;
    fs::write(&path, flipped).unwrap();
    let damaged = bus::local::verify(&path).unwrap().damaged;
    assert!(damaged[0].starts_with("the staged file (id 1, upload "), "{damaged:?}");
    let bus = open(&path).unwrap();
    let staged = bus.get(key).await.unwrap().unwrap();
    let error = bus::collect(staged.body, staged.bytes).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("a staged file is damaged"), "{error}");
    drop(bus);

    // With a damaged row, the chunks look like those of an interrupted put.
    fs::write(&path, whole).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE blobs SET id = 5", []).unwrap();
    drop(open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    let chunks: u64 = db.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0)).unwrap();
    assert_eq!(chunks, 2);
}

/// Reproducible pseudo-random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// After any bit flip, each message is delivered unchanged or becomes a dead letter, or the file is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_bit_flip_no_message_is_changed_or_lost() {
    const MESSAGES: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = open(&path).unwrap();
    let mut payloads = Vec::new();
    for number in 0..MESSAGES {
        let payload = Bytes::from(format!("{{\"message\":{number},\"text\":\"{}\"}}", "x".repeat(1_200)));
        bus.enqueue(Outgoing { payload: payload.clone(), ..job() }).await.unwrap();
        payloads.push(payload);
    }
    drop(bus);
    checkpoint(&path);
    let whole = fs::read(&path).unwrap();
    // Pages that contain messages; the other tables are empty.
    let pages: Vec<usize> = (1..whole.len() / 4_096)
        .filter(|page| whole[page * 4_096..(page + 1) * 4_096].windows(9).any(|part| part == b"\"message\""))
        .collect();
    let mut numbers = Numbers(11);
    let (mut refused, mut dead_letters) = (0, 0);
    for _ in 0..200 {
        let page = pages[numbers.below(pages.len() as u64) as usize];
        let bit = page * 4_096 * 8 + numbers.below(4_096 * 8) as usize;
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = fs::remove_file(folder.path().join("bus.sqlite-wal"));
        fs::write(&path, &flipped).unwrap();
        let damaged = bus::local::verify(&path).unwrap().damaged;
        let Ok(bus) = open(&path) else {
            assert!(!damaged.is_empty(), "bit {bit}: refused, but no damage was found");
            refused += 1;
            continue;
        };
        let mut deliveries = bus.consume(Queue::Uploads, MESSAGES).await.unwrap();
        let mut delivered = Vec::new();
        loop {
            let dead_lettered = async {
                while bus.queue_status(Queue::Uploads).await.unwrap().messages > delivered.len() as u64 {
                    tokio::task::yield_now().await;
                }
            };
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery.unwrap(),
                () = dead_lettered => break,
            };
            assert!(payloads.contains(&delivery.payload), "bit {bit}: a message was changed");
            delivered.push(delivery);
        }
        let dead = bus.dead_letters(None, MESSAGES).await.unwrap();
        assert_eq!(delivered.len() + dead.len(), MESSAGES, "bit {bit}: a message is lost");
        assert!(dead.is_empty() || !damaged.is_empty() || !dead[0].damaged, "bit {bit}: no damage was found");
        dead_letters += dead.len();
    }
    assert!(dead_letters > 50, "{dead_letters} dead letters, {refused} refused");
}
