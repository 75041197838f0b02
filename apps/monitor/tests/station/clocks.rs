//! Times on the screen: unknown recording times and wrong clocks.

use std::time::Duration;

use client::Upload;
use monitor::window::Api;
use proto_json::{Bpm, Timestamp};
use slint::{ComponentHandle, Model};

use crate::harness::Screen;

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A heart rate without a recording time.
fn undated(name: &str, bpm: i64) -> Upload {
    let heart_rate = Some(Bpm::new(bpm).unwrap());
    Upload { name: Some(name.to_owned()), heart_rate, ..Upload::of(Vec::new()) }
}

fn age(screen: &Screen) -> String {
    screen.window().global::<Api>().get_ages().row_data(0).unwrap().to_string()
}

#[test]
fn value_of_unknown_recording_time_shows_when_it_was_received_and_no_age() {
    let screen = Screen::start();
    screen.store(1, &undated("Ann", 70));
    screen.until("Ann", |screen| screen.tile("Ann").contains("rate 70"));
    let received = Timestamp::now().local_seconds();
    let minute = received.split_once(' ').unwrap().1.split_once(':').unwrap().0.to_owned();
    assert!(age(&screen).starts_with(&format!("received {minute}:")), "{}", age(&screen));
    assert!(screen.tile("Ann").contains(", received "), "{}", screen.tile("Ann"));
    screen.open("Ann");
    let shown = screen.value("Age");
    assert!(
        shown.starts_with("received ") && shown.ends_with("; the time of recording is not known"),
        "{shown}"
    );
    screen.app.advance_clock(Duration::from_secs(120));
    assert!(age(&screen).starts_with("stale · received "), "{}", age(&screen));
    assert!(screen.value("Age").starts_with("stale: received 2 min ago"), "{}", screen.value("Age"));
}

#[test]
fn wrong_clock_of_the_station_raises_an_alarm_and_does_not_affect_ages() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.open("Ann");
    // Small differences are tolerated, because messages are delayed on a busy machine.
    for off_ms in [2_000, -2_000] {
        screen.app.set_clock_error(off_ms);
        assert!(!screen.has("Technical alarm"), "{off_ms}: {:?}", screen.all());
    }
    for (off_ms, text) in [
        (-HOUR_MS, "behind the server's"),
        (HOUR_MS, "ahead of the server's"),
        (-YEAR_MS, "behind the server's"),
        (YEAR_MS, "ahead of the server's"),
        (9_000, "s ahead of the server's"),
    ] {
        screen.app.set_clock_error(off_ms);
        let alarm = screen.the("Technical alarm: This station's clock is").accessible_label().unwrap();
        assert!(alarm.contains(text), "{off_ms}: {alarm}");
        let shown = screen.value("Age");
        assert!(shown == "now" || shown.ends_with(" s ago"), "{off_ms}: {shown}");
    }
    screen.app.advance_clock(Duration::from_secs(90));
    assert!(screen.value("Age").starts_with("stale: 1 min ago"), "{}", screen.value("Age"));
    screen.app.set_clock_error(0);
    assert!(!screen.has("Technical alarm"), "{:?}", screen.all());
    screen.control("l");
    assert_eq!(screen.count("Clock wrong"), 0, "the clock of the server is right: {:?}", screen.all());
}
