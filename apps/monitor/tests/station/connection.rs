//! Lost and restored connections, polling, and rejected tokens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::fixture::System;
use monitor::window::Api;
use slint::ComponentHandle;
use testkit::Clock;

use crate::harness::{SOON, Screen};

#[test]
fn killed_gateway_shows_within_two_seconds_and_missed_updates_arrive_after_its_return() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    assert!(screen.window().global::<Api>().get_live());

    screen.system.gateway.kill();
    let noticed =
        screen.until("the technical alarm", |screen| screen.has("Technical alarm: Connection lost"));
    assert!(noticed < SOON, "noticed after {noticed:?}");
    assert!(screen.value("Connection").starts_with("offline"));
    assert!(!screen.window().global::<Api>().get_live(), "the values are not live");

    screen.system.gateway.restart();
    let back = Clock::start();
    screen.rate(2, "Ben", 80);
    screen.until("everything", |screen| screen.tiles().len() == 2 && !screen.has("Technical alarm"));
    assert!(back.elapsed() < SOON, "shown after {:?}", back.elapsed());
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
    assert!(screen.value("Connection").contains("since "));
    screen.press("Alarms: ");
    assert!(screen.all().iter().any(|label| label.contains("This station, Connection lost, ended")));
}

#[test]
fn open_patient_is_reloaded_after_an_outage() {
    let mut screen = Screen::start();
    screen.strip(1, "Ann", 64.0, 1);
    screen.open("Ann");
    screen.until("the ECG", |screen| screen.value("Latest ECG").contains("· 6"));
    screen.system.gateway.kill();
    screen.until("offline", |screen| screen.has("Technical alarm: Connection lost"));
    assert!(
        screen
            .all()
            .iter()
            .any(|label| label.starts_with("Heart rate 6") && label.contains("connection lost"))
    );
    screen.system.gateway.restart();
    screen.strip(1, "Ann", 94.0, 2);
    screen.until("the new ECG", |screen| screen.value("Latest ECG").contains("· 9"));
}

#[test]
fn killed_nats_server_shows_within_two_seconds() {
    let mut screen = Screen::with_system(System::processes(), |_| {});
    screen.until("by NATS", |screen| screen.value("Connection").contains("push (NATS)"));
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tile("Ann").contains("heart rate 70"));

    screen.system.nats.as_mut().unwrap().kill();
    let noticed = screen.until("no longer NATS", |screen| !screen.value("Connection").contains("NATS"));
    assert!(noticed < SOON, "noticed after {noticed:?}");
    let honest = screen.until("not called push", |screen| !screen.value("Connection").contains("push"));
    assert!(noticed + honest < SOON, "shown as push for {:?}", noticed + honest);

    screen.system.nats.as_mut().unwrap().restart();
    let back = screen.until("NATS again", |screen| screen.value("Connection").contains("push (NATS)"));
    assert!(back < SOON, "back after {back:?}");
    screen.rate(1, "Ann", 75);
    let news = screen.until("the news", |screen| screen.tile("Ann").contains("heart rate 75"));
    assert!(news < SOON, "shown after {news:?}");

    screen.system.gateway.kill();
    let noticed =
        screen.until("the technical alarm", |screen| screen.has("Technical alarm: Connection lost"));
    assert!(noticed < SOON, "noticed after {noticed:?}");
    screen.system.gateway.restart();
    let back = screen.until("connected", |screen| !screen.has("Technical alarm"));
    assert!(back < SOON, "back after {back:?}");
}

#[test]
fn without_push_the_gateway_is_polled_every_five_seconds() {
    let system = System::standalone_with(&["--max-watchers", "2"]);
    // Other clients have all places: a monitor needs one for events and one for live waveforms.
    let address = system.gateway.address(0);
    let watchers = [0, 1].map(|_| {
        let mut watcher = TcpStream::connect(address).unwrap();
        write!(watcher, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        watcher.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        watcher
    });

    let screen = Screen::with_system(system, |_| {});
    screen.until("polling", |screen| screen.value("Connection").starts_with("connected · polling · since "));
    assert!(screen.window().global::<Api>().get_live());
    screen.rate(1, "Ann", 70);
    let first = screen.until("Ann", |screen| screen.tile("Ann").contains("heart rate 70"));
    let shown = Instant::now();
    screen.rate(1, "Ann", 75);
    let second = screen.until("the news", |screen| screen.tile("Ann").contains("heart rate 75"));
    let limit = Duration::from_secs(7);
    assert!(first < limit && second < limit, "shown after {first:?} and {second:?}");
    let between = shown.elapsed();
    assert!(between > Duration::from_secs(3), "polled more often than every five seconds: {between:?}");

    drop(watchers);
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
}

#[test]
fn rejected_token_is_shown_as_such_and_a_valid_token_connects() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let digest = proto_json::BlobHash::of(b"good-token");
    std::fs::write(&tokens, format!("ward-1 viewer {digest}\n")).unwrap();
    let system = System::standalone_with(&["--tokens", tokens.to_str().unwrap()]);
    let screen = Screen::with_system(system, |args| args.connection.token = Some("wrong-token".to_owned()));
    screen.until("the rejection", |screen| screen.has("Technical alarm: Access token rejected since "));
    assert!(screen.value("Connection").starts_with("access token rejected"));
    assert!(!screen.all().join("\n").contains("Connection lost"));
    assert!(!screen.window().global::<Api>().get_live());
    screen.press("Settings");
    screen.fill("Access token", "good-token");
    screen.press("Save");
    screen.until("connected", |screen| screen.value("Connection").starts_with("connected · push"));
    assert!(!screen.has("Technical alarm"));
}

#[test]
fn lost_connection_does_not_move_the_tiles() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    let place = |screen: &Screen| {
        let tile = screen.the("Ann, MRN");
        (tile.absolute_position(), tile.size())
    };
    let before = place(&screen);
    screen.system.gateway.kill();
    screen.until("the technical alarm", |screen| screen.has("Technical alarm: Connection lost"));
    assert_eq!(place(&screen), before);
}
