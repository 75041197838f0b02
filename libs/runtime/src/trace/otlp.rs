//! Export of spans to an OpenTelemetry collector over OTLP (HTTP, protobuf).

use std::collections::HashMap;
use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::exit::StartError;

/// Key of the span context in a carrier.
const TRACE_PARENT: &str = "traceparent";

/// Target of exported spans. Distinguishes them from log events.
const TARGET: &str = "trace";

/// Environment variables of the collector's address, as named by the OpenTelemetry specification.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Maximum time to export the remaining spans at exit, after the drain.
const FLUSH: Duration = Duration::from_secs(2);

/// Maximum size of the collector's response in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

pub(super) fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// Returns the layer that exports spans, or `None` if no collector is configured. Other settings follow the
/// OpenTelemetry specification, such as `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` and
/// `OTEL_RESOURCE_ATTRIBUTES`.
pub(crate) fn layer<S>(service: &'static str) -> Result<Option<impl Layer<S>>, StartError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let named = |name: &&str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    if PROVIDER.get().is_some() || !ENDPOINTS.iter().any(named) {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        StartError::config(format!("traces cannot be sent to {}: {error}", ENDPOINTS[0]))
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new().map_err(|error| wrong(&error))?)
        .build()
        .map_err(|error| wrong(&error))?;
    let mut resource =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !named(&"OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(format!("bedside-{service}"));
    }
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = provider.tracer("bedside");
    let _ = PROVIDER.set(provider);
    let ours = Targets::new().with_target(TARGET, LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    Ok(Some(layer.with_filter(ours)))
}

/// Exports the remaining spans.
pub(crate) async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    let done = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(FLUSH)).await;
    if let Ok(Err(error)) = done {
        tracing::warn!(%error, "the remaining spans could not be exported");
    }
}

/// Makes `span` a child of the remote span in `trace_parent`.
pub(super) fn continue_from(span: &Span, trace_parent: &str) {
    let carrier = HashMap::from([(TRACE_PARENT.to_owned(), trace_parent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid() {
        // Fails only if the span is not exported.
        let _ = span.set_parent(parent);
    }
}

/// Returns the `traceparent` of `span`.
pub(super) fn parent_in(span: &Span) -> Option<String> {
    if !is_on() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACE_PARENT)
}

/// An HTTP client that runs on the runtime of the process, because the exporter's thread has no runtime.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new() -> Result<Self, reqwest::Error> {
        // Fails only if the process has already installed a provider, which works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Client { http, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move {
            let mut received = http.execute(request.try_into()?).await?;
            let mut body = Vec::new();
            while let Some(chunk) = received.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_RESPONSE {
                    return Err("the collector's response is too long".into());
                }
            }
            let mut response = Response::builder().status(received.status());
            if let Some(headers) = response.headers_mut() {
                *headers = received.headers().clone();
            }
            Ok::<_, HttpError>(response.body(Bytes::from(body))?)
        });
        sending.await?
    }
}
