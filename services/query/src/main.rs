//! The query service as a separate process, with MongoDB.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use http_server::admin;
use runtime::health::Health;
use runtime::{LogArgs, MongoArgs, Shutdown, StartError};

/// The read API of the patient store; answers the reads that the gateway forwards
#[derive(Debug, Parser)]
#[command(name = "bedside-query", version)]
struct Program {
    #[command(subcommand)]
    command: Option<runtime::Command>,
    #[command(flatten)]
    config: query::Config,
    /// Listen address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_QUERY_ADMIN_LISTEN", default_value = "127.0.0.1:9012")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    runtime::run_main("query", run(Program::parse()))
}

async fn run(program: Program) -> Result<(), StartError> {
    let Program { command, config, admin_listen, mongo, log } = program;
    if let Some(runtime::Command::Healthcheck) = command {
        return runtime::healthcheck(admin_listen).await;
    }
    runtime::init_logging("query", &log)?;
    let token = config.token()?;
    let store = mongo.connect_reader().await?;
    let listener = http_server::bind(config.listen).await?;
    let admin_listener = http_server::bind(admin_listen).await?;
    let shutdown = Shutdown::on_signal();
    http_server::print_address("query", &listener)?;
    http_server::print_address("query admin", &admin_listener)?;

    let ports = query::Ports::of(store.clone());
    let health = Health::of(query::checks(&ports.patients), &shutdown);
    let served = async {
        tokio::join!(
            query::run_on(listener, token, ports, shutdown.clone()),
            admin::serve("query", admin_listener, health, &shutdown),
        )
    };
    let access = runtime::refuse_wrong_login(&store);
    // Serve while the database is being contacted. Exit if the database refuses the user.
    let mut served = std::pin::pin!(served);
    tokio::select! {
        (served, admin) = &mut served => served.and(admin),
        access = access => {
            access?;
            let (served, admin) = served.await;
            served.and(admin)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_flags_are_consistent() {
        super::Program::command().debug_assert();
    }
}
