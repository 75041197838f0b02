//! User scenarios, each run on standalone and on the full stack.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::{
    ClientError, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, Upload, UploadAnswer, UploadFile,
};
use proto_json::{
    Bpm, ChangeKind, EcgQuality, EcgRecord, EcgStatus, FileKind, HeartRateSource, Mrn, PatientSummary,
    RecordId, UploadReceipt,
};
use serde_json::{Value, json};
use testkit::{Mode, System, test_data, within};

macro_rules! in_both_modes {
    ($($scenario:ident),* $(,)?) => {
        mod standalone {
            use super::*;
            $(#[tokio::test] async fn $scenario() { super::$scenario(System::start(Mode::Standalone)).await; })*
        }
        mod processes {
            use super::*;
            $(#[tokio::test] async fn $scenario() { super::$scenario(System::start(Mode::Processes)).await; })*
        }
    };
}

in_both_modes!(
    raw_ecg_is_returned_unchanged_with_heart_rate_and_plot,
    analysis_in_the_api_equals_that_of_the_library,
    raw_ecg_through_the_legacy_route_is_analysed,
    images_through_the_legacy_route_are_returned_aligned,
    image_is_returned_unchanged_and_cached_by_its_hash,
    files_of_one_upload_become_records_in_their_order,
    unreadable_ecg_fails_with_a_reason,
    retry_with_the_same_key_is_stored_once_and_other_content_is_rejected,
    asynchronous_upload_is_stored,
    updates_of_a_patient_are_pushed,
    history_pages_are_complete,
    latest_heart_rate_is_the_latest_recorded,
);

fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

async fn send(gateway: &Gateway, mrn: Mrn, upload: Upload) -> UploadReceipt {
    match gateway.upload(mrn, &upload, |_| {}).await.unwrap() {
        UploadAnswer::Stored(receipt) => receipt,
        UploadAnswer::Accepted(received) => {
            let status = within("an accepted upload is stored", || async {
                gateway.upload_status(received.upload_id).await.unwrap()
            });
            status.await.receipt
        }
    }
}

async fn analyzed(gateway: &Gateway, id: RecordId) -> EcgRecord {
    within("the ECG is analysed", || async {
        gateway.ecg(id).await.unwrap().filter(|ecg| ecg.status != EcgStatus::Pending)
    })
    .await
}

/// Waits until the patient has a heart rate, which follows the analysis of the ECG.
async fn with_rate(gateway: &Gateway, mrn: Mrn) -> PatientSummary {
    within("the patient has a heart rate", || async {
        gateway.patient(mrn).await.unwrap().filter(|patient| patient.latest_heart_rate.is_some())
    })
    .await
}

async fn raw_ecg_is_returned_unchanged_with_heart_rate_and_plot(system: System) {
    let gateway = system.gateway();
    let csv = test_data::strip_csv(72.0, 20.0, 1);
    let mut upload = Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", csv.clone())]);
    upload.name = Some("Ann Example".to_owned());
    let receipt = send(&gateway, mrn(7), upload).await;
    assert!(receipt.patient_created && receipt.changed);

    let ecg = analyzed(&gateway, receipt.files[0].id).await;
    assert_eq!(ecg.status, EcgStatus::Analyzed);
    let analysis = ecg.analysis.unwrap();
    let rate = analysis.heart_rate.unwrap().mean_bpm;
    assert!((rate - 72.0).abs() < 2.0, "{rate}");
    assert_eq!(analysis.quality, EcgQuality::Good);
    assert_eq!(analysis.rows_used, 7200);
    assert_eq!(gateway.signal(ecg.id).await.unwrap().bytes(1 << 20).await.unwrap(), csv);
    let plot = gateway.plot(ecg.id).await.unwrap().bytes(8 << 20).await.unwrap();
    assert!(plot.starts_with(b"\x89PNG\r\n\x1a\n"));
    let detail = gateway.ecg_detail(ecg.id).await.unwrap().unwrap();
    assert_eq!(detail.beats.len() as u64, analysis.beat_count);

    let patient = with_rate(&gateway, mrn(7)).await;
    assert_eq!(patient.name.as_deref(), Some("Ann Example"));
    let latest = patient.latest_heart_rate.unwrap();
    assert_eq!((latest.source, latest.ecg_id), (HeartRateSource::Ecg, Some(ecg.id)));
    assert_eq!(latest.bpm, Bpm::rounded(rate).unwrap());
    assert_eq!(patient.latest_ecg.unwrap().status, EcgStatus::Analyzed);
}

async fn analysis_in_the_api_equals_that_of_the_library(system: System) {
    let gateway = system.gateway();
    // A strip with beats, poor segments, a gap and invalid rows.
    let noisy = ecg::synth::Settings {
        duration_s: 45.0,
        mean_bpm: 48.0,
        noise_mv: 0.25,
        ..ecg::synth::Settings::default()
    };
    let text = String::from_utf8(ecg::synth::csv(&ecg::synth::generate(&noisy).strip)).unwrap();
    let rows = text.lines().enumerate().filter(|(row, _)| !(9_000..9_900).contains(row));
    let csv: String = rows
        .map(|(row, line)| if row % 3_001 == 7 { "no,number\n".to_owned() } else { format!("{line}\n") })
        .collect();
    let upload =
        Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", csv.clone().into_bytes())]);
    let receipt = send(&gateway, mrn(8), upload).await;
    let record = analyzed(&gateway, receipt.files[0].id).await;
    let answer = record.analysis.unwrap();
    let detail = gateway.ecg_detail(record.id).await.unwrap().unwrap();

    let strip = ecg::read(csv.as_bytes(), &ecg::csv::Options::default()).unwrap();
    let expected_analysis = ecg::analyze(&strip);
    let close =
        |left: f64, right: f64, within: f64| assert!((left - right).abs() <= within, "{left} {right}");
    let (rate, expected) = (answer.heart_rate.unwrap(), expected_analysis.heart_rate.unwrap());
    close(rate.mean_bpm, expected.mean_bpm, 0.05);
    close(rate.min_bpm, expected.min_bpm, 0.05);
    close(rate.max_bpm, expected.max_bpm, 0.05);
    assert_eq!(format!("{:?}", answer.quality), format!("{:?}", expected_analysis.quality));
    assert_eq!((answer.rows_used, answer.rows_skipped), (strip.rows.used, strip.rows.skipped));
    assert!(answer.rows_skipped > 0);
    let messages =
        |all: &[proto_json::EcgWarning]| all.iter().map(|one| one.message.clone()).collect::<Vec<_>>();
    assert_eq!(
        messages(&answer.warnings),
        expected_analysis.warnings.iter().map(|one| one.message.clone()).collect::<Vec<_>>()
    );
    assert!(!answer.warnings.is_empty());
    assert_eq!(
        answer.notes.iter().map(|note| note.message.clone()).collect::<Vec<_>>(),
        expected_analysis.rhythm_notes.iter().map(|note| note.message.clone()).collect::<Vec<_>>()
    );
    assert_eq!(detail.beats.len(), expected_analysis.beats.len());
    for (beat, expected) in detail.beats.iter().zip(&expected_analysis.beats) {
        close(beat.time_s, expected.time_s, 0.001);
    }
    assert_eq!(detail.gaps.len(), 1);
    assert_eq!(detail.quality_segments.len(), expected_analysis.quality_segments.len());
    let patient = with_rate(&gateway, mrn(8)).await;
    assert_eq!(patient.latest_heart_rate.unwrap().bpm, Bpm::rounded(expected.mean_bpm).unwrap());
}

async fn post_legacy(system: &System, body: &Value) -> (u16, String) {
    let answer =
        reqwest_client().post(format!("{}/api/new_patient", system.url())).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn get(system: &System, path: &str) -> reqwest::Response {
    reqwest_client().get(format!("{}{path}", system.url())).send().await.unwrap()
}

fn reqwest_client() -> reqwest::Client {
    testkit::http_client()
}

async fn raw_ecg_through_the_legacy_route_is_analysed(system: System) {
    let csv = test_data::strip_csv(95.0, 15.0, 2);
    let (status, text) = post_legacy(
        &system,
        &json!({"medical_record_number": " 8 ", "name": "", "ecg_csv": BASE64.encode(&csv)}),
    )
    .await;
    assert_eq!((status, text.as_str()), (200, "New patient ID 8 is registered"));
    let patient = within("the plot is listed", || async {
        let patient: Value = get(&system, "/api/get_patient/8").await.json().await.unwrap();
        (!patient["ecg_image"].as_array().unwrap().is_empty()).then_some(patient)
    })
    .await;
    assert_eq!(patient["heart_rate"], json!([95]));
    assert_eq!(patient["name"], "Not Specified");
    let plot = BASE64.decode(patient["ecg_image"][0].as_str().unwrap()).unwrap();
    assert!(plot.starts_with(b"\x89PNG\r\n\x1a\n"));
    let ecgs = system.gateway().ecgs(mrn(8), None, None).await.unwrap();
    assert_eq!(system.gateway().signal(ecgs.items[0].id).await.unwrap().bytes(1 << 20).await.unwrap(), csv);
}

async fn images_through_the_legacy_route_are_returned_aligned(system: System) {
    let (xray, first, second) = (test_data::png(90, 1), test_data::jpeg(80, 2), test_data::png(70, 3));
    let register = json!({"medical_record_number": 9, "name": "Bo", "medical_image": BASE64.encode(&xray)});
    assert_eq!(post_legacy(&system, &register).await, (200, "New patient ID 9 is registered".to_owned()));
    let with_rate = json!({"medical_record_number": "9", "ecg_image": BASE64.encode(&first), "hr": 71});
    assert_eq!(
        post_legacy(&system, &with_rate).await,
        (200, "Patient ID 9's data has been updated".to_owned())
    );
    let without = json!({"medical_record_number": 9, "ecg_image": BASE64.encode(&second), "hr": ""});
    assert_eq!(
        post_legacy(&system, &without).await,
        (200, "Patient ID 9's data has been updated".to_owned())
    );
    let nothing_new = json!({"medical_record_number": 9, "name": "Bo"});
    assert_eq!(
        post_legacy(&system, &nothing_new).await,
        (200, "No further updates for Patient ID 9".to_owned())
    );

    let text = get(&system, "/api/get_patient/9").await.text().await.unwrap();
    let patient: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(patient["ecg_image"], json!([BASE64.encode(&first), BASE64.encode(&second)]));
    assert_eq!(patient["heart_rate"], json!([71, 0]));
    assert_eq!(patient["medical_image"], json!([BASE64.encode(&xray)]));
    assert_eq!((&patient["id"], &patient["name"]), (&json!(9), &json!("Bo")));
    assert_eq!(patient["timestamp"].as_array().unwrap().len(), 2);
    assert!(!text.contains("null"));
    assert_eq!(get(&system, "/api/get_patient").await.text().await.unwrap(), r#"{"ID":[9]}"#);
}

async fn image_is_returned_unchanged_and_cached_by_its_hash(system: System) {
    let gateway = system.gateway();
    let jpeg = test_data::jpeg(160, 4);
    let upload =
        Upload::of(vec![UploadFile::from_bytes(FileKind::MedicalImage, "x-ray, left ü.jpg", jpeg.clone())]);
    let receipt = send(&gateway, mrn(10), upload).await;
    let path = format!("/api/v1/images/{}", receipt.files[0].id);
    let answer = get(&system, &path).await;
    assert_eq!(answer.headers()["content-type"], "image/jpeg");
    let etag = answer.headers()["etag"].clone();
    assert_eq!(answer.bytes().await.unwrap(), jpeg);
    let again = reqwest_client()
        .get(format!("{}{path}", system.url()))
        .header("if-none-match", etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status().as_u16(), 304);
    let images = gateway.images(mrn(10), None, None).await.unwrap();
    assert_eq!(images.items[0].file.file_name.as_deref(), Some("x-ray, left ü.jpg"));
    assert_eq!((images.items[0].file.width, images.items[0].file.height), (Some(160), Some(160)));
}

async fn files_of_one_upload_become_records_in_their_order(system: System) {
    let gateway = system.gateway();
    let strip = test_data::strip_csv(60.0, 10.0, 5);
    let upload = Upload::of(vec![
        UploadFile::from_bytes(FileKind::MedicalImage, "a.png", test_data::png(50, 5)),
        UploadFile::from_bytes(FileKind::Ecg, "one.csv", strip.clone()),
        UploadFile::from_bytes(FileKind::EcgImage, "trace.jpg", test_data::jpeg(50, 6)),
        UploadFile::from_bytes(FileKind::Ecg, "two.csv", test_data::strip_csv(100.0, 10.0, 6)),
        // The same bytes again are the same record.
        UploadFile::from_bytes(FileKind::Ecg, "one again.csv", strip),
    ]);
    let receipt = send(&gateway, mrn(11), upload).await;
    assert_eq!(receipt.files[1].id, receipt.files[4].id);
    let one = analyzed(&gateway, receipt.files[1].id).await.heart_rate.unwrap().get();
    let two = analyzed(&gateway, receipt.files[3].id).await.heart_rate.unwrap().get();
    assert!((58..=62).contains(&one) && (97..=103).contains(&two), "{one} {two}");
    assert_eq!(gateway.ecg(receipt.files[2].id).await.unwrap().unwrap().status, EcgStatus::Picture);
    assert_eq!(gateway.ecgs(mrn(11), None, None).await.unwrap().items.len(), 3);
    assert_eq!(gateway.images(mrn(11), None, None).await.unwrap().items.len(), 1);
}

async fn unreadable_ecg_fails_with_a_reason(system: System) {
    let gateway = system.gateway();
    let rows = |row: &dyn Fn(usize) -> String| (0..4000).map(row).collect::<String>().into_bytes();
    let cases = [
        ("zeros", rows(&|index| format!("{:.3},0\n", index as f64 / 250.0))),
        ("text", b"Dear colleague,\nplease find attached\nthe recording of today.\n".to_vec()),
        ("one row", b"0.0,0.12\n".to_vec()),
        ("constant time", rows(&|index| format!("1.0,{}\n", index % 7))),
    ];
    for (name, content) in cases {
        let upload = Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "bad.csv", content)]);
        let receipt = send(&gateway, mrn(12), upload).await;
        let ecg = analyzed(&gateway, receipt.files[0].id).await;
        assert_eq!(ecg.status, EcgStatus::Failed, "{name}");
        let reason = ecg.failure.unwrap();
        assert!(reason.ends_with('.') && reason.len() > 20, "{name}: {reason}");
        assert_eq!((ecg.heart_rate, ecg.plot), (None, None), "{name}");
    }
    let patient = gateway.patient(mrn(12)).await.unwrap().unwrap();
    assert_eq!(patient.latest_heart_rate, None, "a heart rate exists without a valid ECG");
    assert_eq!(gateway.heart_rates(mrn(12), None, None).await.unwrap().items, []);
}

async fn retry_with_the_same_key_is_stored_once_and_other_content_is_rejected(system: System) {
    let gateway = system.gateway();
    let upload = Upload::of(vec![UploadFile::from_bytes(
        FileKind::Ecg,
        "strip.csv",
        test_data::strip_csv(80.0, 10.0, 7),
    )]);
    let first = send(&gateway, mrn(13), upload.clone()).await;
    let second = send(&gateway, mrn(13), upload.clone()).await;
    assert_eq!(first, second);
    analyzed(&gateway, first.files[0].id).await;
    assert_eq!(send(&gateway, mrn(13), upload.clone()).await, first);
    assert_eq!(gateway.ecgs(mrn(13), None, None).await.unwrap().items.len(), 1);

    let other = Upload { name: Some("Other".to_owned()), ..upload.clone() };
    let refused = gateway.upload(mrn(13), &other, |_| {}).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(problem) if problem.status == 422), "{refused}");
    let elsewhere = gateway.upload(mrn(14), &upload, |_| {}).await.unwrap_err();
    assert!(matches!(&elsewhere, ClientError::Refused(problem) if problem.status == 422), "{elsewhere}");
    assert_eq!(gateway.patient(mrn(14)).await.unwrap(), None);
    assert_eq!(gateway.patient(mrn(13)).await.unwrap().unwrap().name, None);
}

async fn asynchronous_upload_is_stored(system: System) {
    let gateway = system.gateway();
    let mut upload =
        Upload::of(vec![UploadFile::from_bytes(FileKind::MedicalImage, "a.png", test_data::png(40, 8))]);
    upload.respond_async = true;
    let answer = gateway.upload(mrn(15), &upload, |_| {}).await.unwrap();
    let UploadAnswer::Accepted(received) = answer else { panic!("not accepted but {answer:?}") };
    let status =
        within("the upload is stored", || async { gateway.upload_status(received.upload_id).await.unwrap() })
            .await;
    assert_eq!(status.receipt.mrn, mrn(15));
    assert_eq!(gateway.images(mrn(15), None, None).await.unwrap().items.len(), 1);
}

async fn updates_of_a_patient_are_pushed(mut system: System) {
    let gateway = system.gateway();
    let mut settings = vec![(FeedMode::ServerSentEvents, FeedSettings::new(gateway.clone(), Some(mrn(16))))];
    if let Some(nats) = system.nats() {
        let mut over_nats = FeedSettings::new(gateway.clone(), None);
        over_nats.nats = Some(client::NatsSettings::new(nats.url()));
        settings.push((FeedMode::Nats, over_nats));
    }
    for (number, (mode, mut settings)) in settings.into_iter().enumerate() {
        // Were it polled, nothing would come.
        settings.poll_every = Duration::from_secs(3600);
        settings.reload_every = Duration::from_secs(3600);
        let mut feed = Feed::start(settings);
        let mut next = async || {
            tokio::time::timeout(Duration::from_secs(30), feed.next()).await.expect("an event comes").unwrap()
        };
        loop {
            if let FeedEvent::Connection(state) = next().await
                && state.mode == mode
            {
                break;
            }
        }
        let strip = test_data::strip_csv(110.0, 10.0, 9 + number as u64);
        let upload = Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", strip)]);
        let id = send(&gateway, mrn(16), upload).await.files[0].id;
        let mut seen = Vec::new();
        let mut version = 0;
        while seen.last() != Some(&ChangeKind::EcgAnalyzed) {
            if let FeedEvent::Updated(update) = next().await {
                assert!(update.patient.version > version, "versions only grow");
                version = update.patient.version;
                seen.extend(
                    update.changes.iter().filter(|change| change.id == Some(id)).map(|change| change.kind),
                );
                if seen.last() == Some(&ChangeKind::EcgAnalyzed) {
                    let latest = update.patient.latest_heart_rate.unwrap();
                    assert!((107..=113).contains(&latest.bpm.get()), "{}", latest.bpm);
                }
            }
        }
        assert_eq!(seen, [ChangeKind::Ecg, ChangeKind::EcgAnalyzed]);
    }
}

async fn history_pages_are_complete(system: System) {
    let gateway = system.gateway();
    let mut sent = Vec::new();
    for number in 0..7 {
        let upload = Upload { heart_rate: Some(Bpm::new(60 + number).unwrap()), ..Upload::of(Vec::new()) };
        sent.push(send(&gateway, mrn(17), upload).await.heart_rate.unwrap());
    }
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = gateway.heart_rates(mrn(17), after, Some(3)).await.unwrap();
        assert!(page.items.len() <= 3);
        read.extend(page.items.iter().map(|item| item.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    sent.reverse();
    assert_eq!(read, sent, "newest first, each once");
}

async fn latest_heart_rate_is_the_latest_recorded(system: System) {
    let gateway = system.gateway();
    let at = |time: &str| Some(time.parse().unwrap());
    for (time, bpm) in [("2026-01-02T10:00:00Z", 80), ("2026-01-02T09:00:00Z", 60)] {
        let upload = Upload {
            heart_rate: Some(Bpm::new(bpm).unwrap()),
            recorded_at: at(time),
            ..Upload::of(Vec::new())
        };
        send(&gateway, mrn(18), upload).await;
    }
    let latest = gateway.patient(mrn(18)).await.unwrap().unwrap().latest_heart_rate.unwrap();
    assert_eq!((latest.bpm.get(), Some(latest.at)), (80, at("2026-01-02T10:00:00Z")));
}
