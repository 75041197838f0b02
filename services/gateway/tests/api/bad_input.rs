//! Tests with invalid requests: the status is correct, the message names the problem, and nothing is stored.

use std::time::Duration;

use axum::http::Method;
use gateway::{Config, Limits};
use runtime::ByteSize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Api, Form, Start, TIMEOUT, base64, ecg_csv, jpeg, png, png_bomb};

#[tokio::test]
async fn record_number_with_wildcard_or_path_separator_is_rejected() {
    let api = Api::open().await;
    for mrn in
        ["abc", "*", "%3E", "1.2", "1%2F2", "%2E%2E%2F1", "-1", "9007199254740992", "%D9%A3", "%FF", "%20"]
    {
        let reply = api.upload(mrn, Form::default().field("name", "Ann"), &[]).await;
        assert_eq!(reply.status, 400, "{mrn}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn file_of_another_type_than_its_field_is_rejected() {
    let api = Api::open().await;
    for (key, content, status, about) in [
        ("medical_image", b"just text, named .png".to_vec(), 415, "not a PNG or JPEG"),
        ("medical_image", png(3, 3, 0)[..20].to_vec(), 415, "cut off"),
        ("ecg_image", jpeg(3, 3, 0)[..12].to_vec(), 415, "cut off"),
        ("ecg_image", png_bomb(), 413, "40000 x 40000 pixels"),
        ("medical_image", png_bomb(), 413, "64 megapixels"),
        ("medical_image", Vec::new(), 400, "is empty"),
        ("ecg", Vec::new(), 400, "is empty"),
        ("ecg", png(3, 3, 0), 415, "neither text (CSV) nor an EDF file"),
    ] {
        // A valid file before the invalid one must not be stored either.
        let form = Form::default().field("name", "Ann").file("medical_image", "a.png", &png(9, 9, 9));
        let reply = api.upload("7", form.file(key, "x.png", &content), &[]).await;
        reply.assert_problem(status, about);
        reply.assert_problem(status, &format!("`{key}`"));
    }
    let body = json!({ "medical_record_number": 7, "medical_image": base64(&png_bomb()) });
    let reply = api.new_patient(&body.to_string()).await;
    assert!(reply.status == 400 && reply.text().contains("`medical_image`"), "{}", reply.text());
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn invalid_field_is_rejected_by_name() {
    let api = Api::open().await;
    for (key, value) in [
        ("heart_rate", "0"),
        ("heart_rate", "72.5"),
        ("heart_rate", "fast"),
        ("recorded_at", "yesterday"),
        ("recorded_at", "2026-02-30T00:00:00Z"),
        ("ecg_sample_rate", "-360"),
        ("ecg_sample_rate", "NaN"),
        ("ecg_lead", &"x".repeat(101)),
        ("name", &"x".repeat(501)),
        ("name", "a\u{0}b"),
        ("name", &"x".repeat(20_000)),
    ] {
        api.upload("7", Form::default().field(key, value), &[])
            .await
            .assert_problem(400, &format!("`{key}`"));
    }
    api.upload("7", Form::default().field("name", b"\xff\xfe"), &[]).await.assert_problem(400, "UTF-8");
    api.upload("7", Form::default().field("name", "a").field("name", "b"), &[])
        .await
        .assert_problem(400, "twice");
    api.upload("7", Form::default().field("colour", "red"), &[]).await.assert_problem(400, "\"colour\"");
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn malformed_form_is_rejected() {
    let api = Api::open().await;
    let path = "/api/v1/patients/7/uploads";
    for content_type in ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=XyZ"] {
        let headers = [("content-type", content_type)];
        api.send(Method::POST, path, &headers, "{}").await.assert_problem(415, "multipart/form-data");
    }
    let headers = [("content-type", Form::CONTENT_TYPE)];
    let whole = Form::default().field("name", "Ann").file("ecg", "a.csv", &ecg_csv(60.0, 1)).finish();
    for end in [0, 10, 60, 90, 200, whole.len() - 6] {
        let reply = api.send(Method::POST, path, &headers, whole.slice(..end)).await;
        assert_eq!(reply.status, 400, "{end} bytes: {}", reply.text());
    }
    let unnamed = "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--";
    api.send(Method::POST, path, &headers, unnamed).await.assert_problem(400, "Part 1 has no name");
    for key in ["", " ", &"k".repeat(256)] {
        let reply = api.upload("7", Form::default(), &[("idempotency-key", key)]).await;
        reply.assert_problem(400, "Idempotency-Key");
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn exceeded_limit_is_named() {
    let limits = Limits {
        max_upload: ByteSize(3_000_000),
        max_file: ByteSize(1_500_000),
        max_image: ByteSize(1_000_000),
        max_parts: 3,
        ..Limits::default()
    };
    let api = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let image = [png(3, 3, 0), vec![0; 1_000_000]].concat();
    let upload = async |form: Form| api.upload("7", form, &[]).await;
    upload(Form::default().file("medical_image", "a", &image))
        .await
        .assert_problem(413, "`medical_image` has more than 1 MB");
    let csv = vec![b'1'; 1_500_001];
    upload(Form::default().file("ecg", "a", &csv)).await.assert_problem(413, "`ecg` has more than 1500 KB");
    let parts = ["name", "heart_rate", "ecg_lead", "ecg_sample_rate"];
    let form = parts.iter().fold(Form::default(), |form, name| form.field(name, ""));
    upload(form).await.assert_problem(413, "at most 3 parts");
    let form = Form::default().file("ecg", "a", &csv[..1_400_000]).file("ecg", "b", &csv[..1_400_001]);
    upload(form.field("name", "x".repeat(300_000))).await.assert_problem(413, "at most 3 MB");
    api.nothing_is_stored().await;
}

/// Sends the head of an upload and the start of its body. Returns the response.
async fn unfinished(api: &Api, head: &str) -> String {
    let mut connection = TcpStream::connect(api.address).await.unwrap();
    let beginning = "--XyZ\r\nContent-Disposition: form-data; name=\"ecg\"\r\n\r\n1,2";
    connection.write_all(format!("{head}\r\n\r\n{beginning}").as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(TIMEOUT, connection.read_to_end(&mut reply)).await.unwrap().unwrap();
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn stalled_upload_is_aborted_with_408() {
    let config = Config { body_idle: Duration::from_millis(200), ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    for path in ["/api/v1/patients/7/uploads", "/api/new_patient"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nContent-Type: {}",
            Form::CONTENT_TYPE
        );
        let reply = unfinished(&api, &head).await;
        assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn aborted_upload_stores_nothing() {
    let api = Api::open().await;
    let form = Form::default().file("medical_image", "a.png", &png(50, 50, 1)).finish();
    for chunk in [form.len() / 2, form.len() - 4] {
        let mut connection = TcpStream::connect(api.address).await.unwrap();
        let head = format!(
            "POST /api/v1/patients/7/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nContent-Type: {}\r\n\r\n",
            form.len(),
            Form::CONTENT_TYPE
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&form[..chunk]).await.unwrap();
        // The write half is closed: the gateway responds and closes the connection.
        connection.shutdown().await.unwrap();
        let mut reply = Vec::new();
        tokio::time::timeout(TIMEOUT, connection.read_to_end(&mut reply)).await.unwrap().unwrap();
        assert!(!reply.starts_with(b"HTTP/1.1 2"));
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn ecg_without_heartbeat_is_stored_and_fails_with_a_reason() {
    let api = Api::open().await;
    let zeros = "time,mV\n".to_owned()
        + &(0..3000).map(|at| format!("{},0\n", f64::from(at) / 360.0)).collect::<String>();
    for (index, content) in
        [zeros.as_str(), "this is a letter, not an ECG\nwith a second line\n", "0.0,0.1\n", "1,NaN\n2,NaN\n"]
            .iter()
            .enumerate()
    {
        let mrn = index.to_string();
        let reply = api.upload(&mrn, Form::default().file("ecg", "x.csv", content.as_bytes()), &[]).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let id = reply.json()["files"][0]["id"].as_str().unwrap().to_owned();
        let ended = |reply: &crate::fixture::Reply| reply.json()["status"] != "pending";
        let ecg = api.eventually(&format!("/api/v1/ecgs/{id}"), ended).await.json();
        let reason = ecg["failure"].as_str().or(ecg["analysis"]["no_heart_rate_reason"].as_str());
        assert!(reason.is_some_and(|reason| reason.len() > 10), "{ecg}");
        assert!(ecg.get("heart_rate").is_none(), "{ecg}");
    }
}
