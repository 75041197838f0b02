//! The overview: tiles, ages, order.

use std::time::Duration;

use slint::ComponentHandle;

use crate::harness::Screen;

#[test]
fn tiles_stay_in_place_when_an_alarm_is_raised() {
    let screen = Screen::start();
    screen.until("connected by push", |screen| screen.value("Connection").contains("push"));
    assert!(screen.has("No patients yet"));
    screen.rate(1, "Cleo", 70);
    screen.rate(2, "Ben", 80);
    screen.rate(3, "Ann", 90);
    screen.until("three tiles", |screen| screen.tiles().len() == 3);
    assert!(!screen.has("No patients yet"));
    assert!(screen.tiles()[0].starts_with("Ann, MRN 3, heart rate 90 bpm"), "{:?}", screen.tiles());
    screen.strip(1, "Cleo", 164.0, 1);
    screen.until("the alarm", |screen| screen.tile("Cleo").contains("alarm HR 16"));
    assert_eq!(names(&screen), ["Ann", "Ben", "Cleo"]);
}

#[test]
fn order_of_tiles_is_selected_and_survives_a_restart() {
    let mut screen = Screen::start();
    screen.strip(1, "Cleo", 164.0, 1);
    screen.rate(2, "Ben", 80);
    screen.strip(3, "Ann", 134.0, 2);
    screen.until("three tiles", |screen| screen.tiles().len() == 3);
    screen.until("two alarms", |screen| screen.has("Alarms: 2 alarms"));
    assert_eq!(names(&screen), ["Ann", "Ben", "Cleo"]);
    screen.press("Number");
    assert_eq!(names(&screen), ["Cleo", "Ben", "Ann"]);
    screen.press("Severity");
    assert_eq!(names(&screen), ["Cleo", "Ann", "Ben"]);
    screen.strip(2, "Ben", 170.0, 3);
    screen.until("Ben first", |screen| names(screen)[0] == "Ben");
    screen.restart();
    screen.until("the same order", |screen| names(screen) == ["Ben", "Cleo", "Ann"]);
    assert_eq!(screen.value("Order of tiles"), "Severity");
}

fn names(screen: &Screen) -> Vec<String> {
    screen.tiles().iter().filter_map(|tile| Some(tile.split_once(',')?.0.to_owned())).collect()
}

#[test]
fn strip_gives_a_rate_and_a_sparkline() {
    use monitor::window::Api;
    use slint::Model;
    let screen = Screen::start();
    screen.strip(5, "Eve", 75.0, 1);
    screen.until("a rate", |screen| screen.tile("Eve").contains("heart rate 7"));
    screen.until("a sparkline", |screen| {
        let tile = screen.window().global::<Api>().get_tiles().row_data(0).unwrap();
        tile.has_sparkline && tile.sparkline.size().width > 20
    });
}

#[test]
fn old_value_is_stale_until_a_new_one_arrives() {
    use monitor::window::Api;
    use slint::Model;
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    assert!(!screen.tile("Ann").contains("stale"));
    let age = |screen: &Screen| screen.window().global::<Api>().get_ages().row_data(0).unwrap();
    screen.app.advance_clock(Duration::from_secs(30));
    assert!(age(&screen).ends_with(" s"), "{}", age(&screen));
    screen.app.advance_clock(Duration::from_secs(35));
    assert!(screen.tile("Ann").contains("stale"), "{}", screen.tile("Ann"));
    assert!(age(&screen).starts_with("stale · 1 min"), "{}", age(&screen));
    // The time has not passed for the server: a value that it stores now would be stale, too.
    screen.app.reset_clock();
    screen.rate(1, "Ann", 72);
    screen.until("fresh again", |screen| {
        screen.tile("Ann").contains("rate 72") && !screen.tile("Ann").contains("stale")
    });
}

#[test]
fn age_changes_every_second() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.open("Ann");
    screen.app.advance_clock(Duration::from_secs(10));
    let before = screen.value("Age");
    screen.app.advance_clock(Duration::from_secs(1));
    assert_ne!(screen.value("Age"), before);
    assert!(before.ends_with(" s ago"), "{before}");
}

#[test]
fn overview_fits_64_patients() {
    let screen = Screen::start();
    screen.until("connected", |screen| screen.value("Connection").contains("push"));
    for number in 0..64 {
        screen.rate(number, &format!("Patient {number:02}"), 70);
    }
    screen.until("all", |screen| screen.tiles().len() == 64);
    let window = screen.window().window().size();
    for number in 0..64 {
        let tile = screen.the(&format!("Patient {number:02}, MRN"));
        let (place, size) = (tile.absolute_position(), tile.size());
        assert!(place.x >= 0.0 && place.x + size.width <= window.width as f32, "{number}: {place:?}");
        assert!(place.y > 40.0 && place.y + size.height <= window.height as f32, "{number}: {place:?}");
    }
}
