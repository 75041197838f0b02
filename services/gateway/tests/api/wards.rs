//! Tests of wards, beds, admissions and details.

use axum::http::Method;
use bus::{PubSub, SystemSignal};
use futures::StreamExt;
use gateway::Config;
use proto_json::{BlobHash, ChangeKind, SystemEvent};
use serde_json::{Value, json};

use crate::fixture::{Api, Form, Reply, Start, TIMEOUT};

/// An id that differs for each number.
fn id(number: u8) -> String {
    format!("0198c0de-0000-7000-8000-0000000000{number:02x}")
}

async fn send(api: &Api, method: Method, path: &str, body: &Value) -> Reply {
    api.send(method, path, &[("content-type", "application/json")], body.to_string()).await
}

async fn post(api: &Api, path: &str, body: &Value) -> Reply {
    send(api, Method::POST, path, body).await
}

/// A ward with the id 1 and beds 11 and 12, a ward with the id 2 and bed 21, and the patients 7 in bed 11, 8 in bed 21, and
/// 9 and 10 in no bed.
async fn with_wards(api: &Api) {
    for (ward, name, beds) in [(1, "North", &[11, 12][..]), (2, "South", &[21])] {
        let reply = post(api, "/api/v1/wards", &json!({ "id": id(ward), "name": name })).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        for bed in beds {
            let path = format!("/api/v1/wards/{}/beds", id(ward));
            let reply = post(api, &path, &json!({ "id": id(*bed), "name": format!("Bed {bed}") })).await;
            assert_eq!(reply.status, 201, "{}", reply.text());
        }
    }
    for mrn in ["7", "8", "9", "10"] {
        let form = Form::default().field("name", format!("Ann {mrn}"));
        assert_eq!(api.upload(mrn, form, &[]).await.status, 201);
    }
    for (mrn, bed) in [(7, 11), (8, 21)] {
        let reply = post(api, &format!("/api/v1/patients/{mrn}/admit"), &json!({ "bed": id(bed) })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Everything that the calls can change.
async fn everything(api: &Api) -> Vec<Value> {
    let mut all = vec![api.get("/api/v1/wards").await.json(), api.get("/api/v1/patients").await.json()];
    for mrn in 7..=10 {
        all.push(api.get(&format!("/api/v1/patients/{mrn}/admissions")).await.json());
    }
    all
}

#[tokio::test]
async fn patients_move_through_wards_and_every_change_is_published() {
    let api = Api::open().await;
    let mut events = api.bus.subscribe_events().await.unwrap();
    let mut updates = api.bus.subscribe(None).await.unwrap();
    with_wards(&api).await;
    let event = tokio::time::timeout(TIMEOUT, events.next()).await.unwrap().unwrap();
    let SystemSignal::Event(event) = event else { panic!("{event:?}") };
    assert_eq!(*event, SystemEvent::Wards);

    let transfer = json!({ "bed": id(12) });
    let moved = post(&api, "/api/v1/patients/7/transfer", &transfer).await.json();
    assert_eq!(
        (&moved["admission"]["bed"], &moved["admission"]["bed_name"]),
        (&json!(id(12)), &json!("Bed 12"))
    );
    let update = tokio::time::timeout(TIMEOUT, async {
        loop {
            let signal = updates.next().await.unwrap();
            if let bus::UpdateEvent::Updated(update) = signal
                && update.patient.version == moved["version"].as_u64().unwrap()
                && update.patient.mrn.get() == 7
            {
                return update;
            }
        }
    });
    let update = update.await.unwrap();
    assert_eq!(update.changes[0].kind, ChangeKind::Admission);
    assert_eq!(serde_json::to_value(&update.patient).unwrap(), moved);
    assert_eq!(api.get("/api/v1/patients/7").await.json(), moved);

    let mrns = async |query: &str| -> Vec<u64> {
        let page = api.get(&format!("/api/v1/patients?{query}")).await.json();
        page["items"].as_array().unwrap().iter().map(|patient| patient["mrn"].as_u64().unwrap()).collect()
    };
    for (query, expected) in [
        ("admitted=true", vec![7, 8]),
        (&format!("ward={}", id(2)), vec![8]),
        (&format!("ward={}&q=ann%207", id(1)), vec![7]),
        ("admitted=false", vec![9, 10]),
        ("admitted=false&limit=1", vec![9]),
        ("admitted=false&after=p9", vec![10]),
        (&format!("ward={}&admitted=false", id(1)), vec![]),
        ("", vec![7, 8, 9, 10]),
    ] {
        assert_eq!(mrns(query).await, expected, "{query}");
    }
    let discharged = post(&api, "/api/v1/patients/7/discharge", &json!({})).await;
    assert_eq!((discharged.status.as_u16(), discharged.json().get("admission")), (200, None));
    assert_eq!(mrns("admitted=true").await, [8]);
    let history = api.get("/api/v1/patients/7/admissions").await.json();
    let stays = history["items"].as_array().unwrap();
    let kinds = |which: &str| stays.iter().map(|stay| stay[which]["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds("began"), ["transferred", "admitted"]);
    assert_eq!(kinds("ended"), ["discharged", "transferred"]);
    assert_eq!(stays[0]["began"]["by"], "local");
    let wards = api.get("/api/v1/wards").await.json();
    assert_eq!(wards["items"][0]["beds"][1], json!({ "id": id(12), "name": "Bed 12" }));
    assert_eq!(wards["items"][1]["beds"][0]["occupant"], 8);
    // The legacy API does not change.
    assert!(!api.get("/api/get_patient/8").await.text().contains("South"));
}

#[tokio::test]
async fn details_are_changed_by_version() {
    let api = Api::open().await;
    with_wards(&api).await;
    let patch = async |body: Value| send(&api, Method::PATCH, "/api/v1/patients/9", &body).await;
    let first =
        patch(json!({ "birth_date": "1957-03-14", "sex": "female", "notes": "Ünïcode\n2", "version": 0 }))
            .await;
    assert_eq!(first.status, 200, "{}", first.text());
    let expected =
        json!({ "birth_date": "1957-03-14", "sex": "female", "notes": "Ünïcode\n2", "version": 1 });
    assert_eq!(first.json()["details"], expected);
    // The same request again changes nothing; another one from the same version is refused.
    let again =
        patch(json!({ "birth_date": "1957-03-14", "sex": "female", "notes": "Ünïcode\n2", "version": 0 }))
            .await;
    assert_eq!(again.json(), first.json());
    patch(json!({ "sex": "male", "version": 0 })).await.assert_problem(409, "have version 1, not 0");
    let second = patch(json!({ "notes": null, "version": 1 })).await.json();
    assert_eq!(second["details"], json!({ "birth_date": "1957-03-14", "sex": "female", "version": 2 }));
    assert_eq!(api.get("/api/v1/patients/9").await.json(), second);
}

#[tokio::test]
async fn bad_input_is_refused_with_a_reason_and_changes_nothing() {
    let api = Api::open().await;
    with_wards(&api).await;
    let before = everything(&api).await;
    let (north, south) = (format!("/api/v1/wards/{}", id(1)), format!("/api/v1/wards/{}", id(2)));
    let (none, bed_11) = (format!("/api/v1/wards/{}", id(99)), format!("{north}/beds/{}", id(11)));
    let (admit, transfer) = ("/api/v1/patients/9/admit", "/api/v1/patients/7/transfer");
    let details = "/api/v1/patients/7";
    let (create, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
    let bed = |number| json!({ "bed": id(number) });
    let long = json!({ "name": "x".repeat(61) });
    for (method, path, body, status, about) in [
        (&create, "/api/v1/wards", json!({ "name": "NORTH" }), 409, "Another ward has this name"),
        (&create, "/api/v1/wards", json!({ "name": " " }), 400, "1 to 60 characters"),
        (&create, "/api/v1/wards", json!({ "name": "a\u{7}" }), 400, "1 to 60 characters"),
        (&create, "/api/v1/wards", long, 400, "1 to 60 characters"),
        (&create, "/api/v1/wards", json!({ "id": id(1), "name": "West" }), 409, "is in use"),
        (&create, "/api/v1/wards", json!({ "name": "West", "beds": [] }), 400, "unknown field"),
        (&create, "/api/v1/wards", json!([]), 400, "cannot be read"),
        (&patch, &north, json!({ "name": "South" }), 409, "Another ward has this name"),
        (&patch, &north, json!({ "name": "West", "version": 1 }), 409, "not 1: someone else"),
        (&patch, &none, json!({ "name": "West" }), 404, "no ward"),
        (&patch, "/api/v1/wards/1", json!({ "name": "West" }), 400, "not a UUID"),
        (&delete, &north, json!(null), 409, "patient 7 is in it"),
        (&delete, &none, json!(null), 404, "no ward"),
        (&create, &format!("{north}/beds"), json!({ "name": "bed  11" }), 409, "Another bed has this name"),
        (&create, &format!("{none}/beds"), json!({ "name": "1" }), 404, "no ward"),
        (&patch, &bed_11, json!({ "name": "Bed 12" }), 409, "Another bed has this name"),
        (&patch, &format!("{south}/beds/{}", id(11)), json!({ "name": "1" }), 404, "no bed"),
        (&delete, &bed_11, json!(null), 409, "patient 7 is in it"),
        (&delete, &format!("{north}/beds/{}", id(99)), json!(null), 404, "no bed"),
        (&create, admit, bed(99), 404, "no bed"),
        (&create, admit, bed(11), 409, "occupied by patient 7"),
        (&create, admit, json!({}), 400, "missing field `bed`"),
        (&create, admit, json!({ "bed": "1" }), 400, "cannot be read"),
        (&create, "/api/v1/patients/7/admit", bed(12), 409, "already in bed Bed 11 of North"),
        (&create, "/api/v1/patients/99/admit", bed(12), 404, "no patient"),
        (&create, "/api/v1/patients/x/admit", bed(12), 400, "must be an integer"),
        (&create, transfer, bed(21), 409, "occupied by patient 8"),
        (&create, transfer, bed(11), 409, "already in bed"),
        (&create, transfer, bed(99), 404, "no bed"),
        (&create, transfer, json!({ "bed": id(12), "from": id(99) }), 409, "moved or discharged"),
        (&create, "/api/v1/patients/9/transfer", bed(12), 409, "not admitted"),
        (&create, "/api/v1/patients/99/transfer", bed(12), 404, "no patient"),
        (&create, "/api/v1/patients/9/discharge", json!({}), 409, "not admitted"),
        (&create, "/api/v1/patients/7/discharge", json!({ "from": id(99) }), 409, "moved or discharged"),
        (&create, "/api/v1/patients/99/discharge", json!({}), 404, "no patient"),
        (&patch, details, json!({ "sex": "f", "version": 0 }), 400, "unknown variant"),
        (&patch, details, json!({ "birth_date": "1957-02-29", "version": 0 }), 400, "date of birth"),
        (&patch, details, json!({ "birth_date": "9000-01-01", "version": 0 }), 409, "in the future"),
        (&patch, details, json!({ "notes": "x".repeat(1_001), "version": 0 }), 400, "1 to 1000"),
        (&patch, details, json!({ "name": "Ann", "version": 0 }), 400, "unknown field"),
        (&patch, details, json!({ "sex": "male" }), 400, "missing field `version`"),
        (&patch, details, json!({ "sex": "male", "version": 1 }), 409, "have version 0, not 1"),
        (&patch, "/api/v1/patients/99", json!({ "sex": "male", "version": 0 }), 404, "no patient"),
    ] {
        let reply = send(&api, method.clone(), path, &body).await;
        let at = format!("{method} {path} {body}");
        assert_eq!(reply.status, status, "{at}: {}", reply.text());
        reply.assert_problem(status, about);
    }
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(100_000));
    api.send(Method::POST, "/api/v1/wards", &[], huge).await.assert_problem(413, "too long");
    for (path, about) in [
        ("/api/v1/patients?ward=1", "not a UUID"),
        ("/api/v1/patients?admitted=maybe", "`true` or `false`"),
        ("/api/v1/patients/x/admissions", "must be an integer"),
        ("/api/v1/patients/7/admissions?after=p7", "`after` must be"),
    ] {
        api.get(path).await.assert_problem(400, about);
    }
    api.get("/api/v1/patients/99/admissions").await.assert_problem(404, "no patient");
    assert_eq!(everything(&api).await, before);
    // A bed of a removed ward is unknown.
    let west = post(&api, "/api/v1/wards", &json!({ "id": id(3), "name": "West" })).await;
    assert_eq!(west.status, 201);
    let beds = format!("/api/v1/wards/{}/beds", id(3));
    post(&api, &beds, &json!({ "id": id(31), "name": "1" })).await;
    let path = format!("/api/v1/wards/{}", id(3));
    assert_eq!(api.send(Method::DELETE, &path, &[], "").await.status, 204);
    post(&api, admit, &bed(31)).await.assert_problem(404, "no bed");
    assert_eq!(everything(&api).await, before);
}

#[tokio::test]
async fn only_admins_change_wards_and_only_care_roles_admit() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let roles = ["uploader", "viewer", "device", "nurse", "physician", "technician", "auditor", "admin"];
    let line = |role: &&str| format!("{role} {role} {}\n", BlobHash::of(role.as_bytes()));
    std::fs::write(file.path(), roles.iter().map(line).collect::<String>()).unwrap();
    let tokens = Some(file.path().to_owned());
    let config = Config { tokens, receipt_wait: TIMEOUT, admin_for_clients: true, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    for role in roles {
        let bearer = format!("Bearer {role}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let ward =
            api.send(Method::POST, "/api/v1/wards", &headers, json!({ "name": role }).to_string()).await;
        assert_eq!(ward.status, if role == "admin" { 201 } else { 403 }, "{role}");
        let care = matches!(role, "nurse" | "physician" | "admin");
        for (method, path, body) in [
            (Method::POST, "/api/v1/patients/7/admit", json!({ "bed": id(1) })),
            (Method::POST, "/api/v1/patients/7/transfer", json!({ "bed": id(1) })),
            (Method::POST, "/api/v1/patients/7/discharge", json!({})),
            (Method::PATCH, "/api/v1/patients/7", json!({ "version": 0 })),
        ] {
            let reply = api.send(method, path, &headers, body.to_string()).await;
            assert_eq!(reply.status, if care { 404 } else { 403 }, "{role} {path}: {}", reply.text());
        }
        let read = api.send(Method::GET, "/api/v1/wards", &headers, "").await.status;
        let may_read = matches!(role, "viewer" | "nurse" | "physician" | "admin");
        assert_eq!(read, if may_read { 200 } else { 403 }, "{role}");
    }
    let audit = std::fs::read_to_string(&api.audit_log).unwrap();
    assert!(audit.contains("/api/v1/patients/{mrn}/admit"), "{audit}");
}
