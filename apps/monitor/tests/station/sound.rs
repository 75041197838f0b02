//! The sound of the station: its own alarms, the missing device, volume and test.

use std::time::Duration;

use monitor::alarm_sound::SoundPriority;
use monitor::window::Api;
use slint::ComponentHandle;

use crate::harness::Screen;

#[test]
fn lost_connection_sounds_until_it_is_paused_or_back() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    assert_eq!(screen.app.sounding(), None);
    screen.system.gateway.kill();
    screen.until("the sound", |screen| screen.app.sounding() == Some(SoundPriority::Medium));
    screen.until("a burst", |screen| !screen.recorder.bursts().is_empty());
    screen.press("Pause sound");
    assert_eq!(screen.app.sounding(), None);
    assert!(screen.has("Sound paused 2:00") || screen.has("Sound paused 1:5"), "{:?}", screen.all());
    screen.app.advance_clock(Duration::from_secs(121));
    assert_eq!(screen.app.sounding(), Some(SoundPriority::Medium), "the pause ends by itself");
    screen.app.reset_clock();
    screen.system.gateway.restart();
    screen.until("silence", |screen| screen.app.sounding().is_none() && !screen.has("Sound paused"));
}

#[test]
fn missing_sound_device_is_visible_and_the_test_uses_the_volume() {
    let screen = Screen::start();
    screen.until("connected", |screen| screen.value("Connection").contains("push"));
    assert!(!screen.has("No sound"));
    screen.press("Sound");
    screen.press("Test the sound of high alarms");
    screen.until("the test", |screen| screen.recorder.bursts().len() == 1);
    assert_eq!(screen.recorder.bursts()[0].priority, SoundPriority::High);
    assert_eq!(screen.app.sounding(), None, "a test is no alarm");
    screen.window().global::<Api>().invoke_set_volume(3);
    let file = screen.folder().join("monitor.json");
    screen.until("the saved volume", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text.replace(' ', "").contains("\"volume\":3"))
    });
    screen.press("Close");
    screen.recorder.set_missing(true);
    screen.until("the mark", |screen| screen.has("No sound: "));
    screen.press("No sound: ");
    assert!(
        screen.all().iter().any(|label| label.starts_with("Alarms have no sound at this station")),
        "{:?}",
        screen.all()
    );
    screen.recorder.set_missing(false);
    screen.until("no mark", |screen| !screen.has("No sound"));
}
