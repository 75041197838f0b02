//! The bedside app: uploads a patient, images and ECG strips.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match patient::run(patient::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("patient: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
