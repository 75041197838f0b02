//! When an ECG was recorded: asked for, suggested, and sent.

use proto_json::{Mrn, Timestamp};
use testkit::{Service, material};

use crate::stage::{Stage, ask, play, system};

const FIELD: &str = "Recorded at";

fn recorded_at(url: &str) -> Option<Timestamp> {
    let ecgs = ask(url, async |gateway| gateway.ecgs(Mrn::new(7).unwrap(), None, None).await.unwrap());
    ecgs.items[0].recorded_at
}

/// A strip whose rows have dates, from this time on.
fn dated(start: Timestamp) -> Vec<u8> {
    let strip = String::from_utf8(material::strip_csv(72.0, 10.0, 1).to_vec()).unwrap();
    let mut text = String::new();
    for (row, line) in strip.lines().enumerate() {
        let (_, value) = line.split_once(',').unwrap();
        text.push_str(&format!("{},{value}\n", start.plus_millis(row as i64 * 4)));
    }
    text.into_bytes()
}

#[test]
fn strip_sent_late_has_the_time_at_which_it_was_chosen() {
    play("recording::strip_sent_late_has_the_time_at_which_it_was_chosen", || async {
        let mut system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        assert!(!stage.has(FIELD), "nothing to ask for");
        system.service(Service::Gateway).kill();
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        stage.type_into("Medical record number", "7");
        let before = Timestamp::now();
        stage.stage_file("ECG", &stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1))).await;
        let after = Timestamp::now();
        assert!(
            stage.description(FIELD).contains("when the file was chosen"),
            "{}",
            stage.description(FIELD)
        );
        stage.upload().await;
        stage.until_message("is kept on this computer").await;
        tokio_free_pause(3_000).await;
        system.service(Service::Gateway).restart();
        stage.until_message("An upload that had waited was sent.").await;
        let recorded = recorded_at(&system.url()).expect("the time is sent");
        assert!((before..=after).contains(&recorded), "{before} {recorded} {after}");
    });
}

/// Lets so many milliseconds pass: what is sent later must not look younger.
async fn tokio_free_pause(millis: u64) {
    let due = std::time::Instant::now() + std::time::Duration::from_millis(millis);
    while std::time::Instant::now() < due {
        crate::stage::turn().await;
    }
}

#[test]
fn time_of_the_file_is_suggested_and_a_typed_one_wins() {
    play("recording::time_of_the_file_is_suggested_and_a_typed_one_wins", || async {
        let system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let file = stage.file("dated.csv", &dated(start));
        for (typed, sent) in [
            (None, Some(start)),
            (Some("2026-01-01 10:00"), Timestamp::from_calendar((2026, 1, 1), (10, 0, 0, 0), None).ok()),
            (Some(""), None),
        ] {
            stage.type_into("Medical record number", "7");
            stage.stage_file("ECG", &file).await;
            assert_eq!(stage.value(FIELD), start.local_seconds());
            assert!(stage.description(FIELD).contains("as the file states"), "{}", stage.description(FIELD));
            if let Some(typed) = typed {
                stage.type_into(FIELD, "2999-01-01 10:00");
                assert!(!stage.is_enabled("Upload") && stage.description(FIELD).contains("in the future"));
                stage.type_into(FIELD, "soon");
                assert!(!stage.is_enabled("Upload") && stage.description(FIELD).contains("15:09"));
                stage.type_into(FIELD, typed);
            }
            stage.upload().await;
            stage.until_message("atient 7 ").await;
            stage.until("the form is cleared", |stage| !stage.has(FIELD)).await;
            let ecgs = ask(&system.url(), async |gateway| {
                gateway.ecgs(Mrn::new(7).unwrap(), None, None).await.unwrap().items
            });
            assert!(ecgs.iter().any(|ecg| ecg.recorded_at == sent), "{typed:?}: {ecgs:?}");
            stage.api(|api| api.set_message("".into()));
        }
    });
}

#[test]
fn strips_of_different_times_are_not_sent_under_one() {
    play("recording::strips_of_different_times_are_not_sent_under_one", || async {
        let stage = Stage::with("http://127.0.0.1:9");
        stage.type_into("Medical record number", "7");
        for (name, time) in [("a.csv", "2026-01-02T03:04:05Z"), ("b.csv", "2026-01-02T03:14:05Z")] {
            stage.stage_file("ECG", &stage.file(name, &dated(time.parse().unwrap()))).await;
        }
        assert!(!stage.is_enabled("Upload"));
        assert!(stage.description(FIELD).contains("at different times"), "{}", stage.description(FIELD));
        stage.type_into(FIELD, "2026-01-02 03:05");
        assert!(stage.is_enabled("Upload"), "{}", stage.description(FIELD));
        stage.press("Remove a.csv");
        stage.press("Remove b.csv");
        assert!(!stage.has(FIELD));
        stage.stage_file("ECG", &stage.path("a.csv")).await;
        assert!(
            stage.value(FIELD).contains("04:05"),
            "what was typed was about other files: {}",
            stage.value(FIELD)
        );
    });
}
