//! The ECG worker as a process of its own, on NATS JetStream.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bus::EventBus;
use clap::Parser;
use http_server::admin;
use runtime::health::Check;
use runtime::{LogArgs, NatsArgs, Shutdown, StartError};

/// Analyses raw ECGs and draws them. Start as many as there is work for.
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

    let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
    let bus: Arc<dyn EventBus> = nats.clone();
    let checks = vec![Check::bus(&bus)];
    let ports = ecg_worker::Ports { bus, stage: nats };
    let (worked, served) = tokio::join!(
        ecg_worker::run(config, ports, shutdown.clone()),
        admin::serve("ecg-worker", listener, checks, &shutdown),
    );
    worked.and(served)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_of_all_parts_fit_together() {
        super::Program::command().debug_assert();
    }
}
