//! Without a mouse.

use slint::platform::Key;

use crate::screen::Screen;

#[test]
fn shortcuts_lead_to_a_patient_to_the_alarms_and_back() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.rate(2, "Ben", 80);
    screen.until("both", |screen| screen.tiles().len() == 2);
    screen.control("f");
    assert!(screen.has("Name or number"));
    screen.key("a");
    screen.key(Key::DownArrow);
    screen.key(Key::Return);
    screen.until("Ann", |screen| screen.value("Name") == "Ann");
    screen.key("a");
    assert!(screen.has("Alarm HR 134 > 120, acknowledged"), "{:?}", screen.all());
    screen.control("l");
    assert!(screen.has("Acknowledge all"));
    screen.key(Key::Escape);
    assert_eq!(screen.tiles().len(), 2);
    screen.control("q");
    assert!(screen.has("Quit the monitor?"));
    screen.key(Key::Escape);
    assert!(!screen.has("Quit the monitor?"));
}

#[test]
fn tiles_are_reached_with_the_tab_key_and_opened_with_enter() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    // The bar at the top has seven stops: wall, chooser, connection, alarms, settings, about, quit.
    for _ in 0..8 {
        screen.key(Key::Tab);
    }
    screen.key(Key::Return);
    assert_eq!(screen.value("Name"), "Ann");
}
