//! Runs the five services in one process on the local adapters.
//!
//! Shutdown order: the gateway stops first, so that no new uploads arrive. Then ingest and the ECG worker
//! stop.

use bus::local::LocalBus;
use bus::{BusPorts, QueueLimits};
use runtime::health::Check;
use runtime::{ByteSize, LogArgs, RetryArgs, Secret, Shutdown, StartError};
use store::sqlite::SqliteStore;

use crate::data_dir::{self, DataArgs, Purpose};
use crate::demo::{self, Demo, DemoArgs};

/// Settings of the whole system in one process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    demo: DemoArgs,
    /// Accept the current time of this computer as correct. This ends the alarm that the clock is behind a
    /// time that it has shown before. Correct the clock first
    #[arg(long)]
    accept_clock: bool,
    /// Maximum number of messages per queue; further messages are rejected for the time being
    #[arg(long, env = "BEDSIDE_MAX_QUEUED", value_name = "NUMBER", default_value_t = QueueLimits::default().max_messages)]
    max_queued: u64,
    /// Maximum size of all files that wait to be stored; further files are rejected for the time being
    #[arg(
        long,
        env = "BEDSIDE_MAX_STAGED",
        value_name = "SIZE",
        default_value_t = ByteSize(QueueLimits::default().max_staged_bytes)
    )]
    max_staged: ByteSize,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    gateway: gateway::Config,
    #[command(flatten)]
    ingest: ingest::Config,
    #[command(flatten)]
    worker: ecg_worker::Config,
    #[command(flatten)]
    alarms: alarms::Config,
    #[command(flatten)]
    notifications: alarms::NotifyArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Log filter of a demo, unless another one is set: the address on the terminal must stay visible.
const DEMO_LOG: &str = "warn";

/// Starts all services and runs them until a signal arrives. `log_is_default` states that no log filter was
/// set.
pub(crate) async fn serve(args: Args, log_is_default: bool) -> Result<(), StartError> {
    let Args {
        data,
        demo,
        accept_clock,
        max_queued,
        max_staged,
        retry,
        mut gateway,
        ingest,
        worker,
        alarms,
        notifications,
        mut log,
    } = args;
    if demo.demo && log_is_default {
        DEMO_LOG.clone_into(&mut log.log);
    }
    runtime::init_logging("standalone", &log)?;
    gateway.admin_for_clients = true;
    gateway.check()?;
    if demo.demo && (gateway.tokens.is_some() || gateway.scheme() == "https") {
        return Err(StartError::config(
            "--demo is for use on this machine only: remove it, or remove --tokens and --tls-cert",
        ));
    }
    let notifications = notifications.open()?;
    // Read before the directory of the demo is cleared.
    let scenario = demo.demo.then(|| demo.scenario()).transpose()?;
    let scheme = gateway.scheme();
    let purpose = if demo.demo { Purpose::Demo { keep: demo.keep } } else { Purpose::Patients };
    let data = data.path_for(purpose)?;
    let _lock = data_dir::open(&data, purpose)?;
    if gateway.key_file.is_none() {
        let key = data.join(data_dir::KEY);
        Secret::read_or_create(&key)?;
        gateway.key_file = Some(key);
    }
    gateway.audit_log.get_or_insert_with(|| gateway::AuditTarget::File(data.join(data_dir::AUDIT_LOG)));
    gateway.data_dir = Some(data.clone());
    let listener = http_server::bind(gateway.listen).await?;
    let address = listener.local_addr().map_err(StartError::failed)?;

    let limits =
        QueueLimits { max_messages: max_queued, max_staged_bytes: max_staged.0, ..QueueLimits::default() };
    // The patients are created first: `data_dir::open` rejects a directory with queues and without patients.
    let store = SqliteStore::open(&data.join(data_dir::PATIENTS)).map_err(|error| {
        StartError::failed(format!("the patients in {} cannot be opened: {error}", data.display()))
    })?;
    if accept_clock {
        println!("{}", ingest::accept_clock(&*store).await.map_err(StartError::failed)?);
    }
    let local = LocalBus::open(&data.join(data_dir::QUEUES), retry.policy(), limits).map_err(|error| {
        StartError::failed(format!("the queues in {} cannot be opened: {error}", data.display()))
    })?;
    let bus = BusPorts::of(&local);
    // The adapter closes its queues when its last reference is dropped, so only the services hold one.
    drop(local);

    let shutdown = Shutdown::on_signal();
    let behind_gateway = Shutdown::new();
    let ingest_ports = ingest::Ports::of(bus.clone(), store.clone());
    let records = gateway::Reads::InProcess(ingest::router(ingest_ports.clone()));
    let ingest = tokio::spawn(ingest::run(ingest, ingest_ports, behind_gateway.clone()));
    let worker_ports = ecg_worker::Ports { queue: bus.queue.clone(), staging: bus.staging.clone() };
    let worker = tokio::spawn(ecg_worker::run(worker, worker_ports, behind_gateway.clone()));
    let live = tokio::spawn(ecg_worker::run_live(bus.waves.clone(), behind_gateway.clone()));
    let alarms = alarms::Alarms::new(alarms, notifications, alarms::Ports::of(&bus, store.clone()));
    let calls_of_alarms = gateway::Reads::InProcess(alarms.router());
    let evaluating = tokio::spawn({
        let shutdown = behind_gateway.clone();
        async move { alarms.run(shutdown).await }
    });
    if let Some(scenario) = scenario {
        let settings = client::Settings::new(format!("http://{address}"));
        let gateway = client::Gateway::new(&settings).map_err(StartError::failed)?;
        let simulation = Demo::start(scenario, demo.demo_pace);
        println!("{}", simulation.banner());
        tokio::spawn(simulation.run(gateway, shutdown.clone()));
    }
    println!("Not a certified medical device: not for clinical use.");
    println!("Data directory: {}", data.display());
    println!("Press Ctrl-C to stop.");
    if demo.demo {
        println!("To see the ward, open {} in a browser.", demo::url(address));
    }
    println!("Bedside listens on {scheme}://{address}");
    if demo.demo && !demo.no_open {
        demo::open_on_desktop(address);
    }

    let query_ports = query::Ports::of(store);
    let checks = vec![
        Check::store(&query_ports.patients),
        Check::task("ingest", ingest.abort_handle()),
        Check::task("ecg-worker", worker.abort_handle()),
        Check::task("live-analysis", live.abort_handle()),
        Check::task("alarms", evaluating.abort_handle()),
    ];
    let reads = gateway::Reads::InProcess(query::router(query_ports));
    let served = gateway::run_on(
        listener,
        gateway,
        gateway::Ports { bus, reads, records, alarms: calls_of_alarms, checks },
        shutdown,
    )
    .await;
    behind_gateway.begin();
    for part in [ingest, worker, live, evaluating] {
        part.await.map_err(StartError::failed)??;
    }
    served
}
