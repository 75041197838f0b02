//! Throughput of the adapters: `cargo bench -p bedside-bus`. Prints a table; asserts nothing.
//!
//! One round is the work of an upload: a file of 25 KB is staged, a message is enqueued and delivered, the
//! file is read and deleted, a receipt is sent, and the message is acknowledged. The parts are also measured
//! separately.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed benchmark stops")]

use std::time::{Duration, Instant};

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{BusPorts, Outgoing, QueueLimits, RetryPolicy, StagingKey, collect};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::{BlobHash, Mrn, Queue, UploadId};
use testkit::NatsServer;

const RUN: Duration = Duration::from_secs(3);
const FILE: usize = 25_000;

fn message() -> Outgoing {
    Outgoing {
        queue: Queue::Uploads,
        mrn: Mrn::new(7).expect("in range"),
        payload: Bytes::from(vec![b' '; 600]),
        reply_to: None,
        trace_parent: None,
        attachments: Vec::new(),
    }
}

/// Runs `step` repeatedly on `tasks` tasks; prints the rate and the latency.
async fn measure<F: Future<Output = ()> + Send + 'static>(
    what: &str,
    tasks: usize,
    step: impl Fn() -> F + Clone + Send + 'static,
) {
    let end = Instant::now() + RUN;
    let running = (0..tasks).map(|_| {
        let step = step.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let started = Instant::now();
                step().await;
                took.push(started.elapsed());
            }
            took
        })
    });
    let mut took: Vec<Duration> =
        futures::future::try_join_all(running).await.unwrap().into_iter().flatten().collect();
    took.sort_unstable();
    let rate = took.len() as f64 / RUN.as_secs_f64();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "  {what:<28} {tasks:>3} tasks {rate:>8.0}/s   p50 {:>7.2} ms   p99 {:>7.2} ms",
        at(0.5),
        at(0.99)
    );
}

async fn run_all(peer: BusPorts) {
    let file = Bytes::from(vec![0x55; FILE]);
    let sha256 = BlobHash::of(&file);
    for tasks in [1, 8, 64] {
        let of = peer.clone();
        let file = file.clone();
        measure("put and delete 25 KB", tasks, move || {
            let (peer, file) = (of.clone(), file.clone());
            async move {
                let key = StagingKey { upload: UploadId::generate(), sha256 };
                peer.staging.put_bytes(key, file).await.unwrap();
                peer.staging.delete(key).await.unwrap();
            }
        })
        .await;
    }
    for tasks in [1, 8, 64] {
        // Consumes concurrently with the senders.
        let consumer = tokio::spawn(run_consumer(peer.clone(), None));
        let of = peer.clone();
        measure("enqueue, with a consumer", tasks, move || {
            let peer = of.clone();
            async move { peer.queue.enqueue(message()).await.unwrap() }
        })
        .await;
        let started = Instant::now();
        while peer.queue.queue_status(Queue::Uploads).await.unwrap().messages > 0 {
            tokio::task::yield_now().await;
        }
        println!(
            "  {:<28} {:>3}       {:>8.2} s after the last message",
            "... queue empty",
            "",
            started.elapsed().as_secs_f64()
        );
        consumer.abort();
        let _ = consumer.await;
    }
    for tasks in [1, 8, 64] {
        let consumer = tokio::spawn(run_consumer(peer.clone(), Some(sha256)));
        let (of, file) = (peer.clone(), file.clone());
        measure("one round", tasks, move || {
            let (peer, file) = (of.clone(), file.clone());
            async move {
                let upload = UploadId::generate();
                let receipt = peer.replies.expect_receipt(upload).await.unwrap();
                peer.staging.put_bytes(StagingKey { upload, sha256 }, file).await.unwrap();
                let reply_to = Some(receipt.reply_to);
                let payload = Bytes::from(upload.to_string());
                peer.queue.enqueue(Outgoing { reply_to, payload, ..message() }).await.unwrap();
                receipt.receipt.await.unwrap();
            }
        })
        .await;
        consumer.abort();
        let _ = consumer.await;
    }
}

async fn run_consumer(peer: BusPorts, file: Option<BlobHash>) {
    let deliveries = peer.queue.consume(Queue::Uploads, 64).await.unwrap();
    let each = deliveries.for_each_concurrent(64, |delivery| async {
        if let Some(sha256) = file {
            let upload: UploadId = std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap();
            let key = StagingKey { upload, sha256 };
            let staged = peer.staging.get(key).await.unwrap().unwrap();
            assert_eq!(collect(staged.body, staged.bytes).await.unwrap().len(), FILE);
            peer.staging.delete(key).await.unwrap();
            let receipt = proto_json::Receipt::Conflict { upload_id: upload };
            peer.replies.send_receipt(delivery.reply_to.as_deref().unwrap(), &receipt).await.unwrap();
        }
        delivery.ack().await.unwrap();
    });
    each.await;
}

#[tokio::main]
async fn main() {
    let limits = QueueLimits { max_staged_bytes: 4 << 30, ..QueueLimits::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = LocalBus::open(&path, RetryPolicy::default(), limits.clone()).unwrap();
    println!("local");
    run_all(BusPorts::of(&bus)).await;

    let server = NatsServer::start();
    let bus = NatsBus::connect(NatsConfig { limits, ..NatsConfig::new([server.url()]) }).await.unwrap();
    println!("nats");
    run_all(BusPorts::of(&bus)).await;
}
