//! Scores the detector on folders of annotated WFDB records, or the analysis on their strips.

pub mod export;
pub mod records;
mod streaming;
mod strips;
mod waves;

use std::path::PathBuf;

use ecg::score::{StripScore, mean_rate};
use export::Export;
use records::{Channel, Row, Windows};

/// Scores the detector on folders of annotated WFDB records.
///
/// Beats are compared according to AAMI EC57 and WFDB's `bxb`: within 150 ms, from the start of the record, without flutter
/// (`[` to `]`). Rates are compared on windows of 10 s. The last line contains the sums.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of WFDB records with reference beats (.atr, .ecg, .qrs, .q1c or .man)
    #[arg(value_name = "DIR", required_unless_present = "strips")]
    folders: Vec<PathBuf>,
    /// Number of the signal to analyse, from 0, or `best` for the one with the best signal quality
    #[arg(long, value_name = "N|best", default_value = "0", value_parser = channel)]
    channel: Channel,
    /// File for the results of each record as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Compare CSV strips with the table next to them (columns file, beats, heart_rate_bpm, tolerance_bpm)
    #[arg(long, value_name = "TRUTH.tsv")]
    strips: Option<PathBuf>,
    /// Cut the records into strips of these lengths and analyse each on its own; a rate is right within 5 bpm or 10 %
    #[arg(long, value_name = "SECONDS,...", value_delimiter = ',', value_parser = length)]
    strips_of: Vec<f64>,
    /// Folder for the strips and their true rates: strips.f32 (millivolts) and strips.tsv
    #[arg(long, value_name = "DIR", requires = "strips_of")]
    export: Option<PathBuf>,
    /// Compare waves with the annotations in files with this extension (QT database), better lead per beat
    #[arg(long, value_name = "EXTENSION")]
    waves: Option<String>,
    /// Push all channels in pieces of 0.2 s and score provisional and final beats, with their delays and the memory
    #[arg(long)]
    streaming: bool,
}

fn channel(word: &str) -> Result<Channel, String> {
    match word.parse() {
        Ok(number) => Ok(Channel::Number(number)),
        Err(_) if word == "best" => Ok(Channel::Best),
        Err(_) => Err("expected the number of a signal, from 0, or the word best".to_owned()),
    }
}

fn length(word: &str) -> Result<f64, String> {
    word.trim()
        .parse()
        .ok()
        .filter(|length: &f64| *length > 0.0 && length.is_finite())
        .ok_or_else(|| "expected lengths in seconds, such as 5,10,28".to_owned())
}

/// Prints the scores. Returns whether all files were read and all strips are right.
///
/// # Errors
/// Returns a sentence if there are no records, or if a result cannot be written.
pub fn run(options: &Args) -> Result<bool, String> {
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
    let mut headers = Vec::new();
    for folder in &options.folders {
        headers.extend(records::headers(folder)?);
    }
    println!("{}", Row::HEADER);
    for header in headers {
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
fn compare_waves(options: &Args, extension: &str, mut good: bool) -> Result<bool, String> {
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
fn stream_records(options: &Args, mut good: bool) -> Result<bool, String> {
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
fn cut_into_strips(options: &Args, mut good: bool) -> Result<bool, String> {
    let mut sum = StripScore::default();
    let mut export = options.export.as_deref().map(Export::create).transpose()?;
    for folder in &options.folders {
        let set = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
        for header in records::headers(folder)? {
            match records::strips(&header, options.channel, &options.strips_of) {
                Ok((name, strips)) => {
                    let mut score = StripScore::default();
                    for (strip, beats) in strips {
                        score.add(&ecg::analyze(&strip), &beats);
                        if let (Some(export), Some(rate)) = (&mut export, mean_rate(&beats)) {
                            export.add(&set, &name, &strip, rate)?;
                        }
                    }
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
    if let Some(export) = export {
        export.finish()?;
    }
    println!("strips {sum}");
    Ok(good && sum.strips() > 0)
}
