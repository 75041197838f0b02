//! How a process ends: 0 when told to, 64 on bad configuration, 1 on anything else; each with one sentence.

use std::process::ExitCode;

/// Why a service could not start or go on: one sentence a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work. Nothing was bound, opened or changed.
    #[error("{0}")]
    Config(String),
    /// Something it needs is not there or failed.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    /// The configuration cannot work.
    pub fn config(sentence: impl std::fmt::Display) -> Self {
        StartError::Config(sentence.to_string())
    }

    /// Something the service needs is not there or failed.
    pub fn failed(sentence: impl std::fmt::Display) -> Self {
        StartError::Failed(sentence.to_string())
    }

    /// `EX_USAGE` of sysexits.h for bad configuration, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) => 64,
            StartError::Failed(_) => 1,
        }
    }
}

/// Runs a service on a new tokio runtime and turns its end into an exit code.
pub fn run_main(service: &str, run: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    if let Err(error) = crate::open_files::lift_limit() {
        eprintln!("{service}: the limit of open files stays as it is: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{service}: the async runtime could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let result = run.await;
        #[cfg(feature = "otlp")]
        crate::trace::flush().await;
        result
    });
    // Blocking work that hangs, such as a read of a dead disk, must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{service}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
