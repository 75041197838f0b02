//! Query as a service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use runtime::problem::{ApiError, ProblemType};
use runtime::{Metrics, Secret, Shutdown, StartError, admin, http, observe};
use store::PatientReader;
use tokio::net::TcpListener;

use crate::Ports;

/// Where query listens, and whom it answers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Query")]
#[group(id = "query")]
pub struct Config {
    /// Address for the gateway. Other than loopback addresses need --token-file and --insecure
    #[arg(long, env = "BEDSIDE_QUERY_LISTEN", default_value = "127.0.0.1:5012")]
    pub listen: SocketAddr,
    /// File of the secret by which gateways are accepted, of at least 32 characters; the same as their --query-token-file
    #[arg(long, env = "BEDSIDE_QUERY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Allow an address that is not a loopback address: query speaks plain HTTP, so keep it on a private network
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
}

impl Config {
    /// Reads the secret by which gateways are accepted, and refuses a configuration that would be unsafe.
    ///
    /// # Errors
    /// One sentence on the setting that must change.
    pub fn token(&self) -> Result<Option<Secret>, StartError> {
        let token = self.token_file.as_deref().map(Secret::read).transpose()?;
        require_token(self.listen, token.as_ref())?;
        http::require_encryption(self.listen, false, self.insecure, "keep query on a loopback address")?;
        Ok(token)
    }
}

fn require_token(listen: SocketAddr, token: Option<&Secret>) -> Result<(), StartError> {
    if token.is_some() || listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(StartError::config(format!(
        "without --token-file query listens on a loopback address only, because everybody who reaches {listen} could read all \
         patients"
    )))
}

/// Serves reads until the shutdown begins.
///
/// # Errors
/// When the configuration is unsafe, or the address cannot be bound.
pub async fn run(config: Config, store: Ports, shutdown: Shutdown) -> Result<(), StartError> {
    let token = config.token()?;
    run_on(http::bind(config.listen).await?, token, store, shutdown).await
}

/// As [`run`], on a listener that is bound already, for gateways with this token; for everybody if there is none.
///
/// # Errors
/// When others could read without a token, or serving fails.
pub async fn run_on(
    listener: TcpListener,
    token: Option<Secret>,
    store: Ports,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    require_token(listener.local_addr().map_err(StartError::failed)?, token.as_ref())?;
    Metrics::install().of("query");
    observe::describe();
    // In one process with the gateway, the gateway counts.
    let router = for_gateways(crate::router(store), token)
        .layer(from_fn(|request, next| observe::requests("query", request, next)));
    let served = http::serve(listener, router, http::Limits::of("query"), &shutdown).await;
    served.map_err(|error| StartError::failed(format!("query stopped serving: {error}")))
}

/// Answers only requests that carry the token.
fn for_gateways(router: Router, token: Option<Secret>) -> Router {
    let Some(token) = token else { return router };
    router.layer(from_fn(move |request: Request, next: Next| {
        let accepted = token.is_carried_by(request.headers().get(header::AUTHORIZATION));
        async move {
            if accepted {
                return next.run(request).await;
            }
            ApiError::new(
                ProblemType::UNAUTHENTICATED,
                "Only gateways that carry query's token are answered here.",
            )
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            .into_response()
        }
    }))
}

/// What `/readyz` asks.
#[must_use]
pub fn checks(store: &Arc<dyn PatientReader>) -> Vec<admin::Check> {
    vec![admin::Check::store(store), admin::Check::clock(store)]
}
