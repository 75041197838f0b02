//! Damaged records raise a technical alarm.

use monitor::window::Api;
use slint::ComponentHandle;

use crate::harness::Screen;

fn alarm(screen: &Screen) -> String {
    screen.window().global::<Api>().get_technical_alarm().to_string()
}

#[test]
fn damaged_records_raise_a_technical_alarm_while_they_are_missing() {
    let mut screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.rate(2, "Bob", 71);
    screen.until("Bob", |screen| screen.tile("Bob").contains("rate 71"));
    assert_eq!(alarm(&screen), "");
    let db = rusqlite::Connection::open(screen.system.patients_file()).unwrap();
    assert_eq!(db.execute("UPDATE patients SET version = 9 WHERE mrn = 1", []).unwrap(), 1);
    assert_eq!(db.execute("UPDATE heart_rates SET bpm = 17 WHERE mrn = 2", []).unwrap(), 1);
    screen.restart();
    screen.until("the alarm", |screen| !alarm(screen).is_empty());
    assert_eq!(alarm(&screen), "Stored data is damaged and not shown: patient (mrn 1). Restore a backup.");
    screen.open("Bob");
    screen.until("both", |screen| alarm(screen).contains("patient (mrn 1) and one more"));
    screen.control("l");
    screen.until("the list of alarms", |screen| {
        screen.all().iter().any(|label| label.contains("Stored data damaged"))
    });
}
