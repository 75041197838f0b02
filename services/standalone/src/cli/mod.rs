//! The commands that talk to a running Bedside, over the same doors as every other client.

mod audit;
mod backup;
mod dead_letters;
mod export;
mod healthcheck;
mod import;
mod patients;
mod progress;
mod restore;
mod sample;
mod token;
mod upload;
mod verify;
mod watch;
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use client::{ClientError, Gateway, Settings};

pub(crate) use audit::AuditArgs;
pub(crate) use backup::BackupArgs;
pub(crate) use dead_letters::DeadLettersArgs;
pub(crate) use export::ExportArgs;
pub(crate) use healthcheck::HealthcheckArgs;
pub(crate) use import::ImportArgs;
pub(crate) use patients::PatientsArgs;
pub(crate) use restore::RestoreArgs;
pub(crate) use sample::SampleArgs;
pub(crate) use token::TokenArgs;
pub(crate) use upload::UploadArgs;
pub(crate) use verify::VerifyArgs;
pub(crate) use watch::WatchArgs;

/// Where the gateway is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Gateway")]
struct GatewayArgs {
    /// Address of the gateway
    #[arg(long, env = "BEDSIDE_GATEWAY", value_name = "URL", default_value = "http://127.0.0.1:5011")]
    gateway: String,
    /// Access token, where the gateway asks for one
    #[arg(long, env = "BEDSIDE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File of certificates (PEM) to trust besides those of the operating system
    #[arg(long, env = "BEDSIDE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl GatewayArgs {
    fn connect(&self) -> Result<Gateway, CliError> {
        let token = self.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        let token = token.map(str::parse).transpose()?;
        let extra_certificates = match &self.ca {
            Some(file) => Some(
                std::fs::read(file)
                    .map_err(|error| CliError::told(format!("{} cannot be read: {error}", file.display())))?,
            ),
            None => None,
        };
        Ok(Gateway::new(&Settings { extra_certificates, ..Settings::new(&self.gateway).with_token(token) })?)
    }
}

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// One sentence.
    #[error("{0}")]
    Told(String),
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// Nobody reads on, as in `bedside patients | head`: not worth a word.
    #[error("the output was closed")]
    Closed,
}

impl CliError {
    fn told(sentence: impl Into<String>) -> Self {
        CliError::Told(sentence.into())
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::Closed,
            _ => CliError::told(format!("the output cannot be written: {error}")),
        }
    }
}

/// Runs a command to its end: 0 if all went well, 64 if it was called with what cannot work, else 1.
pub(crate) fn run(command: impl Future<Output = Result<(), CliError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bedside: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(()) | Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bedside: {error}");
            if matches!(error, CliError::Gateway(ClientError::Settings(_))) {
                ExitCode::from(64)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes a line to standard output at once.
fn say(line: impl std::fmt::Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// Writes a value as one line of JSON.
fn say_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    say(serde_json::to_string(value).map_err(|error| CliError::told(error.to_string()))?)
}
