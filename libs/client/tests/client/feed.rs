//! The update feed through the gateway.

use std::time::Duration;

use client::{Feed, FeedEvent, FeedMode, FeedSettings, Gateway, Settings, Timeouts};
use proto_json::ChangeKind;

use crate::proxy::Proxy;
use crate::system::{Screen, System, client_of, ecg_upload, mrn, named, store, strip};

/// What the design promises after a connection is cut, and after it is back.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn updates_are_pushed_by_the_gateway_in_the_order_of_versions() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 1, &named("before")).await;
    let mut screen = Screen::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    screen.until_mode(FeedMode::ServerSentEvents).await;
    assert!(matches!(&screen.events[0], FeedEvent::Snapshot(all) if all.len() == 1), "{:?}", screen.events);

    let receipt = store(&gateway, 2, &ecg_upload(strip(12.0, 80.0))).await;
    let id = receipt.files[0].id;
    screen
        .until("the analysis", |screen| {
            screen.events.iter().any(|event| match event {
                FeedEvent::Updated(update) => update
                    .changes
                    .iter()
                    .any(|change| change.kind == ChangeKind::EcgAnalyzed && change.id == Some(id)),
                _ => false,
            })
        })
        .await;
    let Some(FeedEvent::Updated(last)) = screen.events.last() else { panic!("{:?}", screen.events) };
    let rate = last.patient.latest_heart_rate.as_ref().unwrap().bpm.get();
    assert!((75..=85).contains(&rate), "{rate}");
    assert_eq!(screen.mode, Some(FeedMode::ServerSentEvents));
}

#[tokio::test]
async fn a_feed_of_one_patient_tells_of_no_other() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 1, &named("One")).await;
    let mut screen = Screen::of(Feed::start(FeedSettings::new(gateway.clone(), Some(mrn(2)))));
    screen.until_mode(FeedMode::ServerSentEvents).await;
    assert!(screen.versions.is_empty(), "patient 2 is not known yet");
    store(&gateway, 1, &named("Uno")).await;
    store(&gateway, 2, &named("Two")).await;
    screen.until_shown(2, 1).await;
    assert_eq!(screen.versions.keys().collect::<Vec<_>>(), [&2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_is_told_of_and_what_was_missed_is_told_after_its_return() {
    let system = System::start();
    let (first, second) = (system.gateway().await, system.gateway().await);
    let other_door = second.client();
    let known = store(&other_door, 1, &named("Ann")).await;
    let mut screen = Screen::of(Feed::start(FeedSettings::new(first.client(), None)));
    screen.until_mode(FeedMode::ServerSentEvents).await;

    let stopping = tokio::spawn(first.stop());
    let noticed = screen.until_mode(FeedMode::Offline).await;
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    let address = stopping.await.unwrap();

    let missed = store(&other_door, 1, &named("Anna")).await;
    let new = store(&other_door, 2, &named("Ben")).await;
    assert!(missed.version > known.version);
    let _back = system.gateway_at(address, gateway::Config::default()).await;
    let shown = screen.until_shown(2, new.version).await + screen.until_shown(1, missed.version).await;
    assert!(shown < SOON, "shown only after {shown:?}");
    screen.until_mode(FeedMode::ServerSentEvents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_counts_as_dead() {
    let system = System::start();
    let config =
        gateway::Config { events_keep_alive: Duration::from_millis(200), ..gateway::Config::default() };
    let door = system.gateway_at("127.0.0.1:0".parse().unwrap(), config).await;
    let proxy = Proxy::to(door.address).await;
    let timeouts = Timeouts { answer: Duration::from_secs(1), ..Timeouts::default() };
    let through = Settings { timeouts, ..Settings::new(proxy.address.to_string()) };
    let settings = FeedSettings {
        silence: Duration::from_secs(1),
        ..FeedSettings::new(Gateway::new(&through).unwrap(), None)
    };
    let mut screen = Screen::of(Feed::start(settings));
    screen.until_mode(FeedMode::ServerSentEvents).await;

    proxy.silence();
    let noticed = screen.until_mode(FeedMode::Offline).await;
    assert!(noticed > Duration::from_millis(500), "keep-alive comments were not waited for: {noticed:?}");
    let receipt = store(&door.client(), 5, &named("Eve")).await;
    proxy.speak();
    screen.until_shown(5, receipt.version).await;
    screen.until_mode(FeedMode::ServerSentEvents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_push_it_polls_and_climbs_up_again_by_itself() {
    let system = System::start();
    let mut narrow = gateway::Config::default();
    narrow.limits.max_watchers = 1;
    let door = system.gateway_at("127.0.0.1:0".parse().unwrap(), narrow).await;
    let gateway = door.client();
    let mut first = Screen::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    first.until_mode(FeedMode::ServerSentEvents).await;

    let settings =
        FeedSettings { poll_every: Duration::from_millis(100), ..FeedSettings::new(gateway.clone(), None) };
    let mut screen = Screen::of(Feed::start(settings));
    screen.until_mode(FeedMode::Polling).await;
    let receipt = store(&gateway, 3, &named("Cleo")).await;
    screen.until_shown(3, receipt.version).await;
    assert_eq!(screen.mode, Some(FeedMode::Polling));

    drop(first);
    screen.until_mode(FeedMode::ServerSentEvents).await;
    let receipt = store(&gateway, 3, &named("Cleopatra")).await;
    screen.until_shown(3, receipt.version).await;
    assert!(matches!(screen.events.last(), Some(FeedEvent::Updated(_))), "{:?}", screen.events);
}

#[tokio::test]
async fn a_feed_that_starts_before_its_gateway_waits_for_it() {
    let system = System::start();
    let address = system.gateway().await.stop().await;
    let mut screen = Screen::of(Feed::start(FeedSettings::new(client_of(address), None)));
    screen.until_mode(FeedMode::Offline).await;
    let reason = screen.events.iter().find_map(|event| match event {
        FeedEvent::Connection(state) => state.reason.clone(),
        _ => None,
    });
    assert!(reason.unwrap().contains("cannot be reached"));
    let _door = system.gateway_at(address, gateway::Config::default()).await;
    screen.until_mode(FeedMode::ServerSentEvents).await;
    assert!(screen.events.iter().any(|event| matches!(event, FeedEvent::Snapshot(all) if all.is_empty())));
}
