//! The gateway as a separate process, with NATS JetStream and the query service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bus::BusPorts;
use clap::Parser;
use http_server::admin;
use runtime::health::Health;
use runtime::{LogArgs, NatsArgs, Secret, Shutdown, StartError};

/// The public API: accepts uploads, streams events, forwards reads to the query service
#[derive(Debug, Parser)]
#[command(name = "bedside-gateway", version)]
struct Program {
    #[command(subcommand)]
    command: Option<runtime::Command>,
    #[command(flatten)]
    config: gateway::Config,
    /// URL of the query service
    #[arg(long, env = "BEDSIDE_QUERY", value_name = "URL", default_value = "http://127.0.0.1:5012")]
    query: String,
    /// File with the secret that authenticates this gateway to the query service; the same as query's
    /// --token-file
    #[arg(long, env = "BEDSIDE_QUERY_TOKEN_FILE", value_name = "FILE")]
    query_token_file: Option<PathBuf>,
    /// URL of ingest, which changes records on request
    #[arg(long, env = "BEDSIDE_INGEST", value_name = "URL", default_value = "http://127.0.0.1:5013")]
    ingest: String,
    /// File with the secret that authenticates this gateway to ingest; the same as ingest's --token-file
    #[arg(long, env = "BEDSIDE_INGEST_TOKEN_FILE", value_name = "FILE")]
    ingest_token_file: Option<PathBuf>,
    /// URL of the service of the alarms
    #[arg(long, env = "BEDSIDE_ALARMS", value_name = "URL", default_value = "http://127.0.0.1:5015")]
    alarms: String,
    /// File with the secret that authenticates this gateway to alarms; the same as alarms' --token-file
    #[arg(long, env = "BEDSIDE_ALARMS_TOKEN_FILE", value_name = "FILE")]
    alarms_token_file: Option<PathBuf>,
    /// Listen address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_GATEWAY_ADMIN_LISTEN", default_value = "127.0.0.1:9011")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    runtime::run_main("gateway", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program {
        command,
        mut config,
        query,
        query_token_file,
        ingest,
        ingest_token_file,
        alarms,
        alarms_token_file,
        admin_listen,
        nats,
        log,
    } = program;
    if let Some(runtime::Command::Healthcheck) = command {
        return runtime::healthcheck(admin_listen).await;
    }
    runtime::init_logging("gateway", &log)?;
    config.check()?;
    config.key()?;
    let query_token = query_token_file.as_deref().map(Secret::read).transpose()?;
    let ingest_token = ingest_token_file.as_deref().map(Secret::read).transpose()?;
    let alarms_token = alarms_token_file.as_deref().map(Secret::read).transpose()?;
    let nats = nats.config("bedside-gateway")?;
    if nats.replicas > 1 {
        config.receipt_wait = config.receipt_wait.min(gateway::RECEIPT_WAIT_IN_CLUSTER);
    }
    let listener = http_server::bind(config.listen).await?;
    let admin_listener = http_server::bind(admin_listen).await?;
    let shutdown = Shutdown::on_signal();
    http_server::print_address_with_scheme(config.scheme(), "gateway", &listener)?;
    http_server::print_address("gateway admin", &admin_listener)?;

    let health = Health::starting(&["bus"], &shutdown);
    let work = async {
        let Some(nats) = runtime::connect_nats(nats, &shutdown).await? else { return Ok(()) };
        let bus = BusPorts::of(&nats);
        health.begin_service(gateway::checks(&bus.queue, &config.disks()));
        let reads = gateway::Reads::Http { address: query, token: query_token };
        let records = gateway::Reads::Http { address: ingest, token: ingest_token };
        let alarms = gateway::Reads::Http { address: alarms, token: alarms_token };
        let ports = gateway::Ports { bus, reads, records, alarms, checks: Vec::new() };
        gateway::run_on(listener, config, ports, shutdown.clone()).await
    };
    admin::serve_during(work, "gateway", admin_listener, health.clone(), &shutdown).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_flags_are_consistent() {
        super::Program::command().debug_assert();
    }
}
