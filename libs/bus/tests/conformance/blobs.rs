//! The blob stage: files of every size, whole or not at all.

use std::io;

use bus::{
    BodyError, BusError, Delivery, EnqueueError, QueueLimits, SmallFile, StagingKey, StagingStore, collect,
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proto_json::{BlobHash, HashedBytes, Queue, Timestamp, UploadId};

use crate::rig::{Adapter, Peer, job, limits, next, nothing_comes, number, patient_policy};

/// Sizes around which something may break: chunks of the adapters, messages of the broker.
const SIZES: [usize; 14] = [
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

/// Bytes that differ from place to place.
fn bytes(length: usize, seed: u32) -> Bytes {
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

async fn read(stage: &dyn StagingStore, key: StagingKey) -> Option<Bytes> {
    let staged = stage.get(key).await.unwrap()?;
    let announced = staged.bytes;
    let found = collect(staged.body, announced).await.unwrap();
    assert_eq!(found.len() as u64, announced);
    Some(found)
}

/// Parts of odd sizes, as a network brings them.
fn in_parts(bytes: &Bytes) -> bus::ByteStream {
    let parts: Vec<_> = bytes.chunks(70_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    futures::stream::iter(parts).boxed()
}

pub(crate) async fn files_of_every_size_come_back_bit_for_bit(adapter: Adapter) {
    let rig = adapter.rig();
    let (gateway, ingest) = (rig.join().await, rig.join().await);
    for size in SIZES {
        let bytes = bytes(size, 1);
        let (whole, parts) = (key(&bytes), key(&bytes));
        gateway.stage.put_bytes(whole, bytes.clone()).await.unwrap();
        gateway.stage.put(parts, size as u64, in_parts(&bytes)).await.unwrap();
        for key in [whole, parts] {
            assert!(read(&*ingest.stage, key).await.unwrap() == bytes, "{size} bytes came back changed");
            ingest.stage.delete(key).await.unwrap();
            assert!(read(&*gateway.stage, key).await.is_none());
        }
    }
    assert_eq!(gateway.stage.list().await.unwrap(), []);
}

pub(crate) async fn a_large_file_goes_through(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let bytes = bytes(30_000_000, 2);
    let key = key(&bytes);
    peer.stage.put(key, bytes.len() as u64, in_parts(&bytes)).await.unwrap();
    rig.crash().await;
    let peer = rig.join().await;
    assert!(read(&*peer.stage, key).await.unwrap() == bytes);
    peer.stage.delete(key).await.unwrap();
    // Deleting what is not there is no error.
    peer.stage.delete(key).await.unwrap();
    assert!(read(&*peer.stage, key).await.is_none());
}

/// By this, a file that a retry needs is told from one that was left behind.
pub(crate) async fn a_file_staged_again_is_as_young_as_a_new_one(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    for size in [1_000, 3_000_000] {
        let bytes = bytes(size, 4);
        let key = key(&bytes);
        let mut last = None;
        for _ in 0..3 {
            peer.stage.put(key, bytes.len() as u64, in_parts(&bytes)).await.unwrap();
            let listed = peer.stage.list().await.unwrap();
            assert_eq!((listed.len(), listed[0].0), (1, key));
            assert!(last.is_none_or(|last| listed[0].1 > last), "{size} bytes: {last:?} and {listed:?}");
            last = Some(listed[0].1);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(read(&*peer.stage, key).await.unwrap() == bytes);
        peer.stage.delete(key).await.unwrap();
        assert_nothing_left(&*peer.stage, key).await;
    }
}

fn body_error(outcome: Result<(), EnqueueError>) -> BodyError {
    match outcome {
        Err(EnqueueError::Bus(BusError::Refused(cause))) => *cause.downcast().expect("a body error"),
        other => panic!("{other:?}"),
    }
}

async fn assert_nothing_left(stage: &dyn StagingStore, key: StagingKey) {
    assert!(stage.get(key).await.unwrap().is_none());
    assert_eq!(stage.list().await.unwrap(), []);
}

pub(crate) async fn a_file_of_another_hash_is_refused_and_leaves_nothing(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    for size in [10, 2 << 20] {
        let bytes = bytes(size, 3);
        let key = key(b"other");
        let refused = body_error(peer.stage.put(key, size as u64, in_parts(&bytes)).await);
        assert!(matches!(refused, BodyError::WrongHash { .. }), "{refused}");
        assert_nothing_left(&*peer.stage, key).await;
    }
}

pub(crate) async fn a_file_of_another_length_is_refused_and_leaves_nothing(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    for size in [10_u64, 2 << 20] {
        let bytes = bytes(size as usize, 4);
        let key = key(&bytes);
        for announced in [size - 1, size + 1, 0] {
            let refused = body_error(peer.stage.put(key, announced, in_parts(&bytes)).await);
            assert!(matches!(refused, BodyError::WrongLength { .. }), "{refused}");
            assert_nothing_left(&*peer.stage, key).await;
        }
    }
}

pub(crate) async fn a_body_that_breaks_off_leaves_nothing(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let bytes = bytes(2 << 20, 5);
    let key = key(&bytes);
    for came in [0, 1, 1_500_000] {
        let body = in_parts(&bytes.slice(..came))
            .chain(futures::stream::once(async { Err(io::Error::other("the line went dead")) }));
        let refused = body_error(peer.stage.put(key, bytes.len() as u64, body.boxed()).await);
        assert!(refused.to_string().contains("the line went dead"), "{refused}");
        assert_nothing_left(&*peer.stage, key).await;
    }
    peer.stage.put_bytes(key, bytes.clone()).await.unwrap();
    assert!(read(&*peer.stage, key).await.unwrap() == bytes);
}

pub(crate) async fn a_put_that_is_cancelled_leaves_nothing(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 8_000 << 10, ..limits() };
    let rig = adapter.rig_with(patient_policy(), limits);
    let peer = rig.join().await;
    let bytes = bytes(3 << 20, 6);
    let key = key(&bytes);
    for _ in 0..3 {
        let (reached, mut at_the_gap) = tokio::sync::mpsc::channel::<()>(1);
        let silence = futures::stream::once(async move {
            reached.send(()).await.unwrap();
            std::future::pending().await
        });
        let body = in_parts(&bytes.slice(..2 << 20)).chain(silence);
        let put = peer.stage.put(key, bytes.len() as u64, body.boxed()).fuse();
        tokio::select! {
            outcome = put => panic!("{outcome:?}"),
            _ = at_the_gap.recv() => {}
        }
        assert!(peer.stage.get(key).await.unwrap().is_none());
        // Nobody is left to wait for the tidying up.
        while !peer.stage.list().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // Its room is free again, too: there would be none for a second one.
    crate::rig::until_not_full(|| peer.stage.put_bytes(key, bytes.clone())).await;
    assert!(read(&*peer.stage, key).await.unwrap() == bytes);
}

pub(crate) async fn a_file_put_twice_is_there_once(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 8_000 << 10, ..limits() };
    let rig = adapter.rig_with(patient_policy(), limits);
    let peer = rig.join().await;
    for size in [100_usize, 2 << 20] {
        let bytes = bytes(size, 7);
        let key = key(&bytes);
        for _ in 0..4 {
            crate::rig::until_not_full(|| peer.stage.put_bytes(key, bytes.clone())).await;
        }
        let listed = peer.stage.list().await.unwrap();
        assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key]);
        assert!(read(&*peer.stage, key).await.unwrap() == bytes);
        peer.stage.delete(key).await.unwrap();
        assert_nothing_left(&*peer.stage, key).await;
    }
}

pub(crate) async fn concurrent_puts_of_one_file_leave_one(adapter: Adapter) {
    let rig = adapter.rig();
    let peers = [rig.join().await, rig.join().await];
    for size in [100_usize, 1 << 20] {
        let bytes = bytes(size, 8);
        let key = key(&bytes);
        let puts = (0..8).map(|number| {
            let stage = &peers[number % 2].stage;
            let body = in_parts(&bytes);
            async move { stage.put(key, size as u64, body).await }
        });
        futures::future::try_join_all(puts).await.unwrap();
        assert!(read(&*peers[0].stage, key).await.unwrap() == bytes);
        assert_eq!(peers[1].stage.list().await.unwrap().len(), 1);
        peers[1].stage.delete(key).await.unwrap();
        assert_nothing_left(&*peers[0].stage, key).await;
    }
}

pub(crate) async fn uploads_of_the_same_bytes_are_deleted_each_on_its_own(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let bytes = bytes(500, 9);
    let (mine, yours) = (key(&bytes), key(&bytes));
    peer.stage.put_bytes(mine, bytes.clone()).await.unwrap();
    peer.stage.put_bytes(yours, bytes.clone()).await.unwrap();
    peer.stage.delete(mine).await.unwrap();
    assert!(read(&*peer.stage, mine).await.is_none());
    assert_eq!(read(&*peer.stage, yours).await, Some(bytes));
}

pub(crate) async fn a_full_stage_refuses_until_there_is_room(adapter: Adapter) {
    let limits = QueueLimits { max_staged_bytes: 3_500 << 10, ..limits() };
    let rig = adapter.rig_with(patient_policy(), limits);
    let peer = rig.join().await;
    let bytes = bytes(2 << 20, 10);
    let (first, second) = (key(&bytes), key(&bytes));
    peer.stage.put_bytes(first, bytes.clone()).await.unwrap();
    let refused = peer.stage.put_bytes(second, bytes.clone()).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    assert!(peer.stage.get(second).await.unwrap().is_none());
    peer.stage.delete(first).await.unwrap();
    crate::rig::until_not_full(|| peer.stage.put_bytes(second, bytes.clone())).await;
    assert!(read(&*peer.stage, second).await.unwrap() == bytes);
}

pub(crate) async fn the_stage_lists_what_is_staged(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let before = Timestamp::now();
    let mut keys = Vec::new();
    for size in [0, 1, 5, 600_000] {
        let bytes = bytes(size, 11);
        keys.push(key(&bytes));
        peer.stage.put_bytes(keys[keys.len() - 1], bytes).await.unwrap();
    }
    let mut listed = peer.stage.list().await.unwrap();
    listed.sort_unstable();
    keys.sort_unstable();
    assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    for (_, at) in listed {
        assert!(at >= before && at <= Timestamp::now());
    }
}

pub(crate) async fn a_message_comes_with_the_files_it_needs(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let upload = UploadId::generate();
    let files: Vec<_> = (1..)
        .zip(SIZES)
        .map(|(seed, size)| bytes(size, seed))
        .map(|content| SmallFile { upload, content: HashedBytes::of(content), may_enclose: false })
        .collect();
    peer.bus.enqueue_with(files.clone(), job(Queue::Uploads, 1)).await.unwrap();
    // Sent again, as by a client that retries: the files are there once.
    peer.bus.enqueue_with(files.clone(), job(Queue::Uploads, 2)).await.unwrap();
    rig.crash().await;
    let peer = rig.join().await;
    assert_eq!(peer.stage.list().await.unwrap().len(), SIZES.len());
    let mut deliveries = peer.bus.consume(Queue::Uploads, 2).await.unwrap();
    for expected in [1, 2] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), expected);
        delivery.ack().await.unwrap();
    }
    for file in files {
        let found = read(&*peer.stage, file.key()).await;
        assert_eq!(found.as_ref(), Some(file.content.bytes()), "{} bytes", file.content.len());
        peer.stage.delete(file.key()).await.unwrap();
        assert!(read(&*peer.stage, file.key()).await.is_none());
    }
}

fn small_file(size: usize, seed: u32, may_enclose: bool) -> SmallFile {
    SmallFile { upload: UploadId::generate(), content: HashedBytes::of(bytes(size, seed)), may_enclose }
}

/// Where a consumer finds a file: in the delivery, or on the stage.
async fn found(peer: &Peer, delivery: &Delivery, file: &SmallFile) -> Option<Bytes> {
    match delivery.enclosed(file.key()) {
        Some(enclosed) => {
            assert!(read(&*peer.stage, file.key()).await.is_none(), "it is on the stage as well");
            Some(enclosed.content.bytes().clone())
        }
        None => read(&*peer.stage, file.key()).await,
    }
}

pub(crate) async fn files_for_the_consumer_alone_come_with_every_delivery(adapter: Adapter) {
    const QUEUE: Queue = Queue::Uploads;
    let rig = adapter.rig();
    let peer = rig.join().await;
    // More than a message can hold, and larger.
    let files: Vec<_> = (1..).zip(SIZES).map(|(seed, size)| small_file(size, seed, true)).collect();
    let more = (100..140).map(|seed| small_file(20, seed, true));
    let files: Vec<_> = files.into_iter().chain(more).collect();
    peer.bus.enqueue_with(files.clone(), job(QUEUE, 1)).await.unwrap();
    rig.crash().await;
    let peer = rig.join().await;
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    for attempt in 1..=3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(delivery.payload, job(QUEUE, 1).payload);
        let inside: Vec<_> = delivery.enclosed.iter().map(SmallFile::key).collect();
        assert_eq!(
            inside.contains(&files[2].key()),
            adapter != Adapter::Local,
            "it is small and the first ones"
        );
        for file in &files {
            let found = found(&peer, &delivery, file).await;
            assert_eq!(found.as_ref(), Some(file.content.bytes()), "{} bytes", file.content.len());
        }
        assert_eq!(delivery.fail("the store is away").await.unwrap(), attempt == 3);
    }
    // What is given up is only JSON, and keeps its files; so it does when it is tried again.
    let dead = peer.bus.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|letter| &letter.payload).collect::<Vec<_>>(), [&job(QUEUE, 1).payload]);
    for retried in [false, true] {
        for file in &files {
            assert_eq!(
                read(&*peer.stage, file.key()).await.as_ref(),
                Some(file.content.bytes()),
                "{retried}"
            );
        }
        if !retried {
            assert!(peer.bus.retry_dead_letter(dead[0].id).await.unwrap());
        }
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!((&delivery.payload, delivery.enclosed.len()), (&job(QUEUE, 1).payload, 0));
    delivery.ack().await.unwrap();
}

pub(crate) async fn messages_with_files_inside_find_room_or_are_refused(adapter: Adapter) {
    let rig = adapter.rig_with(patient_policy(), QueueLimits { max_staged_bytes: 4 << 20, ..limits() });
    let peer = rig.join().await;
    let mut taken = Vec::new();
    let mut seed = 0;
    let refused = loop {
        seed += 1;
        let file = small_file(200 << 10, seed, true);
        match peer.bus.enqueue_with(vec![file.clone()], job(Queue::Uploads, taken.len() as u64)).await {
            Ok(()) => taken.push(file),
            Err(error) => break error,
        }
        assert!(seed < 30, "there is no limit");
    };
    assert!(matches!(refused, EnqueueError::Full), "{refused:?}");
    assert!(!taken.is_empty());
    let mut deliveries = peer.bus.consume(Queue::Uploads, 1).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < taken.len() {
        let delivery = next(&mut deliveries).await;
        let file = &taken[usize::try_from(number(&delivery)).unwrap()];
        assert_eq!(found(&peer, &delivery, file).await.as_ref(), Some(file.content.bytes()));
        numbers.push(number(&delivery));
        delivery.ack().await.unwrap();
        peer.stage.delete(file.key()).await.unwrap();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..taken.len() as u64).collect::<Vec<_>>());
    let again = small_file(200 << 10, 99, true);
    crate::rig::until_not_full(|| peer.bus.enqueue_with(vec![again.clone()], job(Queue::Uploads, 99))).await;
}

pub(crate) async fn a_message_with_files_inside_is_given_up_and_tried_again_though_the_stage_is_full(
    adapter: Adapter,
) {
    let rig = adapter.rig_with(patient_policy(), QueueLimits { max_staged_bytes: 8 << 20, ..limits() });
    let peer = rig.join().await;
    let file = small_file(100 << 10, 1, true);
    peer.bus.enqueue_with(vec![file.clone()], job(Queue::Uploads, 1)).await.unwrap();
    let mut seed = 1;
    let filler = loop {
        seed += 1;
        let filler = small_file(64 << 10, seed, false);
        match peer.stage.put_bytes(filler.key(), filler.content.bytes().clone()).await {
            Ok(()) => {}
            Err(EnqueueError::Full) => break filler,
            Err(error) => panic!("{error}"),
        }
    };
    let mut deliveries = peer.bus.consume(Queue::Uploads, 1).await.unwrap();
    next(&mut deliveries).await.dead_letter("the store is away").await.unwrap();
    let refused = peer.stage.put_bytes(filler.key(), filler.content.bytes().clone()).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    let dead = peer.bus.dead_letters(None, 10).await.unwrap();
    assert_eq!(
        dead.iter().map(|letter| &letter.payload).collect::<Vec<_>>(),
        [&job(Queue::Uploads, 1).payload]
    );
    assert!(peer.bus.retry_dead_letter(dead[0].id).await.unwrap());
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.payload, job(Queue::Uploads, 1).payload);
    assert_eq!(found(&peer, &delivery, &file).await.as_ref(), Some(file.content.bytes()));
    delivery.ack().await.unwrap();
}

pub(crate) async fn a_message_whose_files_find_no_room_is_refused(adapter: Adapter) {
    let rig = adapter.rig_with(patient_policy(), QueueLimits { max_staged_bytes: 1_300 << 10, ..limits() });
    let peer = rig.join().await;
    let file = |seed| small_file(700 << 10, seed, false);
    let first = file(1);
    peer.bus.enqueue_with(vec![first.clone()], job(Queue::Uploads, 1)).await.unwrap();
    let refused = peer.bus.enqueue_with(vec![file(2)], job(Queue::Uploads, 2)).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    let mut deliveries = peer.bus.consume(Queue::Uploads, 2).await.unwrap();
    next(&mut deliveries).await.ack().await.unwrap();
    assert!(nothing_comes(&mut deliveries).await);
    // With the first one gone there is room again.
    peer.stage.delete(first.key()).await.unwrap();
    let third = file(3);
    let send = || peer.bus.enqueue_with(vec![third.clone()], job(Queue::Uploads, 3));
    crate::rig::until_not_full(send).await;
}
