//! Every route, method, role, ward and session state against the tables in docs/SECURITY.md.
//!
//! The routes are those of the OpenAPI document, which another test compares with the routing table. So a new route without a
//! row in docs/SECURITY.md fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use gateway::Config;
use proto_json::BlobHash;
use serde_json::{Value, json};

use crate::fixture::{Api, Form, Start, TIMEOUT, ecg_csv, png};
use crate::sessions::{Browser, log_in, logged_in};
use crate::ward_access::{add_wards, admit, bed, ward};

const ROLES: [&str; 8] =
    ["uploader", "viewer", "device", "nurse", "physician", "technician", "auditor", "admin"];
/// Patients of the own ward, of another ward, and of no ward.
const PATIENTS: [u64; 3] = [7, 8, 9];

/// A row of the table of routes.
#[derive(Debug)]
struct Row {
    method: Method,
    path: String,
    /// What the role must be allowed to do; `none` for everyone.
    needs: String,
    /// What the answer depends on: `patient`, `record`, `ward`, `list`, `own` or `-`.
    scope: String,
}

/// The cells of the rows of the table that follows a heading.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let part = document.split_once(heading).unwrap_or_else(|| panic!("{heading}")).1;
    let rows =
        part.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>()
    };
    rows.map(cells).filter(|cells| !cells[0].starts_with("---")).collect()
}

struct Tables {
    rows: Vec<Row>,
    /// The roles that have each permission.
    allowed: BTreeMap<String, BTreeSet<String>>,
}

fn tables() -> Tables {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let document = std::fs::read_to_string(path).unwrap();
    let roles = table(&document, "### Roles");
    assert_eq!(roles[0][1..], ROLES);
    let has = |cells: &Vec<String>| {
        let roles = ROLES.iter().zip(&cells[1..]).filter(|(_, cell)| *cell == "yes");
        (cells[0].clone(), roles.map(|(role, _)| (*role).to_owned()).collect())
    };
    let allowed = roles[1..].iter().map(has).collect();
    let row = |cells: &Vec<String>| Row {
        method: cells[0].to_uppercase().parse().unwrap(),
        path: cells[1].clone(),
        needs: cells[2].clone(),
        scope: cells[3].clone(),
    };
    Tables { rows: table(&document, "### Routes")[1..].iter().map(row).collect(), allowed }
}

/// A client for each role, with ward 1.
fn tokens() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |name: &str, role: &str, limit: &str| {
        format!("{name} {role} {} {limit}\n", BlobHash::of(format!("{name}-secret").as_bytes()))
    };
    let one = format!("ward={}", ward(1));
    let lines: String = ROLES.iter().map(|role| line(role, role, &one)).collect();
    std::fs::write(file.path(), lines + &line("chief", "admin", "")).unwrap();
    file
}

/// Ids of what belongs to a patient.
struct Ids {
    image: String,
    ecg: String,
    upload: String,
    /// The merge of another patient into this one.
    merge: String,
    alarm: String,
}

type All = BTreeMap<u64, Ids>;

async fn system() -> (Api, tempfile::NamedTempFile, All) {
    let file = tokens();
    let config = Config {
        tokens: Some(file.path().to_owned()),
        receipt_wait: TIMEOUT,
        events_keep_alive: Duration::from_secs(60),
        ..Config::default()
    };
    let api = Start { config, ..Start::default() }.start().await;
    add_wards(&api).await;
    let mut ids = BTreeMap::new();
    for number in PATIENTS {
        let form = Form::default().file("medical_image", "a.png", &png(5, 5, number as u8)).file(
            "ecg",
            "a.csv",
            &ecg_csv(70.0, number),
        );
        // It raises an alarm.
        let form = form.field("heart_rate", "190");
        let chief = [("authorization", "Bearer chief-secret")];
        let receipt = api.upload(&number.to_string(), form, &chief).await.json();
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        let other = number + 10;
        assert_eq!(api.upload(&other.to_string(), Form::default(), &chief).await.status, 201);
        let path = format!("/api/v1/patients/{other}/merge");
        let body = json!({ "into": number, "reason": "test" }).to_string();
        let merge = api.send(Method::POST, &path, &chief, body).await.json();
        let path = format!("/api/v1/alarms?mrn={number}&state=all");
        let raised = async {
            loop {
                let alarms = api.send(Method::GET, &path, &chief, "").await.json();
                if let Some(alarm) = alarms["items"].get(0) {
                    return id(&alarm["id"]);
                }
            }
        };
        let alarm = tokio::time::timeout(TIMEOUT, raised).await.expect("an alarm in time");
        let files = &receipt["files"];
        let (image, ecg) = (id(&files[0]["id"]), id(&files[1]["id"]));
        let (upload, merge) = (id(&receipt["upload_id"]), id(&merge["id"]));
        ids.insert(number, Ids { image, ecg, upload, merge, alarm });
    }
    admit(&api, 7, 11).await;
    admit(&api, 8, 21).await;
    for Ids { ecg, .. } in ids.values() {
        // Plot and details are there after the analysis.
        let path = format!("/api/v1/ecgs/{ecg}/detail");
        let analysed = async { while status(&api, &Method::GET, &path, &bearer("chief")).await != 200 {} };
        tokio::time::timeout(TIMEOUT, analysed).await.unwrap();
    }
    let other =
        async { while status(&api, &Method::GET, "/api/v1/patients/8", &bearer("viewer")).await != 404 {} };
    tokio::time::timeout(TIMEOUT, other).await.unwrap();
    let viewer = [("authorization", "Bearer viewer-secret")];
    let alarms = async {
        while api
            .send(Method::GET, "/api/v1/alarms?state=all", &viewer, "")
            .await
            .text()
            .contains("\"mrn\":8")
        {}
    };
    tokio::time::timeout(TIMEOUT, alarms).await.expect("alarms are limited to wards");
    (api, file, ids)
}

fn bearer(role: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {role}-secret"))]
}

/// Only the status; the body may be an event stream. The body of the request is invalid, so nothing changes.
async fn status(api: &Api, method: &Method, path: &str, headers: &[(&'static str, String)]) -> u16 {
    let body = if *method == Method::GET { "" } else { "not JSON" };
    status_with(api, method, path, headers, body.to_owned()).await
}

async fn status_with(
    api: &Api,
    method: &Method,
    path: &str,
    headers: &[(&'static str, String)],
    body: String,
) -> u16 {
    let mut headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("content-type", "application/json"));
    api.status(method.clone(), path, &headers, body).await
}

/// The path of a row for a patient, or for one of its records.
fn path_for(row: &Row, patient: u64, ids: &All) -> String {
    let Ids { image, ecg, upload, merge, alarm } = &ids[&patient];
    let id = match row.path.as_str() {
        path if path.starts_with("/api/v1/images/") => image.clone(),
        path if path.starts_with("/api/v1/uploads/") => upload.clone(),
        path if path.starts_with("/api/v1/merges/") => merge.clone(),
        path if path.starts_with("/api/v1/alarms/") => alarm.clone(),
        path if path.starts_with("/api/get_patient/") => patient.to_string(),
        path if path.starts_with("/api/v1/dead-letters/") => "1".to_owned(),
        _ => ecg.clone(),
    };
    let path =
        row.path.replace("{mrn}", &patient.to_string()).replace("{id}", &id).replace("{name}", "nobody");
    let number = if patient == 8 { 2 } else { 1 };
    let (ward, bed) = (ward(number).to_string(), bed(number * 10 + 1).to_string());
    path.replace("{ward}", &ward).replace("{bed}", &bed)
}

/// The body for a row: where the service reads the body before it looks up the record, one that is valid and changes little.
/// All records of the table stay where they are.
fn body_for(row: &Row, patient: u64) -> String {
    let reason = || json!({ "reason": "test" });
    let body = match (row.method.as_str(), row.path.as_str()) {
        ("GET", _) => return String::new(),
        (_, "/api/v1/uploads/{id}/move") => json!({ "mrn": patient, "reason": "test" }),
        (_, "/api/v1/records/{id}/entered-in-error" | "/api/v1/merges/{id}/undo") => reason(),
        (_, path) if path.starts_with("/api/v1/alarms/") => json!({}),
        ("PATCH", "/api/v1/wards/{ward}") => json!({ "name": "Ward 1" }),
        (_, "/api/v1/wards/{ward}/beds") => json!({ "name": "Bed 1" }),
        ("PATCH", "/api/v1/wards/{ward}/beds/{bed}") => json!({ "name": "Bed 1" }),
        _ => return "not JSON".to_owned(),
    };
    body.to_string()
}

#[tokio::test]
async fn every_route_has_a_row() {
    let api = Api::open().await;
    let document = api.get("/api/openapi.json").await.json();
    let methods = |item: &Value| {
        item.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect::<Vec<_>>()
    };
    let routes: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            methods(item).into_iter().map(|method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let Tables { rows, allowed } = tables();
    let described: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row.path.clone(), row.method.to_string())).collect();
    assert_eq!(described, routes);
    assert_eq!(rows.len(), described.len(), "a route has one row");
    for row in &rows {
        assert!(row.needs == "none" || allowed.contains_key(&row.needs), "{row:?}");
        let names_patient = row.path.contains("{mrn}") || row.path.starts_with("/api/get_patient/");
        assert_eq!(row.scope == "patient", names_patient, "{row:?}");
    }
}

#[tokio::test]
async fn every_role_has_the_permissions_of_the_table_in_each_ward() {
    let (api, _file, ids) = system().await;
    let Tables { rows, allowed } = tables();
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| row.needs != "none") {
        for role in ROLES {
            for patient in PATIENTS {
                let path = path_for(row, patient, &ids);
                let body = body_for(row, patient);
                let found = status_with(&api, &row.method, &path, &bearer(role), body).await;
                let may = allowed[&row.needs].contains(role);
                let of_patient = matches!(row.scope.as_str(), "patient" | "record" | "ward");
                let is_right = match (may, of_patient) {
                    (false, _) => found == 403,
                    // Emergency access is for patients of other wards, and not for tokens.
                    (true, true) if row.path.ends_with("/break-glass") => [400, 415].contains(&found),
                    // Other clients see only their own uploads.
                    (true, true) if role == "uploader" && row.method == Method::GET => found == 404,
                    (true, true) if patient == 8 => found == 404,
                    (true, true) => ![401, 403, 404].contains(&found) && found < 500,
                    (true, false) => row.scope == "own" || (![401, 403].contains(&found) && found < 500),
                };
                if !is_right {
                    wrong.push(format!(
                        "{} {} as {role} for patient {patient}: {found}",
                        row.method, row.path
                    ));
                }
                if !of_patient {
                    break;
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    let chief = [("authorization", "Bearer chief-secret")];
    for (patient, of) in [(7, json!(ward(1))), (8, json!(ward(2))), (9, Value::Null)] {
        let reply = api.send(Method::GET, &format!("/api/v1/patients/{patient}"), &chief, "").await.json();
        assert_eq!(reply["admission"]["ward"], of, "nothing was changed");
    }
}

#[tokio::test]
async fn every_route_needs_a_valid_session_or_token_and_changes_need_the_csrf_value() {
    let (api, _file, ids) = system().await;
    let open = async || logged_in(&log_in(&api, json!({ "token": "admin-secret" })).await);
    let (valid, ended) = (open().await, open().await);
    let out = ended.send(&api, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(out.status, 204);
    let cookie = |browser: &Browser| ("cookie", browser.cookie.clone());
    let csrf = ("x-bedside-csrf", valid.csrf.clone());
    let states: [(&str, Vec<(&'static str, String)>); 7] = [
        ("nothing", vec![]),
        ("unknown token", vec![("authorization", "Bearer unknown".to_owned())]),
        ("ended session", vec![cookie(&ended), ("x-bedside-csrf", ended.csrf.clone())]),
        ("cookie alone", vec![cookie(&valid)]),
        ("cookie with the value", vec![cookie(&valid), csrf.clone()]),
        ("page of another server", vec![cookie(&valid), csrf, ("origin", "http://evil.example".to_owned())]),
        ("secret as a token", vec![("authorization", format!("Bearer {}", valid.secret()))]),
    ];
    let mut wrong = Vec::new();
    for row in tables().rows.iter().filter(|row| row.needs != "none") {
        let path = path_for(row, 7, &ids);
        for (state, headers) in &states {
            let found = status(&api, &row.method, &path, headers).await;
            let is_read = row.method == Method::GET;
            let is_right = match *state {
                // Too many of them in a row.
                "nothing" | "unknown token" | "ended session" => [401, 429].contains(&found),
                "cookie alone" if !is_read => found == 403,
                "page of another server" => found == 403,
                _ => row.scope == "own" || ![401, 403].contains(&found),
            };
            if !is_right {
                wrong.push(format!("{} {} with {state}: {found}", row.method, row.path));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}
