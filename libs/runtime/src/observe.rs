//! Counts, times and traces the requests of an HTTP server. Labels are templates of routes, never paths.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::trace;

/// For `axum::middleware::from_fn`, as a layer around the whole router of this service.
pub async fn requests(service: &'static str, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        // Methods are the client's to invent; labels are not.
        _ => "other",
    };
    let span = trace::request(method, &route, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    trace::answered(&span, response.status().as_u16());
    drop(span);
    let labels = [("service", service.to_owned()), ("route", route), ("method", method.to_owned())];
    metrics::histogram!("bedside_http_request_duration_seconds", &labels)
        .record(started.elapsed().as_secs_f64());
    let [service, route, method] = labels;
    let labels = [service, route, method, ("status", response.status().as_u16().to_string())];
    metrics::counter!("bedside_http_requests_total", &labels).increment(1);
    response
}

/// Says what the metrics of [`requests`] mean.
pub fn describe() {
    metrics::describe_counter!(
        "bedside_http_requests_total",
        "Requests answered, by service, template of the route, method and status"
    );
    metrics::describe_histogram!(
        "bedside_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time from the head of a request to the head of its answer"
    );
}
