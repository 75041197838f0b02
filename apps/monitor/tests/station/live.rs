//! Live waveforms: what is subscribed, and how a lost connection shows.

use std::collections::BTreeMap;
use std::time::Duration;

use monitor::window::Live;
use proto_json::LiveMode;
use slint::{ComponentHandle, Model};

use crate::fixture::live_source::LiveSource;
use crate::harness::{SOON, Screen};

/// A refresh of the screen.
const REFRESH: Duration = Duration::from_millis(16);

fn subscribed(screen: &Screen) -> BTreeMap<u64, LiveMode> {
    screen.settle();
    screen.app.live_subscriptions().into_iter().map(|(mrn, mode)| (mrn.get(), mode)).collect()
}

fn note(screen: &Screen, index: usize) -> String {
    screen.pass(REFRESH);
    let tiles = screen.window().global::<Live>().get_tiles();
    tiles.row_data(index).map(|tile| tile.note.to_string()).unwrap_or_default()
}

#[test]
fn subscription_follows_what_is_visible() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.rate(2, "Bob", 71);
    let both = BTreeMap::from([(1, LiveMode::Overview), (2, LiveMode::Overview)]);
    screen.until("both tiles", |screen| {
        screen.app.advance_clock(Duration::ZERO);
        subscribed(screen) == both
    });
    screen.open("Ann");
    assert_eq!(subscribed(&screen), BTreeMap::from([(1, LiveMode::Full)]));
    screen.control("l");
    assert_eq!(subscribed(&screen), BTreeMap::new(), "the list of alarms shows no waveforms");
    screen.key(slint::platform::Key::Escape);
    assert_eq!(subscribed(&screen), both);
}

#[test]
fn lost_connection_stops_all_traces_within_two_seconds() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tile("Ann").contains("rate 70"));
    let start = screen.app.now().as_millis() * 1000 - 500_000;
    let mut source = LiveSource::new(1, 72.0, start);
    screen.app.live_event(LiveSource::connected());
    screen.app.live_event(source.stream());
    let mut send = |screen: &Screen| {
        while source.due_us() <= screen.app.now().as_millis() * 1000 {
            screen.app.live_event(source.columns());
        }
    };
    send(&screen);
    screen.app.live_event(LiveSource::new(1, 72.0, start).vitals(screen.app.now()));
    screen.until("the live trace", |screen| {
        send(screen);
        note(screen, 0).is_empty() && screen.tile("Ann").contains("live rate")
    });
    screen.system.gateway.kill();
    // The devices go on: only the connection of this station is lost.
    let time = screen.until("the stopped trace", |screen| {
        send(screen);
        note(screen, 0).starts_with("no signal since ")
    });
    assert!(time < SOON + Duration::from_millis(300), "{time:?}");
    assert!(screen.tile("Ann").contains("no signal since"), "{}", screen.tile("Ann"));
    assert!(!screen.tile("Ann").contains("live rate"), "{}", screen.tile("Ann"));
}
