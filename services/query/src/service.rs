//! Configuration and HTTP server of the query service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::middleware::from_fn;
use http_server::{internal, observe};
use runtime::health::Check;
use runtime::{Metrics, Secret, Shutdown, StartError};
use store::PatientReader;
use tokio::net::TcpListener;

use crate::routes::router;
use crate::state::Ports;

/// Settings of the query service.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Query")]
#[group(id = "query")]
pub struct Config {
    /// Listen address for the gateway. A non-loopback address requires --token-file and --insecure
    #[arg(long, env = "BEDSIDE_QUERY_LISTEN", default_value = "127.0.0.1:5012")]
    pub listen: SocketAddr,
    /// File with the secret that gateways authenticate with, at least 32 characters; the same as their
    /// --query-token-file
    #[arg(long, env = "BEDSIDE_QUERY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Allow a non-loopback address: query uses plain HTTP, so the network must be private
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
}

impl Config {
    /// Reads the secret that gateways authenticate with, and rejects an unsafe configuration.
    ///
    /// # Errors
    /// The setting to change.
    pub fn token(&self) -> Result<Option<Secret>, StartError> {
        internal::read_token("query", self.listen, self.token_file.as_deref(), self.insecure)
    }
}

/// Serves until the shutdown begins.
///
/// # Errors
/// If the configuration is unsafe or the address cannot be bound.
pub async fn run(config: Config, store: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    let token = config.token()?;
    run_on(http_server::bind(config.listen).await?, token, store, shutdown).await
}

/// Like [`run`], on a bound listener. Accepts requests with `token`, or all requests if it is `None`.
///
/// # Errors
/// If the address needs a token and there is none, or if serving fails.
pub async fn run_on(
    listener: TcpListener,
    token: Option<Secret>,
    store: Ports,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    internal::require_token("query", listener.local_addr().map_err(StartError::failed)?, token.as_ref())?;
    Metrics::install().of("query");
    observe::describe();
    // This middleware is not part of `router`: in one process with the gateway, the gateway counts the
    // requests.
    let router = internal::require_token_header("query", router(store), token)
        .layer(from_fn(|request, next| observe::requests("query", request, next)));
    let served = http_server::serve(listener, router, http_server::Limits::of("query"), &shutdown).await;
    served.map_err(|error| StartError::failed(format!("query stopped serving: {error}")))
}

/// Returns the readiness checks.
#[must_use]
pub fn checks(store: &Arc<dyn PatientReader>) -> Vec<Check> {
    vec![Check::store(store), Check::clock(store)]
}
