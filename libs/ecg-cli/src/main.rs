//! The command `bedside-ecg`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ecg::plot;
use ecg_cli::exit::exit_code;
use ecg_cli::{evaluate, input, report};

/// ECG analysis: beats, heart rate, waves, beat types and rhythm. Not a medical device: not for clinical use.
///
/// Files: text (CSV), EDF, EDF+, BDF, and WFDB records by their header (.hea).
#[derive(Debug, Parser)]
#[command(
    name = "bedside-ecg",
    version,
    after_help = "Exit codes:
   0  success
   1  `evaluate` completed, and a record could not be read or a strip is wrong
   2  the command line cannot be parsed
  64  a file cannot be read, is no ECG, or cannot be written; one sentence on standard error states the reason"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the analysis of all leads of a file as JSON
    #[command(alias = "analyze")]
    Analyse(Analyse),
    /// Draw a lead of a file on ECG paper as PNG or SVG
    Draw(Draw),
    /// Score the analysis on folders of annotated WFDB records
    Evaluate(evaluate::Args),
}

#[derive(Debug, clap::Args)]
struct Source {
    /// Text (CSV), EDF, EDF+ or BDF file, or the header (.hea) of a WFDB record
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the lead, or its number from 1, that gives the heart rate; default: the one of the best quality
    #[arg(long, value_name = "NAME")]
    lead: Option<String>,
    /// Samples per second, for text files without times
    #[arg(long, value_name = "HZ", value_parser = rate)]
    sample_rate: Option<f64>,
}

impl Source {
    fn open(&self) -> Result<input::Input, String> {
        input::open(&self.file, self.lead.as_deref(), self.sample_rate)
    }
}

#[derive(Debug, clap::Args)]
struct Analyse {
    #[command(flatten)]
    source: Source,
    /// Print JSON on one line
    #[arg(long)]
    compact: bool,
}

#[derive(Debug, clap::Args)]
struct Draw {
    #[command(flatten)]
    source: Source,
    /// Picture to write; its extension is .png or .svg
    #[arg(short, long, value_name = "OUT.png|svg", value_parser = picture)]
    output: PathBuf,
    /// Pixels per millimetre of paper for PNG (2 to 20)
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=20))]
    pixels_per_mm: u8,
    /// Rows of ten seconds; a longer recording is shown as an overview below them
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=60))]
    rows: u8,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "expected a number of samples per second, such as 250".to_owned())
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(OsStr::to_str) {
        Some("png" | "svg") => Ok(path),
        _ => Err("expected a file name that ends in .png or .svg".to_owned()),
    }
}

fn main() -> ExitCode {
    exit_code(match Program::parse().command {
        Command::Analyse(args) => args.run().map(|()| true),
        Command::Draw(args) => args.run().map(|()| true),
        Command::Evaluate(args) => evaluate::run(&args),
    })
}

impl Analyse {
    fn run(&self) -> Result<(), String> {
        let report = report::report(&self.source.open()?);
        let text = match self.compact {
            true => serde_json::to_string(&report),
            false => serde_json::to_string_pretty(&report),
        };
        let text = text.map_err(|error| format!("the result cannot be written as JSON: {error}"))?;
        // A reader that needs no more of the output, such as `head`, is no error.
        let _ = writeln!(std::io::stdout(), "{text}");
        Ok(())
    }
}

impl Draw {
    fn run(&self) -> Result<(), String> {
        let (strip, analysis) = self.source.open()?.recording.into_best();
        let options = plot::Options {
            pixels_per_mm: self.pixels_per_mm.into(),
            rows: self.rows.into(),
            ..plot::Options::default()
        };
        let bytes = match self.output.extension().and_then(OsStr::to_str) {
            Some("svg") => plot::svg(&strip, &analysis, &options).map(String::into_bytes),
            _ => plot::png(&strip, &analysis, &options),
        };
        let bytes = bytes.map_err(|error| error.to_string())?;
        std::fs::write(&self.output, bytes)
            .map_err(|error| format!("{} cannot be written: {error}", self.output.display()))
    }
}
