//! The update feed with a NATS server.

use std::time::Duration;

use bus::nats::{NatsConfig, NatsLogin};
use client::{
    AlarmsEvent, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsCredentials, NatsSettings, Outdated,
};
use proto_json::alarms::{Alarm, AlarmUpdated, LimitScope};
use proto_json::{SystemEvent, Timestamp};
use testkit::NatsServer;

use crate::fixture::{FeedReader, System, mrn, named, store};

const SOON: Duration = Duration::from_secs(2);

fn feed(gateway: Gateway, nats: NatsSettings) -> FeedReader {
    FeedReader::of(Feed::start(FeedSettings { nats: Some(nats), ..FeedSettings::new(gateway, None) }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_falls_back_to_the_gateway_while_the_broker_is_down() {
    let mut server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let gateway = system.gateway().await.client();
    let mut reader = feed(gateway.clone(), NatsSettings::new(server.url()));
    reader.until_mode(FeedMode::Nats).await;
    let receipt = store(&gateway, 1, &named("Ann")).await;
    reader.until_version(1, receipt.version).await;
    assert!(matches!(reader.events.last(), Some(FeedEvent::Updated(_))), "{:?}", reader.events);

    server.kill();
    let noticed = reader.until_mode(FeedMode::ServerSentEvents).await;
    assert!(noticed < SOON, "reported after {noticed:?}");
    server.restart();
    reader.until_mode(FeedMode::Nats).await;
    let receipt = store(&gateway, 1, &named("Anna")).await;
    reader.until_version(1, receipt.version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_without_broker_is_polled() {
    let mut server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let gateway = system.gateway().await.client();
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    reader.until_mode(FeedMode::ServerSentEvents).await;

    server.kill();
    let noticed = reader.until_mode(FeedMode::Polling).await;
    assert!(noticed < SOON, "reported after {noticed:?}");
    let mut late = FeedReader::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    late.until_mode(FeedMode::Polling).await;

    server.restart();
    reader.until_mode(FeedMode::ServerSentEvents).await;
    let receipt = store(&gateway, 1, &named("Ann")).await;
    // The list that is loaded after the reconnection can contain this upload.
    reader.until_version(1, receipt.version).await;
    let receipt = store(&gateway, 2, &named("Ben")).await;
    reader.until_version(2, receipt.version).await;
    assert!(matches!(reader.events.last(), Some(FeedEvent::Updated(_))), "{:?}", reader.events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_is_offline_without_the_gateway_although_nats_pushes() {
    let server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let (first, second) = (system.gateway().await, system.gateway().await);
    let mut reader = feed(first.client(), NatsSettings::new(server.url()));
    reader.until_mode(FeedMode::Nats).await;

    let stopping = tokio::spawn(first.stop());
    let noticed = reader.until_mode(FeedMode::Offline).await;
    assert!(noticed < SOON, "reported after {noticed:?}");
    let address = stopping.await.unwrap();
    let receipt = store(&second.client(), 4, &named("Dan")).await;
    reader.until_version(4, receipt.version).await;
    assert_eq!(reader.mode, Some(FeedMode::Offline));

    let _back = system.gateway_at(address, gateway::Config::default()).await;
    let noticed = reader.until_mode(FeedMode::Nats).await;
    assert!(noticed < SOON, "reported after {noticed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_user_needs_only_permission_to_subscribe_to_updates() {
    let server = NatsServer::start_with(
        r#"authorization { users: [
            { user: services, password: s, permissions: { publish: ">", subscribe: ">" } }
            { user: monitor, password: m, permissions: { publish: { deny: ">" }, subscribe: ["patient.*.updated", "alarm.*", "system.*"] } }
            { user: nobody, password: n, permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } } }
        ] }"#,
    );
    let login = NatsLogin::Password { user: "services".to_owned(), password: "s".to_owned() };
    let system = System::on_broker(NatsConfig { login, ..NatsConfig::new([server.url()]) }).await;
    let gateway = system.gateway().await.client();
    let user = |user: &str, password: &str| {
        let credentials = NatsCredentials::Password { user: user.to_owned(), password: password.to_owned() };
        NatsSettings { credentials: Some(credentials), ..NatsSettings::new(server.url()) }
    };
    let mut monitor = feed(gateway.clone(), user("monitor", "m"));
    monitor.until_mode(FeedMode::Nats).await;
    let receipt = store(&gateway, 9, &named("Ida")).await;
    monitor.until_version(9, receipt.version).await;

    for (name, password) in [("nobody", "n"), ("monitor", "wrong")] {
        let mut reader = feed(gateway.clone(), user(name, password));
        reader.until_mode(FeedMode::ServerSentEvents).await;
        reader.until_version(9, receipt.version).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_alarms_limits_and_patients_arrive_over_nats() {
    let server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let gateway = system.gateway().await.client();
    let receipt = store(&gateway, 7, &named("Ann")).await;
    let settings = FeedSettings {
        nats: Some(NatsSettings::new(server.url())),
        alarms: true,
        ..FeedSettings::new(gateway.clone(), None)
    };
    let mut reader = FeedReader::of(Feed::start(settings));
    reader.until_mode(FeedMode::Nats).await;
    reader.until_version(7, receipt.version).await;

    let alarm = |version: u64, state: &str| -> Alarm {
        serde_json::from_value(serde_json::json!({
            "id": "0198f0a0-0000-7000-8000-000000000001", "mrn": 7, "rule": "asystole", "priority": "high", "state": state,
            "version": version, "text": "No beat for 4 s", "onset_at": "2026-01-01T00:00:00Z",
            "raised_at": "2026-01-01T00:00:04Z",
        }))
        .unwrap()
    };
    let publish = async |event: SystemEvent| system.bus.pubsub.publish_event(&event).await.unwrap();
    let updated = |alarm| SystemEvent::Alarm(Box::new(AlarmUpdated { alarm, sent_at: Timestamp::now() }));
    publish(updated(alarm(1, "raised"))).await;
    reader.until("the alarm", |reader| reader.alarms.values().any(|alarm| alarm.version == 1)).await;
    publish(updated(alarm(3, "acknowledged"))).await;
    publish(updated(alarm(2, "latched"))).await;
    publish(updated(alarm(4, "ended"))).await;
    publish(updated(alarm(3, "acknowledged"))).await;
    for scope in [LimitScope::Site, LimitScope::Patient { mrn: mrn(7) }] {
        publish(SystemEvent::Limits { scope }).await;
    }
    publish(SystemEvent::Wards).await;
    publish(SystemEvent::Patient { mrn: mrn(7) }).await;
    let versions = |reader: &FeedReader| -> Vec<u64> {
        let of_alarm = reader.events.iter().filter_map(|event| match event {
            FeedEvent::Alarms(AlarmsEvent::Updated(alarm)) => Some(alarm.version),
            _ => None,
        });
        of_alarm.collect()
    };
    // Events of different subjects may overtake each other.
    let last = FeedEvent::Outdated(Outdated::Patient(mrn(7)));
    reader
        .until("the last events", |reader| reader.events.contains(&last) && versions(reader).len() >= 3)
        .await;
    let versions = versions(&reader);
    assert_eq!(versions, [1, 3, 4], "each newer version once");
    assert!(reader.alarms.is_empty());
    for outdated in [
        Outdated::Everything,
        Outdated::Limits(LimitScope::Site),
        Outdated::Limits(LimitScope::Patient { mrn: mrn(7) }),
        Outdated::Wards,
    ] {
        assert!(reader.events.contains(&FeedEvent::Outdated(outdated)), "{outdated:?}");
    }
}
