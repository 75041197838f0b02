//! Outages that last longer than all attempts at a message together: nothing becomes a dead letter, everything that was
//! accepted is stored, and nobody has to do anything. The times are those of a long outage with shortened waits: all
//! attempts are used up within a second instead of five minutes, so that some seconds stand for an hour.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use proto_json::{EcgStatus, FileKind, Mrn, UploadId};
use testkit::{Extras, Mode, Service, System, http_client, material, within};

const MRN: u64 = 7;

/// All attempts at a message end within a second, but for the time that an attempt takes.
const RETRIES: [&str; 4] = ["--max-attempts", "2", "--retry-waits", "100ms"];
/// The driver looks for a server of the database for 5 s: longer than two attempts, where the database is gone.
const OUTAGE_OF_DATABASE: Duration = Duration::from_secs(13);
const FULL_DISK: Duration = Duration::from_secs(5);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn standalone(args: &[&str]) -> System {
    let gateway = [words(&RETRIES), words(args)].concat();
    System::start_fragile(Mode::Standalone, &Extras { gateway, ..Extras::default() })
}

/// Services with a database of their own.
fn processes() -> System {
    let extras = Extras { bus: words(&RETRIES), mongodb: Some(Arc::new(|port| port)), ..Extras::default() };
    System::start_extra(Mode::Processes, &extras)
}

fn mrn() -> Mrn {
    Mrn::new(MRN).unwrap()
}

fn image(number: u64) -> Upload {
    let file = UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", material::jpeg(40, number));
    Upload { respond_async: true, ..Upload::of(vec![file]) }
}

fn ecg(number: u64) -> Upload {
    let strip = material::strip_csv(72.0, 5.0, number);
    let file = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", strip);
    Upload { respond_async: true, ..Upload::of(vec![file]) }
}

/// Sends it, and returns its id if it was accepted.
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

/// A number in the text of `/metrics`.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{name} is not shown"))
}

const DEFERRED: &str = "bedside_work_total{queue=\"UPLOADS\",outcome=\"deferred\"}";
const DEAD: &str = "bedside_work_total{queue=\"UPLOADS\",outcome=\"dead_letter\"}";
const PAUSED: &str = "bedside_consumer_paused{queue=\"UPLOADS\"}";

async fn ready(url: &str) -> (u16, String) {
    let answer = http_client().get(format!("{url}/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Everything accepted is stored, each ECG has its heart rate, and nothing was given up.
async fn all_stored(system: &mut System, uploads: &[UploadId]) {
    let gateway = system.gateway();
    for upload in uploads {
        within("what was accepted is stored", || async {
            gateway.upload_status(*upload).await.ok().flatten().map(drop)
        })
        .await;
    }
    within("each ECG is analysed", || async {
        let ecgs = gateway.ecgs(mrn(), None, Some(200)).await.ok()?;
        assert!(ecgs.items.iter().all(|ecg| ecg.status != EcgStatus::Failed), "{:?}", ecgs.items);
        ecgs.items.iter().all(|ecg| ecg.status == EcgStatus::Analyzed).then_some(())
    })
    .await;
    assert_eq!(gateway.dead_letters(None, None).await.unwrap().items, []);
    let text = metrics(system, Service::Ingest).await;
    assert_eq!(value(&text, DEAD), 0.0);
    within("work goes on", || async {
        let text =
            http_client().get(format!("{}/metrics", ingest(system))).send().await.ok()?.text().await.ok()?;
        (value(&text, PAUSED) == 0.0).then_some(())
    })
    .await;
}

/// Where the metrics of ingest are, without borrowing the system for change.
fn ingest(system: &System) -> String {
    let (process, address) = match system.mode() {
        Mode::Standalone => (0, 0),
        Mode::Processes => (1, 0),
    };
    format!("http://{}", system.processes()[process].address(address))
}

async fn outlives(mut system: System, begin: impl Fn(&mut System), end: impl Fn(&mut System)) {
    let gateway = system.gateway();
    let mut uploads = vec![accepted(&gateway, &image(0)).await.expect("all is well")];
    all_stored(&mut system, &uploads).await;
    begin(&mut system);
    for number in 1..6 {
        uploads.push(accepted(&gateway, &image(number)).await.expect("the broker is well"));
    }
    uploads.push(accepted(&gateway, &ecg(9)).await.expect("the broker is well"));
    tokio::time::sleep(OUTAGE_OF_DATABASE).await;
    let text = metrics(&mut system, Service::Ingest).await;
    assert!(value(&text, DEFERRED) > 0.0, "nothing met the outage");
    assert_eq!((value(&text, PAUSED), value(&text, DEAD)), (1.0, 0.0));
    let (status, said) = ready(&system.admin_url(Service::Ingest)).await;
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("store: unavailable"), "{said}");
    assert_eq!(ready(&system.admin_url(Service::Gateway)).await.0, 200, "uploads are taken all the while");
    end(&mut system);
    all_stored(&mut system, &uploads).await;
}

#[tokio::test]
async fn uploads_wait_for_a_database_that_is_gone_however_long() {
    outlives(
        processes(),
        |system| system.mongo().unwrap().kill(),
        |system| system.mongo().unwrap().restart(),
    )
    .await;
}

#[tokio::test]
async fn uploads_wait_for_a_database_that_does_not_answer_however_long() {
    outlives(
        processes(),
        |system| system.mongo().unwrap().pause(),
        |system| system.mongo().unwrap().resume(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_the_disk_was_full_is_stored_once_there_is_room() {
    let mut system = standalone(&["--disk-reserve", "0"]);
    // Uploads all the while, so that some are accepted and not yet stored when the last byte is taken.
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
    assert!(deferred > 0.0, "nothing met the full disk");
    assert_eq!(accepted(&system.gateway(), &image(1)).await, None, "the disk is full");
    system.disk().unwrap().free();
    all_stored(&mut system, &uploads).await;
    // And it takes new ones.
    let upload = accepted(&system.gateway(), &image(2)).await.expect("there is room again");
    all_stored(&mut system, &[upload]).await;
}

#[tokio::test]
async fn below_the_reserve_of_free_space_uploads_are_answered_503_and_reads_go_on() {
    let mut system = standalone(&[]);
    let gateway = system.gateway();
    let upload = accepted(&gateway, &image(0)).await.expect("all is well");
    all_stored(&mut system, &[upload]).await;
    let url = system.url();
    assert_eq!(ready(&url).await.0, 200);
    // A tenth of this disk of 512 MiB is the reserve.
    system.disk().unwrap().take(480 << 20);
    within("the gateway has noticed", || async { (ready(&url).await.0 == 503).then_some(()) }).await;
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
    assert!(gateway.patient(mrn()).await.unwrap().is_some(), "reads go on");
    let text = metrics(&mut system, Service::Gateway).await;
    let free = value(&text, "bedside_disk_free_bytes{disk=\"data\"}");
    assert!(free < value(&text, "bedside_disk_reserve_bytes{disk=\"data\"}"), "{free}");
    system.disk().unwrap().free();
    within("uploads are taken again", || async { accepted(&gateway, &image(1)).await }).await;
}

/// The broker's disk is full; the health check that its container runs ends it as often as it takes, and Docker's part is
/// to start it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_full_disk_is_restarted_by_its_health_check_until_there_is_room() {
    let extras =
        Extras { bus: words(&[&RETRIES[..], &["--nats-max-staged", "64MB"]].concat()), ..Extras::default() };
    let mut system = System::start_fragile(Mode::Processes, &extras);
    let gateway = system.gateway();
    let mut uploads = vec![accepted(&gateway, &image(0)).await.expect("all is well")];
    all_stored(&mut system, &uploads).await;
    tokio::task::block_in_place(|| system.disk().unwrap().fill());
    // What is left of the last pages of its files may be enough for some.
    let mut number = 0;
    loop {
        number += 1;
        assert!(number < 100, "a broker without room goes on");
        match accepted(&gateway, &image(number)).await {
            Some(upload) => uploads.push(upload),
            None => break,
        }
    }
    assert!(!tokio::task::block_in_place(|| healthy(&mut system)), "the health check finds that out");
    tokio::time::sleep(FULL_DISK).await;
    system.disk().unwrap().free();
    uploads.push(
        within("uploads are taken again", || {
            number += 1;
            tokio::task::block_in_place(|| healthy(&mut system));
            let gateway = gateway.clone();
            async move { accepted(&gateway, &image(number)).await }
        })
        .await,
    );
    uploads.push(accepted(&gateway, &ecg(1)).await.expect("all is well"));
    all_stored(&mut system, &uploads).await;
}

/// Runs the health check of the broker's container once, and starts a broker that it has ended.
fn healthy(system: &mut System) -> bool {
    let nats = system.nats().unwrap();
    let check = Command::new("sh")
        .arg("../deploy/nats-health")
        .args(["127.0.0.1".to_owned(), nats.monitor_port().to_string(), nats.pid().to_string()])
        .status();
    let healthy = check.unwrap().success();
    if !healthy {
        nats.restart();
    }
    healthy
}
