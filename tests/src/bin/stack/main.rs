//! Operates the full stack in containers: start, scale, replace and restart each part under load, stop, back up, restore.
//! Started by `tests/stack/run`, which creates the images.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends when something fails")]

mod containers;

use std::time::{Duration, Instant};

use client::{
    ClientError, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, Upload, UploadAnswer, UploadFile,
};
use containers::{Secrets, Stack};
use proto_json::{EcgStatus, FileKind, Mrn, PatientUpdated};
use testkit::load::Load;
use testkit::{records, test_data};

#[tokio::main]
async fn main() {
    let stack = Stack::from_environment();
    let started = Instant::now();
    let step = |name: &str| println!("== {:>4.0} s  {name}", started.elapsed().as_secs_f64());

    step("first start");
    stack.up().await;
    let secrets = stack.create_tokens().await;
    let uploader = stack.gateway(&secrets.uploader);
    let viewer = stack.gateway(&secrets.viewer);

    step("requests without token, with a wrong token, and with an insufficient role");
    tokens_are_asked_for(&stack, &secrets).await;

    step("each service has only its own secrets, and no token is stored");
    secrets_are_separate(&stack).await;
    let (uploader, secrets) = rotated(&stack, uploader, secrets).await;

    step("updates are pushed over NATS and over server-sent events");
    let mut nats = FeedSettings::new(viewer.clone(), None);
    nats.nats = Some(stack.nats(&secrets.nats_password));
    let mut nats = Feed::start(nats);
    let mut events = Feed::start(FeedSettings::new(viewer.clone(), None));
    connected(&mut nats, FeedMode::Nats).await;
    connected(&mut events, FeedMode::ServerSentEvents).await;
    let mrn = Mrn::new(7).unwrap();
    let sent = Instant::now();
    upload_one(&uploader, mrn).await;
    tokio::join!(analysed(&mut nats, mrn), analysed(&mut events, mrn));
    println!("   pushed after {:.2} s", sent.elapsed().as_secs_f64());
    let mut wrong = FeedSettings::new(viewer.clone(), None);
    wrong.nats = Some(stack.nats("not the password"));
    connected(&mut Feed::start(wrong), FeedMode::ServerSentEvents).await;

    step("analyses per second grow with workers");
    workers_add_up(&stack, &uploader, &viewer).await;

    let load = Load::start(&uploader, &viewer);
    load.goes_on(5).await;
    let _ = load.failures();

    step("ecg-worker 1 -> 4 -> 1 under load");
    for count in [4, 1] {
        stack.compose(&format!("up -d --no-deps --no-recreate --scale ecg-worker={count} ecg-worker")).await;
        assert_eq!(stack.running("ecg-worker").await, count);
        load.goes_on(10).await;
    }
    load.assert_no_failure("while workers were added and removed");

    for service in ["gateway", "ingest", "query", "ecg-worker", "alarms"] {
        step(&format!("{service} is replaced under load"));
        print!("   {}", stack.script(&format!("roll {service}")).await);
        load.goes_on(10).await;
        load.assert_no_failure(&format!("while {service} was replaced"));
        println!("   no failed request; the slowest upload took {:.1} s", load.slowest().as_secs_f64());
    }

    for server in ["nats", "mongo"] {
        step(&format!("{server} is restarted under load"));
        stack.compose(&format!("restart {server}")).await;
        load.goes_on(10).await;
        let (failures, slowest) = (load.failures().len(), load.slowest().as_secs_f64());
        println!("   {failures} attempts were rejected temporarily; the slowest upload took {slowest:.1} s");
    }

    step("a backup is taken under load");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let stored = records::read_all_files(&viewer).await;
    let before_backup = load.uploads();
    print!("   {}", stack.script(&format!("backup {}", file("under-load"))).await);
    load.goes_on(1).await;
    load.assert_no_failure("while a backup was taken");
    let during_backup = load.uploads() - before_backup;
    assert!(during_backup > 0, "nothing was uploaded while the backup was taken");

    step("every accepted upload is stored once");
    let promises = load.end().await;
    records::assert_all_once(&viewer, &promises).await;
    assert_eq!(
        dead_letters(&stack, &secrets).await,
        Vec::<serde_json::Value>::new(),
        "there are dead letters"
    );
    follows(&mut nats, &viewer).await;
    follows(&mut events, &viewer).await;
    drop((nats, events));
    let before = records::answers(&viewer).await;

    step("down and up: all data are there");
    stack.compose("down").await;
    stack.up().await;
    assert_same(&before, &records::answers(&viewer).await);

    step("backup and restore are interrupted by signals");
    print!("   {}", stack.script(&format!("backup {}", file("whole"))).await);
    interruptions(&stack, &folder, &file("whole")).await;
    assert_same(&before, &records::answers(&viewer).await);

    step("the backup taken under load is restored into an empty system");
    stack.compose("down --volumes").await;
    stack.up().await;
    let secrets = stack.create_tokens().await;
    let viewer = stack.gateway(&secrets.viewer);
    assert_eq!(records::answers(&viewer).await, Vec::<String>::new(), "the new system is empty");
    print!("   {}", stack.script(&format!("restore {}", file("under-load"))).await);
    let restored = records::read_all_files(&viewer).await;
    println!("   {} files of {} before the backup", restored.len(), stored.len());
    assert!(restored.is_superset(&stored), "files are missing that were stored before the backup");

    step("a second restore gives the same answers");
    print!("   {}", stack.script(&format!("restore {}", file("whole"))).await);
    assert_same(&before, &records::answers(&viewer).await);
    let uploader = stack.gateway(&secrets.uploader);
    let mut events = Feed::start(FeedSettings::new(viewer.clone(), None));
    connected(&mut events, FeedMode::ServerSentEvents).await;
    upload_one(&uploader, mrn).await;
    analysed(&mut events, mrn).await;
    step("done");
}

/// Sends each signal at a different point of both scripts.
async fn interruptions(stack: &Stack, folder: &tempfile::TempDir, whole: &str) {
    let started = || folder.path().read_dir().unwrap().flatten().any(|file| is_part(&file.path()));
    let written = || {
        let parts = folder.path().read_dir().unwrap().flatten().filter(|file| is_part(&file.path()));
        parts.into_iter().any(|part| part.metadata().is_ok_and(|part| part.len() > 0))
    };
    for (signal, late) in [("INT", false), ("TERM", true), ("HUP", true), ("KILL", false)] {
        let target = folder.path().join(format!("backup-{signal}"));
        let line = format!("backup {}", target.display());
        stack.interrupt(&line, signal, || if late { written() } else { started() }).await;
        assert!(!target.exists(), "an interrupted backup exists under its final name");
        for part in folder.path().read_dir().unwrap().flatten().filter(|file| is_part(&file.path())) {
            assert_eq!(signal, "KILL", "a partial backup remains");
            std::fs::remove_file(part.path()).unwrap();
        }
    }
    for (signal, milliseconds) in [("INT", 0), ("TERM", 600), ("HUP", 1200), ("KILL", 1800)] {
        let started = Instant::now();
        let reached = || started.elapsed() >= Duration::from_millis(milliseconds);
        stack.interrupt(&format!("restore {whole}"), signal, reached).await;
    }
    // This completes the last interrupted restore.
    stack.script(&format!("restore {whole}")).await;
}

fn is_part(file: &std::path::Path) -> bool {
    file.to_string_lossy().contains(".part.")
}

async fn dead_letters(stack: &Stack, secrets: &Secrets) -> Vec<serde_json::Value> {
    let url = format!("{}/api/v1/dead-letters", stack.url);
    let answer = testkit::http_client().get(url).bearer_auth(&secrets.admin).send().await.unwrap();
    let page: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
    page["items"].as_array().expect("a page").clone()
}

async fn tokens_are_asked_for(stack: &Stack, secrets: &Secrets) {
    let http = testkit::http_client();
    let read = format!("{}/api/v1/patients", stack.url);
    let write = format!("{}/api/new_patient", stack.url);
    let body = serde_json::json!({ "medical_record_number": 1, "name": "Nobody" });
    for (token, may_read, may_write) in [
        (None, 401, 401),
        (Some("0123456789abcdef"), 401, 401),
        (Some(&secrets.uploader[1..]), 401, 401),
        (Some(&*secrets.uploader), 403, 200),
        (Some(&*secrets.viewer), 200, 403),
        (Some(&*secrets.admin), 200, 200),
    ] {
        let asked = [(http.get(&read), may_read), (http.post(&write).json(&body), may_write)];
        for (request, expected) in asked {
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            assert_eq!(request.send().await.unwrap().status().as_u16(), expected);
        }
    }
}

async fn secrets_are_separate(stack: &Stack) {
    for (service, expected) in [
        ("gateway", &["alarms-token", "ingest-token", "key", "nats-password", "query-token", "tokens"][..]),
        ("query", &["mongodb-uri", "token"]),
        ("ingest", &["mongodb-uri", "nats-password", "token"]),
        ("ecg-worker", &["nats-password"]),
        ("alarms", &["mongodb-uri", "nats-password", "token", "webhook-secret"]),
        ("nats", &["passwords.conf", "routes.conf"]),
        ("mongo", &["keyfile", "root-password"]),
    ] {
        let mut files = stack.files(service, "/secrets").await;
        files.sort();
        let expected: Vec<_> = expected.iter().map(|file| format!("/secrets/{service}/{file}")).collect();
        assert_eq!(files, expected, "secrets of {service}");
    }
    let tokens = stack.compose("exec -T gateway cat /secrets/gateway/tokens").await;
    for line in tokens.lines().filter(|line| !line.starts_with('#')) {
        let hash = line.split_whitespace().nth(2).unwrap_or_default();
        assert!(
            hash.len() == 64 && !line.contains("bedside_"),
            "the token file contains only hashes: {line}"
        );
    }
}

/// Rotates the token of the bed. The gateway rejects the old one without a restart.
async fn rotated(stack: &Stack, uploader: Gateway, secrets: Secrets) -> (Gateway, Secrets) {
    let token = stack.init("rotate bed-1", "BEDSIDE_TOKEN_BED_1").await;
    let new = stack.gateway(&token);
    let mrn = Mrn::new(9).unwrap();
    let nine = Upload { name: Some("Nine".to_owned()), ..Upload::of(Vec::new()) };
    testkit::within("the new token is accepted", || async {
        new.upload(mrn, &nine, |_| {}).await.ok().map(drop)
    })
    .await;
    let refused = uploader.upload(mrn, &nine, |_| {}).await;
    assert!(matches!(refused, Err(ClientError::Unauthorized(_))), "{refused:?}");
    (new, Secrets { uploader: token, ..secrets })
}

/// Share of a core per worker, so that cores remain for the other services on a small machine.
const SHARE_OF_A_CORE: &str = "0.1";
const JOBS: u64 = 24;
/// Long strips, so that the analysis takes most of the time.
const STRIP_S: f64 = 20.0;
const GAIN: f64 = 1.8;
/// Number of measurements: on a busy machine, workers may not get their share.
const TRIES: u64 = 3;

/// Two workers analyse at least 1.8 times as many ECGs per second as one.
async fn workers_add_up(stack: &Stack, uploader: &Gateway, viewer: &Gateway) {
    let mut best = 0.0_f64;
    for number in 0..TRIES {
        best = best.max(gain_of_a_second_worker(stack, uploader, viewer, number).await);
        if best >= GAIN {
            break;
        }
    }
    assert!(best >= GAIN, "two workers are only {best:.2} times as fast as one");
    stack.limited_workers(1, "0").await;
}

/// Queues the jobs first, so that the rate depends only on the workers.
async fn gain_of_a_second_worker(stack: &Stack, uploader: &Gateway, viewer: &Gateway, number: u64) -> f64 {
    let mut rates = Vec::new();
    for count in [1, 2] {
        stack.limited_workers(0, SHARE_OF_A_CORE).await;
        let mrn = Mrn::new(20 + 2 * number + count).unwrap();
        for seed in 0..JOBS {
            let csv = test_data::strip_csv(70.0, STRIP_S, count * 1_000 + seed);
            let strip = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", csv);
            uploader.upload(mrn, &Upload::of(vec![strip]), |_| {}).await.unwrap();
        }
        stack.limited_workers(usize::try_from(count).unwrap(), SHARE_OF_A_CORE).await;
        let analysed = async |wanted: usize| {
            testkit::within("jobs are processed", || async {
                // Poll slowly, so that polling uses little processor time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let ecgs = viewer.ecgs(mrn, None, Some(500)).await.ok()?.items;
                let done = ecgs.iter().filter(|ecg| ecg.status != EcgStatus::Pending).count();
                (done >= wanted).then(|| (done, Instant::now()))
            })
            .await
        };
        // The measurement starts when every worker has a job and ends before the queue is empty.
        let (first, started) = analysed(6).await;
        let (last, ended) = analysed(usize::try_from(JOBS).unwrap() - 2).await;
        rates.push((last - first) as f64 / (ended - started).as_secs_f64());
    }
    let gain = rates[1] / rates[0];
    println!("   one worker {:.2}/s, two {:.2}/s: {gain:.2} times", rates[0], rates[1]);
    gain
}

async fn upload_one(uploader: &Gateway, mrn: Mrn) {
    let strip = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::strip_csv(64.0, 10.0, 1));
    let answer = uploader.upload(mrn, &Upload::of(vec![strip]), |_| {}).await.unwrap();
    assert!(matches!(answer, UploadAnswer::Stored(_)), "{answer:?}");
}

/// Waits until the feed is connected in this mode.
async fn connected(feed: &mut Feed, mode: FeedMode) {
    let received = async {
        loop {
            match feed.next().await.unwrap() {
                FeedEvent::Connection(state) if state.mode == mode => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), received)
        .await
        .unwrap_or_else(|_| panic!("no feed: {mode}"));
}

/// Waits until the feed reports the analysed ECG of a patient.
async fn analysed(feed: &mut Feed, mrn: Mrn) -> PatientUpdated {
    let received = async {
        loop {
            match feed.next().await.unwrap() {
                FeedEvent::Updated(update)
                    if update.patient.mrn == mrn && update.patient.latest_heart_rate.is_some() =>
                {
                    break *update;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), received).await.expect("the analysis is pushed")
}

/// Verifies that a feed that was open all the time shows the stored state.
async fn follows(feed: &mut Feed, viewer: &Gateway) {
    let mut shown = std::collections::BTreeMap::new();
    let stored = viewer.all_patients(None).await.unwrap().items;
    let received = async {
        while !stored.iter().all(|patient| shown.get(&patient.mrn) == Some(&patient.version)) {
            match feed.next().await.unwrap() {
                FeedEvent::Snapshot(patients) => {
                    shown = patients.into_iter().map(|patient| (patient.mrn, patient.version)).collect();
                }
                FeedEvent::Updated(update) => {
                    shown.insert(update.patient.mrn, update.patient.version);
                }
                FeedEvent::Connection(_)
                | FeedEvent::Damaged(_)
                | FeedEvent::Alarms(_)
                | FeedEvent::Outdated(_) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(70), received).await.expect("the feed shows the stored state");
}

fn assert_same(before: &[String], after: &[String]) {
    let differences: Vec<_> = before.iter().zip(after).filter(|(before, after)| before != after).collect();
    assert!(differences.is_empty(), "{} answers differ, as {:?}", differences.len(), differences.first());
    assert_eq!(before.len(), after.len());
    println!("   {} answers are the same", before.len());
}
