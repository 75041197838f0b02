//! Faults on a random schedule, uploads all the while, and a checker that compares what clients were told with what is
//! stored and what watchers saw.

mod check;
mod clients;
mod plan;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::{FeedSettings, Gateway, NatsSettings, Settings, Timeouts};

use crate::{Between, Extras, Line, Mode, MongoServer, Service, System, within};
use clients::{Orders, Record, Told};
use watch::Watcher;

pub use plan::{Fault, Step, possible, schedule};

/// How much to try.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Which way to run.
    pub mode: Mode,
    /// Tells the schedule and the uploads.
    pub seed: u64,
    /// At least so many faults ...
    pub faults: usize,
    /// ... and uploads.
    pub uploads: usize,
    /// Clients that upload side by side.
    pub clients: u64,
    /// How long a process that is paused stays so, about; longer than `ack_wait` for what it is meant for.
    pub pause: Duration,
    /// How long an outage lasts that is longer than all attempts at a message together.
    pub outage: Duration,
    /// Time after which a delivery counts as lost.
    pub ack_wait: Duration,
    /// The database is told to end (SIGTERM) instead of being killed: for a stand-in that then loses what it acknowledged.
    pub gentle_database: bool,
    /// Say what happens.
    pub verbose: bool,
}

/// What was tried and what came of it.
#[derive(Debug)]
pub struct Report {
    /// Uploads that were begun.
    pub uploads: usize,
    /// Of these: stored, accepted, refused, no last word.
    pub told: [usize; 4],
    /// Attempts in all.
    pub attempts: usize,
    /// Faults that happened.
    pub faults: usize,
    /// Updates that watchers were pushed.
    pub updates: usize,
    /// How long it took, the wait for quiet and the check included.
    pub took: Duration,
    /// Everything that was not as promised.
    pub complaints: Vec<String>,
}

/// Messages that a queue takes: few, so that it can be filled.
const QUEUE: &str = "150";
const FLOOD: u64 = 400;
const PATIENTS: u64 = 12;

/// So few attempts at a message, with waits so short, that all of them together end before an outage does.
const RETRIES: &[&str] = &["--max-attempts", "3", "--retry-waits", "50ms,200ms"];

/// Runs one trial.
///
/// # Panics
/// When the system does not come back, or does not come to rest.
pub async fn run(trial: &Trial) -> Report {
    let started = Instant::now();
    let ack_wait = format!("{}ms", trial.ack_wait.as_millis());
    let queue = ["--nats-max-messages", QUEUE, "--nats-max-staged", "64MB", "--nats-ack-wait", &ack_wait];
    let gateway: &[&str] = match trial.mode {
        Mode::Standalone => &["--max-queued", QUEUE],
        Mode::Processes => &["--receipt-wait", "2s"],
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (mut gateway, mut bus) = (words(gateway), words(&queue));
    match trial.mode {
        Mode::Standalone => gateway.extend(words(RETRIES)),
        Mode::Processes => bus.extend(words(RETRIES)),
    }
    let extras = Extras { gateway, bus, ..Extras::default() };
    let mut system = System::start_fragile(trial.mode, &extras);
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(5),
        receipt: Duration::from_secs(15),
        ..Timeouts::default()
    };
    let fragile = Gateway::new(&Settings { timeouts, ..Settings::new(system.fragile_url()) })
        .expect("the address of the proxy is one");
    let watchers = start_watchers(&mut system, &fragile);
    let orders = Orders {
        gateway: fragile,
        url: system.fragile_url(),
        uploads: usize::MAX,
        begun: Arc::new(AtomicUsize::new(0)),
        stop: Arc::new(AtomicBool::new(false)),
        patients: PATIENTS,
        seed: trial.seed,
    };
    let uploading: Vec<_> =
        (0..trial.clients).map(|client| tokio::spawn(clients::upload_all(orders.clone(), client))).collect();
    let mut records = Vec::new();
    let mut faults = 0;
    // As many rounds as it takes to see both numbers.
    let mut round = 0;
    while faults < trial.faults || orders.begun.load(Ordering::Relaxed) < trial.uploads {
        let seed = trial.seed.wrapping_add(round);
        for step in plan::schedule(trial.mode, seed, trial.faults.max(1), trial.pause, trial.outage) {
            if trial.verbose {
                eprintln!(
                    "{:7.1} s, {} uploads begun: {step}",
                    started.elapsed().as_secs_f64(),
                    orders.begun.load(Ordering::Relaxed)
                );
            }
            records.extend(harm(&mut system, &orders, trial, step, faults as u64).await);
            faults += 1;
            tokio::time::sleep(step.rest).await;
        }
        round += 1;
    }
    // The last word on each upload, with everything in order again.
    orders.stop.store(true, Ordering::Relaxed);
    for client in uploading {
        records.extend(client.await.expect("a client does not panic"));
    }
    // First: what is still on its way becomes stored between two looks of the check.
    let mut complaints = Vec::new();
    quiet(&mut system, &mut complaints).await;
    complaints.extend(check::complaints(&system, &system.gateway(), &records).await);
    complaints.extend(screens(&system, &watchers, &records).await);
    let count = |of: fn(&Told) -> bool| records.iter().filter(|record| of(&record.told)).count();
    if trial.verbose {
        for record in &records {
            if let Told::Refused(reason) = &record.told {
                eprintln!("refused: {reason}");
            }
        }
    }
    if !complaints.is_empty() {
        eprintln!("{}", system.logs());
    }
    Report {
        uploads: records.len(),
        told: [
            count(|told| matches!(told, Told::Stored(_))),
            count(|told| matches!(told, Told::Accepted(_))),
            count(|told| matches!(told, Told::Refused(_))),
            count(|told| matches!(told, Told::Nothing)),
        ],
        attempts: records.iter().map(|record| record.attempts).sum(),
        faults,
        updates: watchers.iter().map(|watcher| watcher.complaints().1).sum(),
        took: started.elapsed(),
        complaints,
    }
}

/// One over server-sent events, and where there is a broker one over NATS.
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

async fn harm(system: &mut System, orders: &Orders, trial: &Trial, step: Step, salt: u64) -> Vec<Record> {
    let wait = || tokio::time::sleep(step.stays);
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
            lose(system.mongo().expect("a database"), trial);
            wait().await;
            system.mongo().expect("a database").restart();
        }
        Fault::Cut(between) => with_line(system, between, Line::Cut, step.stays).await,
        Fault::Silence(between) => with_line(system, between, Line::Silent, step.stays).await,
        Fault::Slow(between) => {
            with_line(system, between, Line::Slow(Duration::from_millis(40)), step.stays).await
        }
        Fault::FillQueue => {
            // Standalone works its queue off in the same process; there the flood alone has to do.
            let paused = system.mode() == Mode::Processes;
            if paused {
                system.service(Service::Ingest).pause();
            }
            let records = clients::flood(orders, FLOOD, salt).await;
            if paused {
                system.service(Service::Ingest).resume();
            }
            return records;
        }
        Fault::FillDisk => {
            system.disk().expect("a small disk").fill();
            wait().await;
            system.disk().expect("a small disk").free();
            // A broker that met a full disk takes nothing until it is started again, as its container does by itself.
            if let Some(nats) = system.nats() {
                nats.restart();
            }
        }
        Fault::FillDatabaseDisk => {
            system.database_disk().expect("a small disk of the database").fill();
            wait().await;
            system.database_disk().expect("a small disk of the database").free();
            // A database that met a full disk ends, and is started by its container.
            system.mongo().expect("a database").restart();
        }
        Fault::LoseDatabase => {
            lose(system.mongo().expect("a database"), trial);
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

fn lose(database: &mut MongoServer, trial: &Trial) {
    if trial.gentle_database {
        database.stop();
    } else {
        database.kill();
    }
}

async fn with_line(system: &System, between: Between, line: Line, stays: Duration) {
    let proxy = system.line(between).expect("a proxy on every line");
    proxy.set(line);
    tokio::time::sleep(stays).await;
    proxy.set(Line::Clear);
}

/// Nothing is left on the stage, and nothing was given up.
async fn quiet(system: &mut System, complaints: &mut Vec<String>) {
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
        complaints.push(format!("files left on the stage: {staged:?}"));
    }
    let dead = within("ingest has counted dead letters", || gauge("bedside_dead_letters ")).await;
    if dead > 0.0 {
        complaints.push(format!("{dead} dead letters"));
    }
}

/// Every watcher ends on the last version of each patient, and none has seen a version go back.
async fn screens(system: &System, watchers: &[Watcher], records: &[Record]) -> Vec<String> {
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
        out.extend(watcher.complaints().0);
    }
    out
}
