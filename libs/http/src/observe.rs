//! Metrics and traces of HTTP requests. Labels contain route templates, never paths.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use runtime::trace;
use tracing::Instrument;

/// Middleware for `axum::middleware::from_fn`. Must be the outermost layer of the router.
pub async fn requests(service: &'static str, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        // Clients can send any method; the number of label values must stay bounded.
        _ => "other",
    };
    let span = trace::request(method, &route, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    trace::record_status(&span, response.status().as_u16());
    drop(span);
    let labels = [("service", service.to_owned()), ("route", route), ("method", method.to_owned())];
    metrics::histogram!("bedside_http_request_duration_seconds", &labels)
        .record(started.elapsed().as_secs_f64());
    let [service, route, method] = labels;
    let labels = [service, route, method, ("status", response.status().as_u16().to_string())];
    metrics::counter!("bedside_http_requests_total", &labels).increment(1);
    response
}

/// Describes the metrics of [`requests`].
pub fn describe() {
    metrics::describe_counter!(
        "bedside_http_requests_total",
        "Requests answered, by service, route template, method and status"
    );
    metrics::describe_histogram!(
        "bedside_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time from the request head to the response head"
    );
}
