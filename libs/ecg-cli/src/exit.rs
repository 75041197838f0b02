//! Exit codes of the programs.

use std::process::ExitCode;

/// 0 if the program succeeded, 1 if it completed with a negative result, 64 with a message if it could not run.
#[must_use]
pub fn exit_code(result: Result<bool, String>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(64)
        }
    }
}
