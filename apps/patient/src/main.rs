//! Entry point of the patient app.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ui::exit("patient", patient::run(patient::Args::parse()))
}
