//! Structured logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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

/// Sends the process's logs to standard error. Names, record numbers and signals never go in; upload ids do.
///
/// # Errors
/// When the filter cannot be read.
pub fn init_logging(args: &LogArgs) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| StartError::config(format!("--log {:?} cannot be read: {error}", args.log)))?;
    let terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let text = args.log_format == LogFormat::Text || args.log_format == LogFormat::Auto && terminal;
    // A second initialisation, as in tests that start several services, leaves the first in force.
    let _ = if text { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    Ok(())
}
