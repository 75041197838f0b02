//! No network: nothing is lost, nothing is stored twice.

use client::Upload;
use patient::Args;
use proto_json::Mrn;
use testkit::{Service, System, material};

use crate::stage::{Stage, ask, play, system};

fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

/// Begins an upload for patient 7 to a gateway that stops in its tracks, as a machine that hangs would.
async fn upload_to_one_who_hangs(stage: &Stage, system: &mut System) {
    stage.type_into("Medical record number", "7");
    // More than any buffer on the way holds: it cannot be sent to one who does not read.
    stage.stage_file("ECG", &stage.file("long.csv", &material::strip_csv(60.0, 3600.0, 1))).await;
    stage.until("upload is possible", |stage| stage.is_enabled("Upload")).await;
    stage.press("Upload");
    stage.until("the question", |stage| stage.has("Upload this?") && stage.is_enabled("Upload")).await;
    system.service(Service::Gateway).pause();
    stage.press("Upload");
}

fn stored(system: &System, patient: u64) -> (usize, usize) {
    ask(&system.url(), async |gateway| {
        let ecgs = gateway.ecgs(mrn(patient), None, None).await.unwrap().items.len();
        (ecgs, gateway.images(mrn(patient), None, None).await.unwrap().items.len())
    })
}

#[test]
fn without_a_gateway_uploads_wait_survive_a_restart_and_go_when_it_is_back() {
    play("outbox::without_a_gateway_uploads_wait_survive_a_restart_and_go_when_it_is_back", || async {
        let mut system = system();
        let mut stage = Stage::with(&system.url());
        stage.until_connected().await;
        system.service(Service::Gateway).kill();
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        stage.type_into("Medical record number", "7");
        stage.stage_file("ECG", &stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1))).await;
        stage.upload().await;
        stage.until_message("is kept on this computer").await;
        assert_eq!(stage.value("Medical record number"), "", "it is safe: the form is cleared");
        stage.until("it shows", |stage| stage.has("1 waiting")).await;
        stage.type_into("Medical record number", "8");
        stage.upload().await;
        stage.until("it shows", |stage| stage.has("2 waiting")).await;
        stage.press("2 waiting");
        assert!(stage.has("Patient 7") && stage.has("Patient 8"), "{:?}", stage.labels());
        stage.press("Discard: Patient 8");
        assert!(!stage.has("Patient 8"));
        stage.press("Close");
        // The file is gone, and the app is started again.
        std::fs::remove_file(stage.path("strip.csv")).unwrap();
        stage.restart(Args::default());
        stage.until("it still waits", |stage| stage.has("1 waiting")).await;
        system.service(Service::Gateway).restart();
        stage.until_message("An upload that had waited was sent. New patient 7 registered.").await;
        stage.until("nothing waits", |stage| !stage.has("1 waiting")).await;
        assert_eq!(stored(&system, 7), (1, 0));
        let other = ask(&system.url(), async |gateway| gateway.patient(mrn(8)).await.unwrap());
        assert_eq!(other, None, "what was discarded is not sent");
    });
}

#[test]
fn a_gateway_killed_during_an_upload_has_it_exactly_once_when_it_is_back() {
    play("outbox::a_gateway_killed_during_an_upload_has_it_exactly_once_when_it_is_back", || async {
        let mut system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        stage.type_into("Name", "Ida");
        upload_to_one_who_hangs(&stage, &mut system).await;
        stage
            .until("it is under way", |stage| {
                stage.has("Upload progress") && stage.value("Upload progress").contains("Sent ")
            })
            .await;
        let words = stage.value("Upload progress");
        assert!(words.contains("B of ") && !words.contains("All "), "{words}");
        system.service(Service::Gateway).kill();
        stage.until_message("is kept on this computer").await;
        stage.until("it waits", |stage| stage.has("1 waiting")).await;
        system.service(Service::Gateway).restart();
        stage.until_message("An upload that had waited was sent.").await;
        assert_eq!(stored(&system, 7), (1, 0), "exactly once");
    });
}

#[test]
fn a_cancelled_upload_keeps_the_form_and_leaves_nothing() {
    play("outbox::a_cancelled_upload_keeps_the_form_and_leaves_nothing", || async {
        let mut system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        upload_to_one_who_hangs(&stage, &mut system).await;
        stage.until("it is under way", |stage| stage.has("Cancel upload")).await;
        assert!(!stage.is_enabled("Reset all") && !stage.is_enabled("Medical record number"));
        stage.press("Cancel upload");
        assert!(stage.message().contains("Upload cancelled"), "{}", stage.message());
        assert_eq!(stage.value("Medical record number"), "7");
        assert!(stage.has("long.csv"));
        stage.until("nothing waits", |stage| stage.api(|api| api.get_waiting_words()).is_empty()).await;
        system.service(Service::Gateway).restart();
        stage.until_connected().await;
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap());
        assert_eq!(patient, None);
    });
}

#[test]
fn a_second_window_says_why_it_cannot_upload() {
    play("outbox::a_second_window_says_why_it_cannot_upload", || async {
        let first = Stage::with("http://127.0.0.1:9");
        first.until("it is open", |stage| stage.api(|api| api.get_upload_reason()).contains("Enter")).await;
        let args = Args { outbox: Some(first.path("outbox")), ..Args::default() };
        let second = Stage::with_args("http://127.0.0.1:9", args);
        second
            .until("the reason", |stage| {
                stage.api(|api| api.get_upload_reason()).contains("in use by another window")
            })
            .await;
        assert!(!second.is_enabled("Upload"));
    });
}

#[test]
fn upload_that_would_rename_a_patient_waits_for_a_person_when_it_is_sent_later() {
    let name = "outbox::upload_that_would_rename_a_patient_waits_for_a_person_when_it_is_sent_later";
    play(name, || async {
        let mut system = system();
        ask(&system.url(), async |gateway| {
            let upload = Upload { name: Some("Ida Noether".into()), ..Upload::of(Vec::new()) };
            gateway.upload(mrn(7), &upload, |_| {}).await.unwrap();
        });
        let mut stage = Stage::with(&system.url());
        stage.until_connected().await;
        system.service(Service::Gateway).kill();
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        stage.type_into("Medical record number", "7");
        stage.type_into("Name", "Olga Bauer");
        stage.upload().await;
        stage.until_message("is kept on this computer").await;
        system.service(Service::Gateway).restart();
        stage.until_message("was refused and needs attention").await;
        let named = |system: &System| {
            ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap().name)
        };
        assert_eq!(named(&system).as_deref(), Some("Ida Noether"));
        // The question is still there after a restart.
        stage.restart(Args::default());
        stage.until("it waits", |stage| stage.has("1 needs attention")).await;
        stage.press("1 needs attention");
        assert!(!stage.has("Try again: Patient 7, Olga Bauer"), "{:?}", stage.labels());
        stage.press("Rename and send: Patient 7, Olga Bauer");
        stage.press("Close");
        stage.until_message("An upload that had waited was sent. Patient 7 updated.").await;
        assert_eq!(named(&system).as_deref(), Some("Olga Bauer"));
    });
}
