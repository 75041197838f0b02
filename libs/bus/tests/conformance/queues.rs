//! Work queues: delivery, redelivery, competition, limits.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bus::{EnqueueError, QueueLimits, RetryPolicy, WorkQueue};
use futures::StreamExt;
use proto_json::{Queue, Timestamp};

use crate::fixture::{Adapter, job, limits, next, nothing_comes, number, patient_policy};

const QUEUE: Queue = Queue::Uploads;

async fn is_empty(source: &dyn WorkQueue, queue: Queue) -> bool {
    source.queue_status(queue).await.unwrap().messages == 0
}

pub(crate) async fn message_is_delivered_unchanged_and_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    let before = Timestamp::now();
    for queue in Queue::ALL {
        let mut sent = job(queue, 7);
        sent.reply_to = Some("an-inbox".to_owned());
        sent.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        peer.queue.enqueue(sent.clone()).await.unwrap();
        let status = peer.queue.queue_status(queue).await.unwrap();
        assert_eq!((status.messages, status.in_flight), (1, 0));
        assert!(status.oldest.unwrap() >= before);

        let mut deliveries = peer.queue.consume(queue, 1).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.queue, queue);
        assert_eq!(delivery.payload, sent.payload);
        assert_eq!(delivery.reply_to, sent.reply_to);
        assert_eq!(delivery.trace_parent, sent.trace_parent);
        assert_eq!(delivery.attempt, 1);
        assert!(delivery.enqueued_at >= before);
        assert_eq!(peer.queue.queue_status(queue).await.unwrap().in_flight, 1);
        delivery.ack().await.unwrap();
        assert!(is_empty(&*peer.queue, queue).await);
        assert!(nothing_comes(&mut deliveries).await);
    }
}

pub(crate) async fn dropped_delivery_is_redelivered_at_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!((number(&again), again.deliveries), (1, 2));
    again.ack().await.unwrap();
    assert!(is_empty(&*peer.queue, QUEUE).await);
}

pub(crate) async fn unsettled_delivery_is_redelivered_after_the_ack_wait(adapter: Adapter) {
    let ack_wait = Duration::from_millis(400);
    let fixture = adapter.fixture_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let (dying, living) = (fixture.join().await, fixture.join().await);
    dying.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let begun = Instant::now();
    let lost = next(&mut dying.queue.consume(QUEUE, 1).await.unwrap()).await;
    // A process that dies does not drop its delivery.
    std::mem::forget(lost);
    let again = next(&mut living.queue.consume(QUEUE, 1).await.unwrap()).await;
    assert_eq!((number(&again), again.deliveries), (1, 2));
    assert!(begun.elapsed() >= ack_wait);
    again.ack().await.unwrap();
}

pub(crate) async fn progress_prevents_redelivery(adapter: Adapter) {
    // Long enough that progress is reported in time on a busy machine.
    let ack_wait = Duration::from_secs(3);
    let fixture = adapter.fixture_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let peer = fixture.join().await;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    let delivery = next(&mut deliveries).await;
    // The work takes longer than the ack wait and watches for a redelivery.
    let watched = tokio::time::timeout(ack_wait * 3 / 2, deliveries.next());
    assert!(delivery.while_working(watched).await.is_err(), "redelivered in spite of progress");
    delivery.ack().await.unwrap();
    assert!(is_empty(&*peer.queue, QUEUE).await);
}

pub(crate) async fn failed_delivery_is_redelivered_with_backoff(adapter: Adapter) {
    let backoff = [100, 400].map(Duration::from_millis).to_vec();
    let fixture =
        adapter.fixture_with(RetryPolicy { backoff: backoff.clone(), ..patient_policy() }, limits());
    let peer = fixture.join().await;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    for (attempt, wait) in (1..).zip(backoff) {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        let begun = Instant::now();
        assert!(!delivery.fail("not yet").await.unwrap());
        // Waits without taking the delivery.
        deliveries = peek(deliveries).await;
        assert!(begun.elapsed() >= wait, "{:?} is less than {wait:?}", begun.elapsed());
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.attempt, 3);
    delivery.ack().await.unwrap();
}

/// Waits for a delivery and leaves it in the stream.
async fn peek(
    deliveries: futures::stream::BoxStream<'static, bus::Delivery>,
) -> futures::stream::BoxStream<'static, bus::Delivery> {
    let mut deliveries = Box::pin(deliveries.peekable());
    assert!(deliveries.as_mut().peek().await.is_some());
    deliveries
}

pub(crate) async fn competing_consumers_receive_each_message_once(adapter: Adapter) {
    const JOBS: u64 = 200;
    let fixture = adapter.fixture();
    let sender = fixture.join().await;
    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
    for consumer in 0..3 {
        let peer = fixture.join().await;
        let mut deliveries = peer.queue.consume(Queue::EcgJobs, 4).await.unwrap();
        let done = done.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let job = number(&delivery);
                assert_eq!(delivery.deliveries, 1);
                tokio::task::yield_now().await;
                delivery.ack().await.unwrap();
                done.send((consumer, job)).unwrap();
            }
        });
    }
    let sent = (0..JOBS).map(|number| sender.queue.enqueue(job(Queue::EcgJobs, number)));
    futures::future::try_join_all(sent).await.unwrap();
    let mut jobs = BTreeSet::new();
    let mut consumers = BTreeSet::new();
    for _ in 0..JOBS {
        let (consumer, job) = finished.recv().await.unwrap();
        assert!(jobs.insert(job), "job {job} was done twice");
        consumers.insert(consumer);
    }
    assert_eq!(jobs.len() as u64, JOBS);
    assert!(consumers.len() > 1, "one consumer did everything");
    assert!(is_empty(&*sender.queue, Queue::EcgJobs).await);
}

pub(crate) async fn consumer_holds_at_most_max_in_flight_deliveries(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (peer, other) = (fixture.join().await, fixture.join().await);
    for number in 0..5 {
        peer.queue.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    let first = next(&mut deliveries).await;
    let second = next(&mut deliveries).await;
    assert!(nothing_comes(&mut deliveries).await, "more deliveries than asked for");
    // Another consumer receives the other messages.
    let mut of_other = other.queue.consume(QUEUE, 5).await.unwrap();
    let third = next(&mut of_other).await;
    assert!(peer.queue.queue_status(QUEUE).await.unwrap().in_flight >= 3);
    first.ack().await.unwrap();
    second.ack().await.unwrap();
    third.ack().await.unwrap();
    let mut left = BTreeSet::new();
    while left.len() < 2 {
        let delivery = tokio::select! {
            delivery = next(&mut deliveries) => delivery,
            delivery = next(&mut of_other) => delivery,
        };
        left.insert(number(&delivery));
        delivery.ack().await.unwrap();
    }
    assert!(is_empty(&*peer.queue, QUEUE).await);
}

pub(crate) async fn full_queue_refuses_messages_until_one_is_removed(adapter: Adapter) {
    let limits = QueueLimits { max_messages: 3, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let peer = fixture.join().await;
    for number in 0..3 {
        peer.queue.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let refused = peer.queue.enqueue(job(QUEUE, 3)).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    // Limits apply to each queue separately.
    peer.queue.enqueue(job(Queue::EcgJobs, 0)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    next(&mut deliveries).await.ack().await.unwrap();
    peer.queue.enqueue(job(QUEUE, 4)).await.unwrap();
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, 3);
}

pub(crate) async fn messages_are_delivered_in_order(adapter: Adapter) {
    let fixture = adapter.fixture();
    let peer = fixture.join().await;
    for number in 0..20 {
        peer.queue.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    for expected in 0..20 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), expected);
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn confirmed_messages_survive_a_crash(adapter: Adapter) {
    let fixture = adapter.fixture();
    let mut peer = fixture.join().await;
    for number in 0..50 {
        peer.queue.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    for _ in 0..10 {
        next(&mut deliveries).await.ack().await.unwrap();
    }
    // Unsettled at the time of the crash.
    let lost = next(&mut deliveries).await;
    assert_eq!((number(&lost), lost.attempt), (10, 1));
    peer.queue.enqueue(job(QUEUE, 50)).await.unwrap();
    fixture.crash().await;
    if adapter == Adapter::Local {
        std::mem::forget(lost);
        peer = fixture.join().await;
        deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    } else {
        // The connection and the stream of deliveries recover by themselves.
        drop(lost);
    }
    let mut left = BTreeSet::new();
    while left.len() < 41 {
        let delivery = next(&mut deliveries).await;
        let number = number(&delivery);
        if number == 10 && adapter == Adapter::Local {
            assert_eq!(delivery.attempt, 2, "the lost attempt counts");
        }
        // A broker that was killed may not know an earlier delivery. It then does not confirm it and
        // redelivers the message.
        if delivery.ack().await.is_ok() {
            left.insert(number);
        }
    }
    assert_eq!(left, (10..51).collect());
    peer.queue.enqueue(job(QUEUE, 99)).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!(number(&delivery), 99);
    delivery.ack().await.unwrap();
    assert!(is_empty(&*peer.queue, QUEUE).await);
}

pub(crate) async fn late_ack_removes_the_message(adapter: Adapter) {
    let ack_wait = Duration::from_millis(400);
    let fixture = adapter.fixture_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let peer = fixture.join().await;
    peer.queue.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.queue.consume(QUEUE, 2).await.unwrap();
    let slow = next(&mut deliveries).await;
    let again = next(&mut deliveries).await;
    assert_eq!(again.deliveries, 2);
    slow.ack().await.unwrap();
    again.ack().await.unwrap();
    assert!(is_empty(&*peer.queue, QUEUE).await);
    assert!(nothing_comes(&mut deliveries).await);
}
