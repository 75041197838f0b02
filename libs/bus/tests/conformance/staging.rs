//! The staging store: files are stored completely or not at all.

use std::io;
use std::time::Duration;

use bus::{BodyError, BusError, EnqueueError, QueueLimits, StagingKey, StagingStore, collect};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proto_json::{BlobHash, Timestamp, UploadId};

use crate::fixture::{Adapter, limits, patient_policy, until_not_full};

/// Sizes around the limits of chunks and messages.
pub(crate) const SIZES: [usize; 14] = [
    0,
    1,
    1_000,
    (128 << 10) - 1,
    128 << 10,
    (128 << 10) + 1,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
    512 << 10,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    3 << 20,
];

/// Pseudo-random bytes.
pub(crate) fn bytes(length: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn key(bytes: &[u8]) -> StagingKey {
    StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(bytes) }
}

pub(crate) async fn read(staging: &dyn StagingStore, key: StagingKey) -> Option<Bytes> {
    let staged = staging.get(key).await.unwrap()?;
    let announced = staged.bytes;
    let found = collect(staged.body, announced).await.unwrap();
    assert_eq!(found.len() as u64, announced);
    Some(found)
}

/// Parts of odd sizes, as they arrive from a network.
fn in_parts(bytes: &Bytes) -> bus::ByteStream {
    let parts: Vec<_> = bytes.chunks(70_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    futures::stream::iter(parts).boxed()
}

pub(crate) async fn files_of_every_size_are_returned_unchanged(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (gateway, ingest) = (fixture.join().await, fixture.join().await);
    for size in SIZES {
        let bytes = bytes(size, 1);
        let (whole, parts) = (key(&bytes), key(&bytes));
        gateway.staging.put_bytes(whole, bytes.clone()).await.unwrap();
        gateway.staging.put(parts, size as u64, in_parts(&bytes)).await.unwrap();
        for key in [whole, parts] {
            assert!(read(&*ingest.staging, key).await.unwrap() == bytes, "{size} bytes changed");
            ingest.staging.delete(key).await.unwrap();
            assert!(read(&*gateway.staging, key).await.is_none());
        }
    }
    assert_eq!(gateway.staging.list().await.unwrap(), []);
}

pub(crate) async fn large_file_survives_a_crash(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let bytes = bytes(30_000_000, 2);
    let key = key(&bytes);
    peer.staging.put(key, bytes.len() as u64, in_parts(&bytes)).await.unwrap();
    fixture.crash().await;
    let peer = fixture.join().await;
    assert!(read(&*peer.staging, key).await.unwrap() == bytes);
    peer.staging.delete(key).await.unwrap();
    // Deleting a file that does not exist is no error.
    peer.staging.delete(key).await.unwrap();
    assert!(read(&*peer.staging, key).await.is_none());
}

/// The time distinguishes a file that a retry needs from an orphaned one.
pub(crate) async fn staging_a_file_again_updates_its_time(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    for size in [1_000, 3_000_000] {
        let bytes = bytes(size, 4);
        let key = key(&bytes);
        let mut last = None;
        for _ in 0..3 {
            peer.staging.put(key, bytes.len() as u64, in_parts(&bytes)).await.unwrap();
            let listed = peer.staging.list().await.unwrap();
            assert_eq!((listed.len(), listed[0].0), (1, key));
            assert!(last.is_none_or(|last| listed[0].1 > last), "{size} bytes: {last:?} and {listed:?}");
            last = Some(listed[0].1);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(read(&*peer.staging, key).await.unwrap() == bytes);
        peer.staging.delete(key).await.unwrap();
        assert_nothing_left(&*peer.staging, key).await;
    }
}

fn body_error(outcome: Result<(), EnqueueError>) -> BodyError {
    match outcome {
        Err(EnqueueError::Bus(BusError::Refused(cause))) => *cause.downcast().expect("a body error"),
        other => panic!("{other:?}"),
    }
}

async fn assert_nothing_left(staging: &dyn StagingStore, key: StagingKey) {
    assert!(staging.get(key).await.unwrap().is_none());
    assert_eq!(staging.list().await.unwrap(), []);
}

pub(crate) async fn file_with_another_hash_is_refused_and_leaves_nothing(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    for size in [10, 2 << 20] {
        let bytes = bytes(size, 3);
        let key = key(b"other");
        let refused = body_error(peer.staging.put(key, size as u64, in_parts(&bytes)).await);
        assert!(matches!(refused, BodyError::WrongHash { .. }), "{refused}");
        assert_nothing_left(&*peer.staging, key).await;
    }
}

pub(crate) async fn file_with_another_length_is_refused_and_leaves_nothing(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    for size in [10_u64, 2 << 20] {
        let bytes = bytes(size as usize, 4);
        let key = key(&bytes);
        for announced in [size - 1, size + 1, 0] {
            let refused = body_error(peer.staging.put(key, announced, in_parts(&bytes)).await);
            assert!(matches!(refused, BodyError::WrongLength { .. }), "{refused}");
            assert_nothing_left(&*peer.staging, key).await;
        }
    }
}

pub(crate) async fn failed_body_leaves_nothing(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let bytes = bytes(2 << 20, 5);
    let key = key(&bytes);
    for came in [0, 1, 1_500_000] {
        let body = in_parts(&bytes.slice(..came))
            .chain(futures::stream::once(async { Err(io::Error::other("connection reset")) }));
        let refused = body_error(peer.staging.put(key, bytes.len() as u64, body.boxed()).await);
        assert!(refused.to_string().contains("connection reset"), "{refused}");
        assert_nothing_left(&*peer.staging, key).await;
    }
    peer.staging.put_bytes(key, bytes.clone()).await.unwrap();
    assert!(read(&*peer.staging, key).await.unwrap() == bytes);
}

pub(crate) async fn cancelled_put_leaves_nothing(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 8_000 << 10, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let peer = fixture.join().await;
    let bytes = bytes(3 << 20, 6);
    let key = key(&bytes);
    for _ in 0..3 {
        let (reached, mut at_the_pause) = tokio::sync::mpsc::channel::<()>(1);
        let silence = futures::stream::once(async move {
            reached.send(()).await.unwrap();
            std::future::pending().await
        });
        let body = in_parts(&bytes.slice(..2 << 20)).chain(silence);
        let put = peer.staging.put(key, bytes.len() as u64, body.boxed()).fuse();
        tokio::select! {
            outcome = put => panic!("{outcome:?}"),
            _ = at_the_pause.recv() => {}
        }
        assert!(peer.staging.get(key).await.unwrap().is_none());
        // The clean-up runs in the background.
        while !peer.staging.list().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // Its space is free again; there is none for a second copy.
    until_not_full(|| peer.staging.put_bytes(key, bytes.clone())).await;
    assert!(read(&*peer.staging, key).await.unwrap() == bytes);
}

pub(crate) async fn file_put_twice_is_stored_once(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 8_000 << 10, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let peer = fixture.join().await;
    for size in [100_usize, 2 << 20] {
        let bytes = bytes(size, 7);
        let key = key(&bytes);
        for _ in 0..4 {
            until_not_full(|| peer.staging.put_bytes(key, bytes.clone())).await;
        }
        let listed = peer.staging.list().await.unwrap();
        assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key]);
        assert!(read(&*peer.staging, key).await.unwrap() == bytes);
        peer.staging.delete(key).await.unwrap();
        assert_nothing_left(&*peer.staging, key).await;
    }
}

pub(crate) async fn concurrent_puts_of_one_file_store_it_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peers = [fixture.join().await, fixture.join().await];
    for size in [100_usize, 1 << 20] {
        let bytes = bytes(size, 8);
        let key = key(&bytes);
        let puts = (0..8).map(|number| {
            let staging = &peers[number % 2].staging;
            let body = in_parts(&bytes);
            async move { staging.put(key, size as u64, body).await }
        });
        futures::future::try_join_all(puts).await.unwrap();
        assert!(read(&*peers[0].staging, key).await.unwrap() == bytes);
        assert_eq!(peers[1].staging.list().await.unwrap().len(), 1);
        peers[1].staging.delete(key).await.unwrap();
        assert_nothing_left(&*peers[0].staging, key).await;
    }
}

pub(crate) async fn uploads_with_the_same_bytes_have_separate_copies(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let bytes = bytes(500, 9);
    let (mine, yours) = (key(&bytes), key(&bytes));
    peer.staging.put_bytes(mine, bytes.clone()).await.unwrap();
    peer.staging.put_bytes(yours, bytes.clone()).await.unwrap();
    peer.staging.delete(mine).await.unwrap();
    assert!(read(&*peer.staging, mine).await.is_none());
    assert_eq!(read(&*peer.staging, yours).await, Some(bytes));
}

pub(crate) async fn full_staging_store_refuses_files_until_one_is_deleted(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 3_500 << 10, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let peer = fixture.join().await;
    let bytes = bytes(2 << 20, 10);
    let (first, second) = (key(&bytes), key(&bytes));
    peer.staging.put_bytes(first, bytes.clone()).await.unwrap();
    let refused = peer.staging.put_bytes(second, bytes.clone()).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    assert!(peer.staging.get(second).await.unwrap().is_none());
    peer.staging.delete(first).await.unwrap();
    until_not_full(|| peer.staging.put_bytes(second, bytes.clone())).await;
    assert!(read(&*peer.staging, second).await.unwrap() == bytes);
}

pub(crate) async fn list_returns_every_staged_file(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let before = Timestamp::now();
    let mut keys = Vec::new();
    for size in [0, 1, 5, 600_000] {
        let bytes = bytes(size, 11);
        keys.push(key(&bytes));
        peer.staging.put_bytes(keys[keys.len() - 1], bytes).await.unwrap();
    }
    let mut listed = peer.staging.list().await.unwrap();
    listed.sort_unstable();
    keys.sort_unstable();
    assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    for (_, at) in listed {
        assert!(at >= before && at <= Timestamp::now());
    }
}

pub(crate) async fn list_old_returns_files_staged_before_a_time_or_in_the_future(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let staging = &peer.staging;
    let stage = async |number: u32| {
        let bytes = bytes(10, number);
        let key = key(&bytes);
        staging.put_bytes(key, bytes).await.unwrap();
        // The times of the files and of the calls differ.
        tokio::time::sleep(Duration::from_millis(20)).await;
        key
    };
    let begun = Timestamp::now();
    assert_eq!(staging.list_old(begun, begun).await.unwrap(), []);
    let (first, second) = (stage(1).await, stage(2).await);
    let between = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = stage(3).await;
    let now = Timestamp::now();
    let old = async |before, now| {
        let mut keys: Vec<_> =
            staging.list_old(before, now).await.unwrap().into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |mut keys: Vec<StagingKey>| {
        keys.sort_unstable();
        keys
    };
    assert_eq!(old(begun, now).await, []);
    assert_eq!(old(between, now).await, sorted(vec![first, second]));
    assert_eq!(old(now, now).await, sorted(vec![first, second, third]));
    // As seen by a clock that is a minute behind, all files are in the future.
    let behind = now.plus_millis(-60_000);
    assert_eq!(old(behind.plus_millis(-1), behind).await, sorted(vec![first, second, third]));
    assert_eq!(staging.count().await.unwrap(), 3);

    // A file that is staged again has a later time.
    let before = staging.staged_at(first).await.unwrap().unwrap();
    assert!(before >= begun && before < between);
    staging.put_bytes(first, bytes(10, 1)).await.unwrap();
    assert!(staging.staged_at(first).await.unwrap().unwrap() > between);
    staging.delete(first).await.unwrap();
    assert_eq!(staging.staged_at(first).await.unwrap(), None);
}
