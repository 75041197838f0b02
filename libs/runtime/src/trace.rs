//! One upload is one trace, from the request through the queues to the announcement.
//!
//! Spans carry ids of uploads and records, names of queues and templates of routes; never names, record numbers or signals.
//! They are made only where a collector is told of (feature `otlp` and `OTEL_EXPORTER_OTLP_ENDPOINT`); elsewhere all of
//! this does nothing but pass on the W3C `traceparent` that came in.

use axum::http::HeaderMap;
use bus::{Attachment, BusError, Delivery, EnqueueError, PubSub, WorkQueue};
use proto_json::{PatientUpdated, QueueMessage};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

#[cfg(feature = "otlp")]
#[path = "trace/otlp.rs"]
mod otlp;

#[cfg(feature = "otlp")]
pub(crate) use otlp::{flush, layer};

/// Header of W3C Trace Context, of HTTP requests and of messages alike.
pub const TRACE_PARENT: &str = "traceparent";

/// Whether spans go anywhere.
fn is_on() -> bool {
    #[cfg(feature = "otlp")]
    return otlp::is_on();
    #[cfg(not(feature = "otlp"))]
    return false;
}

/// The span of a request to a server; continues the trace that the client names.
pub fn request(method: &str, route: &str, headers: &HeaderMap) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = info_span!(
        target: "trace",
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        upload_id = Empty,
    );
    continue_from(&span, headers.get(TRACE_PARENT).and_then(|value| value.to_str().ok()));
    span
}

/// Notes on the span of a request how it was answered.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of work on one delivery; continues the trace that its message carries.
pub fn work(name: &'static str, delivery: &Delivery) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = info_span!(
        target: "trace",
        "work",
        otel.name = name,
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.destination.name = delivery.queue.name(),
        messaging.operation.name = "process",
        attempt = delivery.attempt,
        deliveries = delivery.deliveries,
        upload_id = Empty,
        ecg_id = Empty,
    );
    continue_from(&span, delivery.trace_parent.as_deref());
    span
}

/// The span of a part of what is under way.
pub fn step(name: &'static str) -> Span {
    if !is_on() {
        return Span::none();
    }
    info_span!(target: "trace", "step", otel.name = name)
}

/// Notes on the current span which upload it is about.
pub fn about_upload(upload_id: proto_json::UploadId) {
    if is_on() {
        Span::current().record("upload_id", upload_id.to_string());
    }
}

/// What to send along so that the receiver continues the trace: the current span where there is one, else what was
/// received.
#[must_use]
pub fn parent(received: Option<&str>) -> Option<String> {
    parent_in(&Span::current(), received)
}

fn parent_in(span: &Span, received: Option<&str>) -> Option<String> {
    #[cfg(feature = "otlp")]
    if let Some(parent) = otlp::parent_in(span) {
        return Some(parent);
    }
    let _ = span;
    received.filter(|text| is_trace_parent(text)).map(str::to_owned)
}

/// Puts a message on its queue, in the current trace.
///
/// # Errors
/// As [`bus::send`].
pub async fn send<M: QueueMessage>(
    queue: &dyn WorkQueue,
    message: &M,
    reply_to: Option<String>,
    received: Option<&str>,
) -> Result<(), EnqueueError> {
    send_with(queue, Vec::new(), message, reply_to, received).await
}

/// Enqueues a message with attachments, in the current trace.
///
/// # Errors
/// As [`bus::send_with`].
pub async fn send_with<M: QueueMessage>(
    queue: &dyn WorkQueue,
    attachments: Vec<Attachment>,
    message: &M,
    reply_to: Option<String>,
    received: Option<&str>,
) -> Result<(), EnqueueError> {
    let span = producer("send", M::QUEUE.name());
    let parent = parent_in(&span, received);
    bus::send_with(queue, attachments, message, reply_to, parent).instrument(span).await
}

/// Publishes an update, in the current trace.
///
/// # Errors
/// As [`PubSub::publish`].
pub async fn publish(
    pubsub: &dyn PubSub,
    update: &PatientUpdated,
    received: Option<&str>,
) -> Result<(), BusError> {
    let span = producer("announce", "patient.updated");
    let parent = parent_in(&span, received);
    pubsub.publish(update, parent).instrument(span).await
}

fn producer(operation: &'static str, destination: &'static str) -> Span {
    if !is_on() {
        return Span::none();
    }
    info_span!(
        target: "trace",
        "producer",
        otel.name = format!("{operation} {destination}"),
        otel.kind = "producer",
        messaging.destination.name = destination,
        messaging.operation.name = operation,
    )
}

fn continue_from(span: &Span, trace_parent: Option<&str>) {
    #[cfg(feature = "otlp")]
    if let Some(text) = trace_parent.filter(|text| is_trace_parent(text)) {
        otlp::continue_from(span, text);
    }
    let _ = (span, trace_parent);
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, W3C Trace Context section 3.2.
#[must_use]
pub fn is_trace_parent(text: &str) -> bool {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = text.split('-').collect();
    matches!(*parts, ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_trace_parents_are_passed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parent(Some(good)).as_deref(), Some(good));
        for text in ["", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00-0-0-0", "a\nb"] {
            assert_eq!(parent(Some(text)), None, "{text}");
        }
        assert_eq!(parent(None), None);
    }
}
