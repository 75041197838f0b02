//! Spans to an OpenTelemetry collector over OTLP (HTTP, protobuf).

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::StartError;

/// Target of our spans, by which they are told from log events.
const TARGET: &str = "trace";

/// Where the collector is; the names are those of the OpenTelemetry specification.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// The last spans have this long to leave at the end, after the drain.
const FLUSH: Duration = Duration::from_secs(2);

/// Most bytes of the collector's answer.
const LONGEST_ANSWER: usize = 64 * 1024;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

pub(super) fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// The layer that makes spans of ours leave; `None` where no collector is named. Further settings are those of the
/// OpenTelemetry specification: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and more.
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

/// Sends what is left.
pub(crate) async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    let done = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(FLUSH)).await;
    if let Ok(Err(error)) = done {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

pub(super) fn continue_from(span: &Span, trace_parent: &str) {
    let parts: Vec<&str> = trace_parent.split('-').collect();
    let [_, trace, parent, flags] = *parts else { return };
    let (Ok(trace), Ok(parent), Ok(flags)) =
        (TraceId::from_hex(trace), SpanId::from_hex(parent), u8::from_str_radix(flags, 16))
    else {
        return;
    };
    let from = SpanContext::new(trace, parent, TraceFlags::new(flags), true, TraceState::NONE);
    if from.is_valid() {
        // Fails only where spans go nowhere.
        let _ = span.set_parent(Context::new().with_remote_span_context(from));
    }
}

pub(super) fn parent_in(span: &Span) -> Option<String> {
    if !is_on() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let here = span.span_context();
    here.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", here.trace_id(), here.span_id(), here.trace_flags().to_u8()))
}

/// Sends on the process's own runtime: the exporter has a thread without one.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new() -> Result<Self, reqwest::Error> {
        // Fails only when the process has chosen a provider already, which is then as good.
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
            let mut answer = http.execute(request.try_into()?).await?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > LONGEST_ANSWER {
                    return Err("the collector's answer is too long".into());
                }
            }
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok::<_, HttpError>(response.body(Bytes::from(body))?)
        });
        sending.await?
    }
}
