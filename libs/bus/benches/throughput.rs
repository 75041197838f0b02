//! Throughput of the adapters: `cargo bench -p bedside-bus`. Prints a table; asserts nothing.
//!
//! One round is the work of an upload: a file of 25 KB is staged, a message is enqueued and delivered, the
//! file is read and deleted, a receipt is sent, and the message is acknowledged. The parts are also measured
//! separately. `cargo bench -p bedside-bus -- waves` measures live waveforms alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed benchmark stops")]

use std::time::{Duration, Instant};

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{
    BusPorts, Outgoing, PartitionEvent, QueueLimits, RetryPolicy, StagingKey, WaveEvent, WaveGroup, WaveKind,
    WaveMessage, collect,
};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::waveform::{PARTITIONS, StreamId};
use proto_json::{BlobHash, Mrn, Queue, UploadId};
use testkit::{NatsServer, cpu_seconds};

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

/// Patients, frames per second of each, and the size of a frame: three leads at 250 Hz and pleth at 125 Hz for 200 ms.
const PATIENTS: u64 = 64;
const FRAMES_PER_S: u32 = 5;
const FRAME: usize = 450;
const LIVE_RUN: Duration = Duration::from_secs(20);

/// Live waveforms of [`PATIENTS`] at their rate, with both groups of consumers and one screen. Prints the latency, and the
/// processor time of this process and of the broker.
async fn run_waves(peer: BusPorts, broker: Option<u32>) {
    let now_us = |since: Instant| i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX);
    let started = Instant::now();
    let mut consumers = tokio::task::JoinSet::new();
    for (group, partition) in
        WaveGroup::ALL.into_iter().flat_map(|group| (0..PARTITIONS).map(move |p| (group, p)))
    {
        let mut events = peer.waves.consume_waves(group, partition, 256).await.unwrap();
        consumers.spawn(async move {
            while let Some(event) = events.next().await {
                if let PartitionEvent::Delivery(delivery) = event
                    && (delivery.message.sequence % 5 == 0 || delivery.pending == 0)
                {
                    delivery.ack_through().await.unwrap();
                }
            }
        });
    }
    let mut live = peer.waves.subscribe_waves(None).await.unwrap();
    let screen = tokio::spawn(async move {
        let mut delays = Vec::new();
        while let Some(WaveEvent::Message(message)) = live.next().await {
            delays.push(now_us(started) - message.time_us);
            if delays.len() as u64 == PATIENTS * u64::from(FRAMES_PER_S) * LIVE_RUN.as_secs() {
                break;
            }
        }
        delays
    });
    let cpu = |pid: u32| cpu_seconds(pid).unwrap_or(0.0);
    let (own, of_broker) = (cpu(std::process::id()), broker.map_or(0.0, cpu));
    let begin = tokio::time::Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for patient in 0..PATIENTS {
        let waves = std::sync::Arc::clone(&peer.waves);
        senders.spawn(async move {
            let (mrn, stream) = (Mrn::new(patient).expect("in range"), StreamId::generate());
            let offset = Duration::from_micros(patient * 200_000 / PATIENTS);
            for number in 0..FRAMES_PER_S * LIVE_RUN.as_secs() as u32 {
                tokio::time::sleep_until(begin + offset + Duration::from_secs(1) / FRAMES_PER_S * number)
                    .await;
                let payload = Bytes::from(vec![number as u8; FRAME]);
                let (sequence, time_us) = (u64::from(number), now_us(started));
                let kind = WaveKind::Frame;
                waves.append(WaveMessage { mrn, stream, kind, sequence, time_us, payload }).await.unwrap();
            }
        });
    }
    while senders.join_next().await.is_some() {}
    let mut delays = screen.await.unwrap();
    delays.sort_unstable();
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    let percent = |used: f64| 100.0 * used / begin.elapsed().as_secs_f64();
    println!(
        "  {PATIENTS} patients, {FRAMES_PER_S} frames/s: screen p50 {:.2} ms, p99 {:.2} ms; {:.1} % of a core here, {:.1} % in the broker",
        at(0.5),
        at(0.99),
        percent(cpu(std::process::id()) - own),
        percent(broker.map_or(0.0, cpu) - of_broker),
    );
    consumers.abort_all();
}

#[tokio::main]
async fn main() {
    let waves_alone = std::env::args().any(|arg| arg == "waves");
    let limits = QueueLimits { max_staged_bytes: 4 << 30, ..QueueLimits::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.sqlite");
    let bus = LocalBus::open(&path, RetryPolicy::default(), limits.clone()).unwrap();
    println!("local");
    if !waves_alone {
        run_all(BusPorts::of(&bus)).await;
    }
    run_waves(BusPorts::of(&bus), None).await;

    let server = NatsServer::start();
    let bus = NatsBus::connect(NatsConfig { limits, ..NatsConfig::new([server.url()]) }).await.unwrap();
    println!("nats");
    if !waves_alone {
        run_all(BusPorts::of(&bus)).await;
    }
    run_waves(BusPorts::of(&bus), Some(server.pid())).await;
}
