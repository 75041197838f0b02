//! Fault injection: faults on a random schedule during uploads. A checker then compares the answers of the gateway with the stored
//! data and with the updates that watchers received.

mod check;
mod clients;
mod plan;
mod watch;
mod waves;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::{FeedSettings, Gateway, NatsSettings, Settings, Timeouts};

use crate::{Between, Extras, Line, Mode, MongoServer, Service, System, within};
use clients::{Answer, ClientSettings, Record};
use watch::Watcher;
use waves::WaveLoad;

pub use plan::{Fault, Step, possible, schedule};

/// Parameters of a run.
#[derive(Debug, Clone)]
pub struct FaultRun {
    /// Way to run the system.
    pub mode: Mode,
    /// Determines the schedule and the uploads.
    pub seed: u64,
    /// Minimum number of faults.
    pub faults: usize,
    /// Minimum number of uploads.
    pub uploads: usize,
    /// Number of concurrent clients.
    pub clients: u64,
    /// Number of devices that stream waveforms.
    pub streams: u64,
    /// Mean duration of a pause; longer than `ack_wait`, so that deliveries of the paused process are redelivered.
    pub pause: Duration,
    /// Duration of a long outage: longer than all attempts at a message together.
    pub outage: Duration,
    /// Acknowledgement timeout of the broker.
    pub ack_wait: Duration,
    /// Stop the database with SIGTERM instead of SIGKILL, for a stand-in that would lose acknowledged writes.
    pub gentle_database: bool,
    /// Print each step.
    pub verbose: bool,
}

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// Started uploads.
    pub uploads: usize,
    /// Of these: stored, accepted, refused, without a definite answer.
    pub answers: [usize; 4],
    /// Total number of attempts.
    pub attempts: usize,
    /// Number of injected faults.
    pub faults: usize,
    /// Number of acknowledged samples of waveforms.
    pub samples: u64,
    /// Updates that watchers received.
    pub updates: usize,
    /// Total time, including the check.
    pub took: Duration,
    /// Violated guarantees, one sentence each.
    pub violations: Vec<String>,
}

/// Capacity of a queue: small, so that a run can fill it.
const QUEUE: &str = "150";
const FLOOD: u64 = 400;
const PATIENTS: u64 = 12;

/// All attempts at a message together are shorter than an outage.
const RETRIES: &[&str] = &["--max-attempts", "3", "--retry-waits", "50ms,200ms"];

/// Runs the system under faults and checks the result.
///
/// # Panics
/// If a process does not start again or the system does not become idle.
pub async fn run(run_settings: &FaultRun) -> Report {
    let started = Instant::now();
    let ack_wait = format!("{}ms", run_settings.ack_wait.as_millis());
    let queue = ["--nats-max-messages", QUEUE, "--nats-max-staged", "64MB", "--nats-ack-wait", &ack_wait];
    let gateway: &[&str] = match run_settings.mode {
        Mode::Standalone => &["--max-queued", QUEUE],
        Mode::Processes => &["--receipt-wait", "2s"],
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (mut gateway, mut bus) = (words(gateway), words(&queue));
    match run_settings.mode {
        Mode::Standalone => gateway.extend(words(RETRIES)),
        Mode::Processes => bus.extend(words(RETRIES)),
    }
    let extras = Extras { gateway, bus, ..Extras::default() };
    let mut system = System::start_fragile(run_settings.mode, &extras);
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(5),
        receipt: Duration::from_secs(15),
        ..Timeouts::default()
    };
    let fragile =
        Gateway::new(&Settings { timeouts, ..Settings::new(system.fragile_url()) }).expect("a valid address");
    let watchers = start_watchers(&mut system, &fragile);
    let waves = WaveLoad::start(&fragile, run_settings.streams, run_settings.seed);
    let client_settings = ClientSettings {
        gateway: fragile,
        url: system.fragile_url(),
        uploads: usize::MAX,
        started: Arc::new(AtomicUsize::new(0)),
        stop: Arc::new(AtomicBool::new(false)),
        patients: PATIENTS,
        seed: run_settings.seed,
    };
    let uploading: Vec<_> = (0..run_settings.clients)
        .map(|client| tokio::spawn(clients::upload_all(client_settings.clone(), client)))
        .collect();
    let mut records = Vec::new();
    let mut faults = 0;
    // Rounds until both minimum numbers are reached.
    let mut round = 0;
    while faults < run_settings.faults
        || client_settings.started.load(Ordering::Relaxed) < run_settings.uploads
    {
        let seed = run_settings.seed.wrapping_add(round);
        for step in plan::schedule(
            run_settings.mode,
            seed,
            run_settings.faults.max(1),
            run_settings.pause,
            run_settings.outage,
        ) {
            if run_settings.verbose {
                eprintln!(
                    "{:7.1} s, {} uploads started: {step}",
                    started.elapsed().as_secs_f64(),
                    client_settings.started.load(Ordering::Relaxed)
                );
            }
            records.extend(inject(&mut system, &client_settings, run_settings, step, faults as u64).await);
            faults += 1;
            tokio::time::sleep(step.rest).await;
        }
        round += 1;
    }
    // Without faults, every client receives its final answer.
    client_settings.stop.store(true, Ordering::Relaxed);
    for client in uploading {
        records.extend(client.await.expect("a client does not panic"));
    }
    // Wait until the system is idle: otherwise uploads are stored while the check reads.
    let mut violations = Vec::new();
    let (samples, wave_violations) = waves.finish(&system.gateway()).await;
    violations.extend(wave_violations);
    wait_until_idle(&mut system, &mut violations).await;
    violations.extend(check::violations(&system, &system.gateway(), &records).await);
    violations.extend(check_watchers(&system, &watchers, &records).await);
    let count = |of: fn(&Answer) -> bool| records.iter().filter(|record| of(&record.answer)).count();
    if run_settings.verbose {
        for record in &records {
            if let Answer::Refused(reason) = &record.answer {
                eprintln!("refused: {reason}");
            }
        }
    }
    if !violations.is_empty() {
        eprintln!("{}", system.logs());
    }
    Report {
        uploads: records.len(),
        answers: [
            count(|answers| matches!(answers, Answer::Stored(_))),
            count(|answers| matches!(answers, Answer::Accepted(_))),
            count(|answers| matches!(answers, Answer::Refused(_))),
            count(|answers| matches!(answers, Answer::Nothing)),
        ],
        attempts: records.iter().map(|record| record.attempts).sum(),
        faults,
        samples,
        updates: watchers.iter().map(|watcher| watcher.violations().1).sum(),
        took: started.elapsed(),
        violations,
    }
}

/// Starts a watcher over server-sent events and, if there is a broker, one over NATS.
fn start_watchers(system: &mut System, gateway: &Gateway) -> Vec<Watcher> {
    let settings = || {
        let mut settings = FeedSettings::new(gateway.clone(), None);
        settings.reload_every = Duration::from_secs(5);
        settings.poll_every = Duration::from_secs(1);
        settings
    };
    let mut watchers = vec![Watcher::start(settings())];
    if let Some(line) = system.line(Between::ServicesAndBroker) {
        let mut over_nats = settings();
        over_nats.nats = Some(NatsSettings::new(format!("nats://127.0.0.1:{}", line.port())));
        watchers.push(Watcher::start(over_nats));
    }
    watchers
}

async fn inject(
    system: &mut System,
    client_settings: &ClientSettings,
    run_settings: &FaultRun,
    step: Step,
    salt: u64,
) -> Vec<Record> {
    let wait = || tokio::time::sleep(step.duration);
    match step.fault {
        Fault::Kill(service) => {
            system.service(service).kill();
            wait().await;
            system.service(service).restart();
        }
        Fault::Pause(service) => {
            system.service(service).pause();
            wait().await;
            system.service(service).resume();
        }
        Fault::KillBroker => {
            let nats = system.nats().expect("a broker");
            nats.kill();
            wait().await;
            nats.restart();
        }
        Fault::KillDatabase => {
            stop_database(system.mongo().expect("a database"), run_settings);
            wait().await;
            system.mongo().expect("a database").restart();
        }
        Fault::Cut(between) => with_line(system, between, Line::Cut, step.duration).await,
        Fault::Silence(between) => with_line(system, between, Line::Silent, step.duration).await,
        Fault::Slow(between) => {
            with_line(system, between, Line::Slow(Duration::from_millis(40)), step.duration).await
        }
        Fault::FillQueue => {
            // Standalone consumes its queue in the same process, so only the flood can fill it.
            let paused = system.mode() == Mode::Processes;
            if paused {
                system.service(Service::Ingest).pause();
            }
            let records = clients::flood(client_settings, FLOOD, salt).await;
            if paused {
                system.service(Service::Ingest).resume();
            }
            return records;
        }
        Fault::FillDisk => {
            system.disk().expect("a small disk").fill();
            wait().await;
            system.disk().expect("a small disk").free();
            // A broker rejects writes after a full disk until it is restarted; its container does that.
            if let Some(nats) = system.nats() {
                nats.restart();
            }
        }
        Fault::FillDatabaseDisk => {
            system.database_disk().expect("a small disk of the database").fill();
            wait().await;
            system.database_disk().expect("a small disk of the database").free();
            // A database ends after a full disk; its container restarts it.
            system.mongo().expect("a database").restart();
        }
        Fault::LoseDatabase => {
            stop_database(system.mongo().expect("a database"), run_settings);
            wait().await;
            system.mongo().expect("a database").restart();
        }
        Fault::PauseDatabase => {
            system.mongo().expect("a database").pause();
            wait().await;
            system.mongo().expect("a database").resume();
        }
    }
    Vec::new()
}

fn stop_database(database: &mut MongoServer, run_settings: &FaultRun) {
    if run_settings.gentle_database {
        database.stop();
    } else {
        database.kill();
    }
}

async fn with_line(system: &System, between: Between, line: Line, duration: Duration) {
    let proxy = system.line(between).expect("a proxy");
    proxy.set(line);
    tokio::time::sleep(duration).await;
    proxy.set(Line::Clear);
}

/// Waits until no staged files remain, and reports dead letters.
async fn wait_until_idle(system: &mut System, violations: &mut Vec<String>) {
    let url = system.admin_url(Service::Ingest);
    let gauge = |name: &'static str| {
        let url = url.clone();
        async move {
            let text =
                crate::http_client().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        }
    };
    let deadline = Instant::now() + Duration::from_secs(150);
    let staged = loop {
        let staged = gauge("bedside_staged_files ").await;
        if staged == Some(0.0) || Instant::now() > deadline {
            break staged;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    if staged != Some(0.0) {
        violations.push(format!("staged files remain: {staged:?}"));
    }
    let dead = within("ingest reports dead letters", || gauge("bedside_dead_letters ")).await;
    if dead > 0.0 {
        violations.push(format!("{dead} dead letters"));
    }
}

/// Every watcher has the latest version of each patient, and no version has decreased.
async fn check_watchers(system: &System, watchers: &[Watcher], records: &[Record]) -> Vec<String> {
    let mut out = Vec::new();
    let gateway = system.gateway();
    let mut latest = std::collections::BTreeMap::new();
    for mrn in records.iter().map(|record| record.mrn).collect::<std::collections::BTreeSet<_>>() {
        if let Some(patient) = gateway.patient(mrn).await.ok().flatten() {
            latest.insert(mrn, patient.version);
        }
    }
    for (number, watcher) in watchers.iter().enumerate() {
        let deadline = Instant::now() + Duration::from_secs(30);
        while watcher.versions() != latest && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if watcher.versions() != latest {
            out.push(format!("watcher {number} shows {:?}, latest is {latest:?}", watcher.versions()));
        }
        out.extend(watcher.violations().0);
    }
    out
}
