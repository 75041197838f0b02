//! Compares Bedside with other servers in one run on one machine with one load generator. Prints tables and draws plots.
//! `cargo run --release -p bedside-benchmarks --bin peers [-- standalone|processes|flask|orthanc|fanout...] [--quick] [--plots DIR]`.
//! `benchmarks/peers/install` installs the other servers. Compare figures of one run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends when something fails")]

mod analysis;
mod bedside;
mod dicom;
mod fanout;
mod flask;
mod images;
mod load;
mod machine;
mod measure;
mod multipart;
mod notification;
mod orthanc;
mod peer;
mod plots;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use measure::Extent;
use peer::Kind;

const USAGE: &str = "\
Usage: peers [standalone] [processes] [flask] [orthanc] [fanout] [--quick] [--plots DIR]

Measures Bedside in both ways to run, a Flask server with the legacy routes, and Orthanc. `fanout` measures how fast many
watchers of Bedside receive an update. Default: all. Prints Markdown tables; --plots writes SVG files into a directory.";

fn main() -> ExitCode {
    let mut kinds = Vec::new();
    let (mut fanout, mut quick, mut plots) = (false, false, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            "--quick" => quick = true,
            "--plots" => plots = args.next().map(PathBuf::from),
            "fanout" => fanout = true,
            word => match Kind::ALL.into_iter().find(|kind| kind.word() == word) {
                Some(kind) => kinds.push(kind),
                None => {
                    eprintln!("unknown argument {word}\n\n{USAGE}");
                    return ExitCode::from(64);
                }
            },
        }
    }
    if kinds.is_empty() && !fanout {
        kinds = Kind::ALL.to_vec();
        fanout = true;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let extent = if quick { Extent::quick() } else { Extent::full() };
    // Generated before the measurement starts.
    let _ = testkit::test_data::one_of_many_strips(0);
    let mut all = Vec::new();
    for kind in kinds {
        // If one server cannot be measured, the figures of the others are still printed.
        match runtime.block_on(async { tokio::spawn(measure::measure(kind, extent)).await }) {
            Ok(figures) => all.push(figures),
            Err(_) => eprintln!("{} could not be measured", kind.title()),
        }
    }
    if !all.is_empty() {
        tables::print(&all, extent);
    }
    let fanout = if fanout { runtime.block_on(fanout::measure(quick)) } else { Vec::new() };
    if !fanout.is_empty() {
        tables::print_fanout(&fanout);
    }
    if let Some(folder) = plots {
        plots::write(&folder, &all, extent, &fanout).expect("the plots can be written");
    }
    ExitCode::SUCCESS
}
