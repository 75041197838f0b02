//! The four services in one process, joined on the local adapters.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::local::LocalBus;
use bus::{BlobStage, EventBus, QueueLimits, RetryPolicy};
use runtime::{LogArgs, Shutdown, StartError};
use store::PatientStore;
use store::sqlite::SqliteStore;

/// Settings of the whole system in one process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Add simulated patients that send a fresh ECG every few seconds
    #[arg(long, env = "BEDSIDE_DEMO")]
    demo: bool,
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
    runtime::init_logging(&args.log)?;
    let Args { data, demo, mut gateway, ingest, worker, .. } = args;
    gateway.admin_for_clients = true;
    gateway.check()?;
    let data = data.map_or_else(default_folder, Ok)?;
    let _lock = open_folder(&data)?;
    let listener = runtime::http::bind(gateway.listen).await?;
    let address = listener.local_addr().map_err(StartError::failed)?;

    let local = LocalBus::open(&data.join("queues.db"), RetryPolicy::default(), QueueLimits::default())
        .map_err(|error| {
            StartError::failed(format!("the queues in {} cannot be opened: {error}", data.display()))
        })?;
    let store: Arc<dyn PatientStore> = SqliteStore::open(&data.join("patients.db")).map_err(|error| {
        StartError::failed(format!("the patients in {} cannot be opened: {error}", data.display()))
    })?;
    let bus: Arc<dyn EventBus> = local.clone();
    let stage: Arc<dyn BlobStage> = local;

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
    println!("Bedside listens on http://{address}");
    println!("Data: {}", data.display());
    println!("Not a certified medical device: not for clinical use. Ctrl-C ends it.");

    let reads = gateway::Reads::InProcess(query::router(store));
    let served = gateway::run_on(listener, gateway, gateway::Ports { bus, stage, reads }, shutdown).await;
    behind_gateway.begin();
    for part in [ingest, worker] {
        part.await.map_err(StartError::failed)??;
    }
    served
}

fn default_folder() -> Result<PathBuf, StartError> {
    dirs::data_dir().map(|folder| folder.join("bedside")).ok_or_else(|| {
        StartError::config("there is no folder for the user's data here; name one with --data")
    })
}

/// Makes the folder if need be, and locks it: two processes on the same data would deliver the same work twice.
fn open_folder(data: &Path) -> Result<File, StartError> {
    let cannot = |error: std::io::Error| {
        StartError::failed(format!("the data folder {} cannot be used: {error}", data.display()))
    };
    fs::create_dir_all(data).map_err(cannot)?;
    restrict(data).map_err(cannot)?;
    let lock =
        File::options().create(true).truncate(false).write(true).open(data.join("lock")).map_err(cannot)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::failed(format!(
            "another Bedside uses the data folder {} already; end it or name another folder with --data",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// Patients' data is nobody else's.
#[cfg(unix)]
fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}
