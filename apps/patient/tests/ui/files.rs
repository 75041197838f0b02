//! Choosing files, and what is shown of them.

use std::collections::BTreeSet;
use std::time::Duration;

use i_slint_backend_testing::AccessibleRole;
use patient::window::PaneState;
use slint::platform::Key;
use testkit::{Clock, material};

use crate::stage::{Stage, play};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn selecting_without_a_type_says_to_choose_one_first() {
    play("files::selecting_without_a_type_says_to_choose_one_first", || async {
        let stage = Stage::with(NOWHERE);
        stage.press("Select files");
        assert!(stage.message().contains("Choose the file type first"), "{}", stage.message());
        assert!(stage.chooser.asked.borrow().is_empty(), "no dialog opens");
        stage.press("Medical image");
        stage.press("Select files");
        assert_eq!(stage.message(), "");
        assert_eq!(stage.chooser.asked.borrow()[0].filters[0].extensions, ["png", "jpg", "jpeg"]);
        stage.press("ECG");
        *stage.chooser.choice.borrow_mut() =
            vec![stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1))];
        stage.press("Select files");
        assert!(stage.chooser.asked.borrow()[1].filters[0].extensions.contains(&"csv".to_owned()));
        stage.until("the file is chosen", |stage| stage.has("strip.csv")).await;
    });
}

#[test]
fn a_raw_ecg_is_drawn_at_once_with_rate_quality_skipped_rows_and_warnings() {
    play("files::a_raw_ecg_is_drawn_at_once_with_rate_quality_skipped_rows_and_warnings", || async {
        let stage = Stage::with(NOWHERE);
        let mut csv = String::from_utf8(material::strip_csv(72.0, 30.0, 1)).unwrap();
        let at = csv.match_indices('\n').nth(99).unwrap().0 + 1;
        csv.insert_str(at, "no,numbers\n");
        stage.stage_file("ECG", &stage.file("strip.csv", csv.as_bytes())).await;
        stage.until("it is drawn", |stage| stage.has("Picture of strip.csv")).await;
        assert_eq!(stage.value("Estimated heart rate"), "72 bpm");
        assert_eq!(stage.value("Signal quality"), "Signal quality good");
        let note = stage.labels().into_iter().find(|label| label.contains("left out"));
        assert!(note.as_ref().is_some_and(|note| note.contains("101")), "{note:?}");
        let picture = stage.api(|api| api.get_ecg_picture()).size();
        let pane = stage.all("Picture of strip.csv")[0].size();
        assert!(picture.width > 300 && picture.height > 80, "{picture:?}");
        assert!(pane.width >= picture.width as f32 - 1.0, "drawn for the pane: {picture:?} in {pane:?}");
    });
}

#[test]
fn what_is_no_ecg_says_why_and_nothing_of_an_earlier_file_stays_on_show() {
    play("files::what_is_no_ecg_says_why_and_nothing_of_an_earlier_file_stays_on_show", || async {
        let stage = Stage::with(NOWHERE);
        stage.stage_file("ECG", &stage.file("good.csv", &material::strip_csv(72.0, 10.0, 1))).await;
        stage.until("it is drawn", |stage| stage.api(|api| api.get_ecg_picture()).size().width > 0).await;
        stage.add("ECG", &stage.file("letter.txt", b"Dear colleague,\nplease find attached.\n"));
        assert_eq!(stage.api(|api| api.get_ecg_picture()).size().width, 0, "gone while the next one is read");
        assert!(!stage.has("Estimated heart rate"));
        stage.until_message("letter.txt was not taken").await;
        assert!(!stage.has("Estimated heart rate") && !stage.has("letter.txt"));
        assert!(stage.api(|api| api.get_ecg().state) == PaneState::Failed);
        let reason = String::from(stage.api(|api| api.get_ecg().error));
        assert!(reason.contains("No line of the file holds numbers") && reason.ends_with('.'), "{reason}");
        // The good one is still chosen, and back at a press.
        stage.press("good.csv");
        stage.until("it is shown again", |stage| stage.has("Estimated heart rate")).await;
        assert_eq!(stage.message(), "", "what was said of the other file is gone");
    });
}

#[test]
fn an_image_that_is_none_says_why_and_a_missing_file_does() {
    play("files::an_image_that_is_none_says_why_and_a_missing_file_does", || async {
        let stage = Stage::with(NOWHERE);
        stage.add("Medical image", &stage.file("x.png", b"this is text"));
        stage.until_message("It is not a PNG or JPEG picture.").await;
        stage.add("Medical image", &stage.path("missing.jpg"));
        stage.until_message("missing.jpg was not taken. The file cannot be read").await;
        stage.add("ECG", &stage.path("missing.csv"));
        stage.until_message("missing.csv was not taken. The file cannot be read").await;
        assert_eq!(stage.elements().iter().filter(|(role, _)| *role == AccessibleRole::ListItem).count(), 0);
    });
}

#[test]
fn several_files_are_chosen_and_removed_one_by_one_while_one_of_each_kind_is_on_show() {
    play(
        "files::several_files_are_chosen_and_removed_one_by_one_while_one_of_each_kind_is_on_show",
        || async {
            let stage = Stage::with(NOWHERE);
            for (name, bpm) in [("slow.csv", 50.0), ("fast.csv", 90.0)] {
                stage.stage_file("ECG", &stage.file(name, &material::strip_csv(bpm, 10.0, 1))).await;
            }
            for name in ["a.png", "b.png"] {
                stage.stage_file("Medical image", &stage.file(name, &material::png(64, 1))).await;
            }
            stage
                .until("both are drawn", |stage| {
                    stage.has("Picture of fast.csv") && stage.has("Picture b.png")
                })
                .await;
            assert_eq!(stage.value("Estimated heart rate"), "90 bpm");
            stage.press("slow.csv");
            stage.until("the other one", |stage| stage.value("Estimated heart rate") == "50 bpm").await;
            assert!(stage.has("Picture b.png"), "the image stays");
            stage.add("ECG", &stage.path("slow.csv"));
            stage.until_message("slow.csv is chosen already.").await;
            stage.press("Remove slow.csv");
            stage.until("the next one", |stage| stage.value("Estimated heart rate") == "90 bpm").await;
            stage.press("Remove fast.csv");
            assert!(!stage.has("Estimated heart rate"));
            assert!(stage.api(|api| api.get_ecg().state) == PaneState::Empty);
            stage.press("Remove a.png");
            assert!(stage.has("b.png") && stage.has("Picture b.png"));
            stage.press("Remove b.png");
            assert_eq!(stage.api(|api| api.get_image_picture()).size().width, 0);
        },
    );
}

#[test]
fn hours_of_ecg_are_read_and_drawn_while_the_window_goes_on() {
    play("files::hours_of_ecg_are_read_and_drawn_while_the_window_goes_on", || async {
        let stage = Stage::with(NOWHERE);
        // Five million samples; the measurement `window` takes a whole day, and counts frames.
        let path = stage.path("hours.csv");
        material::long_csv(&path, 4 * 3600);
        let clock = Clock::start();
        stage.add("ECG", &path);
        let (mut turned, mut longest) = (clock.elapsed(), Duration::ZERO);
        let mut progress = BTreeSet::new();
        stage
            .until("it is drawn", |stage| {
                longest = longest.max(clock.elapsed().saturating_sub(turned));
                turned = clock.elapsed();
                if stage.has("Reading the ECG") {
                    progress.insert(stage.value("Reading the ECG"));
                }
                stage.has("Picture of hours.csv")
            })
            .await;
        let took = clock.elapsed();
        assert!(longest < took / 4, "the window stood still for {longest:?} of {took:?}");
        assert!(progress.len() >= 3, "{progress:?}");
    });
}

#[test]
fn a_long_ecg_is_read_with_progress_and_a_newer_choice_wins() {
    play("files::a_long_ecg_is_read_with_progress_and_a_newer_choice_wins", || async {
        let stage = Stage::with(NOWHERE);
        // An hour at 360 Hz: long enough to be overtaken, short enough for a test.
        let long = stage.file("long.csv", &material::strip_csv(60.0, 3600.0, 1));
        let short = stage.file("short.csv", &material::strip_csv(90.0, 10.0, 1));
        stage.add("ECG", &long);
        assert!(stage.api(|api| api.get_ecg().state) == PaneState::Busy);
        assert!(stage.has("Reading the ECG"));
        stage.add("ECG", &short);
        let mut seen = Vec::new();
        stage
            .until("both are read", |stage| {
                if stage.has("Estimated heart rate") {
                    seen.push(stage.value("Estimated heart rate"));
                }
                !stage.description("long.csv").contains("reading") && stage.has("Picture of short.csv")
            })
            .await;
        assert!(seen.iter().all(|rate| rate == "90 bpm"), "never the older choice: {seen:?}");
        stage.press("long.csv");
        let mut progress = Vec::new();
        stage
            .until("the long one is shown", |stage| {
                if stage.has("Reading the ECG") {
                    progress.push(stage.value("Reading the ECG"));
                }
                stage.has("Picture of long.csv")
            })
            .await;
        assert!(progress.iter().any(|words| words.contains(" of ")), "{progress:?}");
        assert_eq!(stage.value("Estimated heart rate"), "60 bpm");
    });
}

#[test]
fn delete_on_a_chosen_file_removes_it() {
    play("files::delete_on_a_chosen_file_removes_it", || async {
        let stage = Stage::with(NOWHERE);
        stage.stage_file("Medical image", &stage.file("a.png", &material::png(64, 1))).await;
        // Down the form by keyboard alone: number, name, type, path, select, file.
        stage.all("a.png")[0].invoke_accessible_default_action();
        let mut pressed = 0;
        while stage.has("a.png") {
            stage.keys(&[Key::Tab.into()]);
            stage.keys(&[Key::Delete.into()]);
            pressed += 1;
            assert!(pressed < 20, "Tab never came to the file");
        }
        assert!(pressed > 2, "{pressed}");
    });
}
