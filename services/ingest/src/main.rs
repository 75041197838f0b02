//! Ingest as a process of its own, on NATS JetStream and MongoDB.

mod backup;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bus::BusPorts;
use clap::{Parser, Subcommand};
use http_server::admin;
use runtime::health::{Check, Health};
use runtime::{LogArgs, MongoArgs, NatsArgs, ProvisionArgs, Shutdown, StartError};
use store::PatientReader;

/// Stores uploads and results of analyses from the queues. The only writer of the patient store.
#[derive(Debug, Parser)]
#[command(name = "bedside-ingest", version)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ingest::Config,
    #[command(flatten)]
    calls: ingest::CallArgs,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_INGEST_ADMIN_LISTEN", default_value = "127.0.0.1:9013")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    provisioning: ProvisionArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Commands besides running the service.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Create missing streams, consumers, collections and indexes, and update existing ones to the settings. Needs a user with
    /// these privileges, which the users of the services do not have
    Provision,
    /// Accept the time that this computer's clock shows: ends the alarm that the clock is behind a time it has shown. Set the
    /// clock first
    AcceptClock,
    /// Write a consistent backup of everything that is stored to standard output, while all services go on
    Backup {
        /// Compression as of gzip, from 0 (none) to 9
        #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(0..=9))]
        level: u32,
    },
    /// Check a backup on standard input against its manifest
    VerifyBackup,
    /// Replace everything that is stored by the backup on standard input; uploads wait in the queues meanwhile
    Restore,
    #[command(flatten)]
    Service(runtime::Command),
}

fn main() -> ExitCode {
    runtime::run_main("ingest", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program { command, config, calls, admin_listen, nats, mongo, provisioning, log } = program;
    runtime::init_logging("ingest", &log)?;
    match command {
        Some(Command::Service(runtime::Command::Healthcheck)) => {
            return runtime::healthcheck(admin_listen).await;
        }
        Some(Command::Provision) => return provision(nats, mongo).await,
        Some(Command::AcceptClock) => {
            let store = mongo.connect().await?;
            let accepted = ingest::accept_clock(&*store).await.map_err(StartError::failed)?;
            println!("{accepted}");
            return Ok(());
        }
        Some(Command::Backup { level }) => return backup::write(&mongo, level).await,
        Some(Command::VerifyBackup) => return backup::verify(),
        Some(Command::Restore) => return backup::restore(&nats, &mongo).await,
        None => {}
    }
    let nats = nats.config("bedside-ingest")?;
    let store = mongo.connect().await?;
    let token = calls.token()?;
    let listener = http_server::bind(admin_listen).await?;
    let for_calls = http_server::bind(calls.listen).await?;
    let shutdown = Shutdown::on_signal();
    http_server::print_address("ingest", &listener)?;
    http_server::print_address("ingest calls", &for_calls)?;

    let health = Health::starting(&["bus", "store"], &shutdown);
    let work = async {
        let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
        let ready = provisioning.mongodb_provisioned || runtime::prepare_mongo(&store, &shutdown).await?;
        if !ready || !runtime::migrate_mongo(&store, &shutdown).await? {
            return Ok(());
        }
        let reader: Arc<dyn PatientReader> = store.clone();
        let bus = BusPorts::of(&nats);
        health.begin_service(vec![Check::bus(&bus.queue), Check::store(&reader), Check::clock(&reader)]);
        let ports = ingest::Ports::of(bus, store);
        let calls = ingest::serve(for_calls, token, ports.clone(), shutdown.clone());
        let (worked, served) = tokio::join!(ingest::run(config, ports, shutdown.clone()), calls);
        worked.and(served)
    };
    admin::serve_during(work, "ingest", listener, health.clone(), &shutdown).await
}

/// Waits for broker and store, as the services do, so that it can be started together with them.
async fn provision(nats: NatsArgs, mongo: MongoArgs) -> Result<(), StartError> {
    let nats = nats.config("bedside-provision")?;
    let store = mongo.connect().await?;
    let shutdown = Shutdown::on_signal();
    let done =
        runtime::provision_nats(nats, &shutdown).await? && runtime::prepare_mongo(&store, &shutdown).await?;
    if done {
        println!("streams, consumers, collections and indexes are there");
        Ok(())
    } else {
        Err(StartError::failed("stopped before everything was created"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_of_all_parts_fit_together() {
        super::Program::command().debug_assert();
    }
}
