//! Without a mouse, and without eyes.

use i_slint_backend_testing::{AccessibleRole, ElementQuery};
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

#[test]
fn everything_that_can_be_used_has_a_role_and_a_name() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 164.0, 1);
    let named = |screen: &Screen, least: usize| {
        screen.settle();
        let roles = [
            AccessibleRole::Button,
            AccessibleRole::Combobox,
            AccessibleRole::ListItem,
            AccessibleRole::RadioButton,
            AccessibleRole::RadioGroup,
            AccessibleRole::TextInput,
        ];
        let used: Vec<_> = ElementQuery::from_root(&screen.window())
            .find_all()
            .iter()
            .filter(|element| element.accessible_role().is_some_and(|role| roles.contains(&role)))
            .map(|element| (element.accessible_role(), element.accessible_label().unwrap_or_default()))
            .collect();
        assert!(used.len() >= least, "{used:?}");
        assert!(used.iter().all(|(_, label)| !label.is_empty()), "{used:?}");
    };
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR"));
    named(&screen, 8);
    screen.open("Ann");
    screen.until("the ECG", |screen| screen.description("latest ECG").contains(" beats"));
    named(&screen, 30);
    for (open, least) in
        [("Alarm limits of this patient", 35), ("Save signal: latest ECG", 33), ("Settings", 38)]
    {
        screen.press(open);
        named(&screen, least);
        screen.key(Key::Escape);
    }
    screen.control("f");
    named(&screen, 32);
    screen.key(Key::Escape);
    screen.control("l");
    named(&screen, 13);
}
