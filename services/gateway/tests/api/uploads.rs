//! Tests of uploads under `/api/v1`.

use std::time::Duration;

use axum::http::Method;
use bus::QueueLimits;
use gateway::{Config, Limits};
use serde_json::json;

use crate::fixture::{Api, Form, Start, TIMEOUT, base64, ecg_csv, jpeg, png};

#[tokio::test]
async fn uploaded_files_are_returned_unchanged_with_heart_rate_and_plot() {
    let api = Api::open().await;
    let (image, picture, csv) = (jpeg(640, 480, 1), png(30, 20, 2), ecg_csv(75.0, 3));
    let form = Form::default()
        .field("name", "Ann")
        .field("heart_rate", "66")
        .field("recorded_at", "2026-03-14T15:09:26+01:00")
        .file("medical_image", "C:\\scans\\x ray.jpg", &image)
        .file("ecg_image", "trace.png", &picture)
        .file("ecg", "strip.csv", &csv);
    let reply = api.upload("7", form, &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let receipt = reply.json();
    assert_eq!(
        (&receipt["mrn"], &receipt["patient_created"], &receipt["changed"]),
        (&json!(7), &json!(true), &json!(true))
    );
    assert_eq!(
        reply.header("location"),
        format!("/api/v1/uploads/{}", receipt["upload_id"].as_str().unwrap())
    );
    let files = receipt["files"].as_array().unwrap();
    let kinds: Vec<_> = files.iter().map(|file| file["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["medical_image", "ecg_image", "ecg"]);
    let id = |index: usize| files[index]["id"].as_str().unwrap();

    assert_eq!(api.get(reply.header("location")).await.json()["receipt"], receipt);
    let got = api.get(&format!("/api/v1/images/{}", id(0))).await;
    assert!(got.body == image);
    assert_eq!(got.header("content-disposition"), "inline; filename=\"x ray.jpg\"");
    let records = api.get("/api/v1/patients/7/images").await.json();
    assert_eq!(
        (&records["items"][0]["file"]["width"], &records["items"][0]["file"]["height"]),
        (&json!(640), &json!(480))
    );
    assert!(api.get(&format!("/api/v1/ecgs/{}/plot", id(1))).await.body == picture);
    assert!(api.get(&format!("/api/v1/ecgs/{}/signal", id(2))).await.body == csv);

    let path = format!("/api/v1/ecgs/{}", id(2));
    let ecg = api.eventually(&path, |reply| reply.json()["status"] == "analyzed").await.json();
    let rate = ecg["heart_rate"].as_i64().unwrap();
    assert!((73..=77).contains(&rate), "{rate}");
    assert_eq!(ecg["recorded_at"], "2026-03-14T14:09:26.000Z");
    assert!(api.get(&format!("{path}/plot")).await.body.starts_with(b"\x89PNG"));
    assert!(api.get(&format!("{path}/detail")).await.json()["beats"].as_array().unwrap().len() > 30);
    assert_eq!(api.get("/api/v1/patients/7").await.json()["name"], "Ann");
}

#[tokio::test]
async fn record_number_alone_registers_a_patient_once() {
    let api = Api::open().await;
    let first = api.upload("7", Form::default(), &[]).await;
    assert_eq!((first.status.as_u16(), &first.json()["patient_created"]), (201, &json!(true)));
    let second = api
        .upload("7", Form::default().field("name", "").part("name=\"ecg\"; filename=\"\"", b""), &[])
        .await;
    let receipt = second.json();
    assert_eq!((&receipt["patient_created"], &receipt["changed"]), (&json!(false), &json!(false)));
}

#[tokio::test]
async fn many_files_including_equal_ones_are_stored_in_order() {
    let api = Api::open().await;
    let files: Vec<Vec<u8>> = [10, 400, 10, 1500, 900, 1100]
        .iter()
        .enumerate()
        .map(|(index, side)| [png(*side, 1, 1), vec![(index % 3) as u8; *side as usize * 1000]].concat())
        .collect();
    let form = files.iter().fold(Form::default(), |form, file| form.file("medical_image", "x.png", file));
    let reply = api.upload("7", form.file("medical_image", "again.png", &files[3]), &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let receipt = reply.json();
    assert_eq!(receipt["files"].as_array().unwrap().len(), 7);
    for (index, file) in files.iter().chain([&files[3]]).enumerate() {
        let id = receipt["files"][index]["id"].as_str().unwrap();
        assert!(api.get(&format!("/api/v1/images/{id}")).await.body == *file, "file {index}");
    }
}

#[tokio::test]
async fn repeated_upload_with_the_same_key_gets_the_same_receipt() {
    let api = Api::open().await;
    let form = || Form::default().field("name", "Ann").file("medical_image", "a.png", &png(5, 5, 1));
    let key = [("idempotency-key", "one")];
    let first = api.upload("7", form(), &key).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    let second = api.upload("7", form(), &key).await;
    assert_eq!((second.status.as_u16(), second.header("idempotency-replayed")), (201, "true"));
    assert_eq!(first.json(), second.json());
    assert_eq!(api.get("/api/v1/patients/7/images").await.json()["items"].as_array().unwrap().len(), 1);
    // The legacy route accepts the header, too.
    let body = json!({ "medical_record_number": 8, "medical_image": base64(&png(5, 5, 1)) }).to_string();
    for _ in 0..2 {
        let reply =
            api.send(Method::POST, "/api/new_patient", &[("idempotency-key", "two")], body.clone()).await;
        reply.assert_text(200, "New patient ID 8 is registered");
    }
}

#[tokio::test]
async fn key_reuse_with_other_content_is_rejected() {
    let api = Api::open().await;
    let key = [("idempotency-key", "one")];
    let picture = png(5, 5, 1);
    let form = Form::default().field("heart_rate", "70").file("medical_image", "a.png", &picture);
    assert_eq!(api.upload("7", form, &key).await.status, 201);
    for (mrn, form) in [
        ("8", Form::default().field("heart_rate", "70").file("medical_image", "a.png", &picture)),
        ("7", Form::default().field("heart_rate", "71").file("medical_image", "a.png", &picture)),
        ("7", Form::default().field("heart_rate", "70").file("medical_image", "b.png", &picture)),
        ("7", Form::default().field("heart_rate", "70").file("ecg_image", "a.png", &picture)),
        ("7", Form::default().field("heart_rate", "70").file("medical_image", "a.png", &png(5, 5, 2))),
        (
            "7",
            Form::default().field("heart_rate", "70").field("name", "Ann").file(
                "medical_image",
                "a.png",
                &picture,
            ),
        ),
        ("7", Form::default().field("heart_rate", "70")),
    ] {
        api.upload(mrn, form, &key).await.assert_problem(422, "other content");
    }
    assert_eq!(api.get("/api/get_patient").await.text(), "{\"ID\":[7]}");
}

#[tokio::test]
async fn status_shows_a_conflict_that_is_found_after_the_response() {
    // Without ingest, both uploads are accepted before either is stored.
    let api = Start { ingest: false, ..Start::default() }.start().await;
    let headers = [("prefer", "respond-async"), ("idempotency-key", "one")];
    let first = api.upload("7", Form::default().field("heart_rate", "70"), &headers).await;
    let other = api.upload("7", Form::default().field("heart_rate", "71"), &headers).await;
    assert_eq!((first.status.as_u16(), other.status.as_u16()), (202, 202));
    let (first, other) = (first.json(), other.json());
    assert_eq!(first["upload_id"], other["upload_id"]);
    api.start_ingest();
    let status = format!("/api/v1/uploads/{}", first["upload_id"].as_str().unwrap());
    let status = api.eventually(&status, |reply| reply.status == 200).await.json();
    // Ingest takes both at the same time: either is stored.
    assert_ne!(first["fingerprint"], other["fingerprint"]);
    assert!([&first, &other].iter().any(|accepted| accepted["fingerprint"] == status["fingerprint"]));
    // A receipt that arrives in time reports the conflict directly.
    let key = [headers[1]];
    let form = Form::default().field("heart_rate", "72");
    api.upload("7", form, &key).await.assert_problem(422, "other content");
}

#[tokio::test]
async fn upload_without_receipt_in_time_is_accepted_and_stored_later() {
    let config = Config { receipt_wait: Duration::from_millis(1), ..Config::default() };
    let api = Start { config, ingest: false, ..Start::default() }.start().await;
    let reply = api.upload("7", Form::default().field("name", "Ann"), &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (202, ""));
    let location = reply.header("location").to_owned();
    assert_eq!(location, format!("/api/v1/uploads/{}", reply.json()["upload_id"].as_str().unwrap()));
    api.get(&location).await.assert_problem(404, "moment");

    let ports = ingest::Ports::of(bus::BusPorts::of(&api.bus), api.store.clone());
    let ingest = tokio::spawn(ingest::run(ingest::Config::default(), ports, runtime::Shutdown::new()));
    let status = api.eventually(&location, |reply| reply.status == 200).await.json();
    assert_eq!((&status["state"], &status["receipt"]["mrn"]), (&json!("stored"), &json!(7)));
    ingest.abort();
}

#[tokio::test]
async fn respond_async_does_not_wait_for_the_receipt() {
    let api = Api::open().await;
    let prefer = [("prefer", "respond-async, wait=5")];
    let reply = api.upload("7", Form::default().field("name", "Ann"), &prefer).await;
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (202, "respond-async"));
    api.eventually(reply.header("location"), |reply| reply.status == 200).await;
}

#[tokio::test]
async fn full_queue_or_staging_store_rejects_and_keeps_nothing() {
    let config = Config { receipt_wait: Duration::from_millis(1), ..Config::default() };
    let limits = QueueLimits { max_messages: 100, max_staged_bytes: 5_000, ..QueueLimits::default() };
    let api = Start { config, ingest: false, limits, ..Start::default() }.start().await;
    let form = Form::default().file("medical_image", "a.png", &png(2, 2, 0)).file(
        "medical_image",
        "b.png",
        &[png(3, 3, 0), vec![0; 9_000]].concat(),
    );
    let reply = api.upload("7", form, &[]).await;
    reply.assert_problem(503, "full");
    assert_eq!(reply.header("retry-after"), "5");
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn uploads_beyond_the_in_flight_limit_are_rejected() {
    use tokio::io::AsyncWriteExt;
    let limits = Limits { max_uploads_in_flight: 1, ..Limits::default() };
    let config = Config { limits, receipt_wait: TIMEOUT, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let mut slow = tokio::net::TcpStream::connect(api.address).await.unwrap();
    let head = "POST /api/v1/patients/7/uploads HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 500\r\nContent-Type: multipart/form-data; boundary=XyZ\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    // `100 Continue` means that the upload has its permit.
    let mut word = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut slow, &mut word).await.unwrap();
    assert_eq!(&word, b"HTTP/1.1 100");
    let reply = api.upload("7", Form::default(), &[]).await;
    reply.assert_problem(503, "under way");
    assert_eq!(reply.header("retry-after"), "1");
    drop(slow);
    let taken = async { while api.upload("7", Form::default(), &[]).await.status != 201 {} };
    tokio::time::timeout(TIMEOUT, taken).await.unwrap();
}

#[tokio::test]
async fn broken_base64_lines_and_escaped_slashes_are_understood() {
    let api = Api::open().await;
    let picture = png(60, 60, 0);
    let lines: Vec<String> = base64(&picture)
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    let body = format!(
        "{{\"medical_record_number\":7,\"medical_image\":\"{}\"}}",
        lines.join("\\r\\n").replace('/', "\\/")
    );
    assert_eq!(api.new_patient(&body).await.status, 200);
    assert_eq!(api.get("/api/get_patient/7").await.json()["medical_image"][0], base64(&picture));
}
