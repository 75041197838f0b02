//! From the form to the server.

use client::Upload;
use patient::Args;
use proto_json::Mrn;
use slint::platform::Key;
use testkit::{Mode, System, material};

use crate::stage::{Stage, ask, play, system};

fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

#[test]
fn an_upload_is_confirmed_shown_answered_and_compared_with_the_servers_analysis() {
    play("uploads::an_upload_is_confirmed_shown_answered_and_compared_with_the_servers_analysis", || async {
        let system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        stage.type_into("Medical record number", "7");
        stage.type_into("Name", "Ida Noether");
        stage.stage_file("ECG", &stage.file("strip.csv", &material::strip_csv(72.0, 30.0, 1))).await;
        stage.stage_file("Medical image", &stage.file("knee.jpg", &material::jpeg(160, 1))).await;
        stage.press("Upload");
        stage.until("the number is looked up", |stage| stage.is_enabled("Upload")).await;
        let asked = stage.description("Upload this?");
        assert!(asked.contains("Ida Noether") && asked.contains("number: 7"), "{asked}");
        assert!(asked.contains("new patient"), "{asked}");
        let goes = stage.labels().join("\n");
        assert!(
            goes.contains("ECG: strip.csv (72 bpm") && goes.contains("Medical image: knee.jpg"),
            "{goes}"
        );
        stage.press("Upload");
        stage.until_message("New patient 7 registered.").await;
        assert_eq!(stage.value("Medical record number"), "", "the form is cleared");
        assert_eq!(stage.value("Name"), "");
        assert!(!stage.has("strip.csv") && !stage.has("knee.jpg") && !stage.has("Estimated heart rate"));
        stage
            .until("the analysis arrives", |stage| {
                stage.has("The server finds 72 bpm in strip.csv, as the preview did.")
            })
            .await;
        let (patient, images) = ask(&system.url(), async |gateway| {
            let images = gateway.images(mrn(7), None, None).await.unwrap().items;
            (gateway.patient(mrn(7)).await.unwrap().unwrap(), images)
        });
        assert_eq!(patient.name.as_deref(), Some("Ida Noether"));
        assert_eq!(images[0].file.file_name.as_deref(), Some("knee.jpg"));

        // The same patient again.
        stage.type_into("Medical record number", "7");
        stage.stage_file("Medical image", &stage.file("elbow.png", &material::png(100, 2))).await;
        stage.upload().await;
        stage.until_message("Patient 7 updated.").await;
        assert_eq!(stage.api(|api| api.get_analysis()), "", "what was said of the last upload is gone");
    });
}

#[test]
fn upload_says_what_is_missing_until_nothing_is() {
    play("uploads::upload_says_what_is_missing_until_nothing_is", || async {
        let stage = Stage::with("http://127.0.0.1:9");
        let reason = |stage: &Stage| String::from(stage.api(|api| api.get_upload_reason()));
        stage.until("ready", |stage| reason(stage).contains("Enter the medical record number")).await;
        assert!(!stage.is_enabled("Upload"));
        assert!(stage.has(&reason(&stage)), "the reason can be seen");
        stage.type_into("Medical record number", "seven");
        assert!(!stage.is_enabled("Upload") && reason(&stage).contains("must be an integer"));
        assert!(stage.description("Medical record number").contains("must be an integer"));
        stage.type_into("Medical record number", "7");
        assert!(stage.is_enabled("Upload"), "{}", reason(&stage));
        stage.type_into("Name", &"x".repeat(501));
        assert!(!stage.is_enabled("Upload") && reason(&stage).contains("at most 500"));
        stage.type_into("Name", "Ida");
        stage.stage_file("Medical image", &stage.file("a.png", &material::png(64, 1))).await;
        assert!(reason(&stage).contains("Ready to upload: 1 medical image"), "{}", reason(&stage));
    });
}

#[test]
fn a_number_known_under_another_name_is_told_before_anything_is_sent() {
    play("uploads::a_number_known_under_another_name_is_told_before_anything_is_sent", || async {
        let system = system();
        ask(&system.url(), async |gateway| {
            let upload = Upload { name: Some("Ida Noether".into()), ..Upload::of(Vec::new()) };
            gateway.upload(mrn(7), &upload, |_| {}).await.unwrap();
        });
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        stage.type_into("Medical record number", "7");
        stage
            .until("the name is looked up", |stage| {
                stage.description("Medical record number").contains("Known as Ida Noether")
            })
            .await;
        stage.type_into("Name", " ida  noether ");
        assert_eq!(stage.description("Name"), "", "case and blanks do not make another name");
        stage.type_into("Name", "Olga Bauer");
        assert!(stage.description("Name").contains("belongs to Ida Noether"));
        stage.press("Upload");
        stage.until("the warning", |stage| stage.has("Rename and upload")).await;
        let warning = stage.labels().into_iter().find(|label| label.contains("is known as")).unwrap();
        assert!(warning.contains("Ida Noether") && warning.contains("Olga Bauer"), "{warning}");
        // The keyboard starts on the safe answer.
        stage.keys(&[Key::Return.into()]);
        stage.until("back", |stage| !stage.has("Upload this?")).await;
        assert_eq!(stage.value("Name"), "Olga Bauer", "nothing is cleared");
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap());
        assert_eq!(patient.name.as_deref(), Some("Ida Noether"), "nothing was sent");
        stage.press("Upload");
        stage.until("the warning", |stage| stage.has("Rename and upload")).await;
        stage.press("Rename and upload");
        stage.until_message("Patient 7 updated.").await;
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap().unwrap());
        assert_eq!(patient.name.as_deref(), Some("Olga Bauer"));
    });
}

#[test]
fn what_the_gateway_refuses_stays_in_the_form() {
    play("uploads::what_the_gateway_refuses_stays_in_the_form", || async {
        let system = System::start_with(Mode::Standalone, &["--max-image", "1KB"]);
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        stage.type_into("Medical record number", "7");
        stage.stage_file("Medical image", &stage.file("large.png", &material::png(100, 1))).await;
        stage.upload().await;
        stage.until_message("Not uploaded.").await;
        assert_eq!(stage.value("Medical record number"), "7");
        assert!(stage.has("large.png"), "nothing is cleared");
        // Drawn beside: it may take its time.
        stage.until("the picture", |stage| stage.has("Picture large.png")).await;
        assert_eq!(stage.api(|api| api.get_waiting_words()), "", "and nothing waits");
        stage.press("Remove large.png");
        stage.upload().await;
        stage.until_message("New patient 7 registered.").await;
    });
}

#[test]
fn a_token_that_is_not_accepted_keeps_the_form_and_is_told() {
    play("uploads::a_token_that_is_not_accepted_keeps_the_form_and_is_told", || async {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let digest = proto_json::BlobHash::of(b"good-token");
        std::fs::write(&tokens, format!("bed-1 uploader {digest}\n")).unwrap();
        let system = System::start_with(Mode::Standalone, &["--tokens", tokens.to_str().unwrap()]);
        let mut args = Args::default();
        args.connection.token = Some("wrong-token".to_owned());
        let mut stage = Stage::with_args(&system.url(), args);
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        stage.type_into("Medical record number", "7");
        stage.upload().await;
        stage.until_message("does not accept the access token").await;
        assert_eq!(stage.value("Medical record number"), "7");
        let mut args = Args::default();
        args.connection.token = Some("good-token".to_owned());
        stage.restart(args);
        // An uploader may send and nothing else; the light says so instead of crying wolf.
        stage.until("connected", |stage| stage.value("Connection").contains("uploads only")).await;
        stage.type_into("Medical record number", "7");
        stage.upload().await;
        stage.until_message("New patient 7 registered.").await;
    });
}

#[test]
fn a_file_that_changed_since_it_was_shown_is_not_sent() {
    play("uploads::a_file_that_changed_since_it_was_shown_is_not_sent", || async {
        let system = system();
        let stage = Stage::with(&system.url());
        stage.until_connected().await;
        stage.type_into("Medical record number", "7");
        let path = stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1));
        stage.stage_file("ECG", &path).await;
        std::fs::write(&path, material::strip_csv(120.0, 12.0, 1)).unwrap();
        stage.upload().await;
        stage.until_message("strip.csv has changed since it was read").await;
        assert!(stage.has("strip.csv"));
        let patient = ask(&system.url(), async |gateway| gateway.patient(mrn(7)).await.unwrap());
        assert_eq!(patient, None);
    });
}

#[test]
fn files_number_and_name_can_be_given_on_the_command_line() {
    play("uploads::files_number_and_name_can_be_given_on_the_command_line", || async {
        let system = system();
        let folder = tempfile::tempdir().unwrap();
        let (ecg, image) = (folder.path().join("strip.csv"), folder.path().join("a.PNG"));
        std::fs::write(&ecg, material::strip_csv(72.0, 10.0, 1)).unwrap();
        std::fs::write(&image, material::png(64, 1)).unwrap();
        let args = Args {
            files: vec![ecg, image],
            mrn: Some("7".into()),
            name: Some("Ida".into()),
            ..Args::default()
        };
        let stage = Stage::with_args(&system.url(), args);
        stage
            .until("both are shown", |stage| stage.has("Picture of strip.csv") && stage.has("Picture a.PNG"))
            .await;
        stage.until_connected().await;
        stage.upload().await;
        stage.until_message("New patient 7 registered.").await;
        let kinds = ask(&system.url(), async |gateway| {
            let ecgs = gateway.ecgs(mrn(7), None, None).await.unwrap().items.len();
            (ecgs, gateway.images(mrn(7), None, None).await.unwrap().items.len())
        });
        assert_eq!(kinds, (1, 1));
    });
}
