//! The station app: watches patients.

use std::process::ExitCode;

use clap::Parser as _;
use monitor::{App, Args};

fn main() -> ExitCode {
    match App::new(Args::parse()).and_then(App::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("monitor: {error}");
            ExitCode::FAILURE
        }
    }
}
