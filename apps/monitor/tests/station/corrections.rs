//! Corrections at one station, seen at another one.

use std::cell::Cell;
use std::time::Duration;

use monitor::window::{Api, Correct};
use proto_json::CorrectionAction;
use slint::platform::Key;
use slint::{ComponentHandle, Model};

use crate::harness::{Screen, Station, mrn};

/// Processes the events of both stations until the condition holds.
fn until_both(screen: &Screen, second: &Station, what: &str, condition: impl Fn(&Screen) -> bool) {
    screen.until(what, |screen| {
        while second.app.wait(Duration::ZERO) {}
        condition(screen)
    });
}

/// The name, the number of listed ECGs and the heart rate on the patient page.
fn page(app: &monitor::App) -> (String, usize, String) {
    let window = app.window();
    let api = window.global::<Api>();
    let vitals = api.get_vitals();
    (vitals.name.to_string(), api.get_ecgs().row_count(), vitals.rate.to_string())
}

fn open_at(station: &Station, patient: u64) {
    station.app.window().global::<Api>().invoke_open_patient(patient.to_string().into());
}

#[test]
fn upload_to_the_wrong_patient_is_moved_with_seven_clicks_and_every_screen_follows() {
    let screen = Screen::start();
    screen.rate(7, "Ann", 70);
    screen.strip(7, "Ann", 64.0, 1);
    screen.rate(8, "Ben", 80);
    // This strip is of Ben.
    screen.strip(7, "Ann", 94.0, 2);
    let second = screen.second_station();
    until_both(&screen, &second, "both patients", |screen| {
        let seen = second.app.window().global::<Api>().get_tiles().row_count();
        screen.tiles().len() == 2 && seen == 2
    });
    open_at(&second, 8);
    screen.open("Ann");
    screen.until("the wrong strip", |screen| screen.value("Latest ECG").contains("· 9"));

    let clicks = Cell::new(0);
    let click = |label: &str| {
        clicks.set(clicks.get() + 1);
        screen.press_in_dialog(label);
    };
    click("Correct records or the name of this patient, or merge it");
    click("Move");
    screen.until("the newest upload", |screen| screen.value("Upload").ends_with("· 1 ECG"));
    click("Move to");
    // The list opens above the dialog; Ben is its only row.
    assert_eq!(screen.window().global::<Correct>().get_patients().row_count(), 1);
    clicks.set(clicks.get() + 1);
    screen.key(Key::Return);
    assert_eq!(screen.value("Move to"), "Ben · 8");
    click("Reason: Wrong patient");
    click("Continue…");
    screen.until("the question", |screen| screen.has("Move the upload?"));
    assert!(
        screen
            .all()
            .iter()
            .any(|label| label.contains("is moved from Ann · 7 to Ben · 8.\nReason: Wrong patient")),
        "{:?}",
        screen.all()
    );
    click("Move the upload");
    assert_eq!(clicks.get(), 7);
    screen.until("stored", |screen| screen.has("The correction is stored."));
    screen.until("Ann has her own strip", |screen| {
        screen.value("Latest ECG").contains("· 6") && page(&screen.app).1 == 1
    });
    until_both(&screen, &second, "Ben has his strip", |_| {
        let (name, ecgs, rate) = page(&second.app);
        name == "Ben" && ecgs == 1 && rate.starts_with('9')
    });
}

#[test]
fn record_is_marked_as_entered_in_error_with_the_keyboard_and_shown_again() {
    let screen = Screen::start();
    screen.rate(7, "Ann", 70);
    screen.rate(7, "Ann", 190);
    let second = screen.second_station();
    until_both(&screen, &second, "Ann", |screen| {
        screen.tiles().len() == 1 && second.app.window().global::<Api>().get_tiles().row_count() == 1
    });
    open_at(&second, 7);
    screen.open("Ann");
    screen.until("the wrong rate", |screen| screen.has("Heart rate 190 bpm"));
    screen.key("c");
    screen.until("the records", |screen| screen.value("Record").ends_with("heart rate 190 bpm"));
    // From the kind of the correction to the record, and to the reason.
    screen.key(Key::Tab);
    screen.key(Key::Tab);
    for letter in "artefact".chars() {
        screen.key(letter.to_string());
    }
    screen.key(Key::Return);
    screen.until("the question", |screen| screen.has("Mark as entered in error?"));
    screen.press_in_dialog("Mark as entered in error");
    until_both(&screen, &second, "the rate before", |screen| {
        screen.has("Heart rate 70 bpm") && page(&second.app).2 == "70"
    });

    screen.key("c");
    screen.until("the records", |screen| screen.value("Record").ends_with("heart rate 70 bpm"));
    screen.press("Undo");
    screen.until("the mark", |screen| screen.value("Correction to undo").contains("entered in error, by"));
    screen.press("Reason: Typing error");
    screen.press("Continue…");
    screen.press_in_dialog("Undo the correction");
    until_both(&screen, &second, "the rate again", |screen| {
        screen.has("Heart rate 190 bpm") && page(&second.app).2 == "190"
    });
}

#[test]
fn name_is_corrected_at_all_stations() {
    let screen = Screen::start();
    screen.rate(7, "Amm", 70);
    let second = screen.second_station();
    screen.open("Amm");
    open_at(&second, 7);
    screen.key("c");
    screen.press_in_dialog("Name");
    screen.fill("Correct name", "Ann");
    assert!(!screen.the("Continue…").accessible_enabled().unwrap_or(true), "a reason is required");
    screen.press("Reason: Typing error");
    screen.press("Continue…");
    screen.until("the question", |screen| screen.has("Amm · 7 gets the name Ann."));
    // Back keeps the form.
    screen.press("Back");
    assert_eq!(screen.value("Correct name"), "Ann");
    screen.press("Continue…");
    screen.press_in_dialog("Correct the name");
    until_both(&screen, &second, "the name", |screen| {
        screen.value("Name") == "Ann" && page(&second.app).0 == "Ann"
    });
}

#[test]
fn patients_are_merged_and_the_merge_is_undone() {
    let screen = Screen::start();
    screen.strip(7, "Ann", 64.0, 1);
    screen.strip(71, "Ann Berg", 94.0, 2);
    let second = screen.second_station();
    until_both(&screen, &second, "both", |screen| {
        screen.tiles().len() == 2 && second.app.window().global::<Api>().get_tiles().row_count() == 2
    });
    screen.open("Ann Berg");
    screen.key("c");
    screen.press("Merge");
    screen.window().global::<Correct>().invoke_select_patient("7".into());
    screen.press("Reason: Same person");
    screen.press("Continue…");
    screen.until("the question", |screen| screen.has("All records of Ann Berg · 71 are moved to Ann · 7."));
    screen.press_in_dialog("Merge the patients");
    screen.until("the surviving patient", |screen| screen.value("Name") == "Ann");
    until_both(&screen, &second, "one patient at both", |_| {
        [&screen.app, &second.app].iter().all(|app| app.window().global::<Api>().get_tiles().row_count() == 1)
    });
    screen.until("all strips", |screen| page(&screen.app).1 == 2);

    screen.key("c");
    screen.press("Undo");
    screen.until("the merge", |screen| screen.value("Correction to undo").contains("merge of 71 into 7"));
    screen.press("Reason: Wrong patient");
    screen.press("Continue…");
    screen.press_in_dialog("Undo the correction");
    until_both(&screen, &second, "two patients at both", |_| {
        [&screen.app, &second.app].iter().all(|app| app.window().global::<Api>().get_tiles().row_count() == 2)
    });
    screen.until("the own strips", |screen| page(&screen.app).1 == 1);
    let gateway = screen.gateway();
    let made = screen.run(gateway.corrections(mrn(7))).unwrap().unwrap();
    assert!(made.iter().any(|one| matches!(one.action, CorrectionAction::MergeUndone { .. })), "{made:?}");
}
