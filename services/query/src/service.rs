//! Query as a process of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use runtime::{Metrics, Shutdown, StartError, admin, http};
use store::PatientStore;
use tokio::net::TcpListener;

/// Where query listens.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address for the gateway; it answers whoever reaches it, so keep it on an internal network
    #[arg(long, env = "BEDSIDE_QUERY_LISTEN", default_value = "127.0.0.1:5012")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "BEDSIDE_QUERY_ADMIN_LISTEN", default_value = "127.0.0.1:9012")]
    pub admin_listen: SocketAddr,
}

/// Serves reads until the shutdown begins.
///
/// # Errors
/// When an address cannot be bound.
pub async fn run(config: Config, store: Arc<dyn PatientStore>, shutdown: Shutdown) -> Result<(), StartError> {
    let listener = http::bind(config.listen).await?;
    let admin = http::bind(config.admin_listen).await?;
    run_on(listener, Some(admin), store, shutdown).await
}

/// As [`run`], on listeners that are bound already.
///
/// # Errors
/// When serving fails.
pub async fn run_on(
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    store: Arc<dyn PatientStore>,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let metrics = Metrics::install();
    let check = {
        let store = store.clone();
        admin::Check::new("store", move || {
            let store = store.clone();
            async move { store.check().await.map_err(|error| error.to_string()) }
        })
    };
    let health = admin::router("query", vec![check], metrics);
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "query listens");
    }
    let reads = http::serve(listener, crate::router(store), http::Limits::default(), &shutdown);
    let health = async {
        match admin_listener {
            Some(listener) => http::serve(listener, health, http::Limits::default(), &shutdown).await,
            None => Ok(()),
        }
    };
    let (reads, health) = tokio::join!(reads, health);
    reads.and(health).map_err(|error| StartError::failed(format!("query stopped serving: {error}")))
}
