//! Health and metrics endpoints of a service: `/livez`, `/readyz` and `/metrics`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use runtime::health::{self, Check};
use runtime::{Metrics, Shutdown, StartError};
use tokio::net::TcpListener;

use crate::server::{self, Limits};

/// `/livez`: 200 while the process runs. `/readyz`: 200 if all checks pass, otherwise 503; one line per
/// check. `/metrics`: metrics in the Prometheus text format.
pub fn router(service: &'static str, checks: Vec<Check>, metrics: Metrics) -> Router {
    health(service, checks.clone()).merge(metrics_router(service, checks, metrics))
}

/// Only `/livez` and `/readyz`.
pub fn health(service: &'static str, checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(async move || format!("{service} is alive\n")))
        .route("/readyz", get(async move || readiness(service, &checks).await))
}

/// Only `/metrics`. Each request runs the checks, so that an alert can name the dependency that is down.
pub fn metrics_router(service: &'static str, checks: Vec<Check>, metrics: Metrics) -> Router {
    metrics::describe_gauge!("bedside_dependency_up", "1 if the service reaches the dependency, otherwise 0");
    Router::new().route(
        "/metrics",
        get(async move || {
            for (check, result) in health::run(&checks).await {
                let labels = [("service", service), ("dependency", check.name())];
                metrics::gauge!("bedside_dependency_up", &labels).set(f64::from(u8::from(result.is_ok())));
            }
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
        }),
    )
}

/// Serves [`router`] on its own listener until the shutdown begins.
///
/// # Errors
/// As [`crate::serve`].
pub async fn serve(
    service: &'static str,
    listener: TcpListener,
    checks: Vec<Check>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let router = router(service, checks, Metrics::install());
    server::serve(listener, router, Limits::of(service), shutdown)
        .await
        .map_err(|error| StartError::failed(format!("health and metrics are no longer served: {error}")))
}

async fn readiness(service: &str, checks: &[Check]) -> impl IntoResponse + use<> {
    let results = health::run(checks).await;
    let ready = results.iter().all(|(check, result)| result.is_ok() || !check.is_required());
    let mut text = format!("{service} is {}\n", if ready { "ready" } else { "not ready" });
    for (check, result) in results {
        let name = check.name();
        // The cause may contain addresses: it is logged and not sent.
        if let Err(cause) = &result {
            tracing::warn!(part = name, cause, "not ready");
        }
        let state = match result {
            Ok(()) => "ok",
            Err(_) if check.is_required() => "unavailable",
            Err(_) => "wrong",
        };
        text.push_str(&format!("{name}: {state}\n"));
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}
