//! The monitor app.

use std::process::ExitCode;

use clap::Parser as _;
use monitor::{App, Args};

fn main() -> ExitCode {
    ui::exit("monitor", App::new(Args::parse()).and_then(App::run))
}
