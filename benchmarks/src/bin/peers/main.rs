//! Bedside beside what people use today, in one run on one machine with one load generator: tables and plots.
//! `cargo run --release -p benchmarks --bin peers [-- standalone|processes|flask|orthanc|fanout...] [--quick] [--plots DIR]`.
//! `benchmarks/peers/install` installs the others. Compare figures of one run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends when something fails")]

mod analysis;
mod bedside;
mod dicom;
mod fanout;
mod flask;
mod load;
mod machine;
mod measure;
mod multipart;
mod notice;
mod orthanc;
mod peer;
mod pictures;
mod plots;
mod svg;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use measure::Extent;
use peer::Kind;

const USAGE: &str = "\
Usage: peers [standalone] [processes] [flask] [orthanc] [fanout] [--quick] [--plots DIR]

Measures Bedside in both ways to run, a Flask server of the documented routes, and Orthanc; `fanout` measures how soon many
watchers of Bedside are told. Without a name, all of them. Prints Markdown tables; --plots writes SVG pictures into a folder.";

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
                    eprintln!("{word} is not known\n\n{USAGE}");
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
    // Made before anything is measured.
    let _ = testkit::material::one_of_many_strips(0);
    let mut all = Vec::new();
    for kind in kinds {
        // One that cannot be measured does not take the figures of the others with it.
        match runtime.block_on(async { tokio::spawn(measure::measure(kind, extent)).await }) {
            Ok(figures) => all.push(figures),
            Err(_) => eprintln!("{} could not be measured", kind.title()),
        }
    }
    if !all.is_empty() {
        tables::print(&all, extent);
    }
    let told = if fanout { runtime.block_on(fanout::measure(quick)) } else { Vec::new() };
    if !told.is_empty() {
        tables::print_fanout(&told);
    }
    if let Some(folder) = plots {
        plots::write(&folder, &all, extent, &told).expect("the plots can be written");
    }
    ExitCode::SUCCESS
}
