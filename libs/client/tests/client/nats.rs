//! The update feed straight from a real nats-server.

use std::time::Duration;

use bus::nats::{NatsConfig, NatsLogin};
use client::{Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsCredentials, NatsSettings};
use testkit::NatsServer;

use crate::system::{Screen, System, named, store};

const SOON: Duration = Duration::from_secs(2);

fn feed(gateway: Gateway, nats: NatsSettings) -> Screen {
    Screen::of(Feed::start(FeedSettings { nats: Some(nats), ..FeedSettings::new(gateway, None) }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_is_replaced_by_the_gateway_and_taken_back_after_its_return() {
    let mut server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let door = system.gateway().await;
    let gateway = door.client();
    let mut screen = feed(gateway.clone(), NatsSettings::new(server.url()));
    screen.until_mode(FeedMode::Nats).await;
    let receipt = store(&gateway, 1, &named("Ann")).await;
    screen.until_shown(1, receipt.version).await;
    assert!(matches!(screen.events.last(), Some(FeedEvent::Updated(_))), "{:?}", screen.events);

    server.kill();
    let noticed = screen.until_mode(FeedMode::ServerSentEvents).await;
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    server.restart();
    screen.until_mode(FeedMode::Nats).await;
    let receipt = store(&gateway, 1, &named("Anna")).await;
    screen.until_shown(1, receipt.version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_lost_the_broker_is_polled_and_not_called_push() {
    let mut server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let gateway = system.gateway().await.client();
    let mut screen = Screen::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    screen.until_mode(FeedMode::ServerSentEvents).await;

    server.kill();
    let noticed = screen.until_mode(FeedMode::Polling).await;
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    let mut late = Screen::of(Feed::start(FeedSettings::new(gateway.clone(), None)));
    late.until_mode(FeedMode::Polling).await;

    server.restart();
    screen.until_mode(FeedMode::ServerSentEvents).await;
    let receipt = store(&gateway, 1, &named("Ann")).await;
    screen.until_shown(1, receipt.version).await;
    assert!(matches!(screen.events.last(), Some(FeedEvent::Updated(_))), "{:?}", screen.events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_gateway_gone_it_says_offline_though_the_broker_still_pushes() {
    let server = NatsServer::start();
    let system = System::on_broker(NatsConfig::new([server.url()])).await;
    let (first, second) = (system.gateway().await, system.gateway().await);
    let mut screen = feed(first.client(), NatsSettings::new(server.url()));
    screen.until_mode(FeedMode::Nats).await;

    let stopping = tokio::spawn(first.stop());
    let noticed = screen.until_mode(FeedMode::Offline).await;
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    let address = stopping.await.unwrap();
    let receipt = store(&second.client(), 4, &named("Dan")).await;
    screen.until_shown(4, receipt.version).await;
    assert_eq!(screen.mode, Some(FeedMode::Offline));

    let _back = system.gateway_at(address, gateway::Config::default()).await;
    let noticed = screen.until_mode(FeedMode::Nats).await;
    assert!(noticed < SOON, "noticed only after {noticed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_listen_to_updates_is_enough_and_one_who_may_not_is_fed_by_the_gateway() {
    let server = NatsServer::start_with(
        r#"authorization { users: [
            { user: services, password: s, permissions: { publish: ">", subscribe: ">" } }
            { user: monitor, password: m, permissions: { publish: { deny: ">" }, subscribe: "patient.*.updated" } }
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
    monitor.until_shown(9, receipt.version).await;

    for (name, password) in [("nobody", "n"), ("monitor", "wrong")] {
        let mut screen = feed(gateway.clone(), user(name, password));
        screen.until_mode(FeedMode::ServerSentEvents).await;
        screen.until_shown(9, receipt.version).await;
    }
}
