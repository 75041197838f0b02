//! Scores the analysis on folders of annotated WFDB records, like the command `bedside-ecg evaluate`:
//!
//! `cargo run --release -p bedside-ecg --example evaluate -- --help`

use std::process::ExitCode;

use clap::Parser;
use ecg_cli::evaluate::{Args, run};

#[derive(Debug, Parser)]
#[command(name = "evaluate")]
struct Program {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    ecg_cli::exit::exit_code(run(&Program::parse().args))
}
