//! Uploads from the form to the server.

use client::Upload;
use patient::Args;
use proto_json::Mrn;
use slint::platform::Key;
use testkit::{Mode, System, test_data};

use crate::fixture::{Fixture, ask, run_isolated, system};

fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

#[test]
fn upload_is_confirmed_stored_and_compared_with_the_analysis() {
    run_isolated("uploads::upload_is_confirmed_stored_and_compared_with_the_analysis", || async {
        let system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Medical record number", "7");
        app.type_into("Name", "Ida Noether");
        app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 30.0, 1))).await;
        app.select_file("Medical image", &app.file("knee.jpg", &test_data::jpeg(160, 1))).await;
        app.press("Upload");
        app.until("the record number is looked up", |app| app.is_enabled("Upload")).await;
        let asked = app.description("Upload this?");
        assert!(asked.contains("Ida Noether") && asked.contains("number: 7"), "{asked}");
        assert!(asked.contains("new patient"), "{asked}");
        let goes = app.labels().join("\n");
        assert!(
            goes.contains("ECG: strip.csv (72 bpm") && goes.contains("Medical image: knee.jpg"),
            "{goes}"
        );
        app.press("Upload");
        app.until_message("New patient 7 registered.").await;
        assert_eq!(app.value("Medical record number"), "", "the form is cleared");
        assert_eq!(app.value("Name"), "");
        for line in ["Name: Ida Noether", "ECG: strip.csv", "Medical image: knee.jpg"] {
            assert!(app.has(line), "the receipt lists {line:?}: {:?}", app.labels());
        }
        assert!(!app.has("strip.csv") && !app.has("knee.jpg") && !app.has("Estimated heart rate"));
        app.until("the analysis arrives", |app| {
            app.has("The server finds 72 bpm in strip.csv, as the preview did.")
        })
        .await;
        let (patient, images) = ask(&system.url(), async |gateway| {
            let images = gateway.images(mrn(7), None, None).await.unwrap().items;
            (gateway.patient(mrn(7)).await.unwrap().unwrap(), images)
        });
        assert_eq!(patient.name.as_deref(), Some("Ida Noether"));
        assert_eq!(images[0].file.file_name.as_deref(), Some("knee.jpg"));

        // The same patient again.
        app.type_into("Medical record number", "7");
        app.select_file("Medical image", &app.file("elbow.png", &test_data::png(100, 2))).await;
        app.upload().await;
        app.until_message("Patient 7 updated.").await;
        assert_eq!(app.api(|api| api.get_analysis()), "", "the analysis of the previous upload is closed");
    });
}

#[test]
fn upload_is_disabled_with_a_reason_until_the_form_is_valid() {
    run_isolated("uploads::upload_is_disabled_with_a_reason_until_the_form_is_valid", || async {
        let app = Fixture::new("http://127.0.0.1:9");
        let reason = |app: &Fixture| String::from(app.api(|api| api.get_upload_reason()));
        app.until("the outbox is open", |app| reason(app).contains("Enter the medical record number")).await;
        assert!(!app.is_enabled("Upload"));
        assert!(app.has(&reason(&app)), "the reason is shown");
        app.type_into("Medical record number", "seven");
        assert!(!app.is_enabled("Upload") && reason(&app).contains("must be an integer"));
        assert!(app.description("Medical record number").contains("must be an integer"));
        app.type_into("Medical record number", "7");
        assert!(!app.is_enabled("Upload") && reason(&app).contains("without content"), "{}", reason(&app));
        app.type_into("Name", &"x".repeat(501));
        assert!(!app.is_enabled("Upload") && reason(&app).contains("at most 500"));
        app.type_into("Name", "Ida");
        assert!(app.is_enabled("Upload"), "{}", reason(&app));
        app.select_file("Medical image", &app.file("a.png", &test_data::png(64, 1))).await;
        assert!(reason(&app).contains("Ready to upload: 1 medical image"), "{}", reason(&app));
    });
}

#[test]
fn rename_needs_confirmation_before_the_upload() {
    run_isolated("uploads::rename_needs_confirmation_before_the_upload", || async {
        let system = system();
        ask(&system.url(), async |gateway| {
            let upload = Upload { name: Some("Ida Noether".into()), ..Upload::of(Vec::new()) };
            gateway.upload(mrn(7), &upload, |_| {}).await.unwrap();
        });
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Medical record number", "7");
        app.until("the name is looked up", |app| {
            app.description("Medical record number").contains("Known as Ida Noether")
        })
        .await;
        app.type_into("Name", " ida  noether ");
        assert_eq!(app.description("Name"), "", "case and spaces do not matter");
        app.type_into("Name", "Olga Bauer");
        assert!(app.description("Name").contains("belongs to Ida Noether"));
        let reason = String::from(app.api(|api| api.get_upload_reason()));
        assert!(reason.contains("would rename") && !reason.contains("Ready"), "{reason}");
        app.press("Upload");
        app.until("the warning", |app| app.has("Rename and upload")).await;
        let warning = app.labels().into_iter().find(|label| label.contains("belongs to “")).unwrap();
        assert!(warning.contains("Ida Noether") && warning.contains("Olga Bauer"), "{warning}");
        // The focus is on the button that does not upload.
        app.keys(&[Key::Return.into()]);
        app.until("the dialog is closed", |app| !app.has("Upload this?")).await;
        assert_eq!(app.value("Name"), "Olga Bauer", "nothing is cleared");
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap());
        assert_eq!(patient.name.as_deref(), Some("Ida Noether"), "nothing was sent");
        app.press("Upload");
        app.until("the warning", |app| app.has("Rename and upload")).await;
        app.press("Rename and upload");
        app.until_message("Patient 7 updated.").await;
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap());
        assert_eq!(patient.name.as_deref(), Some("Olga Bauer"));
    });
}

#[test]
fn rejected_upload_stays_in_the_form() {
    run_isolated("uploads::rejected_upload_stays_in_the_form", || async {
        let system = System::start_with(Mode::Standalone, &["--max-image", "1KB"]);
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Medical record number", "7");
        app.select_file("Medical image", &app.file("large.png", &test_data::png(100, 1))).await;
        app.upload().await;
        app.until_message("Not uploaded.").await;
        assert_eq!(app.value("Medical record number"), "7");
        assert!(app.has("large.png"), "nothing is cleared");
        // The image is drawn in the background.
        app.until("the picture", |app| app.has("Picture of large.png")).await;
        assert_eq!(app.api(|api| api.get_outbox_text()), "", "no upload waits");
        app.press("Remove large.png");
        app.type_into("Name", "Ida");
        app.upload().await;
        app.until_message("New patient 7 registered.").await;
    });
}

#[test]
fn rejected_token_is_reported_and_the_form_is_kept() {
    run_isolated("uploads::rejected_token_is_reported_and_the_form_is_kept", || async {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let digest = proto_json::BlobHash::of(b"good-token");
        std::fs::write(&tokens, format!("bed-1 uploader {digest}\n")).unwrap();
        let system = System::start_with(Mode::Standalone, &["--tokens", tokens.to_str().unwrap()]);
        let mut args = Args::default();
        args.connection.token = Some("wrong-token".to_owned());
        let mut app = Fixture::with_args(&system.url(), args);
        app.until("the status", |app| app.value("Connection") == "access token rejected").await;
        app.type_into("Medical record number", "7");
        app.type_into("Name", "Ida");
        app.upload().await;
        app.until_message("does not accept the access token").await;
        assert_eq!(app.value("Medical record number"), "7");
        let mut args = Args::default();
        args.connection.token = Some("good-token".to_owned());
        app.restart(args);
        // The token of an uploader does not allow reading. The status says so and is no error.
        app.until("connected", |app| app.value("Connection").contains("uploads only")).await;
        app.type_into("Medical record number", "7");
        app.type_into("Name", "Ida");
        app.upload().await;
        app.until_message("New patient 7 registered.").await;
    });
}

#[test]
fn file_changed_after_the_preview_is_not_uploaded() {
    run_isolated("uploads::file_changed_after_the_preview_is_not_uploaded", || async {
        let system = system();
        let app = Fixture::new(&system.url());
        app.until_connected().await;
        app.type_into("Medical record number", "7");
        let path = app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1));
        app.select_file("ECG", &path).await;
        std::fs::write(&path, test_data::strip_csv(120.0, 12.0, 1)).unwrap();
        app.upload().await;
        app.until_message("strip.csv has changed since it was read").await;
        assert!(app.has("strip.csv"));
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap());
        assert_eq!(patient, None);
    });
}

#[test]
fn command_line_selects_files_number_and_name() {
    run_isolated("uploads::command_line_selects_files_number_and_name", || async {
        let system = system();
        let folder = tempfile::tempdir().unwrap();
        let (ecg, image) = (folder.path().join("strip.csv"), folder.path().join("a.PNG"));
        std::fs::write(&ecg, test_data::strip_csv(72.0, 10.0, 1)).unwrap();
        std::fs::write(&image, test_data::png(64, 1)).unwrap();
        let args = Args {
            files: vec![ecg, image],
            mrn: Some("7".into()),
            name: Some("Ida".into()),
            ..Args::default()
        };
        let app = Fixture::with_args(&system.url(), args);
        app.until("both are shown", |app| app.has("Picture of strip.csv") && app.has("Picture of a.PNG"))
            .await;
        app.until_connected().await;
        app.upload().await;
        app.until_message("New patient 7 registered.").await;
        let kinds = ask(&system.url(), async |gateway| {
            let ecgs = gateway.ecgs(mrn(7), None, None).await.unwrap().items.len();
            (ecgs, gateway.images(mrn(7), None, None).await.unwrap().items.len())
        });
        assert_eq!(kinds, (1, 1));
    });
}
