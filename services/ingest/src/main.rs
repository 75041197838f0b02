//! Ingest as a process of its own, on NATS JetStream and MongoDB.

use std::net::SocketAddr;
use std::process::ExitCode;

use bus::EventBus;
use clap::Parser;
use runtime::admin::Check;
use runtime::{LogArgs, MongoArgs, NatsArgs, Shutdown, StartError, admin, http};
use store::PatientStore;

/// Takes uploads and results of analyses from the queues and stores them. The only writer of the patient store.
#[derive(Debug, Parser)]
#[command(name = "bedside-ingest", version)]
struct Program {
    #[command(flatten)]
    config: ingest::Config,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_INGEST_ADMIN_LISTEN", default_value = "127.0.0.1:9013")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    runtime::run_main("ingest", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program { config, admin_listen, nats, mongo, log } = program;
    runtime::init_logging(&log)?;
    let nats = nats.config("bedside-ingest")?;
    let store = mongo.connect().await?;
    let listener = http::bind(admin_listen).await?;
    let shutdown = Shutdown::on_signal();
    http::say_where("ingest", &listener)?;

    let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
    if !runtime::prepare_mongo(&store, &shutdown).await? {
        return Ok(());
    }
    let checks = {
        let (bus, store) = (nats.clone(), store.clone());
        vec![
            Check::new("bus", move || {
                let bus = bus.clone();
                async move { bus.check().await.map_err(|error| error.to_string()) }
            }),
            Check::new("store", move || {
                let store = store.clone();
                async move { store.check().await.map_err(|error| error.to_string()) }
            }),
        ]
    };
    let ports = ingest::Ports { bus: nats.clone(), stage: nats, store };
    let (worked, served) = tokio::join!(
        ingest::run(config, ports, shutdown.clone()),
        admin::serve("ingest", listener, checks, &shutdown),
    );
    worked.and(served)
}
