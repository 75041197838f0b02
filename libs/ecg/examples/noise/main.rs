//! Searches noise, speech and generated waves for strips with a heart rate. There should be none:
//!
//! `cargo run --release -p bedside-ecg --example noise -- [--strips N] [--from SEED] [--kind WORD]`
//!
//! Generates `N` strips of each kind (1000) with the seeds from `SEED` (0), each of 5, 10 or 28 s at 100 to
//! 1000 Hz. `--kind` selects the kinds whose name contains the word. Prints each strip with a rate and its
//! quality indices, then a line per kind. Exits with 1 if any strip has a rate.

#[path = "../shared/exit.rs"]
mod exit;
mod kinds;

use std::process::ExitCode;

use ecg::detect::detect;
use ecg::{Quality, analyze, quality};
use exit::exit_code;
use kinds::{KINDS, strip};

struct Options {
    strips: u64,
    from: u64,
    kind: String,
}

fn main() -> ExitCode {
    exit_code(options().map(|options| search(&options) == 0))
}

fn options() -> Result<Options, String> {
    let mut options = Options { strips: 1000, from: 0, kind: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{argument} needs a whole number"));
        match argument.as_str() {
            "--strips" => options.strips = number()?,
            "--from" => options.from = number()?,
            "--kind" => options.kind = value,
            _ => return Err("usage: noise [--strips N] [--from SEED] [--kind WORD]".to_owned()),
        }
    }
    Ok(options)
}

/// Returns the number of strips with a heart rate.
fn search(options: &Options) -> u64 {
    let (mut strips, mut with_rate) = (0, 0);
    for (name, kind) in KINDS.iter().filter(|(name, _)| name.contains(&options.kind)) {
        let (mut found, mut usable) = (0, 0);
        for seed in options.from..options.from + options.strips {
            let strip = strip(*kind, seed);
            let analysis = analyze(&strip);
            usable += analysis.quality_segments.iter().filter(|it| it.quality > Quality::Unusable).count();
            if let Some(heart_rate) = analysis.heart_rate {
                found += 1;
                let (samples, rate) = (&strip.segments[0].samples, strip.sample_rate_hz);
                println!(
                    "{name}, {seed}: {:.0} bpm from {:.0} s at {rate:.0} Hz, {:?}, {:?}",
                    heart_rate.mean_bpm,
                    strip.duration_s(),
                    analysis.quality,
                    quality::indices(samples, rate, &detect(samples, rate)),
                );
            }
        }
        println!(
            "{name:<44} {:>7} strips, {found} with a heart rate, {usable} usable stretches",
            options.strips
        );
        (strips, with_rate) = (strips + options.strips, with_rate + found);
    }
    println!("{strips} strips, {with_rate} with a heart rate");
    with_rate
}
