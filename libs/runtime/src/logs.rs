//! Structured logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::StartError;

/// How to log.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What to log: `error`, `warn`, `info`, `debug`, or per module as in `info,bus=debug`
    #[arg(long, env = "BEDSIDE_LOG", default_value = "info", global = true, help_heading = "Logs")]
    pub log: String,
    /// Form of the log lines on standard error; `auto` is text on a terminal, else JSON
    #[arg(long, env = "BEDSIDE_LOG_FORMAT", default_value = "auto", global = true, help_heading = "Logs")]
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the process's logs to standard error, and its spans to a collector if one is named. Names, record numbers and
/// signals never go in; upload ids do. Call it on the runtime.
///
/// # Errors
/// When the filter cannot be read, or the collector cannot be meant.
pub fn init_logging(service: &'static str, args: &LogArgs) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| StartError::config(format!("--log {:?} cannot be read: {error}", args.log)))?;
    let terminal = std::io::stderr().is_terminal();
    let text = args.log_format == LogFormat::Text || args.log_format == LogFormat::Auto && terminal;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = if text { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    // Spans are for the collector of traces; what they hold would double every line.
    let lines = lines.with_filter(filter.and(filter_fn(|of| !of.is_span() || of.target() != "trace")));
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let registry = registry.with(crate::trace::layer(service)?);
    #[cfg(not(feature = "otlp"))]
    let _ = service;
    // A second initialisation, as in tests that start several services, leaves the first in force.
    let _ = registry.try_init();
    Ok(())
}
