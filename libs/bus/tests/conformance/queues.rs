//! Work queues: delivery, redelivery, competition, limits.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bus::{EnqueueError, EventBus, QueueLimits, RetryPolicy};
use futures::StreamExt;
use proto_json::{Queue, Timestamp};

use crate::rig::{Adapter, job, limits, next, nothing_comes, number, patient_policy};

const QUEUE: Queue = Queue::Uploads;

async fn is_empty(bus: &dyn EventBus, queue: Queue) -> bool {
    bus.queue_status(queue).await.unwrap().messages == 0
}

pub(crate) async fn a_message_arrives_whole_and_once(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    let before = Timestamp::now();
    for queue in Queue::ALL {
        let mut sent = job(queue, 7);
        sent.reply_to = Some("somebody".to_owned());
        sent.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        peer.bus.enqueue(sent.clone()).await.unwrap();
        let status = peer.bus.queue_status(queue).await.unwrap();
        assert_eq!((status.messages, status.in_flight), (1, 0));
        assert!(status.oldest.unwrap() >= before);

        let mut deliveries = peer.bus.consume(queue, 1).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.queue, queue);
        assert_eq!(delivery.payload, sent.payload);
        assert_eq!(delivery.reply_to, sent.reply_to);
        assert_eq!(delivery.trace_parent, sent.trace_parent);
        assert_eq!(delivery.attempt, 1);
        assert!(delivery.enqueued_at >= before);
        assert_eq!(peer.bus.queue_status(queue).await.unwrap().in_flight, 1);
        delivery.ack().await.unwrap();
        assert!(is_empty(&*peer.bus, queue).await);
        assert!(nothing_comes(&mut deliveries).await);
    }
}

pub(crate) async fn a_dropped_delivery_comes_again_at_once(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    peer.bus.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!((number(&again), again.deliveries), (1, 2));
    again.ack().await.unwrap();
    assert!(is_empty(&*peer.bus, QUEUE).await);
}

pub(crate) async fn a_delivery_nobody_settles_comes_again_after_the_ack_wait(adapter: Adapter) {
    let ack_wait = Duration::from_millis(400);
    let rig = adapter.rig_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let (dying, living) = (rig.join().await, rig.join().await);
    dying.bus.enqueue(job(QUEUE, 1)).await.unwrap();
    let begun = Instant::now();
    let lost = next(&mut dying.bus.consume(QUEUE, 1).await.unwrap()).await;
    // A process that died does not even drop its delivery.
    std::mem::forget(lost);
    let again = next(&mut living.bus.consume(QUEUE, 1).await.unwrap()).await;
    assert_eq!((number(&again), again.deliveries), (1, 2));
    assert!(begun.elapsed() >= ack_wait);
    again.ack().await.unwrap();
}

pub(crate) async fn progress_keeps_a_delivery(adapter: Adapter) {
    // Longer than a busy machine keeps anybody from telling of progress.
    let ack_wait = Duration::from_secs(3);
    let rig = adapter.rig_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let peer = rig.join().await;
    peer.bus.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.bus.consume(QUEUE, 2).await.unwrap();
    let delivery = next(&mut deliveries).await;
    // The work is to watch for longer than the wait that nothing comes.
    let watched = tokio::time::timeout(ack_wait * 3 / 2, deliveries.next());
    assert!(delivery.while_working(watched).await.is_err(), "delivered twice in spite of progress");
    delivery.ack().await.unwrap();
    assert!(is_empty(&*peer.bus, QUEUE).await);
}

pub(crate) async fn a_failed_delivery_comes_again_after_waits_that_grow(adapter: Adapter) {
    let backoff = [100, 400].map(Duration::from_millis).to_vec();
    let rig = adapter.rig_with(RetryPolicy { backoff: backoff.clone(), ..patient_policy() }, limits());
    let peer = rig.join().await;
    peer.bus.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    for (attempt, wait) in (1..).zip(backoff) {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        let begun = Instant::now();
        assert!(!delivery.fail("not yet").await.unwrap());
        // The stream is polled from the start, so that the message is not only noticed late.
        deliveries = peek(deliveries).await;
        assert!(begun.elapsed() >= wait, "{:?} is less than {wait:?}", begun.elapsed());
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.attempt, 3);
    delivery.ack().await.unwrap();
}

/// Waits until there is a delivery, and leaves it in the stream.
async fn peek(
    deliveries: futures::stream::BoxStream<'static, bus::Delivery>,
) -> futures::stream::BoxStream<'static, bus::Delivery> {
    let mut deliveries = Box::pin(deliveries.peekable());
    assert!(deliveries.as_mut().peek().await.is_some());
    deliveries
}

pub(crate) async fn competing_consumers_each_get_a_job_once(adapter: Adapter) {
    const JOBS: u64 = 200;
    let rig = adapter.rig();
    let sender = rig.join().await;
    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
    for consumer in 0..3 {
        let peer = rig.join().await;
        let mut deliveries = peer.bus.consume(Queue::EcgJobs, 4).await.unwrap();
        let done = done.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let job = number(&delivery);
                assert_eq!(delivery.deliveries, 1);
                // Lets the others have their turn.
                tokio::task::yield_now().await;
                delivery.ack().await.unwrap();
                done.send((consumer, job)).unwrap();
            }
        });
    }
    let sent = (0..JOBS).map(|number| sender.bus.enqueue(job(Queue::EcgJobs, number)));
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
    assert!(is_empty(&*sender.bus, Queue::EcgJobs).await);
}

pub(crate) async fn a_consumer_holds_no_more_than_its_limit(adapter: Adapter) {
    let rig = adapter.rig();
    let (peer, other) = (rig.join().await, rig.join().await);
    for number in 0..5 {
        peer.bus.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.bus.consume(QUEUE, 2).await.unwrap();
    let first = next(&mut deliveries).await;
    let second = next(&mut deliveries).await;
    assert!(nothing_comes(&mut deliveries).await, "more deliveries than asked for");
    // What this consumer cannot hold is there for others.
    let mut of_other = other.bus.consume(QUEUE, 5).await.unwrap();
    let third = next(&mut of_other).await;
    assert!(peer.bus.queue_status(QUEUE).await.unwrap().in_flight >= 3);
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
    assert!(is_empty(&*peer.bus, QUEUE).await);
}

pub(crate) async fn a_full_queue_refuses_until_there_is_room(adapter: Adapter) {
    let limits = QueueLimits { max_messages: 3, ..limits() };
    let rig = adapter.rig_with(patient_policy(), limits);
    let peer = rig.join().await;
    for number in 0..3 {
        peer.bus.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let refused = peer.bus.enqueue(job(QUEUE, 3)).await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    // The other queues have room of their own.
    peer.bus.enqueue(job(Queue::EcgJobs, 0)).await.unwrap();
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    next(&mut deliveries).await.ack().await.unwrap();
    peer.bus.enqueue(job(QUEUE, 4)).await.unwrap();
    assert_eq!(peer.bus.queue_status(QUEUE).await.unwrap().messages, 3);
}

pub(crate) async fn messages_come_in_about_the_order_they_were_sent(adapter: Adapter) {
    let rig = adapter.rig();
    let peer = rig.join().await;
    for number in 0..20 {
        peer.bus.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    for expected in 0..20 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), expected);
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn a_crash_loses_nothing(adapter: Adapter) {
    let rig = adapter.rig();
    let mut peer = rig.join().await;
    for number in 0..50 {
        peer.bus.enqueue(job(QUEUE, number)).await.unwrap();
    }
    let mut deliveries = peer.bus.consume(QUEUE, 2).await.unwrap();
    for _ in 0..10 {
        next(&mut deliveries).await.ack().await.unwrap();
    }
    // With a consumer when everything stops.
    let lost = next(&mut deliveries).await;
    assert_eq!((number(&lost), lost.attempt), (10, 1));
    peer.bus.enqueue(job(QUEUE, 50)).await.unwrap();
    rig.crash().await;
    if adapter == Adapter::Local {
        std::mem::forget(lost);
        peer = rig.join().await;
        deliveries = peer.bus.consume(QUEUE, 2).await.unwrap();
    } else {
        // The connection comes back by itself, and so does the stream of deliveries.
        drop(lost);
    }
    let mut left = BTreeSet::new();
    while left.len() < 41 {
        let delivery = next(&mut deliveries).await;
        let number = number(&delivery);
        if number == 10 && adapter == Adapter::Local {
            assert_eq!(delivery.attempt, 2, "the attempt that was lost counts");
        }
        // A broker that was killed may not know a delivery of before, nor confirm its end: it then comes again.
        if delivery.ack().await.is_ok() {
            left.insert(number);
        }
    }
    assert_eq!(left, (10..51).collect());
    // And on it goes.
    peer.bus.enqueue(job(QUEUE, 99)).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!(number(&delivery), 99);
    delivery.ack().await.unwrap();
    assert!(is_empty(&*peer.bus, QUEUE).await);
}

pub(crate) async fn a_late_ack_still_removes_the_message(adapter: Adapter) {
    let ack_wait = Duration::from_millis(400);
    let rig = adapter.rig_with(RetryPolicy { ack_wait, ..patient_policy() }, limits());
    let peer = rig.join().await;
    peer.bus.enqueue(job(QUEUE, 1)).await.unwrap();
    let mut deliveries = peer.bus.consume(QUEUE, 2).await.unwrap();
    let slow = next(&mut deliveries).await;
    let again = next(&mut deliveries).await;
    assert_eq!(again.deliveries, 2);
    slow.ack().await.unwrap();
    again.ack().await.unwrap();
    assert!(is_empty(&*peer.bus, QUEUE).await);
    assert!(nothing_comes(&mut deliveries).await);
}
