//! Runs a service as a process.

use std::process::ExitCode;

use crate::exit::StartError;
use crate::open_files;

/// Runs a service on a new tokio runtime and converts its result to an exit code.
pub fn run_main(service: &str, run: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    if let Err(error) = open_files::lift_limit() {
        eprintln!("{service}: the limit of open files cannot be raised: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{service}: the async runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let result = run.await;
        #[cfg(feature = "otlp")]
        crate::trace::flush().await;
        result
    });
    // Blocking work can hang, for example in a read from a failed disk. It must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{service}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
