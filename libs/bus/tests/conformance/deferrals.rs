//! Outages of dependencies: deferred attempts and paused consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bus::{BusPorts, Outcome, Readiness, RetryPolicy, WorkQueue, run_consumer};
use proto_json::Queue;
use tokio::sync::{mpsc, oneshot};

use crate::fixture::{Adapter, Fixture, fetched, job, limits, next, number, patient_policy};

const QUEUE: Queue = Queue::Uploads;

/// Two attempts, and almost no wait between deliveries.
fn fast_policy() -> RetryPolicy {
    RetryPolicy { max_attempts: 2, backoff: vec![Duration::from_millis(1)], ..patient_policy() }
}

async fn queued(fixture: &Fixture, numbers: std::ops::Range<u64>) -> BusPorts {
    let peer = fixture.join().await;
    for number in numbers {
        peer.queue.enqueue(job(QUEUE, number)).await.unwrap();
    }
    peer
}

pub(crate) async fn deferred_attempts_do_not_count(adapter: Adapter) {
    let fixture = adapter.fixture_with(fast_policy(), limits());
    let peer = queued(&fixture, 1..2).await;
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    let mut deliveries_before = 0;
    for _ in 0..10 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, 1);
        assert!(delivery.deliveries > deliveries_before);
        deliveries_before = delivery.deliveries;
        delivery.defer().await.unwrap();
    }
    // Failures count, whatever deferrals come before and in between.
    assert!(!next(&mut deliveries).await.fail("unreadable").await.unwrap());
    for _ in 0..5 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, 2);
        delivery.defer().await.unwrap();
    }
    assert!(next(&mut deliveries).await.fail("unreadable").await.unwrap());
    let dead = peer.dead_letters.dead_letters(None, 9).await.unwrap();
    assert_eq!(dead.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2]);
}

pub(crate) async fn failures_before_a_crash_count_and_deferrals_do_not(adapter: Adapter) {
    // A broker that is killed may forget that a delivery was given back; it then redelivers after the ack
    // wait.
    let fixture =
        adapter.fixture_with(RetryPolicy { ack_wait: Duration::from_secs(2), ..fast_policy() }, limits());
    let peer = queued(&fixture, 1..2).await;
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    assert!(!next(&mut deliveries).await.fail("unreadable").await.unwrap());
    for _ in 0..4 {
        next(&mut deliveries).await.defer().await.unwrap();
    }
    if adapter == Adapter::Local {
        // Waits for the deferred writes.
        peer.queue.check().await.unwrap();
    }
    drop(deliveries);
    fixture.crash().await;
    let peer = fixture.join().await;
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    let last = next(&mut deliveries).await;
    assert_eq!(last.attempt, 2);
    assert!(last.fail("unreadable").await.unwrap());
}

pub(crate) async fn delivery_that_was_not_begun_does_not_count(adapter: Adapter) {
    let fixture = adapter.fixture_with(fast_policy(), limits());
    let peer = queued(&fixture, 1..2).await;
    let mut deliveries = peer.queue.consume(QUEUE, 1).await.unwrap();
    for _ in 0..6 {
        drop(fetched(&mut deliveries).await);
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.attempt, delivery.deliveries), (1, 7));
    delivery.ack().await.unwrap();
}

/// A consumer whose work is deferred while `healthy` is false.
struct Consumer {
    healthy: Arc<AtomicBool>,
    /// Number of attempts.
    attempts: Arc<AtomicU64>,
    /// Number of readiness checks.
    checks: Arc<AtomicU64>,
    done: mpsc::UnboundedReceiver<u64>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
}

impl Consumer {
    /// Work on messages of number `poison` and above fails whatever the infrastructure does.
    fn start(source: Arc<dyn WorkQueue>, poison: u64) -> Self {
        let healthy = Arc::new(AtomicBool::new(false));
        let (attempts, checks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = oneshot::channel();
        let (sender, done) = mpsc::unbounded_channel();
        let ready: Readiness = {
            let (healthy, checks) = (healthy.clone(), checks.clone());
            Arc::new(move || {
                checks.fetch_add(1, Ordering::Relaxed);
                let healthy = healthy.load(Ordering::Relaxed);
                Box::pin(
                    async move { if healthy { Ok(()) } else { Err("the store is unavailable".to_owned()) } },
                )
            })
        };
        let running = tokio::spawn({
            let (healthy, attempts) = (healthy.clone(), attempts.clone());
            async move {
                let stopped = async { stopped.await.unwrap() };
                run_consumer(&*source, QUEUE, 4, stopped, ready, move |delivery| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let number = number(&delivery);
                    let (healthy, sender) = (healthy.load(Ordering::Relaxed), sender.clone());
                    async move {
                        if !healthy {
                            return Outcome::Defer("the store is unavailable".to_owned());
                        }
                        if number >= poison {
                            return Outcome::Retry("unreadable".to_owned());
                        }
                        sender.send(number).unwrap();
                        Outcome::Done
                    }
                })
                .await;
            }
        });
        Consumer { healthy, attempts, checks, done, stop, running }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

pub(crate) async fn outage_pauses_the_consumer_and_produces_no_dead_letters(adapter: Adapter) {
    const MESSAGES: u64 = 12;
    let fixture = adapter.fixture_with(fast_policy(), limits());
    let peer = queued(&fixture, 0..MESSAGES).await;
    let mut consumer = Consumer::start(peer.queue.clone(), MESSAGES);
    // More rounds than a message has attempts.
    while consumer.checks.load(Ordering::Relaxed) < 4 {
        tokio::task::yield_now().await;
    }
    let attempts = consumer.attempts.load(Ordering::Relaxed);
    assert!(attempts <= 4, "a paused consumer made {attempts} attempts");
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, MESSAGES);
    consumer.healthy.store(true, Ordering::Relaxed);
    let mut done: Vec<u64> = Vec::new();
    for _ in 0..MESSAGES {
        done.push(consumer.done.recv().await.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, (0..MESSAGES).collect::<Vec<_>>());
    consumer.end().await;
    assert_eq!(peer.dead_letters.dead_letters(None, 9).await.unwrap(), []);
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, 0);
}

pub(crate) async fn after_an_outage_only_poison_messages_become_dead_letters(adapter: Adapter) {
    let fixture = adapter.fixture_with(fast_policy(), limits());
    let peer = queued(&fixture, 0..5).await;
    let mut consumer = Consumer::start(peer.queue.clone(), 4);
    while consumer.checks.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    consumer.healthy.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        consumer.done.recv().await.unwrap();
    }
    let dead = loop {
        let dead = peer.dead_letters.dead_letters(None, 9).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(dead.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2]);
    consumer.end().await;
    assert_eq!(peer.queue.queue_status(QUEUE).await.unwrap().messages, 0);
}
