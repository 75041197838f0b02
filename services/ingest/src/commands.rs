//! Calls of the gateway that change records directly: corrections, wards, admissions, users.
//!
//! Each call is one transaction and idempotent, so the gateway can repeat it. The header [`Actor`] states for whom the gateway
//! acts. A change is published after it is durable.
//!
//! [`Actor`]: http_server::internal::Actor

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use http_server::internal;
use runtime::{Secret, Shutdown, StartError};
use tokio::net::TcpListener;

use crate::{Ports, audit, corrections, users, wards};

/// Where ingest accepts calls of the gateway.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ingest_calls")]
pub struct CallArgs {
    /// Listen address for calls of the gateway. A non-loopback address requires --token-file and --insecure
    #[arg(long, env = "BEDSIDE_INGEST_LISTEN", default_value = "127.0.0.1:5013")]
    pub listen: SocketAddr,
    /// File with the secret that gateways authenticate with, at least 32 characters; the same as their
    /// --ingest-token-file
    #[arg(long, env = "BEDSIDE_INGEST_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Allow a non-loopback address: the calls use plain HTTP, so the network must be private
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
}

impl CallArgs {
    /// Reads the secret that gateways authenticate with, and rejects an unsafe configuration.
    ///
    /// # Errors
    /// The setting to change.
    pub fn token(&self) -> Result<Option<Secret>, StartError> {
        internal::read_token("ingest", self.listen, self.token_file.as_deref(), self.insecure)
    }
}

/// The routes of all calls.
pub fn router(ports: Ports) -> Router {
    Router::new()
        .route("/internal/audit", post(audit::append))
        .merge(corrections::routes())
        .merge(users::router())
        .merge(wards::routes())
        .with_state(Arc::new(ports))
}

/// Serves calls of gateways that carry `token` until the shutdown begins.
///
/// # Errors
/// If serving fails.
pub async fn serve(
    listener: TcpListener,
    token: Option<Secret>,
    ports: Ports,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    internal::serve_calls("ingest", listener, router(ports), token, &shutdown).await
}
