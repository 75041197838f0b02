//! Uploads without a network: none is lost, and none is stored twice.

use client::Upload;
use patient::Args;
use proto_json::Mrn;
use testkit::{Service, System, test_data};

use crate::fixture::{Fixture, ask, run_isolated, system};

fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

/// Starts an upload for patient 7 to a gateway that stops responding.
async fn upload_to_a_hanging_gateway(app: &Fixture, system: &mut System) {
    app.type_into("Medical record number", "7");
    // Larger than all buffers on the way, so that the upload cannot complete.
    app.select_file("ECG", &app.file("long.csv", &test_data::strip_csv(60.0, 3600.0, 1))).await;
    app.until("upload is possible", |app| app.is_enabled("Upload")).await;
    app.press("Upload");
    app.until("the question", |app| app.has("Upload this?") && app.is_enabled("Upload")).await;
    system.service(Service::Gateway).pause();
    app.press("Upload");
}

fn stored(system: &System, patient: u64) -> (usize, usize) {
    ask(&system.url(), async |gateway| {
        let ecgs = gateway.ecgs(mrn(patient), None, None).await.unwrap().items.len();
        (ecgs, gateway.images(mrn(patient), None, None).await.unwrap().items.len())
    })
}

#[test]
fn uploads_wait_for_the_gateway_across_a_restart() {
    run_isolated("outbox::uploads_wait_for_the_gateway_across_a_restart", || async {
        let mut system = system();
        let mut app = Fixture::new(&system.url());
        app.until_connected().await;
        system.service(Service::Gateway).kill();
        app.until("offline", |app| app.value("Connection") == "offline").await;
        app.type_into("Medical record number", "7");
        app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
        app.upload().await;
        app.until_message("is kept on this computer").await;
        assert_eq!(app.value("Medical record number"), "", "the form is cleared");
        app.until("it shows", |app| app.has("1 waiting")).await;
        app.type_into("Medical record number", "8");
        app.type_into("Name", "Max");
        app.upload().await;
        app.until("it shows", |app| app.has("2 waiting")).await;
        app.press("2 waiting");
        assert!(app.has("Patient 7") && app.has("Patient 8, Max"), "{:?}", app.labels());
        app.press("Discard: Patient 8, Max");
        assert!(!app.has("Patient 8, Max"));
        app.press("Close");
        // The outbox holds a copy of the file.
        std::fs::remove_file(app.path("strip.csv")).unwrap();
        app.restart(Args::default());
        app.until("it still waits", |app| app.has("1 waiting")).await;
        system.service(Service::Gateway).restart();
        app.until_message("A waiting upload was sent. New patient 7 registered.").await;
        app.until("nothing waits", |app| !app.has("1 waiting")).await;
        assert_eq!(stored(&system, 7), (1, 0));
        let other = ask(&system.url(), async |gateway| gateway.patient(mrn(8)).await.unwrap());
        assert_eq!(other, None, "a discarded upload is not sent");
    });
}

#[test]
fn upload_interrupted_by_a_gateway_crash_is_stored_once() {
    run_isolated("outbox::upload_interrupted_by_a_gateway_crash_is_stored_once", || async {
        let mut system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Name", "Ida");
        upload_to_a_hanging_gateway(&app, &mut system).await;
        app.until("it is under way", |app| {
            app.has("Upload progress") && app.value("Upload progress").contains("Sent ")
        })
        .await;
        let text = app.value("Upload progress");
        assert!(text.contains("B of ") && !text.contains("All "), "{text}");
        system.service(Service::Gateway).kill();
        app.until_message("is kept on this computer").await;
        app.until("it waits", |app| app.has("1 waiting")).await;
        system.service(Service::Gateway).restart();
        app.until_message("A waiting upload was sent.").await;
        assert_eq!(stored(&system, 7), (1, 0), "exactly once");
    });
}

#[test]
fn cancelled_upload_keeps_the_form_and_stores_nothing() {
    run_isolated("outbox::cancelled_upload_keeps_the_form_and_stores_nothing", || async {
        let mut system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        upload_to_a_hanging_gateway(&app, &mut system).await;
        app.until("it is under way", |app| app.has("Cancel upload")).await;
        assert!(!app.is_enabled("Reset all") && !app.is_enabled("Medical record number"));
        app.press("Cancel upload");
        assert!(app.message().contains("Upload cancelled"), "{}", app.message());
        assert_eq!(app.value("Medical record number"), "7");
        assert!(app.has("long.csv"));
        app.until("nothing waits", |app| app.api(|api| api.get_outbox_text()).is_empty()).await;
        system.service(Service::Gateway).restart();
        app.until_connected().await;
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap());
        assert_eq!(patient, None);
    });
}

#[test]
fn second_window_explains_why_it_cannot_upload() {
    run_isolated("outbox::second_window_explains_why_it_cannot_upload", || async {
        let first = Fixture::new("http://127.0.0.1:9");
        first.until("it is open", |app| app.api(|api| api.get_upload_reason()).contains("Enter")).await;
        let args = Args { outbox: Some(first.path("outbox")), ..Args::default() };
        let second = Fixture::with_args("http://127.0.0.1:9", args);
        second
            .until("the reason", |app| {
                app.api(|api| api.get_upload_reason()).contains("in use by another window")
            })
            .await;
        assert!(!second.is_enabled("Upload"));
    });
}

#[test]
fn queued_upload_that_renames_a_patient_waits_for_confirmation() {
    let name = "outbox::queued_upload_that_renames_a_patient_waits_for_confirmation";
    run_isolated(name, || async {
        let mut system = system();
        ask(&system.url(), async |gateway| {
            let upload = Upload { name: Some("Ida Noether".into()), ..Upload::of(Vec::new()) };
            gateway.upload(mrn(7), &upload, |_| {}).await.unwrap();
        });
        let mut app = Fixture::new(&system.url());
        app.until_connected().await;
        system.service(Service::Gateway).kill();
        app.until("offline", |app| app.value("Connection") == "offline").await;
        app.type_into("Medical record number", "7");
        app.type_into("Name", "Olga Bauer");
        app.upload().await;
        app.until_message("is kept on this computer").await;
        system.service(Service::Gateway).restart();
        app.until_message("was rejected and needs attention").await;
        let named = |system: &System| {
            ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap().name)
        };
        assert_eq!(named(&system).as_deref(), Some("Ida Noether"));
        // The upload still waits for confirmation after a restart.
        app.restart(Args::default());
        app.until("it waits", |app| app.has("1 needs attention")).await;
        app.press("1 needs attention");
        assert!(!app.has("Try again: Patient 7, Olga Bauer"), "{:?}", app.labels());
        app.press("Rename and send: Patient 7, Olga Bauer");
        app.press("Close");
        app.until_message("A waiting upload was sent. Patient 7 updated.").await;
        assert_eq!(named(&system).as_deref(), Some("Olga Bauer"));
    });
}
