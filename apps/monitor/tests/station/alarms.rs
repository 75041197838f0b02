//! What alarms say and what can be done about them.

use std::time::Duration;

use monitor::window::{Api, Flash, Severity};
use slint::{ComponentHandle, Model};

use crate::screen::Screen;

/// A strip of a lead that has fallen off.
fn flat() -> client::Upload {
    let csv: String = (0..2500)
        .map(|row| format!("{:.3},{}\n", f64::from(row) / 250.0, (row % 7) as f64 * 0.001))
        .collect();
    client::Upload {
        name: Some("Ann".to_owned()),
        ..client::Upload::of(vec![client::UploadFile::from_bytes(proto_json::FileKind::Ecg, "flat.csv", csv)])
    }
}

/// How often this changes in ten seconds.
fn changes(screen: &Screen, phase: impl Fn(&Flash<'_>) -> bool) -> usize {
    let window = screen.window();
    let now = || phase(&window.global::<Flash<'_>>());
    let mut before = now();
    let mut changes = 0;
    for _ in 0..200 {
        screen.pass(Duration::from_millis(50));
        changes += usize::from(now() != before);
        before = now();
    }
    changes
}

#[test]
fn an_alarm_is_acknowledged_and_stays_so_until_it_gets_graver() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 134 > 120"));
    screen.press("Acknowledge");
    assert!(screen.has("Alarm HR 134 > 120, acknowledged"));
    screen.rate(1, "Ann", 136);
    screen.until("still acknowledged", |screen| screen.has("Alarm HR 136 > 120, acknowledged"));
    screen.rate(1, "Ann", 160);
    screen.until("graver", |screen| screen.has("Alarm HR 160 > 150"));
    assert!(!screen.has("Alarm HR 160 > 150, acknowledged"));
}

#[test]
fn silence_ends_by_itself() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 134 > 120"));
    screen.press("Silence");
    assert!(screen.has("Alarm HR 134 > 120, silent 2 min"), "{:?}", screen.all());
    screen.app.turn_clock(Duration::from_secs(60));
    assert!(
        screen.has("Alarm HR 134 > 120, silent 1 min") || screen.has("Alarm HR 134 > 120, silent 5"),
        "{:?}",
        screen.all()
    );
    screen.app.turn_clock(Duration::from_secs(62));
    assert!(!screen.has("Alarm HR 134 > 120, silent"), "{:?}", screen.all());
    assert!(screen.the("Silence").accessible_enabled().unwrap());
}

#[test]
fn a_high_alarm_that_nobody_saw_stays_after_its_end() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 170);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 170 > 150"));
    screen.rate(1, "Ann", 80);
    screen.until("ended, but there", |screen| {
        let tile = screen.tile("Ann");
        tile.contains("heart rate 80 bpm, alarm HR 170 > 150 at ") && tile.contains(", ended")
    });
    screen.open("Ann");
    screen.press("Acknowledge");
    screen.until("gone", |screen| !screen.has("Alarm HR"));
}

#[test]
fn a_latched_alarm_names_its_worst_value_and_the_number_has_its_own_colour() {
    let screen = Screen::start();
    let tile = |screen: &Screen| screen.window().global::<Api>().get_tiles().row_data(0).unwrap();
    screen.rate(1, "Ann", 152);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 152 > 150"));
    assert_eq!(tile(&screen).rate_severity, Severity::High);
    screen.rate(1, "Ann", 127);
    screen.until("the lower rate", |screen| screen.tile("Ann").contains("heart rate 127 bpm"));
    let shown = tile(&screen);
    assert_eq!((shown.alarm.as_str(), shown.alarm_state.as_str()), ("HR 152 > 150", "earlier"));
    assert_eq!((shown.severity, shown.rate_severity), (Severity::High, Severity::Medium));
    screen.rate(1, "Ann", 90);
    screen.until("the usual rate", |screen| screen.tile("Ann").contains("heart rate 90 bpm"));
    let shown = tile(&screen);
    assert_eq!((shown.alarm.as_str(), shown.alarm_state.as_str()), ("HR 152 > 150", "ended"));
    assert_eq!((shown.severity, shown.rate_severity), (Severity::High, Severity::None));
    screen.open("Ann");
    let vitals = screen.window().global::<Api>().get_vitals();
    assert_eq!((vitals.alarm.as_str(), vitals.rate_severity), ("HR 152 > 150", Severity::None));
    assert!(vitals.alarm_state.starts_with("at ") && vitals.alarm_state.ends_with(" · ended"));
    screen.control("l");
    screen.until("the list", |screen| screen.has("Ann · 1, HR 152 > 150, at "));
}

#[test]
fn a_strip_without_a_rate_is_a_technical_alarm_and_missing_strips_are_none() {
    let screen = Screen::start();
    screen.store(1, &flat());
    screen.until("the technical alarm", |screen| screen.tile("Ann").contains("alarm ECG"));
    let age = screen.window().global::<Api>().get_ages().row_data(0).unwrap();
    assert!(age.starts_with("received "), "the strip has a time though it has no rate: {age}");
    screen.rate(2, "Ben", 80);
    screen.until("Ben", |screen| !screen.tile("Ben").is_empty());
    screen.app.turn_clock(Duration::from_secs(3600));
    assert!(!screen.tile("Ben").contains("alarm"), "{}", screen.tile("Ben"));
    assert!(screen.tile("Ann").contains("stale"), "nor does it look live for ever: {}", screen.tile("Ann"));
    for forbidden in ["asystole", "Asystole"] {
        assert!(!screen.all().join("\n").contains(forbidden));
    }
}

#[test]
fn limits_of_a_patient_are_set_checked_and_kept_over_a_restart() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 134 > 120"));
    screen.press("Alarm limits of this patient");
    screen.fill("High", "40");
    screen.press("Save");
    assert!(screen.has("The low limit must be below the high limit."), "{:?}", screen.all());
    screen.fill("High", "140");
    screen.press("Save");
    screen.until("no alarm", |screen| !screen.has("Alarm HR"));
    assert!(
        screen.value("Limits").contains("50 to 140") && screen.value("Limits").contains("of this patient")
    );
    screen.restart();
    screen.open("Ann");
    assert!(screen.value("Limits").contains("50 to 140"), "{}", screen.value("Limits"));
    assert!(!screen.has("Alarm HR"));
}

#[test]
fn the_list_of_alarms_has_a_history_and_acknowledges_all() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.rate(2, "Ben", 40);
    screen.until("two alarms", |screen| screen.has("Alarms: 2 alarms"));
    screen.press("Alarms: 2 alarms");
    assert!(screen.has("Ann · 1, HR 134 > 120") && screen.has("Ben · 2, HR 40 < 50"));
    screen.press("Acknowledge all");
    assert!(screen.has("Ann · 1, HR 134 > 120, acknowledged"));
    let history = screen.all().into_iter().filter(|label| label.contains("HR 134 > 120, raised")).count();
    assert_eq!(history, 1);
    assert_eq!(
        screen.all().iter().filter(|label| label.contains(">") && label.contains(", acknowledged [")).count(),
        2
    );
}

#[test]
fn limits_and_times_for_all_patients_are_set_and_kept_over_a_restart() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 134 > 120"));
    screen.press("Alarms: 1 alarm");
    screen.press("Limits and times…");
    screen.fill("High", "130");
    screen.fill("Stale after (seconds)", "0");
    screen.fill("Silence (seconds)", "30");
    screen.press("Save");
    assert!(screen.has("A value becomes stale after 1 to 86400 seconds."), "{:?}", screen.all());
    screen.fill("Stale after (seconds)", "5");
    screen.press("Save");
    screen.until("the new limit", |screen| screen.has("Ann · 1, HR 134 > 130"));
    screen.press("Silence Ann · 1");
    assert!(screen.has("Ann · 1, HR 134 > 130, silent 30 s"), "{:?}", screen.all());
    let file = screen.folder().join("monitor.json");
    screen.until("kept", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text.replace(' ', "").contains("\"stale_after_s\":5"))
    });
    screen.restart();
    screen.until("the same limit", |screen| screen.tile("Ann").contains("alarm HR 134 > 130"));
    screen.app.turn_clock(Duration::from_secs(7));
    assert!(screen.tile("Ann").contains("stale"), "{}", screen.tile("Ann"));
}

#[test]
fn high_alarms_flash_twice_a_second_and_stop_when_acknowledged() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 170);
    screen.until("the alarm", |screen| screen.window().global::<Api>().get_any_high_flashes());
    let changes = changes(&screen, |flash| flash.get_high());
    assert!((38..=40).contains(&changes), "2 Hz is forty changes in ten seconds, not {changes}");
    screen.open("Ann");
    screen.press("Acknowledge");
    assert!(!screen.window().global::<Api>().get_any_high_flashes());
}

#[test]
fn medium_alarms_flash_slowly_and_not_while_they_are_silenced() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.until("the alarm", |screen| screen.window().global::<Api>().get_any_medium_flashes());
    assert!(!screen.window().global::<Api>().get_any_high_flashes());
    let changes = changes(&screen, |flash| flash.get_medium());
    assert!((11..=12).contains(&changes), "0.6 Hz is twelve changes in ten seconds, not {changes}");
    screen.open("Ann");
    screen.press("Silence");
    let flashes = |screen: &Screen| {
        let window = screen.window();
        let api = window.global::<Api>();
        (api.get_any_medium_flashes(), api.get_vitals().flashes)
    };
    assert_eq!(flashes(&screen), (false, false));
    screen.app.turn_clock(Duration::from_secs(121));
    assert_eq!(flashes(&screen), (true, true), "silence ends by itself");
}

#[test]
fn technical_alarms_stand_still() {
    let screen = Screen::start();
    screen.store(1, &flat());
    screen.until("the technical alarm", |screen| screen.tile("Ann").contains("alarm ECG"));
    let window = screen.window();
    let api = window.global::<Api>();
    assert!(!api.get_tiles().row_data(0).unwrap().flashes);
    assert!(!api.get_any_high_flashes() && !api.get_any_medium_flashes());
    assert_eq!(changes(&screen, |flash| flash.get_high() || flash.get_medium()), 0);
}
