//! Alarms of the server: texts, acknowledgement, pause of the sound, latching, limits, flashing, history.

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
        recorded_at: Some(proto_json::Timestamp::now()),
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

fn tile(screen: &Screen) -> monitor::window::TileData {
    screen.window().global::<Api>().get_tiles().row_data(0).unwrap()
}

/// Whether a label starts with one of these and contains the other.
fn has(screen: &Screen, start: &str, part: &str) -> bool {
    screen.all().iter().any(|label| label.starts_with(start) && label.contains(part))
}

#[test]
fn acknowledged_alarm_shows_who_and_when_and_a_worse_one_flashes() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.open("Ann");
    screen.until("the alarm", |screen| screen.has("Alarm HR 13"));
    let shown = screen.window().global::<Api>().get_vitals();
    assert!(shown.flashes && shown.can_acknowledge && shown.severity == Severity::Medium);
    assert_eq!(shown.alarm_state, "");
    screen.press("Acknowledge");
    screen.until("who and when", |screen| has(screen, "Alarm HR 13", " > 120, acknowledged by local, "));
    let shown = screen.window().global::<Api>().get_vitals();
    assert!(!shown.flashes && !shown.can_acknowledge);
    assert_eq!(tile(&screen).alarm_state, "seen");

    screen.strip(1, "Ann", 164.0, 2);
    screen.until("the high alarm", |screen| {
        screen.window().global::<Api>().get_vitals().severity == Severity::High
    });
    let shown = screen.window().global::<Api>().get_vitals();
    assert!(
        shown.flashes && shown.alarm.starts_with("HR 16") && shown.alarm.ends_with(" > 150"),
        "{}",
        shown.alarm
    );
}

#[test]
fn pause_of_the_sound_counts_down_and_ends_by_itself() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.open("Ann");
    screen.until("the sound", |screen| screen.app.sounding().is_some());
    screen.press("Pause sound");
    assert_eq!(screen.app.sounding(), None, "silent at once, before the server answers");
    screen.until("the countdown", |screen| {
        has(screen, "Alarm HR 13", "sound paused 2:00 by local")
            || has(screen, "Alarm HR 13", "sound paused 1:59 by local")
    });
    assert!(screen.has("Sound paused 1:5") || screen.has("Sound paused 2:00"), "{:?}", screen.all());
    assert!(screen.window().global::<Api>().get_vitals().flashes, "the alarm still flashes");
    assert_eq!(tile(&screen).alarm_state, "quiet");
    screen.app.advance_clock(Duration::from_secs(60));
    assert!(
        has(&screen, "Alarm HR 13", "sound paused 1:0") || has(&screen, "Alarm HR 13", "sound paused 0:5")
    );
    screen.app.advance_clock(Duration::from_secs(62));
    assert!(
        !has(&screen, "Alarm HR 13", "sound paused") && !screen.has("Sound paused"),
        "{:?}",
        screen.all()
    );
    assert!(screen.app.sounding().is_some());
    assert!(screen.the("Pause sound").accessible_enabled().unwrap());
}

#[test]
fn unacknowledged_high_alarm_stays_after_its_end_with_its_worst_value() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 164.0, 1);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 16"));
    assert_eq!(tile(&screen).rate_severity, Severity::High);
    screen.strip(1, "Ann", 80.0, 2);
    screen.until("over, but there", |screen| {
        let tile = screen.tile("Ann");
        tile.contains("alarm HR 16") && tile.contains(", over")
    });
    let shown = tile(&screen);
    assert_eq!((shown.severity, shown.rate_severity), (Severity::High, Severity::None));
    assert!(shown.flashes);
    screen.open("Ann");
    assert!(screen.window().global::<Api>().get_vitals().alarm_state.starts_with("over at "));
    screen.press("Reset");
    screen.until("gone", |screen| !screen.has("Alarm HR"));
    screen.control("l");
    screen.until("the history", |screen| {
        screen.all().iter().any(|label| {
            label.contains("Ann · 1, HR 16") && label.contains("until ") && label.contains("local ")
        })
    });
}

#[test]
fn strip_without_a_rate_raises_a_technical_alarm_and_a_missing_strip_none() {
    let screen = Screen::start();
    screen.store(1, &flat());
    screen.until("the technical alarm", |screen| screen.tile("Ann").contains("alarm ECG unusable"));
    screen.rate(2, "Ben", 80);
    screen.until("Ben", |screen| !screen.tile("Ben").is_empty());
    screen.app.advance_clock(Duration::from_secs(3600));
    assert!(!screen.tile("Ben").contains("alarm"), "{}", screen.tile("Ben"));
    assert!(screen.tile("Ann").contains("stale"), "the value becomes stale: {}", screen.tile("Ann"));
    assert!(!screen.all().join("\n").contains("Asystole"));
    // It does not flash.
    assert!(!tile(&screen).flashes);
    let window = screen.window();
    let api = window.global::<Api>();
    assert!(!api.get_any_high_flashes() && !api.get_any_medium_flashes());
    assert_eq!(changes(&screen, |flash| flash.get_high() || flash.get_medium()), 0);
}

#[test]
fn limits_of_a_patient_are_checked_by_the_server_and_survive_a_restart() {
    let mut screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.open("Ann");
    screen.until("the limits", |screen| screen.value("Limits").contains("50 to 120 bpm"));
    assert!(screen.value("Limits").contains("(default)"));
    screen.press("Alarm limits of this patient");
    screen.until("the form", |screen| screen.window().global::<Api>().get_limits_ready());
    for (text, message) in [("abc", "“abc” is not a whole number."), ("40", "")] {
        screen.fill("Heart rate high", text);
        screen.press("Save");
        screen.until("the rejection", |screen| {
            let window = screen.window();
            let error = window.global::<Api>().get_limits_error();
            !error.is_empty() && (message.is_empty() || error == message)
        });
        assert_eq!(screen.value("Heart rate high"), text, "the entry stays");
        assert!(screen.window().global::<Api>().get_dialog() == Dialog::Limits);
    }
    screen.fill("Heart rate high", "140");
    screen.press("Save");
    screen.until("saved", |screen| screen.window().global::<Api>().get_dialog() == Dialog::None);
    screen.until("the limits", |screen| {
        let limits = screen.value("Limits");
        limits.contains("50 to 140") && limits.contains("of this patient")
    });
    screen.restart();
    screen.open("Ann");
    screen.until("the same limits", |screen| screen.value("Limits").contains("50 to 140"));
    screen.press("Alarm limits of this patient");
    screen.until("the form", |screen| screen.window().global::<Api>().get_limits_ready());
    assert!(screen.all().iter().any(|label| label.contains("Alarm limits of Ann")));
    screen.press("Use the default limits");
    screen.until("the defaults", |screen| screen.value("Limits").contains("50 to 120"));
}

#[test]
fn all_alarms_in_the_list_are_acknowledged_only_after_confirmation() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.strip(2, "Ben", 164.0, 2);
    screen.until("two alarms", |screen| screen.has("Alarms: 2 alarms"));
    screen.press("Alarms: 2 alarms");
    assert!(screen.has("Ann · 1, HR 13") && screen.has("Ben · 2, HR 16"));
    screen.press("Acknowledge all");
    assert!(screen.has("Acknowledge all alarms?"));
    screen.key(Key::Return);
    assert!(!screen.has("Acknowledge all alarms?"), "Enter is the safe answer");
    assert!(!has(&screen, "Ann · 1, HR 13", "acknowledged by"));

    let window = screen.window();
    let api = window.global::<Api>();
    api.invoke_filter_alarms(0, 1);
    screen.settle();
    assert!(screen.has("Ben · 2, HR 16") && !screen.has("Ann · 1, HR 13"), "the filter shows high alarms");
    assert!(screen.has("1 of 2 alarms"));
    screen.press("Acknowledge all");
    screen.press("Acknowledge all alarms");
    screen.until("only the listed alarm", |screen| has(screen, "Ben · 2, HR 16", "acknowledged by local"));
    assert!(api.get_dialog() == Dialog::None);
    api.invoke_filter_alarms(1, 0);
    screen.settle();
    assert!(screen.has("Ann · 1, HR 13") && !screen.has("Ben · 2, HR 16"), "unacknowledged alarms");
    api.invoke_filter_alarms(2, 0);
    screen.settle();
    assert!(!screen.has("Ann · 1, HR 13") && screen.has("Ben · 2, HR 16"), "acknowledged alarms");
    api.invoke_filter_alarms(2, 2);
    screen.settle();
    assert!(screen.has("No alarm matches the filter."), "{:?}", screen.all());
}

#[test]
fn default_limits_are_stored_on_the_server_and_times_at_the_station() {
    let mut screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.until("the alarm", |screen| screen.tile("Ann").contains("alarm HR 13"));
    screen.press("Alarms: 1 alarm");
    screen.press("Limits and times…");
    screen.until("the form", |screen| screen.window().global::<Api>().get_limits_ready());
    screen.fill("Heart rate high", "130");
    screen.fill("This station: stale after (s)", "0");
    screen.press("Save");
    assert!(screen.has("A value becomes stale after 1 to 86400 seconds."), "{:?}", screen.all());
    screen.fill("This station: stale after (s)", "5");
    screen.fill("This station: pause sound for (s)", "30");
    screen.press("Save");
    screen.until("saved", |screen| screen.window().global::<Api>().get_dialog() == Dialog::None);
    let stored = screen.run(screen.gateway().alarm_limits(proto_json::alarms::LimitScope::Site)).unwrap();
    assert_eq!((stored.limits.heart_rate_high, stored.version), (Some(130), 1));
    assert_eq!(stored.limits.heart_rate_low, None, "an empty field is inherited");
    screen.press("Pause sound Ann · 1");
    screen.until("the countdown", |screen| {
        has(screen, "Ann · 1, HR 13", "sound paused 0:30")
            || has(screen, "Ann · 1, HR 13", "sound paused 0:29")
    });
    let file = screen.folder().join("monitor.json");
    screen.until("the saved settings", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text.replace(' ', "").contains("\"stale_after_s\":5"))
    });
    screen.restart();
    screen.until("Ann", |screen| !screen.tile("Ann").is_empty());
    screen.app.advance_clock(Duration::from_secs(7));
    assert!(screen.tile("Ann").contains("stale"), "{}", screen.tile("Ann"));
}

#[test]
fn limits_of_the_station_before_the_server_had_them_are_kept_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("monitor.alarms.json");
    std::fs::write(&old, r#"{"own":{"7":{"low":40,"high":120,"critical_low":35,"critical_high":150}}}"#)
        .unwrap();
    let settings = folder.path().join("monitor.json");
    let screen = Screen::with_system(crate::fixture::System::standalone(), |args| {
        args.connection.settings = Some(settings);
    });
    let message = screen.window().global::<Api>().get_message();
    assert!(message.starts_with("The alarm limits of the server apply now."), "{message}");
    assert!(message.contains("monitor.alarms.before-server.json"), "{message}");
    assert!(!old.exists() && folder.path().join("monitor.alarms.before-server.json").exists());
}

#[test]
fn high_alarm_flashes_at_2_hz_and_a_medium_one_at_0_6_hz_until_acknowledged() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 134.0, 1);
    screen.until("the alarm", |screen| screen.window().global::<Api>().get_any_medium_flashes());
    assert!(!screen.window().global::<Api>().get_any_high_flashes());
    let medium = changes(&screen, |flash| flash.get_medium());
    assert!((11..=12).contains(&medium), "0.6 Hz is twelve changes in ten seconds, not {medium}");
    screen.strip(2, "Ben", 164.0, 2);
    screen.until("the alarm", |screen| screen.window().global::<Api>().get_any_high_flashes());
    let high = changes(&screen, |flash| flash.get_high());
    assert!((38..=40).contains(&high), "2 Hz is forty changes in ten seconds, not {high}");
    screen.open("Ben");
    screen.press("Acknowledge");
    screen.until("quiet", |screen| !screen.window().global::<Api>().get_any_high_flashes());
    assert!(screen.window().global::<Api>().get_any_medium_flashes());
}

#[test]
fn red_alarm_of_another_patient_shows_its_name_and_value_and_opens_the_patient() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.strip(2, "Ben", 130.0, 1);
    screen.open("Ann");
    screen.until("the medium alarm", |screen| screen.has("Alarms: 1 alarm"));
    let other = |screen: &Screen| screen.window().global::<Api>().get_other_alarm();
    assert_eq!(other(&screen).mrn, "", "a medium alarm does not interrupt");
    screen.strip(2, "Ben", 164.0, 2);
    screen.until("the high alarm", |screen| screen.has("Alarm of another patient: Ben · 2, HR 16"));
    assert!(other(&screen).flashes);
    screen.strip(3, "Cleo", 170.0, 3);
    screen.until("both", |screen| {
        has(screen, "Alarm of another patient: Cleo · 3, HR 1", "> 150, and 1 other patient")
    });
    screen.press("Alarm of another patient");
    screen.until("Cleo", |screen| screen.value("Name") == "Cleo");
    assert!(screen.window().global::<Api>().get_page() == Page::Patient);
    screen.until("the other one", |screen| screen.has("Alarm of another patient: Ben · 2"));
    screen.press("Alarm of another patient");
    screen.until("Ben", |screen| screen.value("Name") == "Ben");
    screen.press("Acknowledge");
    screen.open_by_number(1);
    screen.until("Cleo only", |screen| other(screen).mrn == "3" && other(screen).more.is_empty());
}
