//! All patients at one look.

use std::time::Duration;

use slint::ComponentHandle;

use crate::screen::Screen;

#[test]
fn patients_appear_by_themselves_and_those_who_need_somebody_stand_first() {
    let screen = Screen::start();
    screen.until("connected by push", |screen| screen.value("Connection").contains("push"));
    assert!(screen.has("No patients yet"));
    screen.rate(1, "Ann", 70);
    screen.rate(2, "Ben", 80);
    screen.rate(3, "Cleo", 90);
    screen.until("three tiles", |screen| screen.tiles().len() == 3);
    assert!(!screen.has("No patients yet"));
    assert!(screen.tiles()[0].starts_with("Ann, MRN 1, heart rate 70 bpm"), "{:?}", screen.tiles());
    screen.rate(3, "Cleo", 160);
    screen.until("Cleo first", |screen| screen.tiles()[0].starts_with("Cleo"));
    assert!(screen.tile("Cleo").contains("alarm HR 160 > 150"), "{}", screen.tile("Cleo"));
    screen.rate(2, "Ben", 45);
    screen.until("Ben second", |screen| screen.tiles()[1].starts_with("Ben"));
    assert!(screen.tiles()[2].starts_with("Ann"));
}

#[test]
fn a_strip_gives_a_rate_and_a_small_picture_of_itself() {
    use monitor::window::Api;
    use slint::Model;
    let screen = Screen::start();
    screen.strip(5, "Eve", 75.0, 1);
    screen.until("a rate", |screen| screen.tile("Eve").contains("heart rate 7"));
    screen.until("a small strip", |screen| {
        let tile = screen.window().global::<Api>().get_tiles().row_data(0).unwrap();
        tile.has_spark && tile.spark.size().width > 20
    });
}

#[test]
fn a_value_past_its_time_is_said_to_be_stale_and_a_new_one_is_not() {
    use monitor::window::Api;
    use slint::Model;
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    assert!(!screen.tile("Ann").contains("stale"));
    let age = |screen: &Screen| screen.window().global::<Api>().get_ages().row_data(0).unwrap();
    screen.app.turn_clock(Duration::from_secs(30));
    assert!(age(&screen).ends_with(" s"), "{}", age(&screen));
    screen.app.turn_clock(Duration::from_secs(35));
    assert!(screen.tile("Ann").contains("stale"), "{}", screen.tile("Ann"));
    assert!(age(&screen).starts_with("stale · 1 min"), "{}", age(&screen));
    // The time that has passed for the station has not passed for the server: what it stores now is as old.
    screen.app.turn_clock_back();
    screen.rate(1, "Ann", 72);
    screen.until("fresh again", |screen| {
        screen.tile("Ann").contains("rate 72") && !screen.tile("Ann").contains("stale")
    });
}

#[test]
fn the_age_goes_on_every_second() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.open("Ann");
    screen.app.turn_clock(Duration::from_secs(10));
    let before = screen.value("Age");
    screen.app.turn_clock(Duration::from_secs(1));
    assert_ne!(screen.value("Age"), before);
    assert!(before.ends_with(" s ago"), "{before}");
}

#[test]
fn sixty_four_patients_fit_on_one_screen() {
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
