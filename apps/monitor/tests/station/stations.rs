//! Two stations of one server.

use std::time::Duration;

use monitor::alarm_sound::SoundPriority;
use monitor::window::{Api, Dialog};
use slint::{ComponentHandle, Model};
use testkit::Clock;

use crate::harness::{Screen, Station};

/// The time within which an acknowledgement is visible at all stations.
const VISIBLE: Duration = Duration::from_millis(500);

/// Processes the events of both stations until the condition holds.
fn until_both(screen: &Screen, second: &Station, what: &str, condition: impl Fn() -> bool) -> Duration {
    screen.until(what, |_| {
        while second.app.wait(Duration::ZERO) {}
        condition()
    })
}

/// The state of the alarm on the tile of a patient.
fn state(app: &monitor::App, mrn: u64) -> Option<(String, String)> {
    let window = app.window();
    let tiles = window.global::<Api>().get_tiles();
    let tile = tiles.iter().find(|tile| tile.mrn == mrn.to_string().as_str())?;
    Some((tile.alarm.to_string(), tile.alarm_state.to_string()))
}

#[test]
fn alarm_sounds_at_both_stations_and_an_acknowledgement_is_visible_at_both_within_500_ms() {
    let screen = Screen::start();
    let second = screen.second_station();
    let names = ["Ann", "Ben", "Cleo", "Dan", "Eve"];
    for (number, name) in (1..).zip(names) {
        screen.strip(number, name, 160.0 + number as f64, number);
    }
    let is_raised = |app: &monitor::App| {
        (1..=5).all(|mrn| {
            state(app, mrn).is_some_and(|(alarm, state)| alarm.starts_with("HR 16") && state.is_empty())
        })
    };
    until_both(&screen, &second, "all alarms at both", || is_raised(&screen.app) && is_raised(&second.app));
    for app in [&screen.app, &second.app] {
        assert_eq!(app.sounding(), Some(SoundPriority::High));
    }
    until_both(&screen, &second, "the sound at both", || {
        [&screen.recorder, &second.recorder]
            .iter()
            .all(|recorder| recorder.bursts().iter().any(|burst| burst.priority == SoundPriority::High))
    });

    let mut longest = Duration::ZERO;
    for mrn in 1..=5 {
        // The stations take turns.
        let actor = if mrn % 2 == 0 { &screen.app } else { &second.app };
        let clock = Clock::start();
        actor.window().global::<Api>().invoke_acknowledge(mrn.to_string().into());
        until_both(&screen, &second, "acknowledged at both", || {
            [&screen.app, &second.app]
                .iter()
                .all(|app| state(app, mrn).is_some_and(|(_, state)| state == "seen"))
        });
        longest = longest.max(clock.elapsed());
    }
    assert!(longest < VISIBLE, "visible at both stations after {longest:?}");
    until_both(&screen, &second, "silence at both", || {
        screen.app.sounding().is_none() && second.app.sounding().is_none()
    });
    screen.control("l");
    assert!(
        screen
            .all()
            .iter()
            .any(|label| label.contains("Ann · 1, HR 16") && label.contains("acknowledged by local"))
    );
}

#[test]
fn pause_of_the_sound_at_one_station_silences_both_and_a_new_alarm_sounds() {
    let screen = Screen::start();
    let second = screen.second_station();
    screen.strip(1, "Ann", 164.0, 1);
    until_both(&screen, &second, "the sound", || {
        screen.app.sounding().is_some() && second.app.sounding().is_some()
    });
    second.app.window().global::<Api>().invoke_pause_sound();
    assert_eq!(second.app.sounding(), None, "at once");
    until_both(&screen, &second, "silence", || screen.app.sounding().is_none());
    let pause = |app: &monitor::App| app.window().global::<Api>().get_sound_pause().to_string();
    screen.app.advance_clock(Duration::ZERO);
    for app in [&screen.app, &second.app] {
        assert!(pause(app).starts_with("1:5") || pause(app) == "2:00", "{}", pause(app));
    }
    screen.strip(2, "Ben", 134.0, 2);
    until_both(&screen, &second, "the new alarm", || {
        let sound = Some(SoundPriority::Medium);
        screen.app.sounding() == sound && second.app.sounding() == sound
    });
}

#[test]
fn limits_that_another_station_has_changed_meanwhile_are_not_overwritten_unnoticed() {
    let screen = Screen::start();
    let second = screen.second_station();
    screen.rate(1, "Ann", 80);
    screen.open("Ann");
    until_both(&screen, &second, "both connected", || state(&second.app, 1).is_some());
    let ready = |app: &monitor::App| app.window().global::<Api>().get_limits_ready();
    screen.press("Alarm limits of this patient");
    second.app.window().global::<Api>().invoke_edit_limits("1".into());
    until_both(&screen, &second, "both forms", || ready(&screen.app) && ready(&second.app));
    screen.fill("Heart rate high", "140");

    let window = second.app.window();
    let mut form = window.global::<Api>().get_limits();
    form.high = "135".into();
    window.global::<Api>().invoke_save_limits(form);
    until_both(&screen, &second, "saved at the other station", || {
        window.global::<Api>().get_dialog() == Dialog::None
    });

    screen.press("Save");
    screen.until("the conflict", |screen| {
        let window = screen.window();
        window
            .global::<Api>()
            .get_limits_error()
            .contains("has changed these limits meanwhile: 50 to 135 bpm")
    });
    assert_eq!(screen.value("Heart rate high"), "140", "the entry stays");
    screen.press("Save");
    screen.until("saved", |screen| screen.window().global::<Api>().get_dialog() == Dialog::None);
    screen.until("the limits", |screen| screen.value("Limits").contains("50 to 140"));
}
