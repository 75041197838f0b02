//! Connections that are cut, and what was missed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::beside::System;
use monitor::window::Api;
use slint::ComponentHandle;
use testkit::Clock;

use crate::screen::{SOON, Screen};

#[test]
fn a_gateway_that_is_killed_shows_within_two_seconds_and_what_was_missed_after_its_return() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    assert!(screen.window().global::<Api>().get_live());

    screen.system.gateway.kill();
    let noticed =
        screen.until("the technical alarm", |screen| screen.has("Technical alarm: Connection lost"));
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    assert!(screen.value("Connection").starts_with("offline"));
    assert!(!screen.window().global::<Api>().get_live(), "numbers do not look live");

    screen.system.gateway.restart();
    let back = Clock::start();
    screen.rate(2, "Ben", 80);
    screen.until("everything", |screen| screen.tiles().len() == 2 && !screen.has("Technical alarm"));
    assert!(back.elapsed() < SOON, "shown only after {:?}", back.elapsed());
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
    assert!(screen.value("Connection").contains("since "));
    screen.press("Alarms: ");
    assert!(screen.all().iter().any(|label| label.contains("This station, Connection lost, ended")));
}

#[test]
fn the_screen_begins_before_its_gateway_and_loads_a_patient_anew_after_an_outage() {
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
fn with_nats_updates_come_from_the_broker_and_its_death_shows_within_two_seconds() {
    let mut screen = Screen::beside(System::processes(), |_| {});
    screen.until("by NATS", |screen| screen.value("Connection").contains("push (NATS)"));
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tile("Ann").contains("heart rate 70"));

    screen.system.nats.as_mut().unwrap().kill();
    let noticed = screen.until("no longer NATS", |screen| !screen.value("Connection").contains("NATS"));
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    let honest = screen.until("not called push", |screen| !screen.value("Connection").contains("push"));
    assert!(noticed + honest < SOON, "called push for {:?}", noticed + honest);

    screen.system.nats.as_mut().unwrap().restart();
    let back = screen.until("NATS again", |screen| screen.value("Connection").contains("push (NATS)"));
    assert!(back < SOON, "back only after {back:?}");
    screen.rate(1, "Ann", 75);
    let news = screen.until("the news", |screen| screen.tile("Ann").contains("heart rate 75"));
    assert!(news < SOON, "shown only after {news:?}");

    screen.system.gateway.kill();
    let noticed =
        screen.until("the technical alarm", |screen| screen.has("Technical alarm: Connection lost"));
    assert!(noticed < SOON, "noticed only after {noticed:?}");
    screen.system.gateway.restart();
    let back = screen.until("connected", |screen| !screen.has("Technical alarm"));
    assert!(back < SOON, "back only after {back:?}");
}

#[test]
fn where_nothing_is_pushed_it_polls_every_five_seconds_and_says_so() {
    let system = System::standalone_with(&["--max-watchers", "1"]);
    // Somebody else has the only place.
    let address = system.gateway.address(0);
    let mut watcher = TcpStream::connect(address).unwrap();
    write!(watcher, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    watcher.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let screen = Screen::beside(system, |_| {});
    screen.until("polling", |screen| screen.value("Connection").starts_with("connected · polling · since "));
    assert!(screen.window().global::<Api>().get_live());
    screen.rate(1, "Ann", 70);
    let first = screen.until("Ann", |screen| screen.tile("Ann").contains("heart rate 70"));
    let shown = Instant::now();
    screen.rate(1, "Ann", 75);
    let second = screen.until("the news", |screen| screen.tile("Ann").contains("heart rate 75"));
    let limit = Duration::from_secs(7);
    assert!(first < limit && second < limit, "shown only after {first:?} and {second:?}");
    let between = shown.elapsed();
    assert!(between > Duration::from_secs(3), "asked more often than every five seconds: {between:?}");

    drop(watcher);
    screen.until("pushed", |screen| screen.value("Connection").starts_with("connected · push"));
}
