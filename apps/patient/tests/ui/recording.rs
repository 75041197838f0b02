//! Recording time, sampling rate and lead of the selected ECGs.

use proto_json::{Mrn, Timestamp};
use testkit::{Service, test_data};

use crate::fixture::{Fixture, ask, run_isolated, system};

const FIELD: &str = "Recorded at";

fn recorded_at(url: &str) -> Option<Timestamp> {
    let ecgs = ask(url, async |gateway| gateway.ecgs(Mrn::new(7).unwrap(), None, None).await.unwrap());
    ecgs.items[0].recorded_at
}

/// A CSV with a date in each row, starting at this time.
fn dated(start: Timestamp) -> Vec<u8> {
    let strip = String::from_utf8(test_data::strip_csv(72.0, 10.0, 1).to_vec()).unwrap();
    let mut text = String::new();
    for (row, line) in strip.lines().enumerate() {
        let (_, value) = line.split_once(',').unwrap();
        text.push_str(&format!("{},{value}\n", start.plus_millis(row as i64 * 4)));
    }
    text.into_bytes()
}

#[test]
fn delayed_upload_keeps_the_time_of_selection() {
    run_isolated("recording::delayed_upload_keeps_the_time_of_selection", || async {
        let mut system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        assert!(!app.has(FIELD), "no ECG is selected");
        system.service(Service::Gateway).kill();
        app.until("offline", |app| app.value("Connection") == "offline").await;
        app.type_into("Medical record number", "7");
        let before = Timestamp::now();
        app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
        let after = Timestamp::now();
        assert!(app.description(FIELD).contains("when the file was selected"), "{}", app.description(FIELD));
        app.upload().await;
        app.until_message("is kept on this computer").await;
        pause(3_000).await;
        system.service(Service::Gateway).restart();
        app.until_message("A waiting upload was sent.").await;
        let recorded = recorded_at(&system.url()).expect("the time is sent");
        assert!((before..=after).contains(&recorded), "{before} {recorded} {after}");
    });
}

/// Waits without blocking the event loop.
async fn pause(millis: u64) {
    let due = std::time::Instant::now() + std::time::Duration::from_millis(millis);
    while std::time::Instant::now() < due {
        crate::fixture::next_turn().await;
    }
}

#[test]
fn entered_time_overrides_the_time_in_the_file() {
    run_isolated("recording::entered_time_overrides_the_time_in_the_file", || async {
        let system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let file = app.file("dated.csv", &dated(start));
        for (typed, sent) in [
            (None, Some(start)),
            (Some("2026-01-01 10:00"), Timestamp::from_calendar((2026, 1, 1), (10, 0, 0, 0), None).ok()),
            (Some(""), None),
        ] {
            app.type_into("Medical record number", "7");
            app.select_file("ECG", &file).await;
            assert_eq!(app.value(FIELD), start.local_seconds());
            assert!(app.description(FIELD).contains("as the file states"), "{}", app.description(FIELD));
            if let Some(typed) = typed {
                app.type_into(FIELD, "2999-01-01 10:00");
                assert!(!app.is_enabled("Upload") && app.description(FIELD).contains("in the future"));
                app.type_into(FIELD, "soon");
                assert!(!app.is_enabled("Upload") && app.description(FIELD).contains("15:09"));
                app.type_into(FIELD, typed);
            }
            app.upload().await;
            app.until_message("atient 7 ").await;
            app.until("the form is cleared", |app| !app.has(FIELD)).await;
            let ecgs = ask(&system.url(), async |gateway| {
                gateway.ecgs(Mrn::new(7).unwrap(), None, None).await.unwrap().items
            });
            assert!(ecgs.iter().any(|ecg| ecg.recorded_at == sent), "{typed:?}: {ecgs:?}");
            app.api(|api| api.set_message("".into()));
        }
    });
}

#[test]
fn ecgs_with_different_times_need_one_entered_time() {
    run_isolated("recording::ecgs_with_different_times_need_one_entered_time", || async {
        let app = Fixture::new("http://127.0.0.1:9");
        app.type_into("Medical record number", "7");
        for (name, time) in [("a.csv", "2026-01-02T03:04:05Z"), ("b.csv", "2026-01-02T03:14:05Z")] {
            app.select_file("ECG", &app.file(name, &dated(time.parse().unwrap()))).await;
        }
        assert!(!app.is_enabled("Upload"));
        assert!(app.description(FIELD).contains("at different times"), "{}", app.description(FIELD));
        app.type_into(FIELD, "2026-01-02 03:05");
        assert!(app.is_enabled("Upload"), "{}", app.description(FIELD));
        app.press("Remove a.csv");
        app.press("Remove b.csv");
        assert!(!app.has(FIELD));
        app.select_file("ECG", &app.path("a.csv")).await;
        assert!(
            app.value(FIELD).contains("04:05"),
            "the entered time does not apply to other files: {}",
            app.value(FIELD)
        );
    });
}

#[test]
fn sampling_rate_is_entered_for_a_file_without_times() {
    run_isolated("recording::sampling_rate_is_entered_for_a_file_without_times", || async {
        let system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Medical record number", "7");
        let strip = String::from_utf8(test_data::strip_csv(72.0, 30.0, 1)).unwrap();
        let voltages: Vec<&str> =
            strip.lines().filter_map(|line| line.split_once(',')).map(|row| row.1).collect();
        app.select_file("ECG", &app.file("voltages.csv", voltages.join("\n").as_bytes())).await;
        assert!(app.description("voltages.csv").contains("needs the sampling rate"));
        assert!(!app.is_enabled("Upload"));
        assert!(app.description("Rate (Hz)").contains("sampling rate"), "{}", app.description("Rate (Hz)"));
        app.type_into("Rate (Hz)", "fast");
        assert!(app.description("Rate (Hz)").contains("samples per second"));
        app.type_into("Rate (Hz)", "360");
        app.until("the ECG is drawn", |app| app.has("Picture of voltages.csv")).await;
        assert_eq!(app.value("Estimated heart rate"), "72 bpm");
        app.upload().await;
        app.until_message("New patient 7 registered.").await;
        app.until("the server uses the rate", |app| {
            app.has("The server finds 72 bpm in voltages.csv, as the preview did.")
        })
        .await;
        assert_eq!(app.value("Rate (Hz)"), "");
    });
}

#[test]
fn lead_is_selected_by_name_and_a_missing_one_is_reported() {
    run_isolated("recording::lead_is_selected_by_name_and_a_missing_one_is_reported", || async {
        let app = Fixture::new("http://127.0.0.1:9");
        app.type_into("Medical record number", "7");
        let (slow, fast) = (test_data::strip_csv(50.0, 30.0, 1), test_data::strip_csv(90.0, 30.0, 1));
        let (slow, fast) = (String::from_utf8(slow).unwrap(), String::from_utf8(fast).unwrap());
        let mut text = "time,II,V5\n".to_owned();
        let rows = slow.lines().zip(fast.lines());
        for (slow, fast) in rows.filter(|(slow, _)| slow.starts_with(|first: char| first.is_ascii_digit())) {
            let voltage = fast.split_once(',').unwrap().1;
            text.push_str(&format!("{slow},{voltage}\n"));
        }
        app.select_file("ECG", &app.file("two.csv", text.as_bytes())).await;
        assert_eq!(app.value("Estimated heart rate"), "50 bpm");
        app.type_into("Lead", "V5");
        assert!(!app.is_enabled("Upload"), "the file is read again first");
        app.until("the other lead", |app| app.value("Estimated heart rate") == "90 bpm").await;
        app.until("upload is possible", |app| app.is_enabled("Upload")).await;
        app.type_into("Lead", "aVR");
        app.until("the lead is missing", |app| app.description("two.csv").contains("needs the")).await;
        assert!(!app.is_enabled("Upload"));
        app.type_into("Lead", "1");
        app.until("the first lead", |app| app.value("Estimated heart rate") == "50 bpm").await;
    });
}
