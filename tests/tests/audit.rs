//! Every access to patient data leaves an audit line, also when the client goes away; and no log line names a patient.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use serde_json::Value;
use tests::{Extras, Mode, Service, System, material, within};

/// Nobody else has this number.
const MRN: &str = "4242424242";

fn audit(system: &System) -> Vec<Value> {
    let gateway = system.processes().iter().find(|process| process.name() == "gateway").unwrap();
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test]
async fn an_access_leaves_a_line_with_who_what_and_how_it_ended_and_never_whose_data() {
    let mut system = System::start(Mode::Processes);
    let (http, url) = (tests::http_client(), system.url());
    let upload = format!("{url}/api/v1/patients/{MRN}/uploads");
    let form = || {
        let ecg = reqwest::multipart::Part::bytes(material::strip_csv(72.0, 10.0, 1)).file_name("strip.csv");
        reqwest::multipart::Form::new().text("name", "Ann Uncommon").part("ecg", ecg)
    };
    let stored: Value = http.post(&upload).multipart(form()).send().await.unwrap().json().await.unwrap();
    let ecg = stored["files"][0]["id"].as_str().unwrap();
    for path in
        [format!("/api/v1/ecgs/{ecg}"), format!("/api/get_patient/{MRN}"), format!("/api/v1/patients/{MRN}")]
    {
        assert_eq!(http.get(format!("{url}{path}")).send().await.unwrap().status(), 200, "{path}");
    }
    let lines =
        within("all four are in the log", || async { Some(audit(&system)).filter(|lines| lines.len() == 4) });
    let lines = lines.await;
    assert_eq!(
        (&lines[0]["who"], &lines[0]["role"], &lines[0]["status"]),
        (&"local".into(), &"admin".into(), &201.into())
    );
    assert_eq!((&lines[0]["method"], &lines[0]["upload_id"]), (&"POST".into(), &stored["upload_id"]));
    assert_eq!((&lines[1]["route"], &lines[1]["id"]), (&"/api/v1/ecgs/{id}".into(), &ecg.into()));
    assert_eq!(lines[2]["route"], "/api/get_patient/{id}");

    // Nobody stores it, so the gateway waits; the client does not.
    system.service(Service::Ingest).kill();
    let gone = http.post(&upload).multipart(form()).timeout(Duration::from_secs(4)).send().await;
    assert!(gone.unwrap_err().is_timeout());
    let line = within("the client that went away is in the log", || async {
        audit(&system).pop().filter(|line| line["status"] == 499)
    });
    assert_eq!(line.await["route"], "/api/v1/patients/{mrn}/uploads");

    let logs = system.logs();
    for secret in [MRN, "Uncommon", "strip.csv"] {
        assert!(!logs.contains(secret), "{secret} is in a log");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_delays_no_end() {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://127.0.0.1:9".to_owned())].to_vec();
    let mut system = System::start_extra(Mode::Processes, &Extras { env, ..Extras::default() });
    let read = tests::http_client().get(format!("{}/api/v1/patients", system.url())).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let started = std::time::Instant::now();
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
