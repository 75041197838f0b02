//! The patient page and the drop-down lists.

use slint::platform::{Key, WindowEvent};
use slint::{ComponentHandle, LogicalPosition};

use image::ImageFormat;

use crate::fixture::test_data::picture;
use crate::harness::{SOON, Screen, image, strip};

#[test]
fn patient_page_shows_name_number_rate_age_and_the_latest_ecg() {
    let screen = Screen::start();
    screen.strip(42, "Ann", 75.0, 1);
    screen.open("Ann");
    screen.until("the ECG", |screen| screen.description("latest ECG").contains("beats"));
    screen.until("its rate", |screen| screen.value("Latest ECG").contains(" bpm"));
    assert!(screen.has("Heart rate 7"), "{:?}", screen.all());
    assert!(screen.value("Age").contains("now") || screen.value("Age").contains(" s ago"));
    assert!(screen.value("Findings").contains("good signal"));
    assert!(screen.value("Choose a patient").contains("Ann · 42"));
}

#[test]
fn upload_for_the_open_patient_is_shown_at_once() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 64.0, 1);
    screen.open("Ann");
    screen.until("the first", |screen| screen.value("Latest ECG").contains("· 6"));
    screen.strip(1, "Ann", 94.0, 2);
    screen.until("the second", |screen| screen.value("Latest ECG").contains("· 9"));
    assert!(screen.has("Heart rate 9"));
}

#[test]
fn patient_is_found_by_number_or_name_and_new_patients_join_the_list() {
    let screen = Screen::start();
    screen.rate(1001, "Ann", 70);
    screen.rate(2002, "Ben", 80);
    screen.until("both", |screen| screen.tiles().len() == 2);
    screen.press("Choose a patient");
    assert!(screen.has("Ann, 70 bpm · MRN 1001") && screen.has("Ben, 80 bpm · MRN 2002"));
    screen.fill("Name or number", "200");
    assert!(!screen.has("Ann, 70") && screen.has("Ben, 80"));
    screen.fill("Name or number", "an");
    assert!(screen.has("Ann, 70") && !screen.has("Ben, 80"));
    screen.rate(3003, "Hana", 75);
    screen.until("Hana in the open list", |screen| screen.has("Hana, 75 bpm · MRN 3003"));
    screen.press("Hana, 75 bpm · MRN 3003");
    screen.until("Hana", |screen| screen.value("Name") == "Hana");
    assert!(!screen.has("Name or number"), "the list is closed");
}

#[test]
fn selected_ecg_is_shown_next_to_the_latest() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 64.0, 1);
    screen.strip(1, "Ann", 94.0, 2);
    screen.open("Ann");
    screen.until("the latest", |screen| screen.value("Latest ECG").contains("· 9"));
    screen.press("Select an ECG");
    let old = |screen: &Screen| {
        screen.all().into_iter().find(|label| label.contains(", 6") && label.contains(" bpm · "))
    };
    screen.until("both in the list", |screen| old(screen).is_some());
    let label = old(&screen).unwrap();
    screen.press(label.split(" [").next().unwrap());
    screen.until("the old one", |screen| screen.description("selected ECG").contains("beats"));
    assert!(screen.value("Select an ECG").contains("· 6"));
    assert!(screen.value("Latest ECG").contains("· 9"), "the latest stays");
}

#[test]
fn opening_a_patient_removes_the_data_of_the_previous_patient() {
    let screen = Screen::start();
    screen.strip(1, "Ann", 64.0, 1);
    screen.store(1, &image("of-ann.png", picture(64, 1, ImageFormat::Png)));
    screen.rate(2, "Ben", 80);
    screen.open("Ann");
    screen.until("her ECG and image", |screen| {
        screen.description("latest ECG").contains("beats") && screen.has("Medical image")
    });
    screen.press("Choose a patient");
    screen.press("Ben, 80 bpm · MRN 2");
    // No response for the new patient has been processed yet.
    let at_once = screen.all().join("\n");
    for of_ann in ["· 6", "of-ann.png", "beats", "Findings"] {
        assert!(!at_once.contains(of_ann), "{of_ann} in\n{at_once}");
    }
    assert_eq!(screen.value("Name"), "Ben");
    screen.key(Key::Escape);
    assert!(screen.has("All patients") && screen.tiles().len() == 2);
}

#[test]
fn latest_image_is_shown_until_another_one_is_selected() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.store(1, &image("first.png", picture(64, 1, ImageFormat::Png)));
    screen.store(1, &image("second.jpg", picture(48, 2, ImageFormat::Jpeg)));
    screen.open("Ann");
    screen.until("the latest", |screen| screen.value("Select a medical image").contains("second.jpg"));
    screen.until("its picture", |screen| screen.has("Medical image"));
    screen.press("Select a medical image");
    let first = screen.all().into_iter().find(|label| label.contains(", first.png")).unwrap();
    screen.press(first.split(" [").next().unwrap());
    screen.until("the first", |screen| screen.value("Select a medical image").contains("first.png"));
}

#[test]
fn image_is_magnified_and_shown_as_a_whole_again() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.store(1, &image("first.png", picture(64, 1, ImageFormat::Png)));
    screen.store(1, &image("second.png", picture(64, 2, ImageFormat::Png)));
    screen.open("Ann");
    screen.until("the picture", |screen| screen.has("Zoom in"));
    let size = |screen: &Screen| screen.the("Medical image").size();
    let whole = size(&screen);
    assert_eq!(screen.value("Zoom"), "100 %");
    screen.press("Zoom in");
    assert_eq!(screen.value("Zoom"), "150 %");
    assert!((size(&screen).width - 1.5 * whole.width).abs() < 1.0);
    for _ in 0..9 {
        screen.press("Zoom in");
    }
    assert_eq!(screen.value("Zoom"), "800 %", "the limit");
    screen.press("Show the whole image");
    assert_eq!((screen.value("Zoom").as_str(), size(&screen)), ("100 %", whole));
    screen.press("Zoom in");
    screen.press("Select a medical image");
    let first = screen.all().into_iter().find(|label| label.contains(", first.png")).unwrap();
    screen.press(first.split(" [").next().unwrap());
    screen.until("another image is shown as a whole", |screen| {
        screen.value("Select a medical image").contains("first.png")
            && screen.has("Zoom in")
            && screen.value("Zoom") == "100 %"
    });
}

#[test]
fn wheel_magnifies_the_image_and_a_horizontal_movement_of_it_does_not() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.store(1, &image("first.png", picture(64, 1, ImageFormat::Png)));
    screen.open("Ann");
    screen.until("the picture", |screen| screen.has("Zoom in"));
    let pane = screen.the("Medical image");
    let (place, size) = (pane.absolute_position(), pane.size());
    let position = LogicalPosition::new(place.x + size.width / 2.0, place.y + size.height / 2.0);
    let scroll = |delta_x: f32, delta_y: f32| {
        let window = screen.window();
        window.window().dispatch_event(WindowEvent::PointerScrolled { position, delta_x, delta_y });
        screen.value("Zoom")
    };
    assert_eq!(scroll(0.0, 60.0), "125 %");
    assert_eq!(scroll(60.0, 0.0), "125 %");
    assert_eq!(scroll(-60.0, 0.0), "125 %");
    assert_eq!(scroll(0.0, 60.0), "156 %");
    assert_eq!(scroll(0.0, -60.0), "125 %");
}

#[test]
fn long_list_is_loaded_page_by_page() {
    use monitor::window::Api;
    use slint::Model;
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    let gateway = screen.gateway();
    screen.run(async {
        // A page has 100 entries.
        for seed in 0..110 {
            gateway.upload(crate::harness::mrn(1), &strip("Ann", 70.0, seed), |_| {}).await.unwrap();
        }
    });
    screen.open("Ann");
    let rows = |screen: &Screen| screen.window().global::<Api>().get_ecgs().row_count();
    screen.until("one page", |screen| rows(screen) == 100);
    assert!(screen.window().global::<Api>().get_ecgs_note().contains("more as you scroll"));
    screen.press("Select an ECG");
    screen.window().global::<Api>().invoke_more_ecgs();
    screen.until("all", |screen| rows(screen) == 110);
    assert_eq!(screen.window().global::<Api>().get_ecgs_note(), "110 ECGs");
    assert!(screen.count("20") + screen.count("1") < 60, "only visible rows exist");
}

#[test]
fn only_scrolled_pages_of_thousands_of_entries_are_loaded() {
    use monitor::window::Api;
    use proto_json::FileKind;
    use slint::Model;
    let screen = Screen::start();
    // Different sizes, because identical files of an upload are stored once.
    let pictures: Vec<Vec<u8>> = (8..48).map(|side| picture(side, 1, ImageFormat::Png)).collect();
    let gateway = screen.gateway();
    screen.run(async {
        for _ in 0..125 {
            let files = [FileKind::EcgImage, FileKind::MedicalImage].into_iter().flat_map(|kind| {
                let file =
                    move |bytes: &Vec<u8>| client::UploadFile::from_bytes(kind, "small.png", bytes.clone());
                pictures.iter().map(file)
            });
            let upload =
                client::Upload { name: Some("Ann".to_owned()), ..client::Upload::of(files.collect()) };
            gateway.upload(crate::harness::mrn(1), &upload, |_| {}).await.unwrap();
        }
    });
    let counts = |screen: &Screen| {
        let window = screen.window();
        let api = window.global::<Api>();
        (api.get_ecgs().row_count(), api.get_images().row_count())
    };
    screen.open("Ann");
    let opened = screen.until("one page each", |screen| counts(screen) == (100, 100));
    assert!(opened < SOON, "after {opened:?}");
    screen.until("the latest of both", |screen| {
        screen.has("Medical image") && screen.value("Latest ECG").contains("picture")
    });
    screen.press("Select an ECG");
    for _ in 0..250 {
        screen.key(Key::DownArrow);
        screen.settle();
    }
    screen.until("what was scrolled to", |screen| counts(screen).0 >= 300);
    let (ecgs, images) = counts(&screen);
    assert!(ecgs <= 400, "more than needed: {ecgs}");
    assert_eq!(images, 100, "the list of images was not scrolled");
    assert!(screen.all().len() < 100, "only visible rows exist");
    screen.key(Key::Escape);

    let mut slowest = std::time::Duration::ZERO;
    for page in 2..=50 {
        screen.window().global::<Api>().invoke_more_images();
        let took = screen.until("the next page", |screen| counts(screen).1 == page * 100);
        slowest = slowest.max(took);
    }
    assert!(slowest < SOON, "a page took {slowest:?}");
    assert_eq!(screen.window().global::<Api>().get_images_note(), "5,000 images");
}

#[test]
fn unreadable_ecg_shows_the_reason() {
    let screen = Screen::start();
    let junk = client::Upload {
        name: Some("Ann".to_owned()),
        heart_rate: Some(proto_json::Bpm::new(70).unwrap()),
        ..client::Upload::of(vec![client::UploadFile::from_bytes(
            proto_json::FileKind::Ecg,
            "notes.csv",
            &b"time,mv\n0,0.1\n0.004,0.2\n"[..],
        )])
    };
    screen.store(1, &junk);
    screen.open("Ann");
    screen.until("the reason", |screen| {
        screen.all().iter().any(|label| label.contains("too few") || label.contains("rows"))
    });
}

/// Renames a patient through the legacy API, which requires no confirmation.
fn legacy_name(screen: &Screen, mrn: u64, name: &str) {
    let url = format!("{}/api/new_patient", screen.gateway().address());
    let body = format!("{{\"medical_record_number\":{mrn},\"name\":\"{name}\"}}");
    let sent = screen.run(async move {
        reqwest::Client::builder().no_proxy().build().unwrap().post(url).body(body).send().await.unwrap()
    });
    assert!(sent.status().is_success(), "{sent:?}");
}

#[test]
fn unconfirmed_renaming_shows_a_notice_with_the_former_name() {
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tile("Ann").contains("rate 70"));
    legacy_name(&screen, 1, "Bob");
    screen.until("the new name", |screen| screen.tile("Bob").starts_with("Bob (was Ann), MRN 1"));
    screen.press("Bob (was Ann), MRN");
    screen.until("the page of Bob", |screen| screen.value("Name") == "Bob");
    let notice = screen.value("Notice");
    assert!(
        notice.starts_with("Until ") && notice.contains(": Ann.") && notice.contains("Nobody confirmed"),
        "{notice}"
    );
    screen.control("l");
    let noted = |screen: &Screen| {
        screen.all().iter().any(|label| label.contains("renamed without confirmation, was Ann"))
    };
    screen.until("the history", noted);
}
