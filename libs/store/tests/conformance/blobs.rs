//! Files: bit for bit, or not at all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::BlobHash;
use store::{ByteStream, StoreError};

use crate::harness::{Fixture, Store, get, on_every_adapter, orphan};

on_every_adapter!(
    files_of_all_lengths_are_read_back,
    body_of_an_existing_file_is_not_read,
    body_with_a_wrong_hash_or_length_is_refused_and_invisible,
    body_with_a_wrong_hash_does_not_damage_a_concurrent_write,
    failed_body_stores_nothing,
    cancelled_write_stores_nothing,
    concurrent_writes_of_one_file_all_succeed,
    reader_may_stop_before_the_end,
);

/// Pseudorandom bytes.
fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// A body in pieces of an odd length, as from a network.
fn body(bytes: &Bytes) -> ByteStream {
    const PIECE: usize = 60_001;
    let pieces: Vec<_> = (0..bytes.len().div_ceil(PIECE))
        .map(|n| Ok(bytes.slice(n * PIECE..((n + 1) * PIECE).min(bytes.len()))))
        .collect();
    stream::iter(pieces).boxed()
}

async fn put(store: &dyn Store, bytes: &Bytes) -> Result<(), StoreError> {
    store.put_blob(orphan(BlobHash::of(bytes)), bytes.len() as u64, body(bytes)).await
}

async fn files_of_all_lengths_are_read_back(Fixture { store, .. }: Fixture) {
    let (sqlite, grid) = (256 * 1024, 255 * 1024);
    let mut lengths = vec![0, 1, 30_000_000];
    for edge in [sqlite, 4 * sqlite, 8 * sqlite, grid, 16 * grid, 32 * grid] {
        lengths.extend([edge - 1, edge, edge + 1]);
    }
    for length in lengths {
        let content = bytes(length, length as u64);
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, orphan(BlobHash::of(&content))).await.unwrap() == content, "{length} bytes");
    }
}

async fn body_of_an_existing_file_is_not_read(Fixture { store, .. }: Fixture) {
    let content = bytes(1000, 1);
    put(&*store, &content).await.unwrap();
    let untouchable = stream::poll_fn(|_| panic!("it was read")).boxed();
    store.put_blob(orphan(BlobHash::of(&content)), 1000, untouchable).await.unwrap();
}

async fn body_with_a_wrong_hash_or_length_is_refused_and_invisible(Fixture { store, .. }: Fixture) {
    for length in [0, 10, 300_000, 9_000_000] {
        let content = bytes(length, 1);
        let (key, length) = (orphan(BlobHash::of(&content)), length as u64);
        let other = orphan(BlobHash::of(b"other"));
        let mut refused = vec![store.put_blob(other, length, body(&content)).await];
        refused.push(store.put_blob(key, length + 1, body(&content)).await);
        if length > 0 {
            refused.push(store.put_blob(key, length - 1, body(&content)).await);
        }
        for result in refused {
            assert!(matches!(result, Err(StoreError::Corrupt(_))), "{result:?}");
        }
        assert!(store.blob(key).await.unwrap().is_none() && store.blob(other).await.unwrap().is_none());
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, key).await.unwrap() == content);
    }
}

async fn body_with_a_wrong_hash_does_not_damage_a_concurrent_write(Fixture { store, .. }: Fixture) {
    for length in [300_000, 9_000_000] {
        let (right, wrong) = (bytes(length, 1), bytes(length, 2));
        let key = orphan(BlobHash::of(&right));
        let bad = store.put_blob(key, length as u64, body(&wrong));
        let (bad, good) = tokio::join!(bad, put(&*store, &right));
        good.unwrap();
        // It succeeds if the file existed before it began.
        assert!(matches!(bad, Ok(()) | Err(StoreError::Corrupt(_))));
        assert!(get(&*store, key).await.unwrap() == right);
    }
}

async fn failed_body_stores_nothing(Fixture { store, .. }: Fixture) {
    for length in [300_000, 9_000_000] {
        let content = bytes(length, 3);
        let key = orphan(BlobHash::of(&content));
        let broken =
            body(&content.slice(..length - 1)).chain(stream::once(async { Err(io::Error::other("cut")) }));
        let result = store.put_blob(key, length as u64, broken.boxed()).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
        assert!(store.blob(key).await.unwrap().is_none());
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, key).await.unwrap() == content);
    }
}

async fn cancelled_write_stores_nothing(Fixture { store, .. }: Fixture) {
    let content = bytes(9_000_000, 4);
    let key = orphan(BlobHash::of(&content));
    let (waiting, reached) = tokio::sync::oneshot::channel();
    let mut waiting = Some(waiting);
    let stuck = body(&content.slice(..8_000_000)).chain(stream::poll_fn(move |_| {
        waiting.take().map(|waiting| waiting.send(()));
        std::task::Poll::Pending
    }));
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.put_blob(key, 9_000_000, stuck.boxed()).await }
    });
    reached.await.unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    assert!(store.blob(key).await.unwrap().is_none());
    put(&*store, &content).await.unwrap();
    assert!(get(&*store, key).await.unwrap() == content);
}

async fn concurrent_writes_of_one_file_all_succeed(Fixture { store, .. }: Fixture) {
    for length in [1, 300_000, 9_000_000] {
        let content = bytes(length, 5);
        let writers = (0..6).map(|_| {
            let (store, content): (Arc<dyn Store>, _) = (store.clone(), content.clone());
            tokio::spawn(async move { put(&*store, &content).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap().unwrap();
        }
        assert!(get(&*store, orphan(BlobHash::of(&content))).await.unwrap() == content);
    }
}

async fn reader_may_stop_before_the_end(Fixture { store, .. }: Fixture) {
    let content = bytes(9_000_000, 6);
    put(&*store, &content).await.unwrap();
    let read = AtomicUsize::new(0);
    for _ in 0..30 {
        let mut blob = store.blob(orphan(BlobHash::of(&content))).await.unwrap().unwrap();
        let piece = blob.body.next().await.unwrap().unwrap();
        read.fetch_add(piece.len(), Ordering::Relaxed);
    }
    assert!(read.into_inner() < 30 * 1_000_000, "in small pieces");
    assert!(get(&*store, orphan(BlobHash::of(&content))).await.unwrap() == content);
}
