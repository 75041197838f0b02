//! Generates strips with known beats and scores the analysis on them:
//!
//! `cargo run --release -p bedside-ecg --example synthesise -- [--strips N] [--from SEED] [--set WORD] [--list]
//! [--export DIR]`
//!
//! Generates `N` strips of each set (300) with the seeds from `SEED` (0). `--set` selects the sets whose name
//! contains the word. `--list` prints each strip with a wrong or missing rate.
//! `--export` writes the strips and their true rates to a directory for other programs (`ecg_cli::evaluate::export`).
//!
//! The line of a set contains the shares of `evaluate --strips-of`, the sensitivity (`se`) and positive
//! predictivity (`pp`) of the beats and, depending on the set: reported pauses of at least 2.2 s, pauses with
//! an invented beat, detected beats of runs, and strips with an interval across lead-off.
//!
//! Seeds below 100000 are for development, seeds from 100000 on for reporting.

mod draw;
#[path = "../shared/exit.rs"]
mod exit;
mod sets;
mod tally;

use std::process::ExitCode;

use ecg_cli::evaluate::export::Export;
use exit::exit_code;
use sets::{SETS, case};
use tally::{Tally, rate_without};

fn main() -> ExitCode {
    exit_code(run().map(|()| true))
}

fn run() -> Result<(), String> {
    let (mut strips, mut from, mut word, mut list) = (300_u64, 0_u64, String::new(), false);
    let mut export = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no whole number"));
        match argument.as_str() {
            "--strips" => strips = number(value()?)?,
            "--from" => from = number(value()?)?,
            "--set" => word = value()?,
            "--list" => list = true,
            "--export" => export = Some(Export::create(value()?.as_ref())?),
            _ => {
                return Err(
                    "usage: synthesise [--strips N] [--from SEED] [--set WORD] [--list] [--export DIR]"
                        .to_owned(),
                );
            }
        }
    }
    for (name, draw) in SETS.iter().filter(|(name, _)| name.contains(&word)) {
        let mut tally = Tally::default();
        for seed in from..from + strips {
            let case = case(*draw, seed);
            let before = tally;
            let analysis = ecg::analyze(&case.strip);
            tally.add(&case, &analysis);
            if let (Some(export), Some(rate)) = (&mut export, rate_without(&case.beats, &case.lead_off)) {
                export.add(name, &seed.to_string(), &case.strip, rate)?;
            }
            if list && tally.strips.right == before.strips.right {
                let found = analysis.heart_rate.map(|rate| rate.mean_bpm);
                let truth = ecg::score::mean_rate(&case.beats);
                println!(
                    "{name} {seed}: {found:.0?} for {truth:.0?}, {:?} of {:.0} s at {} Hz, {} beats for {}: {:?}",
                    analysis.quality,
                    case.strip.duration_s(),
                    case.strip.sample_rate_hz,
                    analysis.beats.len(),
                    case.beats.len(),
                    analysis.quality_segments.iter().find_map(|it| it.reason.clone())
                );
            }
        }
        println!("{name:<18} {tally}");
    }
    export.map_or(Ok(()), Export::finish)
}
