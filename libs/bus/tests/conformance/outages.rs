//! Tests that need an external broker: outages, permissions, and lost replies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus::nats::{NatsBus, NatsConfig};
use bus::{
    BusError, DeadLetters, EnqueueError, PartitionEvent, PubSub, ReplyInbox, RetryPolicy, StagingKey,
    StagingStore, UpdateEvent, WaveGroup, WaveKind, WaveLog, WaveMessage, WorkQueue,
};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::waveform::StreamId;
use proto_json::{BlobHash, Mrn, Queue, Receipt, UploadId};
use testkit::NatsServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot::error::TryRecvError;

use crate::fixture::{job, limits, next, number, patient_policy, update};
use crate::with_timeout;

fn config(server: &NatsServer) -> NatsConfig {
    NatsConfig {
        retry: patient_policy(),
        limits: limits(),
        request_timeout: Duration::from_secs(2),
        ..NatsConfig::new([server.url()])
    }
}

/// The key of a file of a new upload; the file contains the number.
fn file(number: u64) -> StagingKey {
    StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(number.to_string().as_bytes()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_receive_lagged_after_an_outage() {
    with_timeout(async {
        let mut server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        let mut connection = bus.connection();
        assert!(connection.is_up());
        let mut updates = bus.subscribe(None).await.unwrap();
        server.kill();
        assert_eq!(connection.changed().await, Some(false));
        assert!(bus.check().await.is_err());
        assert_eq!(updates.next().await, Some(UpdateEvent::Disconnected));
        server.restart();
        assert_eq!(updates.next().await, Some(UpdateEvent::Lagged));
        assert_eq!(connection.changed().await, Some(true));
        assert!(connection.is_up());
        bus.check().await.unwrap();
        // From then on, nothing is lost.
        let after = update(1, 2);
        bus.publish(&after, None).await.unwrap();
        assert_eq!(updates.next().await, Some(UpdateEvent::Updated(Box::new(after))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_during_an_outage_is_retried_and_stored_once() {
    with_timeout(async {
        let mut server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        let key = file(7);
        server.kill();
        let sender = Arc::clone(&bus);
        let sending = tokio::spawn(async move {
            tokio::try_join!(sender.enqueue(job(Queue::Uploads, 1)), sender.put_bytes(key, "7".into()))
        });
        // Longer than one attempt takes.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!sending.is_finished());
        server.restart();
        sending.await.unwrap().unwrap();
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 1);
        assert_eq!(bus.list().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_consumer_continues_after_an_outage() {
    with_timeout(async {
        let mut server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        let mut deliveries = bus.consume(Queue::EcgJobs, 4).await.unwrap();
        bus.enqueue(job(Queue::EcgJobs, 1)).await.unwrap();
        next(&mut deliveries).await.ack().await.unwrap();
        let mut came = BTreeSet::new();
        for round in 2..4 {
            server.restart();
            // Each attempt is a new message: one whose confirmation was lost may be delivered as well.
            let mut attempts = round * 1_000..;
            let send = async {
                while let Err(error) = bus.enqueue(job(Queue::EcgJobs, attempts.next().unwrap())).await {
                    assert!(matches!(error, EnqueueError::Bus(BusError::Unavailable(_))), "{error}");
                }
            };
            let take = async {
                loop {
                    let delivery = next(&mut deliveries).await;
                    let number = number(&delivery);
                    assert!(came.insert(number), "{number} was redelivered after its acknowledgement");
                    delivery.ack().await.unwrap();
                    if number / 1_000 == round {
                        return;
                    }
                }
            };
            tokio::join!(send, take);
        }
        let pending = bus.expect_receipt(UploadId::generate()).await.unwrap();
        server.restart();
        while bus.check().await.is_err() {}
        let receipt = Receipt::Conflict { upload_id: UploadId::generate() };
        bus.send_receipt(&pending.reply_to, &receipt).await.unwrap();
        assert_eq!(pending.receipt.await, Some(receipt));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_queue_is_created_again() {
    with_timeout(async {
        let server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        let mut deliveries = bus.consume(Queue::Uploads, 4).await.unwrap();
        bus.enqueue(job(Queue::Uploads, 1)).await.unwrap();
        next(&mut deliveries).await.ack().await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        async_nats::jetstream::new(client).delete_stream("UPLOADS").await.unwrap();
        // The consumer creates the queue again while the publish is retried.
        let (sent, delivery) = tokio::join!(bus.enqueue(job(Queue::Uploads, 2)), next(&mut deliveries));
        sent.unwrap();
        assert_eq!(number(&delivery), 2);
        delivery.ack().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_fails_with_a_clear_error_without_a_broker_or_a_valid_login() {
    with_timeout(async {
        let mut server = NatsServer::start_with("authorization { user: bedside, password: secret }");
        let refused = NatsBus::connect(config(&server)).await.unwrap_err();
        assert!(matches!(refused, BusError::Unavailable(_)), "{refused}");
        let login =
            bus::nats::NatsLogin::Password { user: "bedside".to_owned(), password: "secret".to_owned() };
        assert!(!format!("{login:?}").contains("secret"));
        let allowed = NatsConfig { login, ..config(&server) };
        NatsBus::connect(allowed.clone()).await.unwrap().check().await.unwrap();
        server.kill();
        let refused = NatsBus::connect(allowed).await.unwrap_err();
        assert!(refused.to_string().starts_with("the message broker cannot be reached"), "{refused}");
    })
    .await;
}

/// The broker drops these requests, like requests whose reply is lost with the connection.
const NO_REPLIES: &str = r#"
authorization { users: [
    { user: bedside, password: b, permissions: { publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.BLOBS.>" } } }
] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_staged_files_ends_without_a_reply() {
    with_timeout(async {
        let server = NatsServer::start_with(NO_REPLIES);
        let login = bus::nats::NatsLogin::Password { user: "bedside".to_owned(), password: "b".to_owned() };
        let bus = NatsBus::connect(NatsConfig { login, ..config(&server) }).await.unwrap();
        bus.put_bytes(file(1), Bytes::from_static(b"1")).await.unwrap();
        let refused = bus.list().await.unwrap_err();
        assert!(matches!(refused, BusError::Unavailable(_)), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_staged_files_is_complete_or_fails_during_an_outage() {
    // More files than two requests return.
    const FILES: u64 = 1_050;
    with_timeout(async {
        let mut server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        let patient = NatsConfig { request_timeout: Duration::from_secs(30), ..config(&server) };
        let patient = NatsBus::connect(patient).await.unwrap();
        let puts = (0..FILES).map(|number| patient.put_bytes(file(number), number.to_string().into()));
        let mut puts = futures::stream::iter(puts).buffer_unordered(16);
        while let Some(put) = puts.next().await {
            put.unwrap();
        }
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let killer = tokio::task::spawn_blocking(move || {
            for round in 0..8 {
                std::thread::sleep(Duration::from_millis(100 + 37 * round));
                server.restart();
            }
            drop(stop);
            server
        });
        let (mut complete, mut failed) = (0, 0);
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            match bus.list().await {
                Ok(found) => {
                    assert_eq!(found.len() as u64, FILES);
                    complete += 1;
                }
                Err(error) => {
                    assert!(matches!(error, BusError::Unavailable(_)), "{error}");
                    failed += 1;
                }
            }
        }
        let _server = killer.await.unwrap();
        assert!(failed > 0, "none of {complete} listings was interrupted");
        while bus.check().await.is_err() {}
        assert_eq!(bus.list().await.unwrap().len() as u64, FILES);
    })
    .await;
}

/// The permissions that the users of the deployment need. A monitor app may only subscribe.
const PERMISSIONS: &str = r#"
authorization { users: [
    { user: admin, password: a }
    { user: monitor, password: m, permissions: {
        publish: { deny: ">" }
        subscribe: ["patient.*.updated", "_INBOX_monitor.>"] } }
    { user: worker, password: w, permissions: {
        publish: ["bedside.ping", "ecg.analyzed.*", "dead.ECG_JOBS.*", "blob.>",
            "$JS.API.CONSUMER.MSG.NEXT.ECG_JOBS.ECG_JOBS", "$JS.ACK.ECG_JOBS.>",
            "$JS.API.DIRECT.GET.BLOBS.>", "$JS.API.STREAM.MSG.GET.BLOBS", "$JS.API.STREAM.PURGE.BLOBS",
            "attempt.ECG_JOBS.*", "$JS.API.DIRECT.GET.ATTEMPTS.attempt.ECG_JOBS.*"]
        subscribe: ["_INBOX_worker.>"] } }
] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_need_no_other_permissions() {
    with_timeout(async {
        let server = NatsServer::start_with(PERMISSIONS);
        let login = |user: &str| NatsConfig {
            login: bus::nats::NatsLogin::Password { user: user.to_owned(), password: user[..1].to_owned() },
            inbox_prefix: format!("_INBOX_{user}"),
            create: user == "admin",
            ..config(&server)
        };
        bus::nats::provision(&login("admin")).await.unwrap();
        let admin = NatsBus::connect(login("admin")).await.unwrap();
        let monitor = NatsBus::connect(login("monitor")).await.unwrap();
        let mut updates = monitor.subscribe(None).await.unwrap();
        admin.publish(&update(1, 1), None).await.unwrap();
        assert!(matches!(updates.next().await, Some(UpdateEvent::Updated(_))));

        let worker = NatsBus::connect(login("worker")).await.unwrap();
        admin.enqueue(job(Queue::EcgJobs, 1)).await.unwrap();
        admin.enqueue(job(Queue::EcgJobs, 2)).await.unwrap();
        let mut deliveries = worker.consume(Queue::EcgJobs, 1).await.unwrap();
        worker.enqueue(job(Queue::EcgResults, 1)).await.unwrap();
        next(&mut deliveries).await.ack().await.unwrap();
        next(&mut deliveries).await.dead_letter("unreadable").await.unwrap();
        assert_eq!(admin.dead_letters(None, 9).await.unwrap().len(), 1);
        assert_eq!(admin.queue_status(Queue::EcgJobs).await.unwrap().messages, 0);
        let key = file(4);
        worker.put_bytes(key, Bytes::from_static(b"4")).await.unwrap();
        assert_eq!(worker.get(key).await.unwrap().unwrap().bytes, 1);
        worker.delete(key).await.unwrap();
        assert!(worker.get(key).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_queue_is_idle_once_no_consumer_works_on_a_delivery() {
    with_timeout(async {
        let server = NatsServer::start();
        let retry = RetryPolicy { ack_wait: Duration::from_secs(3), ..patient_policy() };
        let config = NatsConfig { retry, ..config(&server) };
        let bus = NatsBus::connect(config.clone()).await.unwrap();
        for number in 0..3 {
            bus.enqueue(job(Queue::Uploads, number)).await.unwrap();
        }
        let mut deliveries = bus.consume(Queue::Uploads, 3).await.unwrap();
        let (working, deferred, lost) =
            (next(&mut deliveries).await, next(&mut deliveries).await, next(&mut deliveries).await);
        std::mem::forget(lost);
        let mut paused =
            bus::nats::pause(&config, &[Queue::Uploads], Duration::from_secs(300)).await.unwrap();
        deferred.defer().await.unwrap();
        // For two ack waits, a consumer works.
        let work = tokio::time::sleep(Duration::from_secs(6));
        working.while_working(work).await;
        assert!(!paused.is_idle().await.unwrap(), "a consumer works");
        working.ack().await.unwrap();
        assert!(!paused.is_idle().await.unwrap(), "the progress is more recent than the ack wait");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(paused.is_idle().await.unwrap(), "a deferred and a lost delivery are not in progress");
        // Neither is redelivered during the pause.
        assert!(tokio::time::timeout(Duration::from_secs(1), deliveries.next()).await.is_err());
        paused.resume().await.unwrap();
        next(&mut deliveries).await.ack().await.unwrap();
        next(&mut deliveries).await.ack().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storing_of_waveforms_is_paused_with_the_queues() {
    with_timeout(async {
        let server = NatsServer::start();
        let config = config(&server);
        let bus = NatsBus::connect(config.clone()).await.unwrap();
        let mrn = Mrn::new(7).unwrap();
        let partition = proto_json::waveform::partition_of(&mrn);
        let mut events = bus.consume_waves(WaveGroup::Storage, partition, 10).await.unwrap();
        let stream = StreamId::generate();
        let message = |sequence| WaveMessage {
            mrn,
            stream,
            kind: WaveKind::Numerics,
            sequence,
            time_us: 0,
            payload: "{}".into(),
        };
        bus.append(message(0)).await.unwrap();
        assert!(matches!(events.next().await.unwrap(), PartitionEvent::Acquired));
        let first = events.next().await.unwrap();
        let PartitionEvent::Delivery(delivery) = first else { panic!("{first:?}") };
        delivery.ack_through().await.unwrap();
        let mut paused =
            bus::nats::pause(&config, &[Queue::Uploads], Duration::from_secs(300)).await.unwrap();
        bus.append(message(1)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(2), events.next()).await.is_err());
        assert!(paused.is_idle().await.unwrap());
        paused.resume().await.unwrap();
        let event = events.next().await.unwrap();
        let PartitionEvent::Delivery(delivery) = event else { panic!("{event:?}") };
        assert_eq!(delivery.message, message(1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recent_staged_files_are_not_listed_and_dead_letters_come_in_batches() {
    const FILES: u64 = 8;
    with_timeout(async {
        let server = NatsServer::start();
        let bus = NatsBus::connect(config(&server)).await.unwrap();
        for number in 0..FILES {
            bus.put_bytes(file(number), number.to_string().into()).await.unwrap();
        }
        // The server updates its statistics after each message.
        let requests = async || {
            let mut page = TcpStream::connect(("127.0.0.1", server.monitor_port())).await.unwrap();
            page.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
            let mut text = String::new();
            page.read_to_string(&mut text).await.unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            serde_json::from_str::<serde_json::Value>(body).unwrap()["in_msgs"].as_u64().unwrap()
        };
        let now = proto_json::Timestamp::now();
        let before = requests().await;
        assert_eq!(bus.list_old(now.plus_millis(-60_000), now).await.unwrap(), []);
        let asked = requests().await - before;
        assert!(asked <= 2, "one request for the state of the stream: {asked}");

        let mut deliveries = {
            for number in 0..300 {
                bus.enqueue(job(Queue::EcgJobs, number)).await.unwrap();
            }
            bus.consume(Queue::EcgJobs, 300).await.unwrap()
        };
        for _ in 0..300 {
            next(&mut deliveries).await.dead_letter("unreadable").await.unwrap();
        }
        drop(deliveries);
        let before = requests().await;
        let letters = bus.dead_letters(None, 500).await.unwrap();
        let asked = requests().await - before;
        assert_eq!(letters.len(), 300);
        assert!(letters.is_sorted_by_key(|letter| letter.id));
        assert!(asked <= 10, "a few batches: {asked}");
        let rest = bus.dead_letters(Some(letters[290].id), 5).await.unwrap();
        assert_eq!(rest.len(), 5);
        assert_eq!(rest[0].id, letters[291].id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_that_does_not_answer_does_not_delay_work_in_progress() {
    with_timeout(async {
        let server = NatsServer::start();
        let retry = RetryPolicy { ack_wait: Duration::from_millis(300), ..patient_policy() };
        let bus = NatsBus::connect(NatsConfig { retry, ..config(&server) }).await.unwrap();
        bus.enqueue(job(Queue::Uploads, 1)).await.unwrap();
        let mut deliveries = bus.consume(Queue::Uploads, 1).await.unwrap();
        let delivery = next(&mut deliveries).await;
        server.pause();
        let started = std::time::Instant::now();
        // Several progress reports are due meanwhile.
        delivery.while_working(tokio::time::sleep(Duration::from_millis(600))).await;
        let took = started.elapsed();
        server.resume();
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        delivery.ack().await.unwrap();
    })
    .await;
}
