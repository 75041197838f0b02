//! Scores the detector on folders of annotated WFDB records:
//!
//! `cargo run --release -p bedside-ecg --example evaluate -- DIR... [--channel N|best] [--csv FILE] [--strips
//! TRUTH.tsv] [--strips-of SECONDS,...]`
//!
//! Beats are compared according to AAMI EC57 and WFDB's `bxb`: within 150 ms, from the start of the record,
//! without flutter (`[` to `]`). Rates are compared on windows of 10 s. `--channel best` selects the channel
//! with the best signal quality.
//!
//! `--strips` compares CSV strips with the table next to them (columns `file`, `beats`, `heart_rate_bpm`,
//! `tolerance_bpm`).
//!
//! `--strips-of 5,10,28` cuts the records into strips of these lengths and analyses each on its own. A rate
//! is right within 5 bpm or 10 %. The shares are printed in percent for each record and, in the last line,
//! for all strips.
//!
//! `--streaming` pushes all channels of each record in pieces of 0.2 s and scores the provisional and the final beats
//! of one of them, with the delays of their reports (median, 99 % and largest), the memory per lead, and the number of
//! final beats that differ from the analysis of the whole record. The last line contains the sums.
//!
//! `--waves q1c` compares onsets and ends of waves with the annotations in files with this extension (QT database),
//! with the better lead per beat. The last line contains mean of record means and mean of record SDs in ms, and the
//! found share in percent, for each boundary.

#[path = "../shared/exit.rs"]
mod exit;
mod records;
mod streaming;
mod strips;
mod waves;
#[path = "../shared/wfdb_files.rs"]
mod wfdb_files;

use std::path::PathBuf;
use std::process::ExitCode;

use ecg::score::StripScore;
use exit::exit_code;
use records::{Channel, Row, Windows};

struct Options {
    folders: Vec<PathBuf>,
    channel: Channel,
    csv: Option<PathBuf>,
    strips: Option<PathBuf>,
    /// Extension of manual wave annotations to compare with.
    waves: Option<String>,
    /// Whether the records are pushed through a stream.
    streaming: bool,
    /// Lengths in seconds of the strips that records are cut into. If empty, whole records are scored.
    strips_of: Vec<f64>,
}

const USAGE: &str = "usage: evaluate DIR... [--channel N|best] [--csv FILE] [--strips TRUTH.tsv] [--strips-of SECONDS,...] [--waves EXTENSION] [--streaming]";

fn main() -> ExitCode {
    exit_code(options().and_then(|options| run(&options)))
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        folders: Vec::new(),
        channel: Channel::Number(0),
        csv: None,
        strips: None,
        waves: None,
        streaming: false,
        strips_of: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--channel" => {
                let word = value()?;
                options.channel = match word.parse() {
                    Ok(number) => Channel::Number(number),
                    Err(_) if word == "best" => Channel::Best,
                    Err(_) => {
                        return Err(
                            "--channel needs the number of a signal, from 0, or the word best".to_owned()
                        );
                    }
                };
            }
            "--csv" => options.csv = Some(value()?.into()),
            "--strips-of" => {
                let length = |word: &str| word.trim().parse().ok().filter(|length: &f64| *length > 0.0);
                options.strips_of = value()?
                    .split(',')
                    .map(length)
                    .collect::<Option<_>>()
                    .ok_or("--strips-of needs lengths in seconds, such as 5,10,28")?;
            }
            "--streaming" => options.streaming = true,
            "--waves" => options.waves = Some(value()?),
            "--strips" => options.strips = Some(value()?.into()),
            flag if flag.starts_with('-') => return Err(format!("{flag} is not an option of evaluate")),
            folder => options.folders.push(folder.into()),
        }
    }
    if options.folders.is_empty() && options.strips.is_none() {
        return Err(USAGE.to_owned());
    }
    Ok(options)
}

/// Returns whether all files were read and all strips are right.
fn run(options: &Options) -> Result<bool, String> {
    let mut good = true;
    if let Some(table) = &options.strips {
        good &= strips::check(table)?;
    }
    if options.folders.is_empty() {
        return Ok(good);
    }
    if let Some(extension) = &options.waves {
        return compare_waves(options, extension, good);
    }
    if options.streaming {
        return stream_records(options, good);
    }
    if !options.strips_of.is_empty() {
        return cut_into_strips(options, good);
    }
    let mut rows = Vec::new();
    println!("{}", Row::HEADER);
    for folder in &options.folders {
        for header in records::headers(folder)? {
            match records::evaluate(&header, options.channel) {
                Ok(row) => {
                    println!("{row}");
                    rows.push(row);
                }
                Err(message) => {
                    eprintln!("{}: {message}", header.display());
                    good = false;
                }
            }
        }
    }
    if let Some(path) = &options.csv {
        let lines: Vec<String> = rows.iter().map(Row::csv).collect();
        std::fs::write(path, format!("{}\n{}\n", Row::CSV_HEADER, lines.join("\n")))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    let gross = rows.iter().fold(Row::default(), |sum, row| sum + row);
    let Windows { total, close, unusable, .. } = gross.windows;
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    println!(
        "windows of 10 s: {total}; within 5 bpm or 10 %: {:.2} % of those with a rate, {:.2} % of all; without a rate: {:.2} %",
        percent(close, total - unusable),
        percent(close, total),
        percent(unusable, total),
    );
    println!(
        "gross se={:.2} pp={:.2} f1={:.2} missed={} false={} beats={} rate_mae_bpm={:.2} samples_per_s={:.1e}",
        gross.score.sensitivity(),
        gross.score.positive_predictivity(),
        gross.score.f1(),
        gross.score.missed,
        gross.score.false_beats,
        gross.score.beats(),
        gross.windows.mean_error(),
        gross.samples as f64 / gross.seconds.max(1e-9),
    );
    Ok(good && !rows.is_empty())
}

/// Compares wave boundaries with manual annotations. Returns whether all files were read.
fn compare_waves(options: &Options, extension: &str, mut good: bool) -> Result<bool, String> {
    let mut all = Vec::new();
    for folder in &options.folders {
        for header in records::headers(folder)?.iter().filter(|path| path.with_extension(extension).is_file())
        {
            match waves::evaluate(header, extension) {
                Ok(record) => {
                    println!("{record}");
                    all.push(record);
                }
                Err(message) => {
                    eprintln!("{}: {message}", header.display());
                    good = false;
                }
            }
        }
    }
    println!("{}", waves::summary(&all));
    Ok(good && !all.is_empty())
}

/// Pushes the records through a stream. Returns whether all files were read and all final beats are those of the
/// analysis.
fn stream_records(options: &Options, mut good: bool) -> Result<bool, String> {
    let mut sum = streaming::Streamed::default();
    for folder in &options.folders {
        for header in records::headers(folder)? {
            match streaming::evaluate(&header, options.channel) {
                Ok(record) => {
                    println!("{record}");
                    sum.add(&record);
                }
                Err(message) => {
                    eprintln!("{}: {message}", header.display());
                    good = false;
                }
            }
        }
    }
    println!("{sum}");
    Ok(good && sum.beats() > 0 && sum.different() == 0)
}

/// Scores the records strip by strip. Returns whether all files were read.
fn cut_into_strips(options: &Options, mut good: bool) -> Result<bool, String> {
    let mut sum = StripScore::default();
    for folder in &options.folders {
        for header in records::headers(folder)? {
            match records::strip_score(&header, options.channel, &options.strips_of) {
                Ok((name, score)) => {
                    println!("{name:<10} {score}");
                    sum += score;
                }
                Err(message) => {
                    eprintln!("{}: {message}", header.display());
                    good = false;
                }
            }
        }
    }
    println!("strips {sum}");
    Ok(good && sum.strips() > 0)
}
