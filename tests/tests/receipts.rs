//! Receipts and upload ids with tokens, across several gateways and restarts.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use proto_json::BlobHash;
use serde_json::Value;
use testkit::{Mode, Process, Service, System, within};

/// A token file with two uploaders and a viewer. Each token is the name with `-secret`.
fn tokens(folder: &tempfile::TempDir) -> PathBuf {
    let file = folder.path().join("tokens");
    let line = |name: &str, role: &str| {
        format!("{name} {role} {}\n", BlobHash::of(format!("{name}-secret").as_bytes()))
    };
    let lines = [line("bed-1", "uploader"), line("bed-2", "uploader"), line("station", "viewer")];
    std::fs::write(&file, lines.concat()).unwrap();
    file
}

struct Answer {
    status: u16,
    replayed: bool,
    json: Value,
}

async fn read(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let replayed = response.headers().contains_key("idempotency-replayed");
    Answer { status, replayed, json: response.json().await.unwrap() }
}

/// Sends the same upload with the same key as `client`.
async fn send(url: &str, client: &str, prefer: &str) -> Answer {
    let form = reqwest::multipart::Form::new().text("heart_rate", "72");
    let request = testkit::http_client().post(format!("{url}/api/v1/patients/7/uploads")).multipart(form);
    let request = request.bearer_auth(format!("{client}-secret")).header("prefer", prefer);
    read(request.header("idempotency-key", "the-same-key").send().await.unwrap()).await
}

async fn receipt(url: &str, client: &str, id: &Value) -> Answer {
    let path = format!("{url}/api/v1/uploads/{}", id.as_str().unwrap());
    let request = testkit::http_client().get(path).bearer_auth(format!("{client}-secret"));
    read(request.send().await.unwrap()).await
}

async fn heart_rates(url: &str) -> usize {
    let path = format!("{url}/api/v1/patients/7/heart-rates");
    let request = testkit::http_client().get(path).bearer_auth("station-secret");
    read(request.send().await.unwrap()).await.json["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn retry_through_another_gateway_or_after_a_restart_is_one_upload() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(&folder).to_string_lossy().into_owned();
    let mut system = System::start_with(Mode::Processes, &["--tokens", &tokens]);
    let first_url = system.url();
    let arguments = system.gateway_arguments();
    let second = Process::start("gateway", arguments, folder.path().join("second.log"), 2);
    let second_url = format!("http://{}", second.address(0));

    // The client does not wait, so the receipt is read from the store.
    let first = send(&first_url, "bed-1", "respond-async").await;
    assert_eq!(first.status, 202);
    let id = &first.json["upload_id"];
    within("the upload is stored", || async {
        (receipt(&second_url, "bed-1", id).await.status == 200).then_some(())
    })
    .await;
    let again = send(&second_url, "bed-1", "").await;
    assert_eq!((again.status, again.replayed, &again.json["upload_id"]), (201, true, id));
    system.service(Service::Gateway).restart();
    let again = send(&first_url, "bed-1", "").await;
    assert_eq!((again.status, again.replayed, &again.json["upload_id"]), (201, true, id));
    assert_eq!(heart_rates(&second_url).await, 1);

    for url in [&first_url, &second_url] {
        assert_eq!(receipt(url, "bed-2", id).await.status, 404);
        assert_eq!(receipt(url, "station", id).await.status, 200);
    }
    // An upload of another client with the same key is a different upload. Its receipt arrives through the broker.
    let other = send(&second_url, "bed-2", "").await;
    assert_eq!((other.status, other.replayed), (201, false));
    assert_ne!(&other.json["upload_id"], id);
    assert_eq!(receipt(&first_url, "bed-1", &other.json["upload_id"]).await.status, 404);
    assert_eq!(heart_rates(&first_url).await, 2);
}

#[tokio::test]
async fn standalone_keeps_the_key_of_its_upload_ids_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(&folder).to_string_lossy().into_owned();
    let mut system = System::start_with(Mode::Standalone, &["--tokens", &tokens]);
    let first = send(&system.url(), "bed-1", "").await;
    assert_eq!((first.status, first.replayed), (201, false));
    system.service(Service::Gateway).restart();
    let again = send(&system.url(), "bed-1", "").await;
    assert_eq!((again.status, again.replayed, &again.json), (201, true, &first.json));
    assert_eq!(receipt(&system.url(), "bed-2", &first.json["upload_id"]).await.status, 404);
}
