//! The ECG worker as a process of its own, on NATS JetStream.

use std::net::SocketAddr;
use std::process::ExitCode;

use bus::EventBus;
use clap::Parser;
use runtime::admin::Check;
use runtime::{LogArgs, NatsArgs, Shutdown, StartError, admin, http};

/// Analyses raw ECGs and draws them. Start as many as there is work for.
#[derive(Debug, Parser)]
#[command(name = "bedside-ecg-worker", version)]
struct Program {
    #[command(flatten)]
    config: ecg_worker::Config,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_WORKER_ADMIN_LISTEN", default_value = "127.0.0.1:9014")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    runtime::run_main("ecg-worker", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program { config, admin_listen, nats, log } = program;
    runtime::init_logging(&log)?;
    let nats = nats.config("bedside-ecg-worker")?;
    let listener = http::bind(admin_listen).await?;
    let shutdown = Shutdown::on_signal();
    http::say_where("ecg-worker", &listener)?;

    let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
    let checks = {
        let bus = nats.clone();
        vec![Check::new("bus", move || {
            let bus = bus.clone();
            async move { bus.check().await.map_err(|error| error.to_string()) }
        })]
    };
    let ports = ecg_worker::Ports { bus: nats.clone(), stage: nats };
    let (worked, served) = tokio::join!(
        ecg_worker::run(config, ports, shutdown.clone()),
        admin::serve("ecg-worker", listener, checks, &shutdown),
    );
    worked.and(served)
}
