//! Tests of patient names: a name changes only if a client requests it or through the legacy route.

use axum::http::Method;
use serde_json::json;

use crate::access::with_tokens;
use crate::fixture::{Api, Form, Reply, png};

const NAME_DIFFERS: &str = "urn:bedside:problem:name-differs";

fn named(name: &str) -> Form {
    Form::default().field("name", name)
}

async fn name_of(api: &Api) -> serde_json::Value {
    api.get("/api/v1/patients/7").await.json()["name"].clone()
}

async fn stored(api: &Api, form: Form) -> serde_json::Value {
    let reply = api.upload("7", form, &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn different_name_is_rejected_with_both_names() {
    let api = Api::open().await;
    stored(&api, named("Ann Lee")).await;
    let before = api.get("/api/v1/patients/7").await.json();

    let reply = api.upload("7", named("Bob").file("medical_image", "x.png", &png(8, 8, 1)), &[]).await;
    reply.assert_problem(409, "rename=true");
    let problem = reply.json();
    assert_eq!(problem["type"], NAME_DIFFERS);
    assert_eq!(problem["names"], json!({ "given": "Bob", "stored": "Ann Lee" }));
    assert_eq!(api.get("/api/v1/patients/7").await.json(), before);
    assert!(api.get("/api/v1/patients/7/images").await.json()["items"].as_array().unwrap().is_empty());

    // Case and white space are ignored, and the stored name stays the same.
    stored(&api, named("  ann   LEE ")).await;
    assert_eq!(name_of(&api).await, "Ann Lee");
}

#[tokio::test]
async fn rename_replaces_the_name_and_keeps_the_former_one() {
    let api = Api::open().await;
    stored(&api, named("Ann")).await;
    let receipt = stored(&api, named("Ann Lee").field("rename", "true")).await;
    assert_eq!(receipt["changed"], true);
    stored(&api, named("Ann Bauer").field("rename", "true")).await;

    let patient = api.get("/api/v1/patients/7").await.json();
    assert_eq!(patient["name"], "Ann Bauer");
    assert_eq!(
        (&patient["renamed"]["from"], &patient["renamed"]["confirmed"]),
        (&json!("Ann Lee"), &json!(true))
    );
    let names = api.get("/api/v1/patients/7/names").await.json();
    let former: Vec<_> = names["items"].as_array().unwrap().iter().map(|name| name["name"].clone()).collect();
    assert_eq!(former, ["Ann Lee", "Ann"]);
    assert_eq!(names["items"][1]["upload_id"], receipt["upload_id"]);
    api.get("/api/v1/patients/8/names").await.assert_problem(404, "no patient");
    api.upload("7", named("Bob").field("rename", "yes"), &[]).await.assert_problem(400, "`rename`");
}

#[tokio::test]
async fn legacy_route_replaces_the_name_as_unconfirmed() {
    let api = Api::open().await;
    api.new_patient(r#"{"medical_record_number":7,"name":"Ann"}"#).await;
    let reply = api.new_patient(r#"{"medical_record_number":7,"name":"Bob"}"#).await;
    reply.assert_text(200, "Patient ID 7's data has been updated");
    let patient = api.get("/api/v1/patients/7").await.json();
    assert_eq!(patient["name"], "Bob");
    assert_eq!(
        (&patient["renamed"]["from"], &patient["renamed"]["confirmed"]),
        (&json!("Ann"), &json!(false))
    );
    let names = api.get("/api/v1/patients/7/names").await.json();
    assert_eq!(names["items"][0]["name"], "Ann");
    let reply = api.new_patient(r#"{"medical_record_number":7,"name":"Bob"}"#).await;
    reply.assert_text(200, "No further updates for Patient ID 7");
}

#[tokio::test]
async fn retry_of_an_upload_stored_before_a_rename_gets_its_receipt() {
    let api = Api::open().await;
    let key = [("idempotency-key", "first")];
    let first = api.upload("7", named("Ann"), &key).await;
    stored(&api, named("Bob").field("rename", "true")).await;
    let again = api.upload("7", named("Ann"), &key).await;
    assert_eq!((again.status, again.json()), (first.status, first.json()));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(name_of(&api).await, "Bob");
    // A rejected upload may be repeated with its key and permission to rename.
    let key = [("idempotency-key", "second")];
    api.upload("7", named("Cid"), &key).await.assert_problem(409, "Cid");
    assert_eq!(api.upload("7", named("Cid").field("rename", "true"), &key).await.status, 201);
    assert_eq!(name_of(&api).await, "Cid");
}

#[tokio::test]
async fn uploader_can_check_a_name_but_not_read_it() {
    let (api, _file) = with_tokens().await;
    let as_bed = [("authorization", "Bearer bed-secret")];
    let reply = api.upload("7", named("Ann Lee"), &as_bed).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let check = async |mrn: &str, name: &str| {
        let path = format!("/api/v1/patients/{mrn}/name-check");
        let body = json!({ "name": name }).to_string();
        api.send(Method::POST, &path, &as_bed, body).await
    };
    for (mrn, name, result) in [("7", "ann lee", "same"), ("7", "Bob", "different"), ("8", "Bob", "unnamed")]
    {
        let reply = check(mrn, name).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({ "result": result })), "{mrn} {name}");
    }
    check("7", "").await.assert_problem(400, "`name`");
    check("7", "a\u{0}b").await.assert_problem(400, "`name`");
    check("x", "Ann").await.assert_problem(400, "integer");
    let broken = api.send(Method::POST, "/api/v1/patients/7/name-check", &as_bed, "Ann").await;
    broken.assert_problem(400, "JSON");

    let hidden = |reply: &Reply| !reply.text().contains("Lee");
    let rejected = api.upload("7", named("Bob"), &as_bed).await;
    assert!(rejected.status == 409 && hidden(&rejected), "{}", rejected.text());
    assert_eq!(rejected.json()["names"], json!({ "given": "Bob" }));
    assert_eq!(api.send(Method::GET, "/api/v1/patients/7/names", &as_bed, "").await.status, 403);
    let as_station = [("authorization", "Bearer station-secret")];
    let path = "/api/v1/patients/7/name-check";
    assert_eq!(api.send(Method::POST, path, &as_station, "{\"name\":\"Ann\"}").await.status, 403);
}

#[tokio::test]
async fn receipt_reports_a_kept_name_if_the_difference_is_found_by_ingest() {
    // Without ingest, both uploads stay in the queue, so the gateway cannot detect the difference.
    let api = crate::fixture::Start { ingest: false, ..crate::fixture::Start::default() }.start().await;
    let queued = [("prefer", "respond-async")];
    for (name, key) in [("Ann", "one"), ("Bob", "two")] {
        let headers = [queued[0], ("idempotency-key", key)];
        assert_eq!(api.upload("7", named(name), &headers).await.status, 202);
    }
    api.start_ingest();
    let receipt = async |name: &str, key: &str| loop {
        let reply = api.upload("7", named(name), &[("idempotency-key", key)]).await;
        if reply.status == 201 {
            break reply.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let (ann, bob) = (receipt("Ann", "one").await, receipt("Bob", "two").await);
    // Ingest stores them concurrently: the name that is stored first is kept.
    let other = if name_of(&api).await == "Ann" { bob } else { ann };
    assert_eq!(other["name_kept"], true);
}
