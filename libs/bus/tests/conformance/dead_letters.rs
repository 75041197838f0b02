//! Dead letters: how messages become dead letters, and how operators retry or delete them.

use std::time::Duration;

use bus::{EnqueueError, QueueLimits, RetryPolicy, WorkQueue};
use proto_json::{Queue, Timestamp};

use crate::fixture::{Adapter, job, limits, mrn, next, nothing_comes, number, patient_policy};

const QUEUE: Queue = Queue::EcgJobs;

async fn dead_letter(queue: &dyn WorkQueue, numbers: std::ops::Range<u64>) {
    let mut deliveries = queue.consume(QUEUE, 1).await.unwrap();
    for number in numbers {
        queue.enqueue(job(QUEUE, number)).await.unwrap();
        next(&mut deliveries).await.dead_letter("cannot be read").await.unwrap();
    }
}

pub(crate) async fn message_that_always_fails_becomes_a_dead_letter_with_its_reason(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let before = Timestamp::now();
    peer.queue.enqueue(job(QUEUE, 12)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    for attempt in 1..=3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(delivery.fail("the disk is on fire: 100 °C\nreally").await.unwrap(), attempt == 3);
    }
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    let letter = &dead[0];
    assert_eq!((letter.queue, letter.mrn, letter.attempts), (QUEUE, mrn(5), 3));
    assert_eq!(letter.payload, job(QUEUE, 12).payload);
    assert!(letter.reason.contains("the disk is on fire: 100 °C"), "{}", letter.reason);
    assert!(letter.died_at >= before);
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, 0);
    assert!(nothing_comes(&mut deliveries).await);
}

pub(crate) async fn message_that_kills_its_consumers_becomes_a_dead_letter(adapter: Adapter) {
    // Long enough that the second message is acknowledged in time on a busy machine.
    let ack_wait = Duration::from_secs(2);
    let policy = RetryPolicy { ack_wait, max_attempts: 2, ..patient_policy() };
    let fixture = adapter.fixture_with(policy, limits());
    let peer = fixture.join().await;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 5).await.unwrap();
    // The count of a first delivery is not durable, so it may not count.
    let mut deaths = 0;
    let last = loop {
        let delivery = next(&mut deliveries).await;
        if delivery.is_last_attempt() {
            break delivery;
        }
        deaths += 1;
        // A process that dies does not drop its delivery.
        std::mem::forget(delivery);
    };
    assert!((1..=2).contains(&deaths), "{deaths} deaths before the last attempt of 2");
    std::mem::forget(last);
    // Other messages are delivered in the meantime.
    peer.queue.enqueue(job(QUEUE, 2)).await.unwrap();
    let second = next(&mut deliveries).await;
    assert_eq!(number(&second), 2);
    second.ack().await.unwrap();
    let exhausted = next(&mut deliveries).await;
    assert!(exhausted.is_exhausted());
    exhausted.dead_letter("every attempt ended with the death of its consumer").await.unwrap();
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((number_of(&dead[0]), dead[0].attempts), (1, 2));
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, 0);
}

fn number_of(letter: &bus::DeadLetter) -> u64 {
    std::str::from_utf8(&letter.payload).unwrap().parse().unwrap()
}

pub(crate) async fn message_can_be_dead_lettered_at_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    dead_letter(&*peer.queue, 4..5).await;
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert_eq!((number_of(&dead[0]), dead[0].attempts, &*dead[0].reason), (4, 1, "cannot be read"));
}

pub(crate) async fn dead_letters_are_listed_in_pages(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    assert_eq!(peer.dead_letters.dead_letters(None, 10).await.unwrap(), []);
    dead_letter(&*peer.queue, 0..7).await;
    let (mut numbers, mut after) = (Vec::new(), None);
    loop {
        let page = peer.dead_letters.dead_letters(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = Some(last.id);
        numbers.extend(page.iter().map(number_of));
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
}

pub(crate) async fn retried_dead_letter_has_all_attempts_left(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    dead_letter(&*peer.queue, 8..9).await;
    let id = peer.dead_letters.dead_letters(None, 1).await.unwrap()[0].id;
    assert!(peer.dead_letters.retry_dead_letter(id).await.unwrap());
    assert!(!peer.dead_letters.retry_dead_letter(id).await.unwrap());
    assert_eq!(peer.dead_letters.dead_letters(None, 1).await.unwrap(), []);
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!((number(&delivery), delivery.attempt), (8, 1));
    delivery.ack().await.unwrap();
    assert!(nothing_comes(&mut deliveries).await);
}

pub(crate) async fn dead_letter_stays_if_its_queue_is_full(adapter: Adapter) {
    let limits = QueueLimits { max_messages: 1, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let peer = fixture.join().await;
    dead_letter(&*peer.queue, 0..1).await;
    let id = peer.dead_letters.dead_letters(None, 1).await.unwrap()[0].id;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let refused = peer.dead_letters.retry_dead_letter(id).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    assert_eq!(peer.dead_letters.dead_letters(None, 1).await.unwrap()[0].id, id);
}

pub(crate) async fn deleted_dead_letter_does_not_exist(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    dead_letter(&*peer.queue, 0..2).await;
    let dead = peer.dead_letters.dead_letters(None, 10).await.unwrap();
    assert!(peer.dead_letters.delete_dead_letter(dead[0].id).await.unwrap());
    assert!(!peer.dead_letters.delete_dead_letter(dead[0].id).await.unwrap());
    assert!(!peer.dead_letters.retry_dead_letter(dead[0].id).await.unwrap());
    assert!(!peer.dead_letters.delete_dead_letter(9_999).await.unwrap());
    assert_eq!(peer.dead_letters.dead_letters(None, 10).await.unwrap(), dead[1..]);
}
