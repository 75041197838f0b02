//! Selecting files and showing them.

use std::collections::BTreeSet;
use std::time::Duration;

use i_slint_backend_testing::AccessibleRole;
use patient::window::PaneState;
use slint::platform::{Key, WindowEvent};
use slint::{ComponentHandle, LogicalPosition};
use testkit::{Clock, test_data};

use crate::fixture::{Fixture, next_turn, run_isolated};

/// No gateway listens on this address.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn selecting_files_requires_a_file_type() {
    run_isolated("files::selecting_files_requires_a_file_type", || async {
        let app = Fixture::new(NOWHERE);
        app.press("Select files");
        assert!(app.message().contains("Select the file type first"), "{}", app.message());
        assert!(app.dialogs.requests.borrow().is_empty(), "no dialog opens");
        app.press("Medical image");
        app.press("Select files");
        assert_eq!(app.message(), "");
        app.until("the dialog opens", |app| app.dialogs.requests.borrow().len() == 1).await;
        assert_eq!(app.dialogs.requests.borrow()[0].filters[0].extensions, ["png", "jpg", "jpeg"]);
        app.press("ECG");
        *app.dialogs.files.borrow_mut() = vec![app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))];
        app.press("Select files");
        app.until("the file is selected", |app| app.has("strip.csv")).await;
        assert!(app.dialogs.requests.borrow()[1].filters[0].extensions.contains(&"csv".to_owned()));
    });
}

#[test]
fn selected_ecg_is_drawn_with_heart_rate_quality_and_skipped_rows() {
    run_isolated("files::selected_ecg_is_drawn_with_heart_rate_quality_and_skipped_rows", || async {
        let app = Fixture::new(NOWHERE);
        let mut csv = String::from_utf8(test_data::strip_csv(72.0, 30.0, 1)).unwrap();
        let at = csv.match_indices('\n').nth(99).unwrap().0 + 1;
        csv.insert_str(at, "no,numbers\n");
        app.select_file("ECG", &app.file("strip.csv", csv.as_bytes())).await;
        app.until("it is drawn", |app| app.has("Picture of strip.csv")).await;
        assert_eq!(app.value("Estimated heart rate"), "72 bpm");
        assert_eq!(app.value("Signal quality"), "Signal quality good");
        let note = app.labels().into_iter().find(|label| label.contains("skipped"));
        assert!(note.as_ref().is_some_and(|note| note.contains("101")), "{note:?}");
        let picture = app.api(|api| api.get_ecg_picture()).size();
        let pane = app.all("Picture of strip.csv")[0].size();
        assert!(picture.width > 300 && picture.height > 80, "{picture:?}");
        assert!(pane.width >= picture.width as f32 - 1.0, "drawn for the pane: {picture:?} in {pane:?}");
    });
}

#[test]
fn wheel_magnifies_the_image_and_a_horizontal_movement_of_it_does_not() {
    run_isolated("files::wheel_magnifies_the_image_and_a_horizontal_movement_of_it_does_not", || async {
        let app = Fixture::new(NOWHERE);
        app.select_file("Medical image", &app.file("dot.png", &test_data::png(64, 1))).await;
        app.until("it is drawn", |app| app.has("Picture of dot.png")).await;
        let pane = &app.all("Picture of dot.png")[0];
        let (place, size) = (pane.absolute_position(), pane.size());
        let position = LogicalPosition::new(place.x + size.width / 2.0, place.y + size.height / 2.0);
        for (delta_x, delta_y, zoom) in [
            (0.0, 60.0, "125 %"),
            (60.0, 0.0, "125 %"),
            (-60.0, 0.0, "125 %"),
            (0.0, 60.0, "156 %"),
            (0.0, -60.0, "125 %"),
        ] {
            app.window().window().dispatch_event(WindowEvent::PointerScrolled { position, delta_x, delta_y });
            app.until(zoom, |app| app.value("Zoom") == zoom).await;
            next_turn().await;
            assert_eq!(app.value("Zoom"), zoom, "after {delta_x}, {delta_y}");
        }
    });
}

#[test]
fn rejected_ecg_is_explained_and_replaces_the_shown_file() {
    run_isolated("files::rejected_ecg_is_explained_and_replaces_the_shown_file", || async {
        let app = Fixture::new(NOWHERE);
        app.select_file("ECG", &app.file("good.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
        app.until("it is drawn", |app| app.api(|api| api.get_ecg_picture()).size().width > 0).await;
        app.add("ECG", &app.file("letter.txt", b"Dear colleague,\nplease find attached.\n"));
        assert_eq!(
            app.api(|api| api.get_ecg_picture()).size().width,
            0,
            "cleared while the next file is read"
        );
        assert!(!app.has("Estimated heart rate"));
        app.until_message("letter.txt was rejected").await;
        assert!(!app.has("Estimated heart rate") && !app.has("letter.txt"));
        assert!(app.api(|api| api.get_ecg().state) == PaneState::Failed);
        let reason = String::from(app.api(|api| api.get_ecg().error));
        assert!(reason.contains("No line of the file holds numbers") && reason.ends_with('.'), "{reason}");
        // The other file is still selected and can be shown again.
        app.press("good.csv");
        app.until("it is shown again", |app| app.has("Estimated heart rate")).await;
        assert_eq!(app.message(), "", "the message about the rejected file is closed");
    });
}

#[test]
fn rejected_image_and_missing_file_are_explained() {
    run_isolated("files::rejected_image_and_missing_file_are_explained", || async {
        let app = Fixture::new(NOWHERE);
        app.add("Medical image", &app.file("x.png", b"this is text"));
        app.until_message("It is not a PNG or JPEG picture.").await;
        app.add("Medical image", &app.path("missing.jpg"));
        app.until_message("missing.jpg was rejected. The file cannot be read").await;
        app.add("ECG", &app.path("missing.csv"));
        app.until_message("missing.csv was rejected. The file cannot be read").await;
        assert_eq!(app.elements().iter().filter(|(role, _)| *role == AccessibleRole::ListItem).count(), 0);
    });
}

#[test]
fn files_are_selected_and_removed_and_one_of_each_kind_is_shown() {
    run_isolated("files::files_are_selected_and_removed_and_one_of_each_kind_is_shown", || async {
        let app = Fixture::new(NOWHERE);
        for (name, bpm) in [("slow.csv", 50.0), ("fast.csv", 90.0)] {
            app.select_file("ECG", &app.file(name, &test_data::strip_csv(bpm, 10.0, 1))).await;
        }
        for name in ["a.png", "b.png"] {
            app.select_file("Medical image", &app.file(name, &test_data::png(64, 1))).await;
        }
        app.until("both are drawn", |app| app.has("Picture of fast.csv") && app.has("Picture of b.png"))
            .await;
        assert_eq!(app.value("Estimated heart rate"), "90 bpm");
        app.press("slow.csv");
        app.until("the other one", |app| app.value("Estimated heart rate") == "50 bpm").await;
        assert!(app.has("Picture of b.png"), "the image stays");
        app.add("ECG", &app.path("slow.csv"));
        app.until_message("slow.csv is already selected.").await;
        app.press("Remove slow.csv");
        app.until("the next one", |app| app.value("Estimated heart rate") == "90 bpm").await;
        app.press("Remove fast.csv");
        assert!(!app.has("Estimated heart rate"));
        assert!(app.api(|api| api.get_ecg().state) == PaneState::Empty);
        app.press("Remove a.png");
        assert!(app.has("b.png") && app.has("Picture of b.png"));
        app.press("Remove b.png");
        assert_eq!(app.api(|api| api.get_image_picture()).size().width, 0);
    });
}

#[test]
fn window_stays_responsive_while_a_long_ecg_is_read() {
    run_isolated("files::window_stays_responsive_while_a_long_ecg_is_read", || async {
        let app = Fixture::new(NOWHERE);
        // Five million samples. The benchmark `window` reads a whole day.
        let path = app.path("hours.csv");
        test_data::long_csv(&path, 4 * 3600);
        let clock = Clock::start();
        app.add("ECG", &path);
        let (mut turned, mut longest) = (clock.elapsed(), Duration::ZERO);
        let mut progress = BTreeSet::new();
        app.until("it is drawn", |app| {
            longest = longest.max(clock.elapsed().saturating_sub(turned));
            turned = clock.elapsed();
            if app.has("Reading the ECG") {
                progress.insert(app.value("Reading the ECG"));
            }
            app.has("Picture of hours.csv")
        })
        .await;
        let took = clock.elapsed();
        assert!(longest < took / 4, "the window did not respond for {longest:?} of {took:?}");
        assert!(progress.len() >= 3, "{progress:?}");
    });
}

#[test]
fn newer_selection_is_shown_while_a_long_ecg_is_read() {
    run_isolated("files::newer_selection_is_shown_while_a_long_ecg_is_read", || async {
        let app = Fixture::new(NOWHERE);
        // An hour at 360 Hz takes longer to read than the short file.
        let long = app.file("long.csv", &test_data::strip_csv(60.0, 3600.0, 1));
        let short = app.file("short.csv", &test_data::strip_csv(90.0, 10.0, 1));
        app.add("ECG", &long);
        assert!(app.api(|api| api.get_ecg().state) == PaneState::Loading);
        assert!(app.has("Reading the ECG"));
        app.add("ECG", &short);
        let mut seen = Vec::new();
        app.until("both are read", |app| {
            if app.has("Estimated heart rate") {
                seen.push(app.value("Estimated heart rate"));
            }
            !app.description("long.csv").contains("reading") && app.has("Picture of short.csv")
        })
        .await;
        assert!(seen.iter().all(|rate| rate == "90 bpm"), "the older selection is never shown: {seen:?}");
        app.press("long.csv");
        let mut progress = Vec::new();
        app.until("the long one is shown", |app| {
            if app.has("Reading the ECG") {
                progress.push(app.value("Reading the ECG"));
            }
            app.has("Picture of long.csv")
        })
        .await;
        assert!(progress.iter().any(|text| text.contains(" of ")), "{progress:?}");
        assert_eq!(app.value("Estimated heart rate"), "60 bpm");
    });
}

#[test]
fn delete_key_removes_the_focused_file() {
    run_isolated("files::delete_key_removes_the_focused_file", || async {
        let app = Fixture::new(NOWHERE);
        app.select_file("Medical image", &app.file("a.png", &test_data::png(64, 1))).await;
        // Moves through the form with the Tab key until the file has the focus.
        app.all("a.png")[0].invoke_accessible_default_action();
        let mut pressed = 0;
        while app.has("a.png") {
            app.keys(&[Key::Tab.into()]);
            app.keys(&[Key::Delete.into()]);
            pressed += 1;
            assert!(pressed < 20, "Tab does not reach the file");
        }
        assert!(pressed > 2, "{pressed}");
    });
}

#[test]
fn files_are_selected_in_the_window_where_the_desktop_has_no_dialog() {
    run_isolated("files::files_are_selected_in_the_window_where_the_desktop_has_no_dialog", || async {
        let app = Fixture::new(NOWHERE);
        app.dialogs.is_available.set(false);
        let folder = app.path("records");
        std::fs::create_dir(&folder).unwrap();
        for (name, bpm) in [("a.csv", 60.0), ("b.csv", 90.0)] {
            std::fs::write(folder.join(name), test_data::strip_csv(bpm, 10.0, 1)).unwrap();
        }
        std::fs::write(folder.join("notes.md"), "no ECG").unwrap();
        app.press("ECG");
        app.press("Select files");
        app.until("the file browser opens", |app| app.has("Select ECG files")).await;
        assert!(app.dialogs.requests.borrow().is_empty());
        app.api(|api| api.invoke_browser_path_entered(app.path("missing").to_str().unwrap().into()));
        app.until("the error", |app| app.labels().iter().any(|label| label.contains("cannot be read"))).await;
        app.api(|api| api.invoke_browser_path_entered(app.path("").to_str().unwrap().into()));
        app.until("the folder is shown", |app| app.has("records")).await;
        app.press("records");
        app.until("the files are shown", |app| app.has("a.csv") && app.has("b.csv")).await;
        assert!(!app.has("notes.md"));
        assert!(!app.is_enabled("Select"), "no file is selected");
        app.press("a.csv");
        app.press("b.csv");
        app.press("a.csv");
        assert!(app.has("Select 1 file"), "a second press deselects the file");
        app.press("a.csv");
        app.press("Select 2 files");
        app.until("both are drawn", |app| app.has("a.csv") && app.has("Picture of a.csv")).await;
        assert!(app.has("b.csv") && !app.has("Select ECG files"));
    });
}

#[test]
fn dropped_files_are_selected_by_their_type() {
    run_isolated("files::dropped_files_are_selected_by_their_type", || async {
        let app = Fixture::new(NOWHERE);
        let ecg = app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1));
        let image = app.file("knee.png", &test_data::png(64, 1));
        app.press("Quit");
        app.app().drop_files(vec![ecg.clone()]);
        assert!(!app.has("strip.csv"), "a dialog is open");
        app.press("Cancel");
        // One event for each file.
        app.app().drop_files(vec![ecg]);
        app.app().drop_files(vec![image]);
        app.until("both are shown", |app| app.has("Picture of strip.csv") && app.has("Picture of knee.png"))
            .await;
    });
}

/// The header of a PNG file of 9,000 x 8,000 pixels.
const LARGE_PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00#(\x00\x00\x1f@\x08\x00\x00\x00\x00\xc3\xdaow\x00\x00\x00\tIDATx\x9cc\x00\x00\x00\x01\x00\x01^\xff}\xf9\x00\x00\x00\x00IEND\xaeB`\x82";

#[test]
fn image_above_the_limits_of_the_gateway_is_named_before_the_upload() {
    run_isolated("files::image_above_the_limits_of_the_gateway_is_named_before_the_upload", || async {
        let app = Fixture::new(NOWHERE);
        app.add("Medical image", &app.file("wide.png", LARGE_PNG));
        app.until_message("wide.png was rejected. The image has 9000 × 8000 pixels").await;
        let long = app.file("long.png", b"");
        std::fs::File::options().write(true).open(&long).unwrap().set_len(64_000_001).unwrap();
        app.add("Medical image", &long);
        app.until_message("long.png was rejected. The file has 64.0 MB").await;
        assert!(!app.has("wide.png") && !app.has("long.png"));
    });
}

#[test]
fn image_is_magnified_and_shown_as_a_whole_again() {
    run_isolated("files::image_is_magnified_and_shown_as_a_whole_again", || async {
        let app = Fixture::new(NOWHERE);
        app.select_file("Medical image", &app.file("knee.png", &test_data::png(400, 1))).await;
        let picture = |app: &Fixture| app.api(|api| api.get_image_picture());
        app.until("the image is drawn", |app| picture(app).size().width > 0).await;
        let whole = picture(&app).to_rgba8().unwrap();
        assert_eq!(app.value("Zoom"), "100 %");
        assert!(!app.is_enabled("Zoom out") && !app.is_enabled("Show the whole image"));
        app.press("Zoom in");
        assert_eq!(app.value("Zoom"), "150 %");
        let differs = |app: &Fixture| picture(app).to_rgba8().unwrap().as_bytes() != whole.as_bytes();
        app.until("a part is drawn", differs).await;
        app.press("Show the whole image");
        assert_eq!(app.value("Zoom"), "100 %");
        app.until("the whole image is drawn", |app| !differs(app)).await;
    });
}
