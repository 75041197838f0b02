//! The bedside app: uploads a patient, images and ECG strips.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ui::exit("patient", patient::run(patient::Args::parse()))
}
