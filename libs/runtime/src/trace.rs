//! Distributed tracing: one upload is one trace, from the request through the queues to the published update.
//!
//! Spans contain ids of uploads and records, queue names and route templates. They never contain patient
//! names, record numbers or signals. Spans are created only if the feature `otlp` is enabled and
//! `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Otherwise this module only forwards the received W3C `traceparent`.
//! It validates the value itself, because builds without `otlp` do not link OpenTelemetry.

use bus::{Attachment, BusError, Delivery, EnqueueError, PubSub, WorkQueue};
use http::HeaderMap;
use proto_json::{PatientUpdated, QueueMessage};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

#[cfg(feature = "otlp")]
#[path = "trace/otlp.rs"]
mod otlp;

#[cfg(feature = "otlp")]
pub(crate) use otlp::{flush, layer};

/// Name of the W3C Trace Context header, in HTTP requests and in messages.
pub const TRACE_PARENT: &str = "traceparent";

/// Whether spans are exported.
fn is_on() -> bool {
    #[cfg(feature = "otlp")]
    return otlp::is_on();
    #[cfg(not(feature = "otlp"))]
    return false;
}

/// Creates the span of a server request. Continues the client's trace.
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

/// Records the response status in the span of a request.
pub fn record_status(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Creates the span of processing a delivery. Continues the trace of the message.
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

/// Creates a span for a step of the current work.
pub fn step(name: &'static str) -> Span {
    if !is_on() {
        return Span::none();
    }
    info_span!(target: "trace", "step", otel.name = name)
}

/// Records the upload id in the current span.
pub fn about_upload(upload_id: proto_json::UploadId) {
    if is_on() {
        Span::current().record("upload_id", upload_id.to_string());
    }
}

/// Returns the `traceparent` to send: that of the current span, or the received one if there is no span.
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

/// Enqueues a message in the current trace.
///
/// # Errors
/// Like [`bus::send`].
pub async fn send<M: QueueMessage>(
    queue: &dyn WorkQueue,
    message: &M,
    reply_to: Option<String>,
    received: Option<&str>,
) -> Result<(), EnqueueError> {
    send_with(queue, Vec::new(), message, reply_to, received).await
}

/// Enqueues a message with attachments in the current trace.
///
/// # Errors
/// Like [`bus::send_with`].
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

/// Publishes an update in the current trace.
///
/// # Errors
/// Like [`PubSub::publish`].
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

/// Validates the form `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, W3C Trace Context section 3.2.
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
    fn only_valid_trace_parents_are_forwarded() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parent(Some(good)).as_deref(), Some(good));
        for text in ["", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00-0-0-0", "a\nb"] {
            assert_eq!(parent(Some(text)), None, "{text}");
        }
        assert_eq!(parent(None), None);
    }
}
