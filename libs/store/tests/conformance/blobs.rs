//! Files: bit for bit, or not at all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::BlobHash;
use store::{ByteStream, PatientStore, StoreError};

use crate::harness::{Fixture, from, get, on_every_adapter};

on_every_adapter!(
    files_of_all_lengths_come_back_bit_for_bit,
    a_file_that_is_there_is_left_unread,
    wrong_bytes_are_refused_and_invisible,
    wrong_bytes_do_not_spoil_the_right_ones_written_meanwhile,
    a_body_that_breaks_off_leaves_nothing,
    a_writer_that_gives_up_leaves_nothing,
    the_same_file_from_many_writers_is_one,
    a_reader_that_stops_does_no_harm,
);

/// Bytes that look random and differ by seed.
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

/// In pieces of odd length, as they come from a network.
fn body(bytes: &Bytes) -> ByteStream {
    const PIECE: usize = 60_001;
    let pieces: Vec<_> = (0..bytes.len().div_ceil(PIECE))
        .map(|n| Ok(bytes.slice(n * PIECE..((n + 1) * PIECE).min(bytes.len()))))
        .collect();
    stream::iter(pieces).boxed()
}

async fn put(store: &dyn PatientStore, bytes: &Bytes) -> Result<(), StoreError> {
    store.put_blob(from(), BlobHash::of(bytes), bytes.len() as u64, body(bytes)).await
}

async fn files_of_all_lengths_come_back_bit_for_bit(Fixture { store, .. }: Fixture) {
    let (sqlite, grid) = (256 * 1024, 255 * 1024);
    let mut lengths = vec![0, 1, 30_000_000];
    for edge in [sqlite, 4 * sqlite, 8 * sqlite, grid, 16 * grid, 32 * grid] {
        lengths.extend([edge - 1, edge, edge + 1]);
    }
    for length in lengths {
        let content = bytes(length, length as u64);
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, BlobHash::of(&content)).await.unwrap() == content, "{length} bytes");
    }
}

async fn a_file_that_is_there_is_left_unread(Fixture { store, .. }: Fixture) {
    let content = bytes(1000, 1);
    put(&*store, &content).await.unwrap();
    let untouchable = stream::poll_fn(|_| panic!("it was read")).boxed();
    store.put_blob(from(), BlobHash::of(&content), 1000, untouchable).await.unwrap();
}

async fn wrong_bytes_are_refused_and_invisible(Fixture { store, .. }: Fixture) {
    for length in [0, 10, 300_000, 9_000_000] {
        let content = bytes(length, 1);
        let (hash, length) = (BlobHash::of(&content), length as u64);
        let other = BlobHash::of(b"other");
        let mut refused = vec![store.put_blob(from(), other, length, body(&content)).await];
        refused.push(store.put_blob(from(), hash, length + 1, body(&content)).await);
        if length > 0 {
            refused.push(store.put_blob(from(), hash, length - 1, body(&content)).await);
        }
        for result in refused {
            assert!(matches!(result, Err(StoreError::Corrupt(_))), "{result:?}");
        }
        assert!(store.blob(hash).await.unwrap().is_none() && store.blob(other).await.unwrap().is_none());
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, hash).await.unwrap() == content);
    }
}

async fn wrong_bytes_do_not_spoil_the_right_ones_written_meanwhile(Fixture { store, .. }: Fixture) {
    for length in [300_000, 9_000_000] {
        let (right, wrong) = (bytes(length, 1), bytes(length, 2));
        let hash = BlobHash::of(&right);
        let bad = store.put_blob(from(), hash, length as u64, body(&wrong));
        let (bad, good) = tokio::join!(bad, put(&*store, &right));
        good.unwrap();
        // It may also have found the right file there.
        assert!(matches!(bad, Ok(()) | Err(StoreError::Corrupt(_))));
        assert!(get(&*store, hash).await.unwrap() == right);
    }
}

async fn a_body_that_breaks_off_leaves_nothing(Fixture { store, .. }: Fixture) {
    for length in [300_000, 9_000_000] {
        let content = bytes(length, 3);
        let hash = BlobHash::of(&content);
        let broken =
            body(&content.slice(..length - 1)).chain(stream::once(async { Err(io::Error::other("cut")) }));
        let result = store.put_blob(from(), hash, length as u64, broken.boxed()).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
        assert!(store.blob(hash).await.unwrap().is_none());
        put(&*store, &content).await.unwrap();
        assert!(get(&*store, hash).await.unwrap() == content);
    }
}

async fn a_writer_that_gives_up_leaves_nothing(Fixture { store, .. }: Fixture) {
    let content = bytes(9_000_000, 4);
    let hash = BlobHash::of(&content);
    let (waiting, reached) = tokio::sync::oneshot::channel();
    let mut waiting = Some(waiting);
    let stuck = body(&content.slice(..8_000_000)).chain(stream::poll_fn(move |_| {
        waiting.take().map(|waiting| waiting.send(()));
        std::task::Poll::Pending
    }));
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.put_blob(from(), hash, 9_000_000, stuck.boxed()).await }
    });
    reached.await.unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    assert!(store.blob(hash).await.unwrap().is_none());
    put(&*store, &content).await.unwrap();
    assert!(get(&*store, hash).await.unwrap() == content);
}

async fn the_same_file_from_many_writers_is_one(Fixture { store, .. }: Fixture) {
    for length in [1, 300_000, 9_000_000] {
        let content = bytes(length, 5);
        let writers = (0..6).map(|_| {
            let (store, content): (Arc<dyn PatientStore>, _) = (store.clone(), content.clone());
            tokio::spawn(async move { put(&*store, &content).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap().unwrap();
        }
        assert!(get(&*store, BlobHash::of(&content)).await.unwrap() == content);
    }
}

async fn a_reader_that_stops_does_no_harm(Fixture { store, .. }: Fixture) {
    let content = bytes(9_000_000, 6);
    put(&*store, &content).await.unwrap();
    let read = AtomicUsize::new(0);
    for _ in 0..30 {
        let mut blob = store.blob(BlobHash::of(&content)).await.unwrap().unwrap();
        let piece = blob.body.next().await.unwrap().unwrap();
        read.fetch_add(piece.len(), Ordering::Relaxed);
    }
    assert!(read.into_inner() < 30 * 1_000_000, "in small pieces");
    assert!(get(&*store, BlobHash::of(&content)).await.unwrap() == content);
}
