//! The alarms as a process, on NATS JetStream and MongoDB.

use std::net::SocketAddr;
use std::process::ExitCode;

use bus::BusPorts;
use clap::Parser;
use http_server::admin;
use runtime::health::Health;
use runtime::{LogArgs, MongoArgs, NatsArgs, Shutdown, StartError};

/// Evaluates the alarm rules of all patients. Of several processes, one evaluates and all answer actions
#[derive(Debug, Parser)]
#[command(name = "bedside-alarms", version)]
struct Program {
    #[command(subcommand)]
    command: Option<runtime::Command>,
    #[command(flatten)]
    config: alarms::Config,
    #[command(flatten)]
    notifications: alarms::NotifyArgs,
    #[command(flatten)]
    calls: alarms::CallArgs,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_ALARMS_ADMIN_LISTEN", default_value = "127.0.0.1:9015")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    runtime::run_main("alarms", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program { command, config, notifications, calls, admin_listen, nats, mongo, log } = program;
    if let Some(runtime::Command::Healthcheck) = command {
        return runtime::healthcheck(admin_listen).await;
    }
    runtime::init_logging("alarms", &log)?;
    let token = calls.token()?;
    let notifications = notifications.open()?;
    let nats = nats.config("bedside-alarms")?;
    let store = mongo.connect().await?;
    let listener = http_server::bind(admin_listen).await?;
    let for_calls = http_server::bind(calls.listen).await?;
    let shutdown = Shutdown::on_signal();
    http_server::print_address("alarms", &listener)?;
    http_server::print_address("alarms calls", &for_calls)?;

    let health = Health::starting(&["bus", "store"], &shutdown);
    let work = async {
        let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
        runtime::refuse_wrong_login(&store).await?;
        let ports = alarms::Ports::of(&BusPorts::of(&nats), store);
        let alarms = alarms::Alarms::new(config, notifications, ports);
        health.begin_service(alarms.checks());
        let serving = alarms.serve(for_calls, token, shutdown.clone());
        let (worked, served) = tokio::join!(alarms.run(shutdown.clone()), serving);
        worked.and(served)
    };
    admin::serve_during(work, "alarms", listener, health.clone(), &shutdown).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_flags_are_consistent() {
        super::Program::command().debug_assert();
    }
}
