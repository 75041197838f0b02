//! Import of patients from the database of the original server.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use import::{Counts, Finding, Options};
use jiff::tz::TimeZone;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use testkit::{Mode, MongoServer, System, program, test_data};

/// Creates the source database. Returns its connection string and collection.
async fn source_database(
    server: &MongoServer,
    patients: Vec<Document>,
) -> (String, mongodb::Collection<Document>) {
    let name = server.fresh_database();
    let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
    let collection = client.database(&name).collection::<Document>("new_patient");
    collection.insert_many(patients).await.unwrap();
    (server.uri().replace("/?", &format!("/{name}?")), collection)
}

async fn get(system: &System, path: &str) -> Value {
    let answer = testkit::http_client().get(format!("{}{path}", system.url())).send().await.unwrap();
    answer.json().await.unwrap()
}

async fn import_all(system: &System, options: &Options) -> (Counts, Vec<Finding>) {
    let mut findings = Vec::new();
    let gateway = system.gateway();
    let moved = import::run(&gateway, options, |outcome, _| {
        findings.extend(outcome.findings);
        Ok(())
    });
    let counts = moved.await.unwrap();
    findings.sort_by(|a, b| (&a.id, &a.place).cmp(&(&b.id, &b.place)));
    (counts, findings)
}

#[tokio::test]
async fn valid_values_are_imported_once_and_others_are_reported() {
    let server = MongoServer::start();
    let (first, second, xray) = (test_data::jpeg(40, 1), test_data::png(30, 2), test_data::png(20, 3));
    let [a, b, x] = [&first, &second, &xray].map(|bytes| BASE64.encode(bytes));
    let whole = doc! {
        "_id": 7, "name": "Ann", "medical_image": [&x], "ecg_image": [&a, &b], "heart_rate": [71, 0],
        "timestamp": ["2018-04-19 15:09:26", "2018-04-20 01:02:03"],
    };
    let bare = doc! { "_id": 8_i64 };
    let odd = doc! {
        "_id": "9", "name": "A\u{7}B", "medical_image": "none", "ecg_image": ["****", BASE64.encode("no picture"), &a],
        "heart_rate": [60, "61", 62.0, 999], "timestamp": ["2018-01-01 00:00:00", 5],
    };
    let without_number = doc! { "_id": "Ann" };
    let (from, old) = source_database(&server, vec![whole, bare, odd, without_number]).await;
    let system = System::start(Mode::Standalone);
    let options = Options { zone: TimeZone::UTC, ..Options::new(from, 4) };

    let dry_run = import_all(&system, &Options { dry_run: true, ..options.clone() }).await;
    assert_eq!(dry_run.0.patients, 3);
    assert_eq!(get(&system, "/api/get_patient").await, json!({ "ID": [] }));

    let (counts, findings) = import_all(&system, &options).await;
    assert_eq!(counts, Counts { patients: 3, ecg_images: 3, heart_rates: 4, medical_images: 1 });
    let places: Vec<_> = findings.iter().map(|found| (found.id.as_str(), found.place.as_str())).collect();
    let odd = "\"9\"";
    let expected = [
        (odd, "ecg_image, heart_rate, timestamp"),
        (odd, "ecg_image[0]"),
        (odd, "ecg_image[1]"),
        (odd, "heart_rate[3]"),
        (odd, "medical_image"),
        (odd, "name"),
        (odd, "timestamp[1]"),
        ("\"Ann\"", "_id"),
    ];
    assert_eq!(places, expected);

    assert_eq!(get(&system, "/api/get_patient").await, json!({ "ID": [7, 8, 9] }));
    let ann = get(&system, "/api/get_patient/7").await;
    assert_eq!((&ann["name"], &ann["medical_image"]), (&json!("Ann"), &json!([x])));
    assert_eq!((&ann["ecg_image"], &ann["heart_rate"]), (&json!([a, b]), &json!([71, 0])));
    let ecgs = get(&system, "/api/v1/patients/7/ecgs").await;
    assert_eq!(ecgs["items"][1]["recorded_at"], "2018-04-19T15:09:26.000Z");
    let odd = get(&system, "/api/get_patient/9").await;
    assert_eq!(
        (&odd["name"], &odd["ecg_image"], &odd["heart_rate"]),
        (&json!("Not Specified"), &json!([a]), &json!([62]))
    );
    let rates = get(&system, "/api/v1/patients/9/heart-rates").await;
    assert_eq!(rates["items"].as_array().unwrap().len(), 3);

    // A second import changes nothing. A new entry in the source database is added.
    let before = get(&system, "/api/v1/patients").await;
    assert_eq!(import_all(&system, &options).await, (counts, findings));
    assert_eq!(get(&system, "/api/v1/patients").await, before);
    let added = doc! { "$push": { "ecg_image": &b, "heart_rate": 73, "timestamp": "2018-04-21 00:00:00" } };
    old.update_one(doc! { "_id": 7 }, added).await.unwrap();
    import_all(&system, &options).await;
    let ann = get(&system, "/api/get_patient/7").await;
    assert_eq!(ann["heart_rate"], json!([71, 0, 73]));

    // Patients that are recorded as imported are skipped.
    let done = ["7", "8", "\"9\""].map(str::to_owned).into();
    let (counts, _) = import_all(&system, &Options { done, ..options }).await;
    assert_eq!(counts.patients, 0);
}

#[tokio::test]
async fn command_writes_imported_patients_and_skipped_values_to_files() {
    let server = MongoServer::start();
    let patients = vec![doc! { "_id": 7, "name": "Ann" }, doc! { "_id": 8, "heart_rate": [70, "many"] }];
    let (from, old) = source_database(&server, patients).await;
    let system = System::start(Mode::Standalone);
    let folder = tempfile::tempdir().unwrap();
    let [state, report] = ["state", "report"].map(|name| folder.path().join(name));
    let run = || {
        let mut command = Command::new(program("bedside"));
        command.args(["import", "--from", &from, "--time-zone", "UTC", "--gateway", &system.url()]);
        command.arg("--state").arg(&state).arg("--report").arg(&report);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = run();
    assert!(printed.starts_with("2 patients imported, with 0 ECG images, 1 heart rates"), "{printed}");
    assert!(printed.ends_with("2 values were skipped or changed.\n"), "{printed}");
    let noted = std::fs::read_to_string(&report).unwrap();
    let last: Value = serde_json::from_str(noted.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({ "id": "8", "place": "heart_rate[1]", "reason": "is not an integer" }));

    old.insert_one(doc! { "_id": 9 }).await.unwrap();
    let printed = run();
    assert!(
        printed.starts_with("1 patients imported")
            && printed.contains("2 patients were imported by an earlier run."),
        "{printed}"
    );
    assert_eq!(get(&system, "/api/get_patient").await, json!({ "ID": [7, 8, 9] }));
}
