//! Outages that last longer than all attempts at a message: no message becomes a dead letter, every accepted
//! upload is stored, and no operator has to act. Retry waits are shortened: all attempts would be used up
//! within a second instead of five minutes, so a few seconds correspond to an hour.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use proto_json::{EcgStatus, FileKind, Mrn, UploadId};
use testkit::{Extras, Mode, Service, System, http_client, test_data, within};

const MRN: u64 = 7;

/// All attempts at a message end within a second, apart from the duration of the attempts.
const RETRIES: [&str; 4] = ["--max-attempts", "2", "--retry-waits", "100ms"];
/// Longer than one attempt without a database: a service waits 20 s for its answer.
const OUTAGE_OF_DATABASE: Duration = Duration::from_secs(24);
const FULL_DISK: Duration = Duration::from_secs(5);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn standalone(args: &[&str]) -> System {
    let gateway = [words(&RETRIES), words(args)].concat();
    System::start_fragile(Mode::Standalone, &Extras { gateway, ..Extras::default() })
}

/// Starts the services with their own database.
fn processes() -> System {
    let extras = Extras { bus: words(&RETRIES), mongodb: Some(Arc::new(|port| port)), ..Extras::default() };
    System::start_extra(Mode::Processes, &extras)
}

fn mrn() -> Mrn {
    Mrn::new(MRN).unwrap()
}

fn image(number: u64) -> Upload {
    let file = UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", test_data::jpeg(40, number));
    Upload { respond_async: true, ..Upload::of(vec![file]) }
}

fn ecg(number: u64) -> Upload {
    let strip = test_data::strip_csv(72.0, 5.0, number);
    let file = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", strip);
    Upload { respond_async: true, ..Upload::of(vec![file]) }
}

/// Sends an upload and returns its id if it was accepted.
async fn accepted(gateway: &Gateway, upload: &Upload) -> Option<UploadId> {
    match gateway.upload(mrn(), upload, |_| {}).await.ok()? {
        UploadAnswer::Accepted(received) => Some(received.upload_id),
        UploadAnswer::Stored(receipt) => Some(receipt.upload_id),
    }
}

async fn metrics(system: &mut System, service: Service) -> String {
    let url = format!("{}/metrics", system.admin_url(service));
    http_client().get(url).send().await.unwrap().text().await.unwrap()
}

/// Parses the value of a metric.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("there is no metric {name}"))
}

const DEFERRED: &str = "bedside_work_total{queue=\"UPLOADS\",outcome=\"deferred\"}";
const DEAD: &str = "bedside_work_total{queue=\"UPLOADS\",outcome=\"dead_letter\"}";
const PAUSED: &str = "bedside_consumer_paused{queue=\"UPLOADS\"}";

async fn ready(url: &str) -> (u16, String) {
    let answer = http_client().get(format!("{url}/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until every accepted upload is stored and every ECG is analysed; there must be no dead letters.
async fn all_stored(system: &mut System, uploads: &[UploadId]) {
    let gateway = system.gateway();
    for upload in uploads {
        within("every accepted upload is stored", || async {
            gateway.upload_status(*upload).await.ok().flatten().map(drop)
        })
        .await;
    }
    within("every ECG is analysed", || async {
        let ecgs = gateway.ecgs(mrn(), None, Some(200)).await.ok()?;
        assert!(ecgs.items.iter().all(|ecg| ecg.status != EcgStatus::Failed), "{:?}", ecgs.items);
        ecgs.items.iter().all(|ecg| ecg.status == EcgStatus::Analyzed).then_some(())
    })
    .await;
    assert_eq!(gateway.dead_letters(None, None).await.unwrap().items, []);
    let text = metrics(system, Service::Ingest).await;
    assert_eq!(value(&text, DEAD), 0.0);
    within("the consumer resumes", || async {
        let text =
            http_client().get(format!("{}/metrics", ingest(system))).send().await.ok()?.text().await.ok()?;
        (value(&text, PAUSED) == 0.0).then_some(())
    })
    .await;
}

/// Admin address of ingest, without a mutable borrow of the system.
fn ingest(system: &System) -> String {
    let (process, address) = match system.mode() {
        Mode::Standalone => (0, 0),
        Mode::Processes => (1, 0),
    };
    format!("http://{}", system.processes()[process].address(address))
}

async fn survives(mut system: System, begin: impl Fn(&mut System), end: impl Fn(&mut System)) {
    let gateway = system.gateway();
    let mut uploads = vec![accepted(&gateway, &image(0)).await.expect("the system is healthy")];
    all_stored(&mut system, &uploads).await;
    begin(&mut system);
    for number in 1..6 {
        uploads.push(accepted(&gateway, &image(number)).await.expect("the broker is healthy"));
    }
    uploads.push(accepted(&gateway, &ecg(9)).await.expect("the broker is healthy"));
    tokio::time::sleep(OUTAGE_OF_DATABASE).await;
    let text = metrics(&mut system, Service::Ingest).await;
    assert!(value(&text, DEFERRED) > 0.0, "no work was deferred");
    assert_eq!((value(&text, PAUSED), value(&text, DEAD)), (1.0, 0.0));
    let (status, said) = ready(&system.admin_url(Service::Ingest)).await;
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("store: unavailable"), "{said}");
    assert_eq!(ready(&system.admin_url(Service::Gateway)).await.0, 200, "uploads are still accepted");
    end(&mut system);
    all_stored(&mut system, &uploads).await;
}

#[tokio::test]
async fn accepted_uploads_are_stored_after_the_database_was_down() {
    survives(
        processes(),
        |system| system.mongo().unwrap().kill(),
        |system| system.mongo().unwrap().restart(),
    )
    .await;
}

#[tokio::test]
async fn accepted_uploads_are_stored_after_the_database_did_not_answer() {
    survives(
        processes(),
        |system| system.mongo().unwrap().pause(),
        |system| system.mongo().unwrap().resume(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_uploads_are_stored_after_the_disk_was_full() {
    let mut system = standalone(&["--disk-reserve", "0"]);
    // Uploads continue, so that some are accepted but not yet stored when the disk becomes full.
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (gateway, stop) = (system.gateway(), stop.clone());
            tokio::spawn(async move {
                let mut uploads = Vec::new();
                let mut number = sender * 100_000;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let upload = if number % 9 == 0 { ecg(number) } else { image(number) };
                    uploads.extend(accepted(&gateway, &upload).await);
                }
                uploads
            })
        })
        .collect();
    within("the first uploads are stored", || async {
        let url = format!("{}/metrics", ingest(&system));
        let text = http_client().get(url).send().await.ok()?.text().await.ok()?;
        (value(&text, "bedside_uploads_stored_total") > 20.0).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| system.disk().unwrap().fill());
    tokio::time::sleep(FULL_DISK).await;
    stop.store(true, Ordering::Relaxed);
    let mut uploads = Vec::new();
    for sender in senders {
        uploads.extend(sender.await.unwrap());
    }
    let text = metrics(&mut system, Service::Ingest).await;
    let deferred: f64 = ["UPLOADS", "ECG_JOBS", "ECG_RESULTS"]
        .iter()
        .map(|queue| value(&text, &format!("bedside_work_total{{queue=\"{queue}\",outcome=\"deferred\"}}")))
        .sum();
    assert!(deferred > 0.0, "no work was deferred");
    assert_eq!(accepted(&system.gateway(), &image(1)).await, None, "the disk is full");
    system.disk().unwrap().free();
    all_stored(&mut system, &uploads).await;
    // New uploads are accepted as well.
    let upload = accepted(&system.gateway(), &image(2)).await.expect("there is free space again");
    all_stored(&mut system, &[upload]).await;
}

#[tokio::test]
async fn below_the_disk_reserve_uploads_are_answered_503_and_reads_continue() {
    let mut system = standalone(&[]);
    let gateway = system.gateway();
    let upload = accepted(&gateway, &image(0)).await.expect("the system is healthy");
    all_stored(&mut system, &[upload]).await;
    let url = system.url();
    assert_eq!(ready(&url).await.0, 200);
    // The reserve is a tenth of this disk of 512 MiB.
    system.disk().unwrap().take(480 << 20);
    within("the gateway is not ready", || async { (ready(&url).await.0 == 503).then_some(()) }).await;
    let said = ready(&url).await.1;
    assert!(said.contains("disk: unavailable") && said.contains("store: ok"), "{said}");
    let body = serde_json::json!({ "medical_record_number": MRN, "patient_name": "Ann" });
    let legacy = http_client().post(format!("{url}/api/new_patient")).json(&body);
    let form = http_client().post(format!("{url}/api/v1/patients/{MRN}/uploads"));
    let form = form
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n--x--\r\n");
    for request in [legacy, form] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 503);
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        assert!(answer.text().await.unwrap().contains("disk of this server is nearly full"));
    }
    assert!(gateway.patient(mrn()).await.unwrap().is_some(), "reads continue");
    let text = metrics(&mut system, Service::Gateway).await;
    let free = value(&text, "bedside_disk_free_bytes{disk=\"data\"}");
    assert!(free < value(&text, "bedside_disk_reserve_bytes{disk=\"data\"}"), "{free}");
    system.disk().unwrap().free();
    within("uploads are accepted again", || async { accepted(&gateway, &image(1)).await }).await;
}

/// The health check of the broker's container ends a broker that cannot write, as soon as there is space. This test
/// restarts it, as Docker does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_with_a_full_disk_is_restarted_by_its_health_check_when_there_is_space() {
    let extras =
        Extras { bus: words(&[&RETRIES[..], &["--nats-max-staged", "64MB"]].concat()), ..Extras::default() };
    let mut system = System::start_fragile(Mode::Processes, &extras);
    let gateway = system.gateway();
    let mut uploads = vec![accepted(&gateway, &image(0)).await.expect("the system is healthy")];
    all_stored(&mut system, &uploads).await;
    tokio::task::block_in_place(|| system.disk().unwrap().fill());
    // Free space in the last pages of its files may suffice for a few uploads.
    let mut number = 0;
    loop {
        number += 1;
        assert!(number < 100, "a broker without free space accepts uploads");
        match accepted(&gateway, &image(number)).await {
            Some(upload) => uploads.push(upload),
            None => break,
        }
    }
    assert!(!tokio::task::block_in_place(|| healthy(&mut system)), "the health check fails");
    tokio::time::sleep(FULL_DISK).await;
    system.disk().unwrap().free();
    uploads.push(
        within("uploads are accepted again", || {
            number += 1;
            tokio::task::block_in_place(|| healthy(&mut system));
            let gateway = gateway.clone();
            async move { accepted(&gateway, &image(number)).await }
        })
        .await,
    );
    uploads.push(accepted(&gateway, &ecg(1)).await.expect("the system is healthy"));
    all_stored(&mut system, &uploads).await;
}

/// Runs the health check of the broker's container once, and restarts a broker that it has ended.
fn healthy(system: &mut System) -> bool {
    let nats = system.nats().unwrap();
    let check = Command::new("sh")
        .arg("../deploy/nats-health")
        .args(["127.0.0.1".to_owned(), nats.monitor_port().to_string(), nats.pid().to_string()])
        .arg(nats.store())
        .status();
    let healthy = check.unwrap().success();
    if !healthy && nats.has_ended() {
        nats.restart();
    }
    healthy
}
