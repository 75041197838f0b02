//! Every access to patient data is written to the audit log, also if the client disconnects. No log line names a patient.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::{Extras, Mode, Service, System, program, test_data, within};

/// A number that occurs nowhere else in logs.
const MRN: &str = "4242424242";

fn audit(system: &System) -> Vec<Value> {
    let gateway = system.processes().iter().find(|process| process.name() == "gateway").unwrap();
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test]
async fn access_is_logged_with_client_route_and_outcome_and_without_patient_data() {
    let mut system = System::start(Mode::Processes);
    let (http, url) = (testkit::http_client(), system.url());
    let upload = format!("{url}/api/v1/patients/{MRN}/uploads");
    let form = || {
        let ecg = reqwest::multipart::Part::bytes(test_data::strip_csv(72.0, 10.0, 1)).file_name("strip.csv");
        reqwest::multipart::Form::new().text("name", "Ann Uncommon").part("ecg", ecg)
    };
    let stored: Value = http.post(&upload).multipart(form()).send().await.unwrap().json().await.unwrap();
    let ecg = stored["files"][0]["id"].as_str().unwrap();
    for path in
        [format!("/api/v1/ecgs/{ecg}"), format!("/api/get_patient/{MRN}"), format!("/api/v1/patients/{MRN}")]
    {
        assert_eq!(http.get(format!("{url}{path}")).send().await.unwrap().status(), 200, "{path}");
    }
    let lines = within("all four accesses are logged", || async {
        Some(audit(&system)).filter(|lines| lines.len() == 4)
    });
    let lines = lines.await;
    assert_eq!(
        (&lines[0]["client"], &lines[0]["role"], &lines[0]["status"]),
        (&"local".into(), &"admin".into(), &201.into())
    );
    assert_eq!((&lines[0]["method"], &lines[0]["upload_id"]), (&"POST".into(), &stored["upload_id"]));
    assert_eq!((&lines[1]["route"], &lines[1]["id"]), (&"/api/v1/ecgs/{id}".into(), &ecg.into()));
    assert_eq!(lines[2]["route"], "/api/get_patient/{id}");

    // Without ingest, the gateway waits for the receipt. The client disconnects first.
    system.service(Service::Ingest).kill();
    let aborted = http.post(&upload).multipart(form()).timeout(Duration::from_secs(4)).send().await;
    assert!(aborted.unwrap_err().is_timeout());
    let line = within("the disconnected client is logged", || async {
        audit(&system).pop().filter(|line| line["status"] == 499)
    });
    assert_eq!(line.await["route"], "/api/v1/patients/{mrn}/uploads");

    let logs = system.logs();
    for secret in [MRN, "Uncommon", "strip.csv"] {
        assert!(!logs.contains(secret), "{secret} is in a log");
    }
}

/// The audit log does not depend on the level of the diagnostic log.
#[tokio::test]
async fn audit_lines_are_written_at_every_log_level_and_name_the_patient() {
    let env = [("BEDSIDE_LOG".to_owned(), "error".to_owned())].to_vec();
    let system = System::start_extra(Mode::Processes, &Extras { env, ..Extras::default() });
    let url = format!("{}/api/v1/patients/{MRN}", system.url());
    let reply = testkit::http_client().get(url).send().await.unwrap();
    assert_eq!(reply.status(), 404);
    let request_id = reply.headers()["x-request-id"].to_str().unwrap().to_owned();
    let lines = within("the read is logged", || async { Some(audit(&system)).filter(|all| !all.is_empty()) });
    let [line] = &lines.await[..] else { panic!("one line") };
    let output = Command::new(program("bedside"))
        .args(["audit", "pseudonym", MRN, "--key-file", &system.key_file()])
        .output()
        .unwrap();
    let pseudonym = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line["patient"], pseudonym.trim(), "{line}");
    assert_eq!(line["request_id"], request_id);
    assert_eq!(line["address"], "127.0.0.1");
    assert_eq!((&line["status"], &line["outcome"]), (&404.into(), &"rejected".into()));
    assert!(!system.logs().contains(MRN));
}

/// The file is in the data directory and readable only by its owner.
#[tokio::test]
async fn standalone_writes_its_audit_log_to_a_file() {
    let env = [("BEDSIDE_LOG".to_owned(), "error".to_owned())].to_vec();
    let mut system = System::start_extra(Mode::Standalone, &Extras { env, ..Extras::default() });
    let url = format!("{}/api/v1/patients/{MRN}", system.url());
    assert_eq!(testkit::http_client().get(url).send().await.unwrap().status(), 404);
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
    let data = system.data_folder();
    let output = Command::new(program("bedside"))
        .args(["audit", "pseudonym", MRN, "--data", data.to_str().unwrap()])
        .output()
        .unwrap();
    let pseudonym = String::from_utf8(output.stdout).unwrap();
    let log = std::fs::read_to_string(data.join("audit.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reads: Vec<_> = lines.iter().filter(|line| line["route"] == "/api/v1/patients/{mrn}").collect();
    assert!(reads.len() == 1 && reads[0]["patient"] == pseudonym.trim(), "{log}");
    for name in ["audit.log", "key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn unreachable_trace_collector_does_not_delay_shutdown() {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://127.0.0.1:9".to_owned())].to_vec();
    let mut system = System::start_extra(Mode::Processes, &Extras { env, ..Extras::default() });
    let read = testkit::http_client().get(format!("{}/api/v1/patients", system.url())).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let started = std::time::Instant::now();
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
