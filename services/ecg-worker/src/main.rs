//! The ECG worker as a process, on NATS JetStream.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bus::WorkQueue;
use clap::Parser;
use http_server::admin;
use runtime::health::{Check, Health};
use runtime::{LogArgs, NatsArgs, Shutdown, StartError};

/// Analyses and draws raw ECGs, and analyses live ones. Any number of workers can share the work.
#[derive(Debug, Parser)]
#[command(name = "bedside-ecg-worker", version)]
struct Program {
    #[command(subcommand)]
    command: Option<runtime::Command>,
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
    let Program { command, config, admin_listen, nats, log } = program;
    if let Some(runtime::Command::Healthcheck) = command {
        return runtime::healthcheck(admin_listen).await;
    }
    runtime::init_logging("ecg-worker", &log)?;
    let nats = nats.config("bedside-ecg-worker")?;
    let listener = http_server::bind(admin_listen).await?;
    let shutdown = Shutdown::on_signal();
    http_server::print_address("ecg-worker", &listener)?;

    let health = Health::starting(&["bus"], &shutdown);
    let work = async {
        let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
        let queue: Arc<dyn WorkQueue> = nats.clone();
        health.begin_service(vec![Check::bus(&queue)]);
        let ports = ecg_worker::Ports { queue, staging: nats.clone() };
        let live = ecg_worker::run_live(nats, shutdown.clone());
        tokio::try_join!(ecg_worker::run(config, ports, shutdown.clone()), live).map(|_| ())
    };
    admin::serve_during(work, "ecg-worker", listener, health.clone(), &shutdown).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_flags_are_consistent() {
        super::Program::command().debug_assert();
    }
}
