//! Permissions of the broker: every user tries every action on a nats-server with `deploy/nats.conf`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerError};
use bus::nats::{NatsBus, NatsConfig, NatsLogin, provision};
use bus::{
    BusPorts, PartitionEvent, QueueLimits, VitalsEvent, WaveEvent, WaveGroup, WaveKind, WaveLag, WaveMessage,
};
use futures::StreamExt;
use proto_json::waveform::{StreamId, Vitals, VitalsSource, partition_of};
use proto_json::{EcgQuality, Mrn, Timestamp};
use testkit::NatsServer;
use tokio::sync::mpsc;

const USERS: [&str; 7] = ["setup", "gateway", "ingest", "worker", "alarms", "monitor", "backup"];

/// A subject that no user may publish to. Its error arrives after the errors of everything published before.
const FENCE: &str = "fence";

/// A subject, and the users who may publish to it.
const PUBLISH: &[(&str, &[&str])] = &[
    ("bedside.ping", &["setup", "gateway", "ingest", "worker", "alarms", "backup"]),
    // Uploads, jobs, results and updates.
    ("upload.received.7", &["gateway"]),
    ("ecg.analyze.7", &["gateway", "ingest"]),
    ("ecg.analyzed.7", &["gateway", "worker"]),
    ("patient.7.updated", &["ingest"]),
    ("claim.x", &[]),
    // Alarms and events.
    ("alarm.7", &["alarms"]),
    ("system.limits", &["ingest", "alarms"]),
    ("system.patient", &["ingest"]),
    // Live waveforms and vitals.
    ("wave.3.7.x", &["gateway"]),
    ("vitals.7", &["worker"]),
    ("$JS.API.DIRECT.GET.WAVES.wave.3.7.x", &["gateway"]),
    ("$JS.API.DIRECT.GET.WAVES", &["ingest", "worker"]),
    ("$JS.API.CONSUMER.INFO.WAVES.storage-3", &["setup", "ingest", "worker", "backup"]),
    ("$JS.API.CONSUMER.MSG.NEXT.WAVES.storage-3", &["ingest", "worker"]),
    ("$JS.API.CONSUMER.UNPIN.WAVES.storage-3", &["ingest", "worker"]),
    // No group can acknowledge for another.
    ("$JS.ACK.WAVES.storage-0.x", &["ingest"]),
    ("$JS.ACK.WAVES.storage-15.x", &["ingest"]),
    ("$JS.ACK.WAVES.analysis-0.x", &["worker"]),
    ("$JS.ACK.WAVES.analysis-15.x", &["worker"]),
    ("$JS.API.STREAM.PURGE.WAVES", &[]),
    ("$JS.API.STREAM.MSG.DELETE.WAVES", &[]),
    ("$JS.API.STREAM.MSG.GET.WAVES", &[]),
    ("$JS.API.CONSUMER.CREATE.WAVES.x", &["setup"]),
    ("$JS.API.CONSUMER.DELETE.WAVES.storage-3", &[]),
    ("blob.x.y.file", &["gateway", "ingest", "worker"]),
    ("dead.UPLOADS.7", &["ingest"]),
    ("dead.ECG_RESULTS.7", &["ingest"]),
    ("dead.ECG_JOBS.7", &["worker"]),
    ("attempt.UPLOADS.7", &["ingest"]),
    ("attempt.ECG_RESULTS.7", &["ingest"]),
    ("attempt.ECG_JOBS.7", &["worker"]),
    // Replies: only ingest sends receipts to gateways, and no user can forge a reply to another.
    ("_INBOX_gateway.receipts.x.y", &["ingest"]),
    ("_INBOX_gateway.x", &[]),
    ("_INBOX_ingest.x", &[]),
    ("_INBOX_worker.x", &[]),
    ("_INBOX_setup.x", &[]),
    ("_INBOX_monitor.x", &[]),
    ("_INBOX.x", &[]),
    // Consuming and acknowledging.
    ("$JS.API.CONSUMER.MSG.NEXT.UPLOADS.UPLOADS", &["ingest"]),
    ("$JS.API.CONSUMER.MSG.NEXT.ECG_RESULTS.ECG_RESULTS", &["ingest"]),
    ("$JS.API.CONSUMER.MSG.NEXT.ECG_JOBS.ECG_JOBS", &["worker"]),
    ("$JS.API.CONSUMER.MSG.NEXT.BLOBS.x", &["ingest"]),
    ("$JS.API.CONSUMER.MSG.NEXT.UPLOADS.x", &[]),
    ("$JS.ACK.UPLOADS.x", &["ingest"]),
    ("$JS.ACK.ECG_RESULTS.x", &["ingest"]),
    ("$JS.ACK.ECG_JOBS.x", &["worker"]),
    // Reading a stream directly.
    ("$JS.API.STREAM.MSG.GET.UPLOADS", &[]),
    ("$JS.API.STREAM.MSG.GET.ECG_JOBS", &[]),
    ("$JS.API.STREAM.MSG.GET.BLOBS", &["gateway", "ingest", "worker"]),
    ("$JS.API.DIRECT.GET.UPLOADS.upload.received.7", &[]),
    ("$JS.API.DIRECT.GET.BLOBS.blob.x.y.file", &["gateway", "ingest", "worker"]),
    ("$JS.API.DIRECT.GET.BLOBS", &[]),
    ("$JS.API.DIRECT.GET.DEAD_LETTERS", &["gateway", "ingest"]),
    ("$JS.API.DIRECT.GET.ATTEMPTS.attempt.UPLOADS.7", &["ingest", "worker"]),
    ("$JS.API.STREAM.PURGE.ATTEMPTS", &[]),
    ("$JS.API.CONSUMER.CREATE.BLOBS", &["setup", "ingest"]),
    ("$JS.API.CONSUMER.CREATE.UPLOADS.x", &["setup"]),
    ("$JS.API.CONSUMER.CREATE.DEAD_LETTERS.x", &["setup"]),
    // Deleting.
    ("$JS.API.STREAM.PURGE.BLOBS", &["gateway", "ingest", "worker"]),
    ("$JS.API.STREAM.PURGE.UPLOADS", &[]),
    ("$JS.API.STREAM.PURGE.DEAD_LETTERS", &[]),
    ("$JS.API.STREAM.MSG.DELETE.DEAD_LETTERS", &["gateway"]),
    ("$JS.API.STREAM.MSG.DELETE.UPLOADS", &[]),
    ("$JS.API.STREAM.DELETE.UPLOADS", &[]),
    ("$JS.API.CONSUMER.DELETE.UPLOADS.UPLOADS", &[]),
    // Creating and changing.
    ("$JS.API.STREAM.CREATE.x", &["setup"]),
    ("$JS.API.STREAM.UPDATE.UPLOADS", &["setup"]),
    ("$JS.API.STREAM.RESTORE.x", &[]),
    ("$JS.API.STREAM.SNAPSHOT.UPLOADS", &[]),
    // Pausing deliveries.
    ("$JS.API.CONSUMER.PAUSE.UPLOADS.UPLOADS", &["backup"]),
    ("$JS.API.CONSUMER.PAUSE.ECG_RESULTS.ECG_RESULTS", &["backup"]),
    // Moving a leader to another server.
    ("$JS.API.STREAM.LEADER.STEPDOWN.UPLOADS", &[]),
    ("$JS.API.CONSUMER.LEADER.STEPDOWN.UPLOADS.UPLOADS", &[]),
    ("$JS.API.META.LEADER.STEPDOWN", &[]),
    // Reading the state.
    ("$JS.API.STREAM.INFO.UPLOADS", &["setup", "ingest"]),
    ("$JS.API.CONSUMER.INFO.UPLOADS.UPLOADS", &["setup", "ingest", "backup"]),
    ("$JS.API.STREAM.LIST", &[]),
    ("$SYS.REQ.SERVER.PING", &[]),
];

/// A subject, and the users who may subscribe to it.
const SUBSCRIBE: &[(&str, &[&str])] = &[
    ("patient.*.updated", &["gateway", "alarms", "monitor"]),
    ("patient.7.updated", &["gateway", "alarms", "monitor"]),
    ("patient.>", &[]),
    ("wave.*.*.*", &["gateway", "monitor"]),
    ("wave.3.7.*", &["gateway", "monitor"]),
    ("vitals.*", &["gateway", "worker", "alarms", "monitor"]),
    ("vitals.7", &["gateway", "worker", "alarms", "monitor"]),
    ("alarm.*", &["gateway", "alarms", "monitor"]),
    ("system.*", &["gateway", "alarms", "monitor"]),
    (">", &[]),
    ("upload.received.*", &[]),
    ("ecg.>", &[]),
    ("claim.*", &[]),
    ("blob.>", &[]),
    ("dead.*.*", &[]),
    ("_INBOX.>", &[]),
    ("_INBOX_setup.>", &["setup"]),
    ("_INBOX_gateway.>", &["gateway"]),
    ("_INBOX_ingest.>", &["ingest"]),
    ("_INBOX_worker.>", &["worker"]),
    ("_INBOX_alarms.>", &["alarms"]),
    ("_INBOX_monitor.>", &["monitor"]),
    ("_INBOX_backup.>", &["backup"]),
    // A restore receives the progress reports of consumers, and nothing else.
    ("$JS.ACK.UPLOADS.>", &["backup"]),
    ("$JS.ACK.ECG_RESULTS.>", &["backup"]),
    ("$JS.ACK.ECG_JOBS.>", &[]),
    ("$JS.ACK.>", &[]),
    ("$JS.>", &[]),
    ("$SYS.>", &[]),
];

fn shipped() -> NatsServer {
    let config = include_str!("../../deploy/nats.conf");
    let passwords: String =
        USERS.iter().map(|user| format!("{}_PASSWORD: \"{user}-secret\"\n", user.to_uppercase())).collect();
    NatsServer::start_shipped(
        config,
        &[("/secrets/nats/passwords.conf", &passwords)],
        &[("NATS_SERVER_NAME", "nats"), ("NATS_MAX_FILE", "1GB")],
    )
}

/// A connection, and the permission errors on it.
async fn connect(server: &NatsServer, user: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (errors, forbidden) = mpsc::unbounded_channel();
    let options = ConnectOptions::with_user_and_password(user.to_owned(), format!("{user}-secret"))
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .event_callback(move |event| {
            let errors = errors.clone();
            async move {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    let _ = errors.send(text);
                }
            }
        });
    (options.connect(server.url()).await.unwrap(), forbidden)
}

/// The subjects of permission errors up to the fence.
async fn until_fence(client: &Client, forbidden: &mut mpsc::UnboundedReceiver<String>) -> BTreeSet<String> {
    client.publish(FENCE, "".into()).await.unwrap();
    let mut subjects = BTreeSet::new();
    loop {
        let text = tokio::time::timeout(Duration::from_secs(30), forbidden.recv()).await.unwrap().unwrap();
        let subject = text.split('"').nth(1).unwrap_or_else(|| panic!("{text}")).to_owned();
        if subject == FENCE {
            return subjects;
        }
        subjects.insert(subject);
    }
}

#[tokio::test]
async fn users_have_exactly_their_permissions() {
    let server = shipped();
    let mut wrong = Vec::new();
    for user in USERS {
        let (client, mut forbidden) = connect(&server, user).await;
        // One at a time, because the client can drop errors that arrive too fast.
        for (subject, may) in PUBLISH {
            client.publish_with_reply(*subject, format!("_INBOX_{user}.answer"), "{}".into()).await.unwrap();
            let denied = until_fence(&client, &mut forbidden).await.contains(*subject);
            if denied == may.contains(&user) {
                wrong.push(format!("{user} may{} publish to {subject}", if denied { " not" } else { "" }));
            }
        }
        for (subject, may) in SUBSCRIBE {
            let subscription = client.subscribe(*subject).await.unwrap();
            let denied = until_fence(&client, &mut forbidden).await.contains(*subject);
            drop(subscription);
            if denied == may.contains(&user) {
                wrong.push(format!("{user} may{} subscribe to {subject}", if denied { " not" } else { "" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The ports of a user.
async fn ports(server: &NatsServer, user: &str) -> BusPorts {
    let config = NatsConfig {
        login: NatsLogin::Password { user: user.to_owned(), password: format!("{user}-secret") },
        inbox_prefix: format!("_INBOX_{user}"),
        limits: QueueLimits {
            max_staged_bytes: 100 << 20,
            max_wave_bytes: 10 << 20,
            ..QueueLimits::default()
        },
        create: false,
        ..NatsConfig::new([server.url()])
    };
    if user == "setup" {
        provision(&config).await.unwrap();
    }
    BusPorts::of(&NatsBus::connect(config).await.unwrap())
}

#[tokio::test]
async fn live_waveforms_work_with_the_permissions_of_the_services() {
    let server = shipped();
    ports(&server, "setup").await;
    let (gateway, monitor) = (ports(&server, "gateway").await.waves, ports(&server, "monitor").await.waves);
    let (ingest, worker) = (ports(&server, "ingest").await.waves, ports(&server, "worker").await.waves);
    let mrn = Mrn::new(7).unwrap();
    let mut screen = monitor.subscribe_waves(Some(mrn)).await.unwrap();
    let mut vitals = monitor.subscribe_vitals(None).await.unwrap();
    let (stored, analysed) = (WaveGroup::Storage, WaveGroup::Analysis);
    let mut storing = ingest.consume_waves(stored, partition_of(&mrn), 8).await.unwrap();
    let mut analysing = worker.consume_waves(analysed, partition_of(&mrn), 8).await.unwrap();
    let message = WaveMessage {
        mrn,
        stream: StreamId::generate(),
        kind: WaveKind::Frame,
        sequence: 0,
        time_us: 0,
        payload: "frame".into(),
    };
    gateway.append(message.clone()).await.unwrap();
    assert_eq!(gateway.last_wave(mrn, message.stream).await.unwrap().as_ref(), Some(&message));
    assert_eq!(screen.next().await, Some(WaveEvent::Message(message.clone())));
    for (port, group, events) in [(&ingest, stored, &mut storing), (&worker, analysed, &mut analysing)] {
        assert!(matches!(events.next().await, Some(PartitionEvent::Acquired)));
        let Some(PartitionEvent::Delivery(delivery)) = events.next().await else { panic!("no delivery") };
        assert_eq!(delivery.message, message);
        delivery.ack_through().await.unwrap();
        while port.wave_lag(group).await.unwrap() != WaveLag::default() {}
    }
    let state = Vitals {
        mrn,
        stream: None,
        time: Timestamp::now(),
        values: Vec::new(),
        rhythm: None,
        quality: EcgQuality::Unusable,
        lead_off: Vec::new(),
        source: VitalsSource::Device,
        streams: Default::default(),
        beats: None,
    };
    worker.publish_vitals(&state).await.unwrap();
    assert_eq!(vitals.next().await, Some(VitalsEvent::Vitals(Box::new(state))));
}

#[tokio::test]
async fn wrong_passwords_are_rejected() {
    let server = shipped();
    assert!(async_nats::connect(server.url()).await.is_err());
    for user in USERS {
        for password in ["", "wrong", user] {
            let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
            assert!(options.connect(server.url()).await.is_err(), "{user}");
        }
    }
    let unknown = ConnectOptions::with_user_and_password("admin".to_owned(), "admin-secret".to_owned());
    assert!(unknown.connect(server.url()).await.is_err());
}
