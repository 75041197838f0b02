//! Health and metrics endpoints of a service: `/livez`, `/readyz` and `/metrics`, for GET and HEAD.
//!
//! `/livez` is 200 while the service works, including its shutdown; while it starts, 503. A load balancer sends
//! requests to services that are alive. `/readyz` is 200 if the service works and all required checks pass, otherwise
//! 503. Its body states the phase in the first line and then one line for each check: `ok`, `unavailable`, or `wrong`
//! for a condition that needs attention but does not prevent service. Causes are logged and not sent, because they may
//! contain addresses.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use runtime::health::{Health, Phase};
use runtime::{Metrics, Shutdown, StartError};
use tokio::net::TcpListener;

use crate::server::{self, Limits};

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(service: &'static str, health: Health, metrics: Metrics) -> Router {
    health_router(service, health.clone()).merge(metrics_router(service, health, metrics))
}

/// Only `/livez` and `/readyz`.
pub fn health_router(service: &'static str, health: Health) -> Router {
    let state = health.clone();
    Router::new()
        .route("/livez", get(async move || liveness(service, &state)))
        .route("/readyz", get(async move || readiness(service, &health).await))
}

/// Only `/metrics`, in the Prometheus text format. Each request runs the checks, so that an alert can name the
/// dependency that is down.
pub fn metrics_router(service: &'static str, health: Health, metrics: Metrics) -> Router {
    metrics::describe_gauge!("bedside_dependency_up", "1 if the service reaches the dependency, otherwise 0");
    Router::new().route(
        "/metrics",
        get(async move || {
            for check in health.check().await {
                let labels = [("service", service), ("dependency", check.name)];
                metrics::gauge!("bedside_dependency_up", &labels)
                    .set(f64::from(u8::from(check.result.is_ok())));
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
    health: Health,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let router = router(service, health, Metrics::install());
    server::serve(listener, router, Limits::of(service), shutdown)
        .await
        .map_err(|error| StartError::failed(format!("health and metrics are no longer served: {error}")))
}

/// Runs `work`, and [`serve`] at the same time, so that the endpoints answer while `work` waits for its dependencies.
/// The end of `work` begins the shutdown.
///
/// # Errors
/// Those of `work` and of [`serve`].
pub async fn serve_during(
    work: impl Future<Output = Result<(), StartError>>,
    service: &'static str,
    listener: TcpListener,
    health: Health,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let work = async {
        let worked = work.await;
        shutdown.begin();
        worked
    };
    let (worked, served) = tokio::join!(work, serve(service, listener, health, shutdown));
    worked.and(served)
}

fn liveness(service: &str, health: &Health) -> Response {
    match health.phase() {
        Phase::Starting => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{service} is starting\n")).into_response()
        }
        Phase::InService | Phase::ShuttingDown => format!("{service} is alive\n").into_response(),
    }
}

async fn readiness(service: &str, health: &Health) -> Response {
    let results = health.check().await;
    let phase = health.phase();
    let is_ready = phase == Phase::InService && !results.iter().any(|check| check.prevents_readiness());
    let state = match phase {
        Phase::Starting => "starting",
        Phase::ShuttingDown => "shutting down",
        Phase::InService if is_ready => "ready",
        Phase::InService => "not ready",
    };
    let mut text = format!("{service} is {state}\n");
    for check in results {
        let state = match &check.result {
            Ok(()) => "ok",
            Err(_) if check.is_required => "unavailable",
            Err(_) => "wrong",
        };
        if let Err(cause) = &check.result {
            tracing::warn!(part = check.name, cause, state, "a readiness check fails");
        }
        text.push_str(&format!("{}: {state}\n", check.name));
    }
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}
