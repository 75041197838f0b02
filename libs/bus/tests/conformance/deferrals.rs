//! Outages of what the work needs: deferred attempts, and consumers that pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bus::{EventBus, Outcome, Readiness, RetryPolicy, run_consumer};
use proto_json::Queue;
use tokio::sync::{mpsc, oneshot};

use crate::rig::{Adapter, Peer, Rig, fetched, job, limits, next, number, patient_policy};

const QUEUE: Queue = Queue::Uploads;

/// Two attempts, and no wait to speak of between deliveries.
fn impatient() -> RetryPolicy {
    RetryPolicy { max_attempts: 2, backoff: vec![Duration::from_millis(1)], ..patient_policy() }
}

async fn queued(rig: &Rig, numbers: std::ops::Range<u64>) -> Peer {
    let peer = rig.join().await;
    for number in numbers {
        peer.bus.enqueue(job(QUEUE, number)).await.unwrap();
    }
    peer
}

pub(crate) async fn deferred_attempts_do_not_count(adapter: Adapter) {
    let rig = adapter.rig_with(impatient(), limits());
    let peer = queued(&rig, 1..2).await;
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    let mut deliveries_before = 0;
    for _ in 0..10 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, 1);
        assert!(delivery.deliveries > deliveries_before);
        deliveries_before = delivery.deliveries;
        delivery.defer().await.unwrap();
    }
    // What fails for another reason counts, with deferrals before and in between.
    assert!(!next(&mut deliveries).await.fail("unreadable").await.unwrap());
    for _ in 0..5 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, 2);
        delivery.defer().await.unwrap();
    }
    assert!(next(&mut deliveries).await.fail("unreadable").await.unwrap());
    let dead = peer.bus.dead_letters(None, 9).await.unwrap();
    assert_eq!(dead.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2]);
}

pub(crate) async fn failures_before_a_crash_count_and_deferrals_do_not(adapter: Adapter) {
    // A broker that is killed may forget that a delivery was given back: then it comes again after this.
    let rig = adapter.rig_with(RetryPolicy { ack_wait: Duration::from_secs(2), ..impatient() }, limits());
    let peer = queued(&rig, 1..2).await;
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    assert!(!next(&mut deliveries).await.fail("unreadable").await.unwrap());
    for _ in 0..4 {
        next(&mut deliveries).await.defer().await.unwrap();
    }
    if adapter == Adapter::Local {
        // What is written in passing is behind this in the file.
        peer.bus.check().await.unwrap();
    }
    drop(deliveries);
    rig.crash().await;
    let peer = rig.join().await;
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    let last = next(&mut deliveries).await;
    assert_eq!(last.attempt, 2);
    assert!(last.fail("unreadable").await.unwrap());
}

pub(crate) async fn a_delivery_that_no_work_began_on_does_not_count(adapter: Adapter) {
    let rig = adapter.rig_with(impatient(), limits());
    let peer = queued(&rig, 1..2).await;
    let mut deliveries = peer.bus.consume(QUEUE, 1).await.unwrap();
    for _ in 0..6 {
        drop(fetched(&mut deliveries).await);
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.attempt, delivery.deliveries), (1, 7));
    delivery.ack().await.unwrap();
}

/// A consumer whose work fails as long as its infrastructure does.
struct Consumer {
    healthy: Arc<AtomicBool>,
    /// Attempts at any work.
    attempts: Arc<AtomicU64>,
    /// How often it was asked whether everything is ready.
    asked: Arc<AtomicU64>,
    done: mpsc::UnboundedReceiver<u64>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
}

impl Consumer {
    /// Work on messages of number `poison` and above fails whatever the infrastructure does.
    fn start(bus: Arc<dyn EventBus>, poison: u64) -> Self {
        let healthy = Arc::new(AtomicBool::new(false));
        let (attempts, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = oneshot::channel();
        let (tell, done) = mpsc::unbounded_channel();
        let ready: Readiness = {
            let (healthy, asked) = (healthy.clone(), asked.clone());
            Arc::new(move || {
                asked.fetch_add(1, Ordering::Relaxed);
                let healthy = healthy.load(Ordering::Relaxed);
                Box::pin(async move { if healthy { Ok(()) } else { Err("the store is away".to_owned()) } })
            })
        };
        let running = tokio::spawn({
            let (healthy, attempts) = (healthy.clone(), attempts.clone());
            async move {
                let stopped = async { stopped.await.unwrap() };
                run_consumer(&*bus, QUEUE, 4, stopped, ready, move |delivery| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let number = number(&delivery);
                    let (healthy, tell) = (healthy.load(Ordering::Relaxed), tell.clone());
                    async move {
                        if !healthy {
                            return Outcome::Defer("the store is away".to_owned());
                        }
                        if number >= poison {
                            return Outcome::Retry("unreadable".to_owned());
                        }
                        tell.send(number).unwrap();
                        Outcome::Done
                    }
                })
                .await;
            }
        });
        Consumer { healthy, attempts, asked, done, stop, running }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

pub(crate) async fn an_outage_pauses_the_consumer_and_makes_no_dead_letters(adapter: Adapter) {
    const MESSAGES: u64 = 12;
    let rig = adapter.rig_with(impatient(), limits());
    let peer = queued(&rig, 0..MESSAGES).await;
    let mut consumer = Consumer::start(peer.bus.clone(), MESSAGES);
    // Far more rounds than a message has attempts, had each of them cost one.
    while consumer.asked.load(Ordering::Relaxed) < 4 {
        tokio::task::yield_now().await;
    }
    let attempts = consumer.attempts.load(Ordering::Relaxed);
    assert!(attempts <= 4, "a paused consumer went on working: {attempts} attempts");
    assert_eq!(peer.bus.queue_status(QUEUE).await.unwrap().messages, MESSAGES);
    consumer.healthy.store(true, Ordering::Relaxed);
    let mut done: Vec<u64> = Vec::new();
    for _ in 0..MESSAGES {
        done.push(consumer.done.recv().await.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, (0..MESSAGES).collect::<Vec<_>>());
    consumer.end().await;
    assert_eq!(peer.bus.dead_letters(None, 9).await.unwrap(), []);
    assert_eq!(peer.bus.queue_status(QUEUE).await.unwrap().messages, 0);
}

pub(crate) async fn after_an_outage_only_poison_messages_become_dead_letters(adapter: Adapter) {
    let rig = adapter.rig_with(impatient(), limits());
    let peer = queued(&rig, 0..5).await;
    let mut consumer = Consumer::start(peer.bus.clone(), 4);
    while consumer.asked.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    consumer.healthy.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        consumer.done.recv().await.unwrap();
    }
    let dead = loop {
        let dead = peer.bus.dead_letters(None, 9).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(dead.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2]);
    consumer.end().await;
    assert_eq!(peer.bus.queue_status(QUEUE).await.unwrap().messages, 0);
}
