//! Wards on the overview, admissions and details.

use client::{new_bed_id, new_stay_id, new_ward_id};
use monitor::window::{Api, Care};
use proto_json::alarms::LimitScope;
use proto_json::wards::{AdmitRequest, NewBed, NewWard, Ward};
use slint::ComponentHandle;
use slint::platform::Key;

use crate::harness::{Screen, mrn};

/// Adds a ward.
fn add_ward(screen: &Screen, name: &str, beds: &[&str]) -> Ward {
    let gateway = screen.gateway();
    screen.run(async {
        let new = NewWard { id: Some(new_ward_id()), name: name.parse().unwrap() };
        let mut ward = gateway.add_ward(&new).await.unwrap();
        for bed in beds {
            let new = NewBed { id: Some(new_bed_id()), name: bed.parse().unwrap() };
            ward = gateway.add_bed(ward.id, &new).await.unwrap();
        }
        ward
    })
}

/// Admits a patient at another station.
fn admit(screen: &Screen, patient: u64, ward: &Ward, bed: usize) {
    let gateway = screen.gateway();
    let request = AdmitRequest { bed: ward.beds[bed].id, id: Some(new_stay_id()) };
    screen.run(gateway.admit(mrn(patient), &request)).unwrap();
}

/// The labels of the tiles, with those of empty beds.
fn tiles(screen: &Screen) -> Vec<String> {
    let is_tile = |label: &String| label.contains(", MRN ") || label.contains(", empty bed");
    let name = |label: String| label.split(',').next().unwrap_or_default().to_owned();
    screen.all().into_iter().filter(is_tile).map(name).collect()
}

#[test]
fn ward_is_shown_by_bed_with_empty_beds_and_remembered() {
    let mut screen = Screen::start();
    for (number, name) in [(1, "Zoe"), (2, "Ann"), (3, "Ben"), (4, "Discharged")] {
        screen.rate(number, name, 70);
    }
    let north = add_ward(&screen, "North", &["Bed 1", "Bed 2", "Bed 3"]);
    let south = add_ward(&screen, "South", &["Bed 1"]);
    admit(&screen, 1, &north, 0);
    admit(&screen, 2, &north, 2);
    admit(&screen, 3, &south, 0);
    let care = |screen: &Screen, key: &str| {
        let window = screen.window();
        window.global::<Care>().invoke_select_ward(key.into());
        window.global::<Api>().invoke_set_tile_order(3);
        screen.settle();
    };
    screen.until("the wards", |screen| {
        screen.has("Choose a ward") && screen.value("Choose a ward") == "All wards"
    });
    screen.until("admitted patients", |screen| tiles(screen).len() == 3);
    let ward = north.id.to_string();
    care(&screen, &ward);
    assert_eq!(tiles(&screen), ["Zoe", "North · Bed 2", "Ann"]);
    assert_eq!(screen.value("Choose a ward"), "North");
    // A discharge at another station empties a bed, and an admission fills one.
    let gateway = screen.gateway();
    screen.run(gateway.discharge(mrn(1), &proto_json::wards::DischargeRequest::default())).unwrap();
    screen.until("the empty bed", |screen| tiles(screen) == ["North · Bed 1", "North · Bed 2", "Ann"]);
    admit(&screen, 4, &north, 1);
    screen.until("the patient", |screen| tiles(screen) == ["North · Bed 1", "Discharged", "Ann"]);
    care(&screen, "not-admitted");
    assert_eq!(tiles(&screen), ["Zoe"]);
    care(&screen, "all");
    assert_eq!(tiles(&screen), ["Discharged", "Ann", "Ben", "Zoe"]);
    // The search finds patients of other wards and discharged ones.
    care(&screen, &ward);
    screen.control("f");
    screen.key("z");
    screen.key("o");
    screen.key(Key::Return);
    screen.until("Zoe", |screen| screen.value("Name") == "Zoe");
    screen.restart();
    screen.until("the ward", |screen| tiles(screen) == ["North · Bed 1", "Discharged", "Ann"]);
}

#[test]
fn patient_is_admitted_transferred_and_discharged_with_the_keyboard() {
    let screen = Screen::start();
    screen.rate(7, "Ann", 70);
    screen.rate(8, "Ben", 80);
    let north = add_ward(&screen, "North", &["Bed 1", "Bed 2"]);
    screen.until("the wards", |screen| screen.has("Choose a ward"));
    screen.until("both", |screen| screen.window().global::<Api>().get_patients_note().contains('2'));
    screen.open_by_number(7);
    screen.key("b");
    screen.until("the dialog", |screen| screen.has("The patient is not admitted."));
    // Enter opens the list, the text selects, and Enter takes the first bed.
    screen.key(Key::Return);
    screen.key("2");
    screen.key(Key::Return);
    assert_eq!(screen.value("Empty bed"), "North · Bed 2");
    // Meanwhile the bed is given to another patient.
    admit(&screen, 8, &north, 1);
    screen.press("Admit");
    screen.until("the reason", |screen| screen.has("Bed Bed 2 of North is occupied by patient 8"));
    screen.the("Empty bed").invoke_accessible_expand_action();
    screen.key("1");
    screen.key(Key::Return);
    screen.press("Admit");
    screen.until("the bed", |screen| {
        screen
            .find("Bed")
            .is_some_and(|bed| bed.accessible_value().is_some_and(|value| value == "North · Bed 1"))
    });
    assert!(!screen.has("Empty bed"), "the dialog is closed");

    screen.key("b");
    screen.until("the dialog", |screen| screen.has("The patient is in North · Bed 1."));
    screen.press("Discharge…");
    screen.until("the question", |screen| screen.has("Discharge Ann · 7?"));
    screen.press_in_dialog("Discharge");
    screen.until("discharged", |screen| screen.has("Ann · 7 is discharged."));
    let gateway = screen.gateway();
    let stays = screen.run(gateway.admissions(mrn(7), None, None)).unwrap().items;
    assert!(stays.len() == 1 && stays[0].ended.is_some(), "{stays:?}");

    // An empty bed on the overview admits a patient.
    screen.key(Key::Escape);
    screen.window().global::<Care>().invoke_select_ward(north.id.to_string().into());
    screen.until("the empty bed", |screen| screen.has("North · Bed 1, empty bed"));
    screen.press("North · Bed 1, empty bed");
    screen.until("the dialog", |screen| screen.has("Admit to North · Bed 1"));
    screen.window().global::<Care>().invoke_select_patient("7".into());
    screen.press("Admit");
    screen.until("admitted", |screen| tiles(screen).contains(&"Ann".to_owned()));
}

#[test]
fn details_are_entered_and_shown() {
    let screen = Screen::start();
    screen.rate(7, "Ann", 70);
    screen.open("Ann");
    screen.key("d");
    screen.until("the dialog", |screen| screen.has("Details of Ann · 7"));
    screen.fill("Date of birth", "14.3.1957");
    screen.press("Save");
    screen.until("the reason", |screen| screen.has("A date of birth is written as in 1957-03-14"));
    screen.fill("Date of birth", "1957-03-14");
    screen.press("Female");
    screen.press("Save");
    screen.until("the details", |screen| {
        screen.find("Details").is_some_and(|details| {
            let value = details.accessible_value().unwrap_or_default();
            value.contains("born 1957-03-14, female")
        })
    });
    let gateway = screen.gateway();
    let patient = screen.run(gateway.patient(mrn(7))).unwrap().unwrap();
    assert_eq!(patient.details.unwrap().version, 1);
}

#[test]
fn limits_of_a_ward_are_set_and_removed() {
    let screen = Screen::start();
    screen.rate(7, "Ann", 110);
    let north = add_ward(&screen, "North", &["Bed 1"]);
    admit(&screen, 7, &north, 0);
    screen.until("the wards", |screen| screen.has("Choose a ward"));
    screen.press("Alarms: ");
    screen.press("Limits and times…");
    let is_ready = |screen: &Screen| screen.window().global::<Api>().get_limits_ready();
    screen.until("the limits of the site", is_ready);
    assert_eq!(screen.value("Limits of"), "The whole site");
    // Enter opens the list, the arrow key moves to the ward, and Enter selects it.
    screen.the("Limits of").invoke_accessible_expand_action();
    screen.key(Key::DownArrow);
    screen.key(Key::DownArrow);
    screen.key(Key::Return);
    screen.until("the limits of the ward", |screen| is_ready(screen) && screen.value("Limits of") == "North");
    assert!(screen.has("Alarm limits of the ward North"));
    assert!(!screen.has("This station: stale after (s)"), "the times belong to the site");
    screen.fill("Heart rate high", "100");
    screen.press("Save");
    screen.until("saved", |screen| screen.has("The limits are saved."));
    let gateway = screen.gateway();
    let scope = LimitScope::Ward { ward: north.id };
    let stored = screen.run(gateway.alarm_limits(scope)).unwrap();
    assert_eq!(stored.limits.heart_rate_high, Some(100));
    screen.rate(7, "Ann", 111);
    screen.until("the alarm", |screen| screen.has("Alarms: 1 alarm"));

    screen.press("Limits and times…");
    screen.until("the limits of the site", is_ready);
    screen.window().global::<Api>().invoke_select_limit_scope(north.id.to_string().into());
    screen.until("the limits of the ward", |screen| {
        is_ready(screen) && screen.value("Heart rate high") == "100"
    });
    screen.press("Use the default limits");
    screen.until("removed", |screen| {
        let stored = screen.run(gateway.alarm_limits(scope)).unwrap();
        stored.limits.heart_rate_high.is_none()
    });
}
