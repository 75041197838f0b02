//! What clients send by mistake or on purpose: a clear answer, the right status, nothing stored.

use std::time::Duration;

use axum::http::Method;
use gateway::{Config, Limits};
use runtime::ByteSize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Door, Form, PATIENCE, Start, base64, ecg_csv, jpeg, png, png_bomb};

#[tokio::test]
async fn record_numbers_with_wildcards_or_path_parts_are_refused() {
    let door = Door::open().await;
    for mrn in
        ["abc", "*", "%3E", "1.2", "1%2F2", "%2E%2E%2F1", "-1", "9007199254740992", "%D9%A3", "%FF", "%20"]
    {
        let reply = door.upload(mrn, Form::default().field("name", "Ann"), &[]).await;
        assert_eq!(reply.status, 400, "{mrn}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn files_that_are_not_what_they_are_named_are_refused() {
    let door = Door::open().await;
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
        // The good files before it must leave nothing behind either.
        let form = Form::default().field("name", "Ann").file("medical_image", "a.png", &png(9, 9, 9));
        let reply = door.upload("7", form.file(key, "x.png", &content), &[]).await;
        reply.assert_problem(status, about);
        reply.assert_problem(status, &format!("`{key}`"));
    }
    let body = json!({ "medical_record_number": 7, "medical_image": base64(&png_bomb()) });
    let reply = door.new_patient(&body.to_string()).await;
    assert!(reply.status == 400 && reply.text().contains("`medical_image`"), "{}", reply.text());
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn values_that_cannot_be_are_refused_by_name() {
    let door = Door::open().await;
    let tomorrow =
        proto_json::Timestamp::from_millis(proto_json::Timestamp::now().as_millis() + 86_400_000).unwrap();
    for (key, value) in [
        ("heart_rate", "0"),
        ("heart_rate", "72.5"),
        ("heart_rate", "fast"),
        ("recorded_at", "yesterday"),
        ("recorded_at", &tomorrow.to_string()),
        ("ecg_sample_rate", "-360"),
        ("ecg_sample_rate", "NaN"),
        ("ecg_lead", &"x".repeat(101)),
        ("name", &"x".repeat(501)),
        ("name", "a\u{0}b"),
        ("name", &"x".repeat(20_000)),
    ] {
        door.upload("7", Form::default().field(key, value), &[])
            .await
            .assert_problem(400, &format!("`{key}`"));
    }
    door.upload("7", Form::default().field("name", b"\xff\xfe"), &[]).await.assert_problem(400, "UTF-8");
    door.upload("7", Form::default().field("name", "a").field("name", "b"), &[])
        .await
        .assert_problem(400, "twice");
    door.upload("7", Form::default().field("colour", "red"), &[]).await.assert_problem(400, "\"colour\"");
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn forms_that_cannot_be_read_are_refused() {
    let door = Door::open().await;
    let path = "/api/v1/patients/7/uploads";
    for content_type in ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=XyZ"] {
        let headers = [("content-type", content_type)];
        door.send(Method::POST, path, &headers, "{}").await.assert_problem(415, "multipart/form-data");
    }
    let headers = [("content-type", Form::CONTENT_TYPE)];
    let whole = Form::default().field("name", "Ann").file("ecg", "a.csv", &ecg_csv(60.0, 1)).finish();
    for end in [0, 10, 60, 90, 200, whole.len() - 6] {
        let reply = door.send(Method::POST, path, &headers, whole.slice(..end)).await;
        assert_eq!(reply.status, 400, "{end} bytes: {}", reply.text());
    }
    let unnamed = "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--";
    door.send(Method::POST, path, &headers, unnamed).await.assert_problem(400, "Part 1 has no name");
    for key in ["", " ", &"k".repeat(256)] {
        let reply = door.upload("7", Form::default(), &[("idempotency-key", key)]).await;
        reply.assert_problem(400, "Idempotency-Key");
    }
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn too_much_is_refused_with_the_limit() {
    let limits = Limits {
        max_upload: ByteSize(3_000_000),
        max_file: ByteSize(1_500_000),
        max_image: ByteSize(1_000_000),
        max_parts: 3,
        ..Limits::default()
    };
    let door = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let image = [png(3, 3, 0), vec![0; 1_000_000]].concat();
    let upload = async |form: Form| door.upload("7", form, &[]).await;
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
    door.nothing_is_stored().await;
}

/// Sends the head of an upload and the beginning of its body, and reads the reply.
async fn unfinished(door: &Door, head: &str) -> String {
    let mut connection = TcpStream::connect(door.address).await.unwrap();
    let beginning = "--XyZ\r\nContent-Disposition: form-data; name=\"ecg\"\r\n\r\n1,2";
    connection.write_all(format!("{head}\r\n\r\n{beginning}").as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut reply)).await.unwrap().unwrap();
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn a_slow_client_that_never_finishes_is_cut_off() {
    let config = Config { body_idle: Duration::from_millis(200), ..Config::default() };
    let door = Start { config, ..Start::default() }.start().await;
    for path in ["/api/v1/patients/7/uploads", "/api/new_patient"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nContent-Type: {}",
            Form::CONTENT_TYPE
        );
        let reply = unfinished(&door, &head).await;
        assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    }
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_nothing_behind() {
    let door = Door::open().await;
    let form = Form::default().file("medical_image", "a.png", &png(50, 50, 1)).finish();
    for chunk in [form.len() / 2, form.len() - 4] {
        let mut connection = TcpStream::connect(door.address).await.unwrap();
        let head = format!(
            "POST /api/v1/patients/7/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nContent-Type: {}\r\n\r\n",
            form.len(),
            Form::CONTENT_TYPE
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&form[..chunk]).await.unwrap();
        // Half-closed: the gateway answers what it can, then closes.
        connection.shutdown().await.unwrap();
        let mut reply = Vec::new();
        tokio::time::timeout(PATIENCE, connection.read_to_end(&mut reply)).await.unwrap().unwrap();
        assert!(!reply.starts_with(b"HTTP/1.1 2"));
    }
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn strips_without_a_heart_beat_are_stored_and_end_with_a_reason() {
    let door = Door::open().await;
    let zeros = "time,mV\n".to_owned()
        + &(0..3000).map(|at| format!("{},0\n", f64::from(at) / 360.0)).collect::<String>();
    for (index, content) in
        [zeros.as_str(), "this is a letter, not an ECG\nwith a second line\n", "0.0,0.1\n", "1,NaN\n2,NaN\n"]
            .iter()
            .enumerate()
    {
        let mrn = index.to_string();
        let reply = door.upload(&mrn, Form::default().file("ecg", "x.csv", content.as_bytes()), &[]).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let id = reply.json()["files"][0]["id"].as_str().unwrap().to_owned();
        let ended = |reply: &crate::fixture::Reply| reply.json()["status"] != "pending";
        let ecg = door.eventually(&format!("/api/v1/ecgs/{id}"), ended).await.json();
        let reason = ecg["failure"].as_str().or(ecg["analysis"]["no_heart_rate_reason"].as_str());
        assert!(reason.is_some_and(|reason| reason.len() > 10), "{ecg}");
        assert!(ecg.get("heart_rate").is_none(), "{ecg}");
    }
}
