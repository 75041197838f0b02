//! The four services in one process, joined on the local adapters.

use std::path::PathBuf;
use std::sync::Arc;

use bus::local::LocalBus;
use bus::{EventBus, QueueLimits, StagingStore};
use runtime::health::Check;
use runtime::{ByteSize, LogArgs, RetryArgs, Secret, Shutdown, StartError};
use store::PatientStore;
use store::sqlite::SqliteStore;

use crate::folder;

/// Settings of the whole system in one process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Add simulated patients that send a fresh ECG every few seconds
    #[arg(long, env = "BEDSIDE_DEMO")]
    demo: bool,
    /// Take the time that this computer's clock shows for right: ends the alarm that the clock is behind a time it has
    /// shown before. Set the clock right first
    #[arg(long)]
    accept_clock: bool,
    /// Messages that each queue takes; more are refused for now
    #[arg(long, env = "BEDSIDE_MAX_QUEUED", value_name = "NUMBER", default_value_t = QueueLimits::default().max_messages)]
    max_queued: u64,
    /// Bytes of files that may wait to be stored; more are refused for now
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
    log: LogArgs,
}

/// Starts everything, and ends it in the order in which nothing is lost: first the gateway, so that no upload comes in
/// any more, then those who work off what has come in.
pub(crate) async fn serve(args: Args) -> Result<(), StartError> {
    runtime::init_logging("standalone", &args.log)?;
    let Args { data, demo, accept_clock, max_queued, max_staged, retry, mut gateway, ingest, worker, .. } =
        args;
    gateway.admin_for_clients = true;
    gateway.check()?;
    if demo && (gateway.tokens.is_some() || gateway.scheme() == "https") {
        return Err(StartError::config(
            "--demo is for trying out on this machine: leave it out, or leave out --tokens and --tls-cert",
        ));
    }
    let scheme = gateway.scheme();
    let data = data.map_or_else(folder::default, Ok)?;
    let _lock = folder::open(&data)?;
    if gateway.key_file.is_none() {
        let key = data.join(folder::KEY);
        Secret::read_or_create(&key)?;
        gateway.key_file = Some(key);
    }
    gateway.audit_log.get_or_insert_with(|| gateway::AuditTarget::File(data.join(folder::AUDIT_LOG)));
    gateway.data_dir = Some(data.clone());
    let listener = http_server::bind(gateway.listen).await?;
    let address = listener.local_addr().map_err(StartError::failed)?;

    let limits = QueueLimits { max_messages: max_queued, max_staged_bytes: max_staged.0 };
    // In this order: a folder with queues and without patients is not whole, see `folder::open`.
    let store: Arc<dyn PatientStore> = SqliteStore::open(&data.join(folder::PATIENTS)).map_err(|error| {
        StartError::failed(format!("the patients in {} cannot be opened: {error}", data.display()))
    })?;
    if accept_clock {
        println!("{}", ingest::accept_clock(&*store).await.map_err(StartError::failed)?);
    }
    let local = LocalBus::open(&data.join(folder::QUEUES), retry.policy(), limits).map_err(|error| {
        StartError::failed(format!("the queues in {} cannot be opened: {error}", data.display()))
    })?;
    let bus: Arc<dyn EventBus> = local.clone();
    let stage: Arc<dyn StagingStore> = local;

    let shutdown = Shutdown::on_signal();
    let behind_gateway = Shutdown::new();
    let ingest_ports = ingest::Ports { bus: bus.clone(), stage: stage.clone(), store: store.clone() };
    let ingest = tokio::spawn(ingest::run(ingest, ingest_ports, behind_gateway.clone()));
    let worker_ports = ecg_worker::Ports { bus: bus.clone(), stage: stage.clone() };
    let worker = tokio::spawn(ecg_worker::run(worker, worker_ports, behind_gateway.clone()));
    if demo {
        let settings = client::Settings::new(format!("http://{address}"));
        let gateway = client::Gateway::new(&settings).map_err(StartError::failed)?;
        tokio::spawn(crate::demo::run(gateway, shutdown.clone()));
    }
    println!("Bedside listens on {scheme}://{address}");
    println!("Data: {}", data.display());
    println!("Not a certified medical device: not for clinical use. Ctrl-C ends it.");

    let checks = vec![Check::store(&store)];
    let reads = gateway::Reads::InProcess(query::router(store));
    let served =
        gateway::run_on(listener, gateway, gateway::Ports { bus, stage, reads, checks }, shutdown).await;
    behind_gateway.begin();
    for part in [ingest, worker] {
        part.await.map_err(StartError::failed)??;
    }
    served
}
