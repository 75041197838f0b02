//! The update feed through the gateway.

use std::time::Duration;

use client::{Feed, FeedEvent, FeedMode, FeedSettings, Gateway, Settings, Timeouts};
use proto_json::ChangeKind;

use crate::fixture::{FeedReader, System, client_of, ecg_upload, mrn, named, store, strip};
use crate::proxy::Proxy;

/// Time limit to report that a connection is lost or restored.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn updates_are_pushed_by_the_gateway_in_order_of_versions() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 1, &named("before")).await;
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    reader.until_mode(FeedMode::ServerSentEvents).await;
    assert!(matches!(&reader.events[0], FeedEvent::Snapshot(all) if all.len() == 1), "{:?}", reader.events);

    let receipt = store(&gateway, 2, &ecg_upload(strip(12.0, 80.0))).await;
    let id = receipt.files[0].id;
    reader
        .until("the analysis", |reader| {
            reader.events.iter().any(|event| match event {
                FeedEvent::Updated(update) => update
                    .changes
                    .iter()
                    .any(|change| change.kind == ChangeKind::EcgAnalyzed && change.id == Some(id)),
                _ => false,
            })
        })
        .await;
    let Some(FeedEvent::Updated(last)) = reader.events.last() else { panic!("{:?}", reader.events) };
    let rate = last.patient.latest_heart_rate.as_ref().unwrap().bpm.get();
    assert!((75..=85).contains(&rate), "{rate}");
    assert_eq!(reader.mode, Some(FeedMode::ServerSentEvents));
}

#[tokio::test]
async fn feed_of_one_patient_reports_no_other() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 1, &named("One")).await;
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(gateway.clone(), Some(mrn(2)))));
    reader.until_mode(FeedMode::ServerSentEvents).await;
    assert!(reader.versions.is_empty(), "patient 2 does not exist yet");
    store(&gateway, 1, &named("Uno")).await;
    store(&gateway, 2, &named("Two")).await;
    reader.until_version(2, 1).await;
    assert_eq!(reader.versions.keys().collect::<Vec<_>>(), [&2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_crash_is_reported_and_missed_updates_follow_after_its_restart() {
    let system = System::start();
    let (first, second) = (system.gateway().await, system.gateway().await);
    let other_gateway = second.client();
    let known = store(&other_gateway, 1, &named("Ann")).await;
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(first.client(), None)));
    reader.until_mode(FeedMode::ServerSentEvents).await;

    let stopping = tokio::spawn(first.stop());
    let noticed = reader.until_mode(FeedMode::Offline).await;
    assert!(noticed < SOON, "reported after {noticed:?}");
    let address = stopping.await.unwrap();

    let missed = store(&other_gateway, 1, &named("Anna")).await;
    let new = store(&other_gateway, 2, &named("Ben")).await;
    assert!(missed.version > known.version);
    let _back = system.gateway_at(address, gateway::Config::default()).await;
    let shown = reader.until_version(2, new.version).await + reader.until_version(1, missed.version).await;
    assert!(shown < SOON, "reported after {shown:?}");
    reader.until_mode(FeedMode::ServerSentEvents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_is_reported_as_offline() {
    let system = System::start();
    let config =
        gateway::Config { events_keep_alive: Duration::from_millis(200), ..gateway::Config::default() };
    let server = system.gateway_at("127.0.0.1:0".parse().unwrap(), config).await;
    let proxy = Proxy::to(server.address).await;
    let timeouts = Timeouts { answer: Duration::from_secs(1), ..Timeouts::default() };
    let through = Settings { timeouts, ..Settings::new(proxy.address.to_string()) };
    let settings = FeedSettings {
        silence: Duration::from_secs(1),
        ..FeedSettings::new(Gateway::new(&through).unwrap(), None)
    };
    let mut reader = FeedReader::of(Feed::start(settings));
    reader.until_mode(FeedMode::ServerSentEvents).await;

    proxy.pause();
    let noticed = reader.until_mode(FeedMode::Offline).await;
    assert!(noticed > Duration::from_millis(500), "reported before the time limit for silence: {noticed:?}");
    let receipt = store(&server.client(), 5, &named("Eve")).await;
    proxy.resume();
    reader.until_version(5, receipt.version).await;
    reader.until_mode(FeedMode::ServerSentEvents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_polls_without_push_and_returns_to_push() {
    let system = System::start();
    let mut narrow = gateway::Config::default();
    narrow.limits.max_watchers = 1;
    let server = system.gateway_at("127.0.0.1:0".parse().unwrap(), narrow).await;
    let gateway = server.client();
    let mut first = FeedReader::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    first.until_mode(FeedMode::ServerSentEvents).await;

    let settings =
        FeedSettings { poll_every: Duration::from_millis(100), ..FeedSettings::new(gateway.clone(), None) };
    let mut reader = FeedReader::of(Feed::start(settings));
    reader.until_mode(FeedMode::Polling).await;
    let receipt = store(&gateway, 3, &named("Cleo")).await;
    reader.until_version(3, receipt.version).await;
    assert_eq!(reader.mode, Some(FeedMode::Polling));

    drop(first);
    reader.until_mode(FeedMode::ServerSentEvents).await;
    let receipt = store(&gateway, 3, &named("Cleopatra")).await;
    reader.until_version(3, receipt.version).await;
    assert!(matches!(reader.events.last(), Some(FeedEvent::Updated(_))), "{:?}", reader.events);
}

#[tokio::test]
async fn feed_started_before_its_gateway_waits_for_it() {
    let system = System::start();
    let address = system.gateway().await.stop().await;
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(client_of(address), None)));
    reader.until_mode(FeedMode::Offline).await;
    let reason = reader.events.iter().find_map(|event| match event {
        FeedEvent::Connection(state) => state.reason.clone(),
        _ => None,
    });
    assert!(reason.unwrap().contains("cannot be reached"));
    let _server = system.gateway_at(address, gateway::Config::default()).await;
    reader.until_mode(FeedMode::ServerSentEvents).await;
    assert!(reader.events.iter().any(|event| matches!(event, FeedEvent::Snapshot(all) if all.is_empty())));
}

#[tokio::test]
async fn rejected_token_is_reported_as_such() {
    let system = System::start();
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, format!("ward viewer {}\n", proto_json::BlobHash::of(b"good-token"))).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let config = gateway::Config { tokens: Some(tokens), key_file: Some(key), ..gateway::Config::default() };
    let server = system.gateway_at("127.0.0.1:0".parse().unwrap(), config).await;
    let settings = Settings::new(server.address.to_string()).with_token("wrong-token".parse().ok());
    let mut reader = FeedReader::of(Feed::start(FeedSettings::new(Gateway::new(&settings).unwrap(), None)));
    reader.until_mode(FeedMode::Offline).await;
    let Some(FeedEvent::Connection(state)) = reader.events.last() else { panic!("{:?}", reader.events) };
    assert!(state.token_rejected, "{state:?}");
}
