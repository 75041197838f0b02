//! Structured logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::exit::StartError;

/// Settings of the log.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// Log filter: `error`, `warn`, `info`, `debug`, or per module as in `info,bus=debug`
    #[arg(long, env = "BEDSIDE_LOG", default_value = "info", global = true, help_heading = "Logs")]
    pub log: String,
    /// Format of log lines on standard error; `auto` means text on a terminal, otherwise JSON
    #[arg(long, env = "BEDSIDE_LOG_FORMAT", default_value = "auto", global = true, help_heading = "Logs")]
    pub log_format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, otherwise JSON.
    Auto,
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes log lines to standard error, and exports spans if an OpenTelemetry collector is configured. Log
/// lines contain upload ids; they never contain patient names, record numbers or signals. Must be called on a
/// tokio runtime.
///
/// # Errors
/// If the filter is invalid or the collector's address is invalid.
pub fn init_logging(service: &'static str, args: &LogArgs) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| StartError::config(format!("--log {:?} cannot be read: {error}", args.log)))?;
    let terminal = std::io::stderr().is_terminal();
    let text = args.log_format == LogFormat::Text || args.log_format == LogFormat::Auto && terminal;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = if text { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    // Spans are exported to the collector only. Their fields would repeat in every log line.
    let lines = lines.with_filter(filter.and(filter_fn(|of| !of.is_span() || of.target() != "trace")));
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let registry = registry.with(crate::trace::layer(service)?);
    #[cfg(not(feature = "otlp"))]
    let _ = service;
    // If a subscriber is already installed, as in tests that start several services, it is kept.
    let _ = registry.try_init();
    Ok(())
}
