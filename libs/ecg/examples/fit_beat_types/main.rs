//! Fits the weights of the beat types (`ecg::beat_types::BEAT_WEIGHTS`) and cross-validates them by patient:
//!
//! `cargo run --release -p bedside-ecg --example fit_beat_types -- DIR [--folds]`
//!
//! The folder contains annotated WFDB records; their first channel is used. Paced records (102, 104, 107 and 217 of MIT-BIH) are
//! skipped, as AAMI EC57 requires. Training examples are detected beats within 150 ms of a reference beat of class N, S or V;
//! examples of a record and a class share a weight with an upper limit, so that no record dominates. The result is deterministic
//! and is printed as Rust source.
//!
//! `--folds` fits once per record without that record, and scores the left-out record end to end: a missed beat of a class is a
//! false negative, a false detection of a class is a false positive. Fusion and unclassifiable beats count neither way when they
//! are called ventricular (AAMI EC57). Records 201 and 202 are of one patient and are left out together.

#[path = "../shared/exit.rs"]
mod exit;
#[path = "../shared/regression.rs"]
mod regression;
#[path = "../shared/wfdb_files.rs"]
mod wfdb_files;

use std::path::Path;
use std::process::ExitCode;

use ecg::beat_types::{
    BEAT_FEATURES, BEAT_TERMS, BeatType, BeatWeights, Regression, classify_with, expand, features,
};
use ecg::score::MATCH_WINDOW_S;
use ecg::waves::{BeatWaves, delineate};
use ecg::wfdb;
use ecg::{Analysis, Strip, analyze};
use exit::exit_code;
use wfdb_files::{RecordFiles, has_atr, headers};

/// Paced records of MIT-BIH.
const PACED: [&str; 4] = ["102", "104", "107", "217"];
/// Limit on the total weight of the examples of one class in one record, and weight of an ectopic beat relative to others.
const VENTRICULAR_LIMIT: f64 = 1000.0;
const VENTRICULAR_WEIGHT: f64 = 1.5;
const SUPRAVENTRICULAR_LIMIT: f64 = 300.0;
const SUPRAVENTRICULAR_WEIGHT: f64 = 2.0;

struct Record {
    name: String,
    strip: Strip,
    analysis: Analysis,
    waves: Vec<BeatWaves>,
    features: Vec<[f64; BEAT_FEATURES]>,
    /// Reference class of each detected beat: `N`, `S`, `V`, `F`, `Q`, or a space for a false detection.
    classes: Vec<char>,
    /// Reference beats that were not detected, by class.
    missed: Vec<char>,
}

/// Counts of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    right: usize,
    missed: usize,
    false_positive: usize,
}

fn main() -> ExitCode {
    exit_code(run(std::env::args().skip(1).collect()).map(|()| true))
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let folder = arguments
        .iter()
        .find(|argument| !argument.starts_with('-'))
        .ok_or("usage: fit_beat_types DIR [--folds]")?;
    let records = load(Path::new(folder))?;
    let all: Vec<&Record> = records.iter().collect();
    let weights = fit(&all);
    print_source(&weights);
    print_scores("fitted and scored on all records", &all, &|_| weights);
    if arguments.iter().any(|argument| argument == "--folds") {
        let left_out = |record: &Record| {
            let patient = |name: &str| if name == "202" { "201".to_owned() } else { name.to_owned() };
            let others: Vec<&Record> =
                records.iter().filter(|other| patient(&other.name) != patient(&record.name)).collect();
            fit(&others)
        };
        print_scores("each record with weights fitted on the other patients", &all, &left_out);
    }
    Ok(())
}

fn load(folder: &Path) -> Result<Vec<Record>, String> {
    let is_paced =
        |path: &Path| path.file_stem().is_some_and(|name| PACED.iter().any(|paced| name == *paced));
    let headers = headers(folder, |path| has_atr(path) && !is_paced(path))?;
    if headers.is_empty() {
        return Err(format!("{} contains no records with .atr files", folder.display()));
    }
    headers.iter().map(|path| record(path)).collect()
}

fn record(path: &Path) -> Result<Record, String> {
    let files = RecordFiles::open(path)?;
    let (strip, annotations) = (files.strip(0)?, files.annotations("atr")?);
    let rate_hz = files.header.frame_rate_hz;
    let (_, flutter) = wfdb::beats_and_flutter(&annotations, rate_hz);
    let counted = |time: f64| !flutter.iter().any(|(from, to)| time >= *from && time <= *to);
    let reference: Vec<(f64, char)> = annotations
        .iter()
        .filter_map(|annotation| Some((annotation.tick as f64 / rate_hz, class(annotation.symbol)?)))
        .filter(|(time, _)| counted(*time))
        .collect();
    let mut analysis = analyze(&strip);
    analysis.beats.retain(|beat| counted(beat.time_s));
    let waves = delineate(&strip, &analysis.beats);
    let features = features(&strip, &analysis.beats, &waves).ok_or("a record with too few beats")?;
    // Each detected beat takes the nearest reference beat within the window that no other one took.
    let mut classes = Vec::with_capacity(analysis.beats.len());
    let mut taken = vec![false; reference.len()];
    for beat in &analysis.beats {
        let from = reference.partition_point(|(time, _)| *time < beat.time_s - MATCH_WINDOW_S);
        let near = (from..reference.len())
            .take_while(|at| reference[*at].0 <= beat.time_s + MATCH_WINDOW_S)
            .filter(|at| !taken[*at])
            .min_by(|left, right| {
                let distance = |at: usize| (reference[at].0 - beat.time_s).abs();
                distance(*left).total_cmp(&distance(*right))
            });
        classes.push(near.map_or(' ', |at| {
            taken[at] = true;
            reference[at].1
        }));
    }
    let missed = reference.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|((_, class), _)| *class);
    Ok(Record {
        name: files.header.name,
        missed: missed.collect(),
        strip,
        analysis,
        waves,
        features,
        classes,
    })
}

/// Class of an annotation according to AAMI EC57. `None` if it is not a beat.
fn class(symbol: char) -> Option<char> {
    match symbol {
        'N' | 'L' | 'R' | 'e' | 'j' | 'n' | 'B' => Some('N'),
        'A' | 'a' | 'J' | 'S' => Some('S'),
        'V' | 'E' | 'r' => Some('V'),
        'F' => Some('F'),
        '/' | 'f' | 'Q' | '?' => Some('Q'),
        _ => None,
    }
}

fn fit(records: &[&Record]) -> BeatWeights {
    let expanded: Vec<Vec<(char, [f64; BEAT_TERMS])>> = records
        .iter()
        .map(|record| {
            let pairs = record.classes.iter().zip(&record.features);
            pairs.map(|(class, features)| (*class, expand(features))).collect()
        })
        .collect();
    let regression = |positive: char, negatives: &[char], limit: f64, boost: f64| {
        let mut examples = Vec::new();
        for record in &expanded {
            let size = |class: char| record.iter().filter(|(other, _)| *other == class).count() as f64;
            for (class, terms) in record {
                if *class != positive && !negatives.contains(class) {
                    continue;
                }
                let share = (limit / size(*class)).min(1.0);
                let weight = if *class == positive { boost * share } else { share };
                examples.push(regression::Example { features: terms, positive: *class == positive, weight });
            }
        }
        let weights = regression::fit(&examples);
        Regression { bias: weights[BEAT_TERMS], terms: std::array::from_fn(|index| weights[index]) }
    };
    BeatWeights {
        ventricular: regression('V', &['N', 'S'], VENTRICULAR_LIMIT, VENTRICULAR_WEIGHT),
        supraventricular: regression('S', &['N'], SUPRAVENTRICULAR_LIMIT, SUPRAVENTRICULAR_WEIGHT),
    }
}

fn print_scores(title: &str, records: &[&Record], weights: &dyn Fn(&Record) -> BeatWeights) {
    println!("{title}:");
    let mut sums = [Counts::default(); 2];
    for record in records {
        let counts = score(record, &weights(record));
        println!("{:<6} V {}  S {}", record.name, line(counts[0]), line(counts[1]));
        for (sum, counts) in sums.iter_mut().zip(counts) {
            sum.right += counts.right;
            sum.missed += counts.missed;
            sum.false_positive += counts.false_positive;
        }
    }
    println!("gross  V {}  S {}", line(sums[0]), line(sums[1]));
}

fn line(counts: Counts) -> String {
    let percent = |part: usize, rest: usize| 100.0 * part as f64 / (part + rest).max(1) as f64;
    let Counts { right, missed, false_positive } = counts;
    format!(
        "se={:.1} pp={:.1} ({right} right, {missed} missed, {false_positive} false)",
        percent(right, missed),
        percent(right, false_positive)
    )
}

/// Counts of ventricular and of supraventricular beats.
fn score(record: &Record, weights: &BeatWeights) -> [Counts; 2] {
    let typed = classify_with(&record.strip, &record.analysis, &record.waves, weights);
    let mut out = [Counts::default(); 2];
    for (counts, (class, kind)) in
        out.iter_mut().zip([('V', BeatType::Ventricular), ('S', BeatType::Supraventricular)])
    {
        counts.missed = record.missed.iter().filter(|missed| **missed == class).count();
        for (typed, truth) in typed.iter().zip(&record.classes) {
            match (typed.kind == kind, *truth == class) {
                (true, true) => counts.right += 1,
                (false, true) => counts.missed += 1,
                (true, false) if class == 'V' && matches!(truth, 'F' | 'Q') => {}
                (true, false) if class == 'S' && *truth == 'Q' => {}
                (true, false) => counts.false_positive += 1,
                (false, false) => {}
            }
        }
    }
    out
}

fn print_source(weights: &BeatWeights) {
    println!("pub const BEAT_WEIGHTS: BeatWeights = BeatWeights {{");
    for (name, regression) in
        [("ventricular", &weights.ventricular), ("supraventricular", &weights.supraventricular)]
    {
        let terms: Vec<String> = regression.terms.iter().map(|term| format!("{term:.3}")).collect();
        println!("    {name}: Regression {{ bias: {:.3}, terms: [{}] }},", regression.bias, terms.join(", "));
    }
    println!("}};");
}
