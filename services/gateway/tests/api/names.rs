//! Names of patients: they change only where a client asks for it or the legacy route replaces them.

use axum::http::Method;
use serde_json::json;

use crate::access::with_tokens;
use crate::fixture::{Door, Form, Reply, png};

const NAME_DIFFERS: &str = "urn:bedside:problem:name-differs";

fn named(name: &str) -> Form {
    Form::default().field("name", name)
}

async fn name_of(door: &Door) -> serde_json::Value {
    door.get("/api/v1/patients/7").await.json()["name"].clone()
}

async fn stored(door: &Door, form: Form) -> serde_json::Value {
    let reply = door.upload("7", form, &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn differing_name_is_rejected_with_both_names_and_nothing_is_stored() {
    let door = Door::open().await;
    stored(&door, named("Ann Lee")).await;
    let before = door.get("/api/v1/patients/7").await.json();

    let reply = door.upload("7", named("Bob").file("medical_image", "x.png", &png(8, 8, 1)), &[]).await;
    reply.assert_problem(409, "rename=true");
    let problem = reply.json();
    assert_eq!(problem["type"], NAME_DIFFERS);
    assert_eq!(problem["names"], json!({ "given": "Bob", "stored": "Ann Lee" }));
    assert_eq!(door.get("/api/v1/patients/7").await.json(), before);
    assert!(door.get("/api/v1/patients/7/images").await.json()["items"].as_array().unwrap().is_empty());

    // Case and white space are no difference, and do not change the stored name.
    stored(&door, named("  ann   LEE ")).await;
    assert_eq!(name_of(&door).await, "Ann Lee");
}

#[tokio::test]
async fn rename_replaces_the_name_and_keeps_the_former_one() {
    let door = Door::open().await;
    stored(&door, named("Ann")).await;
    let receipt = stored(&door, named("Ann Lee").field("rename", "true")).await;
    assert_eq!(receipt["changed"], true);
    stored(&door, named("Ann Bauer").field("rename", "true")).await;

    let patient = door.get("/api/v1/patients/7").await.json();
    assert_eq!(patient["name"], "Ann Bauer");
    assert_eq!(
        (&patient["renamed"]["from"], &patient["renamed"]["confirmed"]),
        (&json!("Ann Lee"), &json!(true))
    );
    let names = door.get("/api/v1/patients/7/names").await.json();
    let former: Vec<_> = names["items"].as_array().unwrap().iter().map(|name| name["name"].clone()).collect();
    assert_eq!(former, ["Ann Lee", "Ann"]);
    assert_eq!(names["items"][1]["upload_id"], receipt["upload_id"]);
    door.get("/api/v1/patients/8/names").await.assert_problem(404, "no patient");
    door.upload("7", named("Bob").field("rename", "yes"), &[]).await.assert_problem(400, "`rename`");
}

#[tokio::test]
async fn legacy_route_replaces_the_name_and_stations_are_told_that_nobody_confirmed_it() {
    let door = Door::open().await;
    door.new_patient(r#"{"medical_record_number":7,"name":"Ann"}"#).await;
    let reply = door.new_patient(r#"{"medical_record_number":7,"name":"Bob"}"#).await;
    reply.assert_text(200, "Patient ID 7's data has been updated");
    let patient = door.get("/api/v1/patients/7").await.json();
    assert_eq!(patient["name"], "Bob");
    assert_eq!(
        (&patient["renamed"]["from"], &patient["renamed"]["confirmed"]),
        (&json!("Ann"), &json!(false))
    );
    let names = door.get("/api/v1/patients/7/names").await.json();
    assert_eq!(names["items"][0]["name"], "Ann");
    let reply = door.new_patient(r#"{"medical_record_number":7,"name":"Bob"}"#).await;
    reply.assert_text(200, "No further updates for Patient ID 7");
}

#[tokio::test]
async fn retry_of_an_upload_that_was_stored_before_a_rename_gets_its_receipt() {
    let door = Door::open().await;
    let key = [("idempotency-key", "first")];
    let first = door.upload("7", named("Ann"), &key).await;
    stored(&door, named("Bob").field("rename", "true")).await;
    let again = door.upload("7", named("Ann"), &key).await;
    assert_eq!((again.status, again.json()), (first.status, first.json()));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(name_of(&door).await, "Bob");
    // A rejected upload may be sent again under its key, with the permission to rename.
    let key = [("idempotency-key", "second")];
    door.upload("7", named("Cid"), &key).await.assert_problem(409, "Cid");
    assert_eq!(door.upload("7", named("Cid").field("rename", "true"), &key).await.status, 201);
    assert_eq!(name_of(&door).await, "Cid");
}

#[tokio::test]
async fn uploader_learns_whether_a_name_matches_but_never_the_name() {
    let (door, _file) = with_tokens().await;
    let as_bed = [("authorization", "Bearer bed-secret")];
    let reply = door.upload("7", named("Ann Lee"), &as_bed).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let check = async |mrn: &str, name: &str| {
        let path = format!("/api/v1/patients/{mrn}/name-check");
        let body = json!({ "name": name }).to_string();
        door.send(Method::POST, &path, &as_bed, body).await
    };
    for (mrn, name, result) in [("7", "ann lee", "same"), ("7", "Bob", "different"), ("8", "Bob", "unnamed")]
    {
        let reply = check(mrn, name).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({ "result": result })), "{mrn} {name}");
    }
    check("7", "").await.assert_problem(400, "`name`");
    check("7", "a\u{0}b").await.assert_problem(400, "`name`");
    check("x", "Ann").await.assert_problem(400, "integer");
    let broken = door.send(Method::POST, "/api/v1/patients/7/name-check", &as_bed, "Ann").await;
    broken.assert_problem(400, "JSON");

    let hidden = |reply: &Reply| !reply.text().contains("Lee");
    let rejected = door.upload("7", named("Bob"), &as_bed).await;
    assert!(rejected.status == 409 && hidden(&rejected), "{}", rejected.text());
    assert_eq!(rejected.json()["names"], json!({ "given": "Bob" }));
    assert_eq!(door.send(Method::GET, "/api/v1/patients/7/names", &as_bed, "").await.status, 403);
    let as_station = [("authorization", "Bearer station-secret")];
    let path = "/api/v1/patients/7/name-check";
    assert_eq!(door.send(Method::POST, path, &as_station, "{\"name\":\"Ann\"}").await.status, 403);
}

#[tokio::test]
async fn name_is_kept_and_the_receipt_says_so_if_a_difference_shows_only_when_the_upload_is_stored() {
    // Without ingest, both uploads wait in the queue, so the gateway cannot see a difference.
    let door = crate::fixture::Start { ingest: false, ..crate::fixture::Start::default() }.start().await;
    let queued = [("prefer", "respond-async")];
    for (name, key) in [("Ann", "one"), ("Bob", "two")] {
        let headers = [queued[0], ("idempotency-key", key)];
        assert_eq!(door.upload("7", named(name), &headers).await.status, 202);
    }
    door.start_ingest();
    let kept = async || {
        let reply = door.upload("7", named("Bob"), &[("idempotency-key", "two")]).await;
        (reply.status == 201).then(|| reply.json())
    };
    let receipt = loop {
        if let Some(receipt) = kept().await {
            break receipt;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(receipt["name_kept"], true);
    assert_eq!(name_of(&door).await, "Ann");
}
