//! Tests of previews: analysis and picture of an ECG file that is not stored.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::{Config, Limits};
use runtime::ByteSize;
use serde_json::json;

use crate::access::with_tokens;
use crate::fixture::{Api, Form, Reply, Start, ecg_csv, png};

const PATH: &str = "/api/v1/ecg/preview";

async fn preview_as(api: &Api, form: Form, token: &str) -> Reply {
    let headers = [("content-type", Form::CONTENT_TYPE), ("authorization", token)];
    api.send(Method::POST, PATH, &headers, form.finish()).await
}

async fn preview(api: &Api, form: Form) -> Reply {
    preview_as(api, form, "").await
}

/// Samples without times.
fn without_times() -> Vec<u8> {
    let text = String::from_utf8(ecg_csv(60.0, 1)).unwrap();
    let rows = text.lines().map(|line| line.split_once(',').unwrap().1.to_owned() + "\n");
    rows.collect::<String>().into_bytes()
}

#[tokio::test]
async fn preview_equals_the_stored_analysis_and_stores_nothing() {
    let api = Api::open().await;
    let csv = ecg_csv(75.0, 3);
    let reply = preview(&api, Form::default().file("ecg", "strip.csv", &csv)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let found = reply.json();
    assert!((found["analysis"]["heart_rate"]["mean_bpm"].as_f64().unwrap() - 75.0).abs() < 2.0);
    let picture = STANDARD.decode(found["plot"]["base64"].as_str().unwrap()).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    let number = |at: usize| json!(u32::from_be_bytes(picture[at..at + 4].try_into().unwrap()));
    assert_eq!((&found["plot"]["width"], &found["plot"]["height"]), (&number(16), &number(20)));
    assert_eq!(found["started_at"], json!(null));
    api.nothing_is_stored().await;

    let receipt = api.upload("7", Form::default().file("ecg", "strip.csv", &csv), &[]).await.json();
    let path = format!("/api/v1/ecgs/{}", receipt["files"][0]["id"].as_str().unwrap());
    let stored = api.eventually(&path, |reply| reply.json()["status"] == "analyzed").await.json();
    assert_eq!(stored["analysis"], found["analysis"]);
    assert_eq!(api.get(&format!("{path}/detail")).await.json(), found["detail"]);
}

#[tokio::test]
async fn start_is_returned_as_the_file_states_it() {
    let api = Api::open().await;
    for (offset, expected) in [("", "2024-02-29T12:00:00.000"), ("+02:00", "2024-02-29T10:00:00.000Z")] {
        let text = String::from_utf8(ecg_csv(60.0, 1)).unwrap();
        let file = format!("# start: 2024-02-29 12:00:00{offset}\n{text}");
        let reply = preview(&api, Form::default().file("ecg", "a.csv", file.as_bytes())).await;
        assert_eq!(reply.json()["started_at"], expected, "{offset}");
    }
}

#[tokio::test]
async fn missing_rate_or_lead_is_distinguished_from_other_files() {
    let api = Api::open().await;
    let kind = |reply: &Reply| reply.json()["type"].as_str().unwrap().to_owned();
    let bare = without_times();
    let reply = preview(&api, Form::default().file("ecg", "a.csv", &bare)).await;
    reply.assert_problem(422, "");
    assert_eq!(kind(&reply), "urn:bedside:problem:ecg-needs-options");
    let reply =
        preview(&api, Form::default().file("ecg", "a.csv", &bare).field("ecg_sample_rate", "360")).await;
    assert!(reply.json()["analysis"]["sample_rate_hz"] == 360.0, "{}", reply.text());
    let wrong = Form::default().file("ecg", "a.csv", &ecg_csv(60.0, 1)).field("ecg_lead", "V9");
    let reply = preview(&api, wrong).await;
    assert_eq!(
        (reply.status.as_u16(), kind(&reply).as_str()),
        (422, "urn:bedside:problem:ecg-needs-options")
    );

    let reply = preview(&api, Form::default().file("ecg", "a.csv", b"a shopping list\nbread\n")).await;
    reply.assert_problem(422, "");
    assert_eq!(kind(&reply), "urn:bedside:problem:not-an-ecg");
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn invalid_forms_are_rejected_as_those_of_uploads() {
    let limits = Limits { max_file: ByteSize(200_000), ..Limits::default() };
    let api = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let csv = ecg_csv(60.0, 1);
    let form = || Form::default().file("ecg", "a.csv", &csv);
    for (form, status, about) in [
        (Form::default(), 400, "`ecg` is missing"),
        (form().file("ecg", "b.csv", b"1"), 400, "`ecg` is given twice"),
        (form().field("name", "Ann"), 400, "no part named \"name\""),
        (form().field("ecg_sample_rate", "0"), 400, "`ecg_sample_rate` must be a number"),
        (form().field("ecg_sample_rate", "fast"), 400, "`ecg_sample_rate` must be a number"),
        (form().field("ecg_lead", "II\u{0}"), 400, "`ecg_lead` must not hold control characters"),
        (Form::default().file("ecg", "a.csv", b""), 400, "`ecg` is empty"),
        (Form::default().file("ecg", "a.png", &png(8, 8, 1)), 415, "neither text (CSV) nor an EDF file"),
        (Form::default().file("ecg", "a.csv", &vec![b'1'; 200_001]), 413, "200 KB"),
    ] {
        preview(&api, form).await.assert_problem(status, about);
    }
    let too_long = preview(&api, Form::default().file("ecg", "a.csv", &vec![b'1'; 400_000])).await;
    too_long.assert_problem(413, "A preview takes a file of at most 200 KB");
    let json = [("content-type", "application/json")];
    api.send(Method::POST, PATH, &json, "{}").await.assert_problem(415, "multipart/form-data");
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn preview_takes_the_permission_to_upload() {
    let (api, _file) = with_tokens().await;
    let form = || Form::default().file("ecg", "a.csv", &ecg_csv(60.0, 1));
    for (token, status) in [("bed", 200), ("chief", 200), ("station", 403), ("monitor", 403), ("x", 401)] {
        let reply = preview_as(&api, form(), &format!("Bearer {token}-secret")).await;
        assert_eq!(reply.status, status, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_previews_leaves_room_for_other_clients() {
    let (api, _file) = with_tokens().await;
    let settings = ecg::synth::Settings { duration_s: 1_800.0, ..Default::default() };
    let long = ecg::synth::csv(&ecg::synth::generate(&settings).strip);
    let long = || Form::default().file("ecg", "a.csv", &long);
    let flood = futures::future::join_all((0..12).map(|_| preview_as(&api, long(), "Bearer bed-secret")));
    let short = Form::default().file("ecg", "b.csv", &ecg_csv(60.0, 1));
    let other = preview_as(&api, short, "Bearer bed-2-secret");
    let (replies, other) = tokio::join!(flood, other);
    assert_eq!(other.status, 200, "{}", other.text());
    for reply in replies {
        assert!([200, 503].contains(&reply.status.as_u16()), "{}", reply.text());
        assert!(reply.status == 200 || !reply.header("retry-after").is_empty());
    }
    api.nothing_is_stored().await;
}
