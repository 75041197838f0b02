//! Alarms: texts, acknowledgement, pause, latching, limits, flashing.

use std::time::Duration;

use monitor::window::{Api, Dialog, Flash, Page, Severity};
use slint::platform::Key;
use slint::{ComponentHandle, Model};

use crate::harness::Screen;

/// A strip of a lead that is off.
fn flat() -> client::Upload {
    let csv: String = (0..2500)
        .map(|row| format!("{:.3},{}\n", f64::from(row) / 250.0, (row % 7) as f64 * 0.001))
        .collect();
    client::Upload {
        name: Some("Ann".to_owned()),
        ..client::Upload::of(vec![client::UploadFile::from_bytes(proto_json::FileKind::Ecg, "flat.csv", csv)])
    }
}

/// The number of changes in ten seconds.
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
fn acknowledged_alarm_flashes_again_when_it_escalates() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 134 > 120"));
    screen.press("Acknowledge");
    assert!(screen.has("Alarm HR 134 > 120, acknowledged"));
    screen.rate(1, "Ann", 136);
    screen.until("still acknowledged", |screen| screen.has("Alarm HR 136 > 120, acknowledged"));
    screen.rate(1, "Ann", 160);
    screen.until("the escalation", |screen| screen.has("Alarm HR 160 > 150"));
    assert!(!screen.has("Alarm HR 160 > 150, acknowledged"));
}

#[test]
fn pause_ends_by_itself() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 134 > 120"));
    screen.press("Pause flashing");
    assert!(screen.has("Alarm HR 134 > 120, flashing paused 2 min"), "{:?}", screen.all());
    screen.app.advance_clock(Duration::from_secs(60));
    assert!(
        screen.has("Alarm HR 134 > 120, flashing paused 1 min")
            || screen.has("Alarm HR 134 > 120, flashing paused 5"),
        "{:?}",
        screen.all()
    );
    screen.app.advance_clock(Duration::from_secs(62));
    assert!(!screen.has("Alarm HR 134 > 120, flashing paused"), "{:?}", screen.all());
    assert!(screen.the("Pause flashing").accessible_enabled().unwrap());
}

#[test]
fn unacknowledged_high_alarm_stays_after_its_end() {
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
fn latched_alarm_shows_its_worst_value_and_the_rate_has_its_own_colour() {
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
fn strip_without_a_rate_raises_a_technical_alarm_and_a_missing_strip_none() {
    let screen = Screen::start();
    screen.store(1, &flat());
    screen.until("the technical alarm", |screen| screen.tile("Ann").contains("alarm ECG"));
    let age = screen.window().global::<Api>().get_ages().row_data(0).unwrap();
    assert!(age.starts_with("received "), "the strip has a time although it has no rate: {age}");
    screen.rate(2, "Ben", 80);
    screen.until("Ben", |screen| !screen.tile("Ben").is_empty());
    screen.app.advance_clock(Duration::from_secs(3600));
    assert!(!screen.tile("Ben").contains("alarm"), "{}", screen.tile("Ben"));
    assert!(screen.tile("Ann").contains("stale"), "the value becomes stale: {}", screen.tile("Ann"));
    for forbidden in ["asystole", "Asystole"] {
        assert!(!screen.all().join("\n").contains(forbidden));
    }
}

#[test]
fn limits_of_a_patient_are_validated_and_survive_a_restart() {
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
fn all_alarms_are_acknowledged_only_after_confirmation() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.rate(2, "Ben", 40);
    screen.until("two alarms", |screen| screen.has("Alarms: 2 alarms"));
    screen.press("Alarms: 2 alarms");
    assert!(screen.has("Ann · 1, HR 134 > 120") && screen.has("Ben · 2, HR 40 < 50"));
    screen.press("Acknowledge all");
    assert!(screen.has("Acknowledge all alarms?"));
    screen.key(Key::Return);
    assert!(!screen.has("Acknowledge all alarms?"), "Enter is the safe answer");
    assert!(!screen.has("Ann · 1, HR 134 > 120, acknowledged"));
    screen.press("Acknowledge all");
    screen.press("Acknowledge all alarms");
    assert!(screen.has("Ann · 1, HR 134 > 120, acknowledged"));
    assert!(screen.window().global::<Api>().get_dialog() == Dialog::None);
    let history = screen.all().into_iter().filter(|label| label.contains("HR 134 > 120, raised")).count();
    assert_eq!(history, 1);
    assert_eq!(
        screen.all().iter().filter(|label| label.contains(">") && label.contains(", acknowledged [")).count(),
        2
    );
}

#[test]
fn default_limits_and_times_are_validated_and_survive_a_restart() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 134 > 120"));
    screen.press("Alarms: 1 alarm");
    screen.press("Limits and times…");
    screen.fill("High", "130");
    screen.fill("Stale after (seconds)", "0");
    screen.fill("Pause flashing for (seconds)", "30");
    screen.press("Save");
    assert!(screen.has("A value becomes stale after 1 to 86400 seconds."), "{:?}", screen.all());
    screen.fill("Stale after (seconds)", "5");
    screen.press("Save");
    screen.until("the new limit", |screen| screen.has("Ann · 1, HR 134 > 130"));
    screen.press("Pause flashing Ann · 1");
    assert!(screen.has("Ann · 1, HR 134 > 130, flashing paused 30 s"), "{:?}", screen.all());
    let file = screen.folder().join("monitor.json");
    screen.until("the saved settings", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text.replace(' ', "").contains("\"stale_after_s\":5"))
    });
    screen.restart();
    screen.until("the same limit", |screen| screen.tile("Ann").contains("alarm HR 134 > 130"));
    screen.app.advance_clock(Duration::from_secs(7));
    assert!(screen.tile("Ann").contains("stale"), "{}", screen.tile("Ann"));
}

#[test]
fn high_alarm_flashes_at_2_hz_until_it_is_acknowledged() {
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
fn medium_alarm_flashes_at_0_6_hz_unless_paused() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 134);
    screen.until("the alarm", |screen| screen.window().global::<Api>().get_any_medium_flashes());
    assert!(!screen.window().global::<Api>().get_any_high_flashes());
    let changes = changes(&screen, |flash| flash.get_medium());
    assert!((11..=12).contains(&changes), "0.6 Hz is twelve changes in ten seconds, not {changes}");
    screen.open("Ann");
    screen.press("Pause flashing");
    let flashes = |screen: &Screen| {
        let window = screen.window();
        let api = window.global::<Api>();
        (api.get_any_medium_flashes(), api.get_vitals().flashes)
    };
    assert_eq!(flashes(&screen), (false, false));
    screen.app.advance_clock(Duration::from_secs(121));
    assert_eq!(flashes(&screen), (true, true), "the pause ends by itself");
}

#[test]
fn technical_alarm_does_not_flash() {
    let screen = Screen::start();
    screen.store(1, &flat());
    screen.until("the technical alarm", |screen| screen.tile("Ann").contains("alarm ECG"));
    let window = screen.window();
    let api = window.global::<Api>();
    assert!(!api.get_tiles().row_data(0).unwrap().flashes);
    assert!(!api.get_any_high_flashes() && !api.get_any_medium_flashes());
    assert_eq!(changes(&screen, |flash| flash.get_high() || flash.get_medium()), 0);
}

#[test]
fn red_alarm_of_another_patient_shows_its_name_and_value_and_opens_the_patient() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.rate(2, "Ben", 130);
    screen.open("Ann");
    screen.until("the medium alarm", |screen| screen.has("Alarms: 1 alarm"));
    let other = |screen: &Screen| screen.window().global::<Api>().get_other_alarm();
    assert_eq!(other(&screen).mrn, "", "a medium alarm does not interrupt");
    screen.rate(2, "Ben", 165);
    screen.until("the high alarm", |screen| screen.has("Alarm of another patient: Ben · 2, HR 165 > 150"));
    assert!(other(&screen).flashes);
    screen.rate(3, "Cleo", 30);
    screen.until("both", |screen| {
        screen.has("Alarm of another patient: Cleo · 3, HR 30 < 35, and 1 other patient")
    });
    screen.press("Alarm of another patient");
    screen.until("Cleo", |screen| screen.value("Name") == "Cleo");
    assert!(screen.window().global::<Api>().get_page() == Page::Patient);
    screen.until("the other one", |screen| screen.has("Alarm of another patient: Ben · 2"));
    screen.press("Alarm of another patient");
    screen.until("Ben", |screen| screen.value("Name") == "Ben");
    screen.press("Acknowledge");
    screen.open_by_number(1);
    screen.until("Cleo only", |screen| other(screen).mrn == "3");
    assert_eq!(other(&screen).more, "");
}
