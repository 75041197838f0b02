//! Attachments: files that are enqueued with a message and opened by its consumer.

use bus::{Attachment, Delivery, EnqueueError, Outgoing, QueueLimits, collect};
use bytes::Bytes;
use proto_json::{HashedBytes, Queue, UploadId};

use crate::fixture::{Adapter, job, limits, next, nothing_comes, number, patient_policy, until_not_full};
use crate::staging::{SIZES, bytes, read};

const QUEUE: Queue = Queue::Uploads;

fn attachment(size: usize, seed: u32, consumer_only: bool) -> Attachment {
    Attachment { upload: UploadId::generate(), content: HashedBytes::of(bytes(size, seed)), consumer_only }
}

fn job_with(attachments: Vec<Attachment>, number: u64) -> Outgoing {
    Outgoing { attachments, ..job(QUEUE, number) }
}

/// Reads an attachment through its delivery.
async fn open(delivery: &Delivery, file: &Attachment) -> Option<Bytes> {
    let opened = delivery.open(file.key()).await.unwrap()?;
    assert_eq!(opened.bytes, file.content.len() as u64);
    Some(collect(opened.body, opened.bytes).await.unwrap())
}

pub(crate) async fn attachments_are_staged_before_their_message_is_delivered(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let upload = UploadId::generate();
    let files: Vec<_> =
        (1..).zip(SIZES).map(|(seed, size)| Attachment { upload, ..attachment(size, seed, false) }).collect();
    peer.queue.enqueue(job_with(files.clone(), 1)).await.unwrap();
    // A retry of the client stages the same files again; they are stored once.
    peer.queue.enqueue(job_with(files.clone(), 2)).await.unwrap();
    fixture.crash().await;
    let peer = fixture.join().await;
    assert_eq!(peer.staging.list().await.unwrap().len(), SIZES.len());
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    for expected in [1, 2] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), expected);
        for file in &files {
            assert_eq!(open(&delivery, file).await.as_ref(), Some(file.content.bytes()));
        }
        delivery.ack().await.unwrap();
    }
    for file in files {
        let found = read(&*peer.staging, file.key()).await;
        assert_eq!(found.as_ref(), Some(file.content.bytes()), "{} bytes", file.content.len());
        peer.staging.delete(file.key()).await.unwrap();
        assert!(read(&*peer.staging, file.key()).await.is_none());
    }
}

pub(crate) async fn consumer_only_attachments_can_be_opened_on_every_delivery(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    // More and larger files than one message can contain.
    let files: Vec<_> = (1..).zip(SIZES).map(|(seed, size)| attachment(size, seed, true)).collect();
    let more = (100..140).map(|seed| attachment(20, seed, true));
    let files: Vec<_> = files.into_iter().chain(more).collect();
    peer.queue.enqueue(job_with(files.clone(), 1)).await.unwrap();
    fixture.crash().await;
    let peer = fixture.join().await;
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    for attempt in 1..=3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(delivery.payload, job(QUEUE, 1).payload);
        let is_staged = read(&*peer.staging, files[2].key()).await.is_some();
        assert_eq!(is_staged, adapter == Adapter::Local, "on NATS, small attachments are inside the message");
        for file in &files {
            let found = open(&delivery, file).await;
            assert_eq!(found.as_ref(), Some(file.content.bytes()), "{} bytes", file.content.len());
        }
        assert_eq!(delivery.fail("the store is unavailable").await.unwrap(), attempt == 3);
    }
    // The dead letter is plain JSON, and its files are staged; a retry opens them as before.
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|letter| &letter.payload).collect::<Vec<_>>(), [&job(QUEUE, 1).payload]);
    for is_retried in [false, true] {
        for file in &files {
            let found = read(&*peer.staging, file.key()).await;
            assert_eq!(found.as_ref(), Some(file.content.bytes()), "{is_retried}");
        }
        if !is_retried {
            assert!(peer.dead_letters.retry_dead_letter(dead[0].id).await.unwrap());
        }
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.payload, job(QUEUE, 1).payload);
    for file in &files {
        assert_eq!(open(&delivery, file).await.as_ref(), Some(file.content.bytes()));
    }
    delivery.ack().await.unwrap();
}

pub(crate) async fn removed_attachments_are_not_left_in_the_staging_store(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let files = [attachment(1_000, 1, true), attachment(1_000, 2, false), attachment(1 << 20, 3, true)];
    peer.queue.enqueue(job_with(files.to_vec(), 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    let delivery = next(&mut deliveries).await;
    for file in &files {
        delivery.remove(file.key()).await.unwrap();
    }
    delivery.ack().await.unwrap();
    assert_eq!(peer.staging.list().await.unwrap(), []);
}

pub(crate) async fn messages_with_attachments_are_refused_when_full(adapter: Adapter) {
    let fixture =
        adapter.fixture_with(patient_policy(), QueueLimits { max_staged_bytes: 4 << 20, ..limits() });
    let peer = fixture.join().await;
    let mut accepted = Vec::new();
    let mut seed = 0;
    let refused = loop {
        seed += 1;
        let file = attachment(200 << 10, seed, true);
        match peer.queue.enqueue(job_with(vec![file.clone()], accepted.len() as u64)).await {
            Ok(()) => accepted.push(file),
            Err(error) => break error,
        }
        assert!(seed < 30, "there is no limit");
    };
    assert!(matches!(refused, EnqueueError::Full), "{refused:?}");
    assert!(!accepted.is_empty());
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < accepted.len() {
        let delivery = next(&mut deliveries).await;
        let file = &accepted[usize::try_from(number(&delivery)).unwrap()];
        assert_eq!(open(&delivery, file).await.as_ref(), Some(file.content.bytes()));
        numbers.push(number(&delivery));
        delivery.remove(file.key()).await.unwrap();
        delivery.ack().await.unwrap();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..accepted.len() as u64).collect::<Vec<_>>());
    let again = attachment(200 << 10, 99, true);
    until_not_full(|| peer.queue.enqueue(job_with(vec![again.clone()], 99))).await;
}

pub(crate) async fn message_with_attachments_can_be_retried_while_the_staging_store_is_full(
    adapter: Adapter,
) {
    let fixture =
        adapter.fixture_with(patient_policy(), QueueLimits { max_staged_bytes: 8 << 20, ..limits() });
    let peer = fixture.join().await;
    let file = attachment(100 << 10, 1, true);
    peer.queue.enqueue(job_with(vec![file.clone()], 1)).await.unwrap();
    let mut seed = 1;
    let filler = loop {
        seed += 1;
        let filler = attachment(64 << 10, seed, false);
        match peer.staging.put_bytes(filler.key(), filler.content.bytes().clone()).await {
            Ok(()) => {}
            Err(EnqueueError::Full) => break filler,
            Err(error) => panic!("{error}"),
        }
    };
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    next(&mut deliveries).await.dead_letter("the store is unavailable").await.unwrap();
    let refused = peer.staging.put_bytes(filler.key(), filler.content.bytes().clone()).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|letter| &letter.payload).collect::<Vec<_>>(), [&job(QUEUE, 1).payload]);
    assert!(peer.dead_letters.retry_dead_letter(dead[0].id).await.unwrap());
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.payload, job(QUEUE, 1).payload);
    assert_eq!(open(&delivery, &file).await.as_ref(), Some(file.content.bytes()));
    delivery.ack().await.unwrap();
}

pub(crate) async fn message_is_refused_if_its_attachments_do_not_fit(adapter: Adapter) {
    let fixture =
        adapter.fixture_with(patient_policy(), QueueLimits { max_staged_bytes: 1_300 << 10, ..limits() });
    let peer = fixture.join().await;
    let file = |seed| attachment(700 << 10, seed, false);
    let first = file(1);
    peer.queue.enqueue(job_with(vec![first.clone()], 1)).await.unwrap();
    let refused = peer.queue.enqueue(job_with(vec![file(2)], 2)).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    next(&mut deliveries).await.ack().await.unwrap();
    assert!(nothing_comes(&mut deliveries).await);
    // Deleting the first file frees its space.
    peer.staging.delete(first.key()).await.unwrap();
    let third = file(3);
    until_not_full(|| peer.queue.enqueue(job_with(vec![third.clone()], 3))).await;
}
