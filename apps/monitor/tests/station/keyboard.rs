//! Keyboard and accessibility.

use i_slint_backend_testing::{AccessibleRole, ElementQuery};
use monitor::window::{Api, TileFocus};
use slint::ComponentHandle;
use slint::platform::Key;

use crate::fixture::System;
use crate::harness::Screen;

#[test]
fn shortcuts_open_a_patient_and_the_alarms() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.rate(2, "Ben", 80);
    screen.until("both", |screen| screen.tiles().len() == 2);
    screen.control("f");
    assert!(screen.has("Name or number"));
    screen.key("a");
    screen.key(Key::DownArrow);
    screen.key(Key::Return);
    screen.until("Ann", |screen| screen.value("Name") == "Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 13"));
    screen.key("s");
    screen.until("the pause", |screen| screen.has("Sound paused "));
    screen.key("a");
    screen.until("acknowledged", |screen| {
        screen.all().iter().any(|label| label.contains("> 120, acknowledged by local"))
    });
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
fn tile_is_reached_with_tab_and_opened_with_enter() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    // The top bar has eight stops: overview, patients, connection, alarms, sound, settings, about, quit.
    for _ in 0..9 {
        screen.key(Key::Tab);
    }
    screen.key(Key::Return);
    assert_eq!(screen.value("Name"), "Ann");
}

#[test]
fn tab_moves_through_the_fields_and_buttons_of_a_dialog_and_does_not_leave_it() {
    let screen = Screen::start();
    screen.press("Settings");
    let gateway = screen.value("Gateway address");
    // The address has the focus. The token is next, then the certificates.
    screen.key(Key::Tab);
    screen.key(Key::Tab);
    screen.key("p");
    assert_eq!(screen.value("Trusted certificates (PEM file)"), "p");
    screen.key(Key::Backtab);
    screen.key(Key::Backtab);
    screen.key(Key::End);
    screen.key("q");
    assert_eq!(screen.value("Gateway address"), format!("{gateway}q"));
    screen.key(Key::Escape);
    assert!(!screen.has("Gateway address"));

    screen.press("Quit");
    for _ in 0..30 {
        screen.key(Key::Tab);
    }
    screen.control("l");
    assert!(screen.has("Quit the monitor?") && !screen.has("Acknowledge all"), "keys stay in the dialog");
    screen.key(Key::Escape);
    screen.press("Quit");
    // The focus starts on "Cancel". Tab moves it to the button that quits.
    screen.key(Key::Tab);
    screen.key(Key::Return);
    assert!(screen.app.has_quit());
}

#[test]
fn arrow_keys_move_between_tiles() {
    let screen = Screen::start();
    screen.until("connected", |screen| screen.value("Connection").contains("push"));
    for number in 0..7 {
        screen.rate(number, &format!("Patient {number}"), 70);
    }
    screen.until("all", |screen| screen.tiles().len() == 7);
    let columns = screen.window().global::<Api>().get_columns() as usize;
    assert!((2..7).contains(&columns), "{columns}");
    let focused = |screen: &Screen| screen.window().global::<TileFocus>().get_index() as usize;
    screen.key(Key::RightArrow);
    assert_eq!(focused(&screen), 0, "the first arrow key focuses the first tile");
    screen.key(Key::RightArrow);
    assert_eq!(focused(&screen), 1);
    screen.key(Key::DownArrow);
    assert_eq!(focused(&screen), 1 + columns);
    screen.key(Key::UpArrow);
    screen.key(Key::LeftArrow);
    assert_eq!(focused(&screen), 0);
    screen.key(Key::End);
    assert_eq!(focused(&screen), 6);
    screen.key(Key::Return);
    assert_eq!(screen.value("Name"), "Patient 6");
}

#[test]
fn every_control_has_a_role_and_a_label() {
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

#[test]
fn letter_keys_work_after_a_tile_was_opened_with_the_keyboard() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 75.0, 1);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    screen.key(Key::RightArrow);
    screen.key(Key::Return);
    screen.until("the ECG", |screen| {
        screen.has("latest ECG") && screen.description("latest ECG").contains(" beats")
    });
    screen.key("f");
    assert!(screen.has("Frozen ECG"), "the tile that had the focus is gone");
    // With Shift or Caps Lock.
    screen.key("F");
    assert!(!screen.has("Frozen ECG"));
}

#[test]
fn full_screen_is_switched_with_f11() {
    let screen = Screen::with_system(System::standalone(), |args| args.window.fullscreen = true);
    let is_full = |screen: &Screen| screen.window().window().is_fullscreen();
    assert!(is_full(&screen), "--fullscreen");
    screen.key(Key::F11);
    assert!(!is_full(&screen));
    screen.key(Key::F11);
    assert!(is_full(&screen));
}
