//! Query as a service.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::from_fn;
use runtime::{Metrics, Shutdown, StartError, admin, http, observe};
use store::PatientStore;
use tokio::net::TcpListener;

/// Where query listens.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Query")]
#[group(id = "query")]
pub struct Config {
    /// Address for the gateway; it answers whoever reaches it, so keep it on an internal network
    #[arg(long, env = "BEDSIDE_QUERY_LISTEN", default_value = "127.0.0.1:5012")]
    pub listen: SocketAddr,
}

/// Serves reads until the shutdown begins.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(config: Config, store: Arc<dyn PatientStore>, shutdown: Shutdown) -> Result<(), StartError> {
    run_on(http::bind(config.listen).await?, store, shutdown).await
}

/// As [`run`], on a listener that is bound already.
///
/// # Errors
/// When serving fails.
pub async fn run_on(
    listener: TcpListener,
    store: Arc<dyn PatientStore>,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    Metrics::install().of("query");
    observe::describe();
    // In one process with the gateway, the gateway counts.
    let router =
        crate::router(store).layer(from_fn(|request, next| observe::requests("query", request, next)));
    let served = http::serve(listener, router, http::Limits::default(), &shutdown).await;
    served.map_err(|error| StartError::failed(format!("query stopped serving: {error}")))
}

/// What `/readyz` asks.
#[must_use]
pub fn checks(store: &Arc<dyn PatientStore>) -> Vec<admin::Check> {
    vec![admin::Check::store(store), admin::Check::clock(store)]
}
