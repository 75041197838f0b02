//! Health and metrics of a service: `/livez`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bus::WorkQueue;
use futures::future::{BoxFuture, join_all};
use proto_json::Timestamp;
use store::PatientStore;
use tokio::net::TcpListener;

use crate::http::Limits;
use crate::{Metrics, Shutdown, StartError};

/// A part that does not answer in this time is not ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Something a service needs in order to do its work.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    /// The service is not ready without it.
    is_needed: bool,
    check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A named part and how to ask it.
    pub fn new<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Check { name, is_needed: true, check: Arc::new(move || Box::pin(check())) }
    }

    /// The same for something that a person must look after, but without which the service does its work: it has a line in
    /// `/readyz`, and does not change the status.
    pub fn advisory<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Check { is_needed: false, ..Check::new(name, check) }
    }

    /// The clock of this server: it must not be behind the highest time that the store has noted.
    #[must_use]
    pub fn clock(store: &Arc<dyn PatientStore>) -> Self {
        let store = store.clone();
        Check::advisory("clock", move || {
            let store = store.clone();
            async move {
                // A store that does not answer is the matter of another check.
                let highest = store.highest_time().await.ok().flatten();
                match highest.filter(|highest| highest.is_in_future_of(Timestamp::now())) {
                    Some(highest) => Err(format!("the clock has shown {highest} before")),
                    None => Ok(()),
                }
            }
        })
    }

    /// The message broker, by a round trip.
    #[must_use]
    pub fn bus(queue: &Arc<dyn WorkQueue>) -> Self {
        let queue = queue.clone();
        Check::new("bus", move || {
            let queue = queue.clone();
            async move { queue.check().await.map_err(|error| error.to_string()) }
        })
    }

    /// The patient store, by a round trip.
    #[must_use]
    pub fn store(store: &Arc<dyn PatientStore>) -> Self {
        let store = store.clone();
        Check::new("store", move || {
            let store = store.clone();
            async move { store.check().await.map_err(|error| error.to_string()) }
        })
    }
}

/// `/livez`: the process runs. `/readyz`: every check passes, else 503 with a line for each one. `/metrics`: Prometheus
/// text.
pub fn router(service: &'static str, checks: Vec<Check>, metrics: Metrics) -> Router {
    health(service, checks.clone()).merge(figures(service, checks, metrics))
}

/// `/livez` and `/readyz` alone.
pub fn health(service: &'static str, checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(async move || format!("{service} is alive\n")))
        .route("/readyz", get(async move || readiness(service, &checks).await))
}

/// `/metrics` alone. What the service needs is checked for each request, so that an alert can name what is missing.
pub fn figures(service: &'static str, checks: Vec<Check>, metrics: Metrics) -> Router {
    metrics::describe_gauge!("bedside_dependency_up", "1 while the service reaches what it needs, else 0");
    Router::new().route(
        "/metrics",
        get(async move || {
            for (check, result) in results(&checks).await {
                let labels = [("service", service), ("dependency", check.name)];
                metrics::gauge!("bedside_dependency_up", &labels).set(f64::from(u8::from(result.is_ok())));
            }
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
        }),
    )
}

/// Serves [`router`] on a listener of its own until the shutdown begins.
///
/// # Errors
/// As [`crate::http::serve`].
pub async fn serve(
    service: &'static str,
    listener: TcpListener,
    checks: Vec<Check>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let router = router(service, checks, Metrics::install());
    crate::http::serve(listener, router, Limits::of(service), shutdown)
        .await
        .map_err(|error| StartError::failed(format!("health and metrics are no longer served: {error}")))
}

async fn results(checks: &[Check]) -> Vec<(&Check, Result<(), String>)> {
    join_all(checks.iter().map(|check| async move {
        let result = tokio::time::timeout(CHECK_TIMEOUT, (check.check)()).await;
        (check, result.unwrap_or_else(|_| Err("did not answer in time".to_owned())))
    }))
    .await
}

async fn readiness(service: &str, checks: &[Check]) -> impl IntoResponse + use<> {
    let results = results(checks).await;
    let ready = results.iter().all(|(check, result)| result.is_ok() || !check.is_needed);
    let mut text = format!("{service} is {}\n", if ready { "ready" } else { "not ready" });
    for (Check { name, is_needed, .. }, result) in results {
        // The cause is logged, not shown: it may name addresses.
        if let Err(cause) = &result {
            tracing::warn!(part = name, cause, "not ready");
        }
        let state = match result {
            Ok(()) => "ok",
            Err(_) if *is_needed => "unavailable",
            Err(_) => "wrong",
        };
        text.push_str(&format!("{name}: {state}\n"));
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}
