//! Errors and exit codes of the commands.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use client::ClientError;
use runtime::StartError;

/// Why a command failed. The message is one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}")]
    Failed(String),
    /// The arguments cannot work. Nothing was sent or changed.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Gateway(#[from] ClientError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// The reader of the output is gone, as in `bedside patients | head`. Not reported.
    #[error("the output was closed")]
    Closed,
}

impl CliError {
    pub(super) fn failed(message: impl std::fmt::Display) -> Self {
        CliError::Failed(message.to_string())
    }

    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        CliError::Usage(message.to_string())
    }

    fn exit_code(&self) -> u8 {
        match self {
            CliError::Closed => 0,
            CliError::Usage(_) | CliError::Gateway(ClientError::Settings(_)) => 64,
            CliError::Start(error) => error.exit_code(),
            CliError::Failed(_) | CliError::Gateway(_) => 1,
        }
    }
}

/// An error of writing to standard output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::Closed,
            _ => CliError::failed(format!("the output cannot be written: {error}")),
        }
    }
}

pub(super) fn cannot_read(path: &Path) -> impl Fn(io::Error) -> CliError + use<> {
    file_error(path, "read")
}

pub(super) fn cannot_write(path: &Path) -> impl Fn(io::Error) -> CliError + use<> {
    file_error(path, "written")
}

/// An error of any operation on a file or directory.
pub(super) fn cannot_use(path: &Path) -> impl Fn(io::Error) -> CliError + use<> {
    file_error(path, "used")
}

fn file_error(path: &Path, participle: &'static str) -> impl Fn(io::Error) -> CliError + use<> {
    let path = path.to_owned();
    move |error| CliError::failed(format!("{} cannot be {participle}: {error}", path.display()))
}

/// Runs a command and returns its exit code. Writes an error to standard error.
pub(crate) fn run(command: impl Future<Output = Result<(), CliError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bedside: the async runtime could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::Closed) {
                eprintln!("bedside: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
