//! Fits the weights of the beat types (`ecg::beat_types::BEAT_WEIGHTS`) and cross-validates them by patient:
//!
//! `cargo run --release -p bedside-ecg --example fit_beat_types -- DIR [--source FILE]`
//!
//! The folder contains annotated WFDB records. Paced records (102, 104, 107 and 217 of MIT-BIH) are skipped, as AAMI
//! EC57 requires. Each record is used three times: both leads with the beats of the first one, and each lead alone
//! with its own beats; the second lead alone is only scored. Training examples are detected beats within 150 ms of a
//! reference beat of class N, S or V. Aberrated atrial beats (`a`) are no examples: their QRS complex is that of a
//! ventricular beat. Fusion beats are none, either. Of each class in a record a limited number of beats is used, so
//! that no record dominates. The result is deterministic; `--source` writes it as Rust source.
//!
//! The decisions are fitted once per patient without that patient. The offsets of the log-odds are those with the
//! figures closest to the aims on the left-out records; those of a patient are chosen on the other patients. Each
//! record is scored end to end with the weights and offsets of the other patients: a missed beat of a class is a
//! false negative, a false detection of a class is a false positive. Fusion and unclassifiable beats count neither
//! way when they are called ventricular, and unclassifiable ones when they are called supraventricular (AAMI EC57).
//! The sums are given for whole records and without the first five minutes, the learning period of AAMI EC57. Records
//! 201 and 202 are of one patient and are left out together.

#[path = "../shared/boosting.rs"]
mod boosting;
#[path = "../shared/exit.rs"]
mod exit;
#[path = "../shared/wfdb_files.rs"]
mod wfdb_files;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use boosting::Example;
use ecg::beat_types::{BeatTable, BeatType, BeatWeights, Forest, leads_table, typed};
use ecg::score::MATCH_WINDOW_S;
use ecg::waves::delineate;
use ecg::wfdb::{self, Annotation};
use ecg::{Analysis, Strip, analyze};
use exit::exit_code;
use wfdb_files::{RecordFiles, has_atr, headers};

/// Paced records of MIT-BIH.
const PACED: [&str; 4] = ["102", "104", "107", "217"];
/// Learning period of AAMI EC57.
const LEARNING_S: f64 = 300.0;
/// Number of trees of each decision.
const TREES: usize = 40;
/// Limit on the number of examples of one class in one record. Of more beats, evenly spaced ones are taken.
const MOST_EXAMPLES: usize = 200;
/// Offsets of the log-odds that are tried.
const OFFSETS: [f32; 9] = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0];
/// Sensitivity and positive predictivity in percent that are aimed at. The offset of a decision is the one at which the
/// smaller of the two quotients of figure and aim is largest.
const VENTRICULAR_AIM: [f64; 2] = [92.0, 92.0];
const SUPRAVENTRICULAR_AIM: [f64; 2] = [80.0, 55.0];
/// The ways in which a record is used, and how many of them give training examples.
const TRAINING_WAYS: usize = 2;
const WAYS: [&str; 3] = ["both leads", "first lead alone", "second lead alone"];

/// A record in one of the ways.
struct Case {
    analysis: Analysis,
    table: BeatTable,
    /// Reference class of each detected beat: `N`, `S`, `a` (aberrated, of class S), `V`, `F`, `Q`, or a space for a
    /// false detection.
    classes: Vec<char>,
    /// Times and classes of the reference beats that were not detected.
    missed: Vec<(f64, char)>,
}

struct Record {
    name: String,
    cases: Vec<Case>,
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
    let usage = "usage: fit_beat_types DIR [--source FILE]";
    let folder = arguments.first().filter(|first| !first.starts_with('-')).ok_or(usage)?;
    let source = match arguments.iter().position(|argument| argument == "--source") {
        Some(at) => Some(arguments.get(at + 1).ok_or(usage)?),
        None => None,
    };
    let records = load(Path::new(folder))?;
    let all: Vec<&Record> = records.iter().collect();
    let left_out: Vec<BeatWeights> = all
        .iter()
        .map(|record| {
            let others: Vec<&Record> =
                all.iter().filter(|other| patient(&other.name) != patient(&record.name)).copied().collect();
            fit(&others)
        })
        .collect();
    let trials: Vec<[Trials; 2]> =
        all.iter().zip(&left_out).map(|(record, weights)| trials(&record.cases[0], weights)).collect();
    let shifted: Vec<BeatWeights> = all
        .iter()
        .zip(&left_out)
        .map(|(record, weights)| {
            let others =
                all.iter().zip(&trials).filter(|(other, _)| patient(&other.name) != patient(&record.name));
            let others: Vec<&[Trials; 2]> = others.map(|(_, trials)| trials).collect();
            shift(weights, best_offsets(&others))
        })
        .collect();
    print_scores("each record with weights and offsets fitted on the other patients", &all, &shifted);
    print_trials(&trials);
    let offsets = best_offsets(&trials.iter().collect::<Vec<_>>());
    println!("offsets: {offsets:?}");
    let weights = shift(&fit(&all), offsets);
    print_scores("fitted and scored on all records", &all, &vec![weights.clone(); all.len()]);
    if let Some(path) = source {
        std::fs::write(path, text(&weights)).map_err(|error| format!("{path} cannot be written: {error}"))?;
    }
    Ok(())
}

/// Records 201 and 202 are of one patient.
fn patient(name: &str) -> &str {
    if name == "202" { "201" } else { name }
}

/// Counts of a record with each offset.
type Trials = [Counts; OFFSETS.len()];

/// The counts of ventricular and of supraventricular beats with each offset of the decision on them.
fn trials(case: &Case, weights: &BeatWeights) -> [Trials; 2] {
    [
        OFFSETS.map(|offset| score(case, &shift(weights, [offset, 0.0]), 0.0)[0]),
        OFFSETS.map(|offset| score(case, &shift(weights, [0.0, offset]), 0.0)[1]),
    ]
}

/// Prints the sums of all records, each with the weights of the other patients, for each offset.
fn print_trials(trials: &[[Trials; 2]]) {
    for (class, name) in ["V", "S"].iter().enumerate() {
        for (at, offset) in OFFSETS.iter().enumerate() {
            let mut sum = Counts::default();
            for counts in trials.iter().map(|trials| trials[class][at]) {
                sum.right += counts.right;
                sum.missed += counts.missed;
                sum.false_positive += counts.false_positive;
            }
            println!("offset {offset}: {name} {}", line(sum));
        }
    }
}

/// The offsets at which the beats of the records come closest to the aims.
fn best_offsets(records: &[&[Trials; 2]]) -> [f32; 2] {
    let best = |class: usize, aim: [f64; 2]| {
        let measure = |at: usize| {
            let sum = |of: fn(&Counts) -> usize| -> f64 {
                records.iter().map(|trials| of(&trials[class][at]) as f64).sum()
            };
            let right = sum(|counts| counts.right);
            let sensitivity = right / (right + sum(|counts| counts.missed)).max(1.0);
            let predictivity = right / (right + sum(|counts| counts.false_positive)).max(1.0);
            (sensitivity / aim[0]).min(predictivity / aim[1])
        };
        let best = (0..OFFSETS.len()).max_by(|left, right| measure(*left).total_cmp(&measure(*right)));
        best.map_or(0.0, |at| OFFSETS[at])
    };
    [best(0, VENTRICULAR_AIM), best(1, SUPRAVENTRICULAR_AIM)]
}

fn shift(weights: &BeatWeights, [ventricular, supraventricular]: [f32; 2]) -> BeatWeights {
    let mut out = weights.clone();
    out.ventricular.bias += ventricular;
    out.supraventricular.bias += supraventricular;
    out
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
    let annotations = files.annotations("atr")?;
    let (first, second) = (files.strip(0)?, files.strip(1)?);
    let rate_hz = files.header.frame_rate_hz;
    let cases = [vec![&first, &second], vec![&first], vec![&second]];
    let cases: Result<Vec<Case>, String> =
        cases.iter().map(|leads| case(leads, &annotations, rate_hz)).collect();
    Ok(Record { name: files.header.name, cases: cases? })
}

fn case(leads: &[&Strip], annotations: &[Annotation], rate_hz: f64) -> Result<Case, String> {
    let (_, flutter) = wfdb::beats_and_flutter(annotations, rate_hz);
    let counted = |time: f64| !flutter.iter().any(|(from, to)| time >= *from && time <= *to);
    let reference: Vec<(f64, char)> = annotations
        .iter()
        .filter_map(|annotation| Some((annotation.tick as f64 / rate_hz, class(annotation.symbol)?)))
        .filter(|(time, _)| counted(*time))
        .collect();
    let mut analysis = analyze(leads[0]);
    analysis.beats.retain(|beat| counted(beat.time_s));
    let waves = delineate(leads[0], &analysis.beats);
    let table = leads_table(leads, &analysis.beats, &waves).ok_or("a record has too few beats")?;
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
    let missed =
        reference.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(missed, _)| *missed).collect();
    Ok(Case { analysis, table, classes, missed })
}

/// Class of an annotation according to AAMI EC57, with `a` for aberrated atrial beats. `None` if it is not a beat.
fn class(symbol: char) -> Option<char> {
    match symbol {
        'N' | 'L' | 'R' | 'e' | 'j' | 'n' | 'B' => Some('N'),
        'A' | 'J' | 'S' => Some('S'),
        'a' => Some('a'),
        'V' | 'E' | 'r' => Some('V'),
        'F' => Some('F'),
        '/' | 'f' | 'Q' | '?' => Some('Q'),
        _ => None,
    }
}

fn is_class(truth: char, class: char) -> bool {
    truth == class || class == 'S' && truth == 'a'
}

fn fit(records: &[&Record]) -> BeatWeights {
    BeatWeights {
        ventricular: forest(records, 'V', &['N', 'S']),
        supraventricular: forest(records, 'S', &['N']),
    }
}

fn forest(records: &[&Record], positive: char, negatives: &[char]) -> Forest {
    let mut examples = Vec::new();
    for case in records.iter().flat_map(|record| &record.cases[..TRAINING_WAYS]) {
        for class in negatives.iter().chain([&positive]) {
            // Where no beat is called supraventricular, none is learned.
            let taken = |at: &usize| {
                case.classes[*at] == *class && !(positive == 'S' && case.table.is_irregular(*at))
            };
            let members: Vec<usize> = (0..case.classes.len()).filter(taken).collect();
            let count = members.len().min(MOST_EXAMPLES);
            for number in 0..count {
                let rows = &case.table.rows[members[number * members.len() / count]];
                let weight = 1.0 / rows.len() as f64;
                examples.extend(rows.iter().map(|features| Example {
                    features,
                    positive: *class == positive,
                    weight,
                }));
            }
        }
    }
    boosting::fit(&examples, TREES)
}

fn print_scores(title: &str, records: &[&Record], weights: &[BeatWeights]) {
    println!("{title}:");
    for (way, name) in WAYS.iter().enumerate() {
        println!("{name}:");
        for (part, from_s) in [("whole records", 0.0), ("after five minutes", LEARNING_S)] {
            let mut sums = [Counts::default(); 2];
            for (record, weights) in records.iter().zip(weights) {
                let counts = score(&record.cases[way], weights, from_s);
                if from_s == 0.0 {
                    println!("{:<6} V {}  S {}", record.name, line(counts[0]), line(counts[1]));
                }
                for (sum, counts) in sums.iter_mut().zip(counts) {
                    sum.right += counts.right;
                    sum.missed += counts.missed;
                    sum.false_positive += counts.false_positive;
                }
            }
            println!("gross, {part}: V {}  S {}", line(sums[0]), line(sums[1]));
        }
    }
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

/// Counts of ventricular and of supraventricular beats from a time on.
fn score(case: &Case, weights: &BeatWeights, from_s: f64) -> [Counts; 2] {
    let typed = typed(Some(&case.table), &case.analysis, weights);
    let mut out = [Counts::default(); 2];
    for (counts, (class, kind)) in
        out.iter_mut().zip([('V', BeatType::Ventricular), ('S', BeatType::Supraventricular)])
    {
        let missed = case.missed.iter().filter(|(time, missed)| *time >= from_s && is_class(*missed, class));
        counts.missed = missed.count();
        let pairs = typed.iter().zip(&case.classes).zip(&case.analysis.beats);
        for ((typed, truth), _) in pairs.filter(|(_, beat)| beat.time_s >= from_s) {
            match (typed.kind == kind, is_class(*truth, class)) {
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

/// The weights as the source of the module `weights`.
fn text(weights: &BeatWeights) -> String {
    let mut out = String::from("//! Weights of the beat types, as written by `examples/fit_beat_types`.\n\n");
    out.push_str("use std::borrow::Cow;\n\nuse super::model::{BeatWeights, Forest, Tree};\n\n");
    out.push_str("/// The weights in use.\npub const BEAT_WEIGHTS: BeatWeights = BeatWeights {\n");
    for (name, forest) in
        [("ventricular", &weights.ventricular), ("supraventricular", &weights.supraventricular)]
    {
        let trees = name.to_uppercase();
        let _ = writeln!(
            out,
            "    {name}: Forest {{ bias: {}, trees: Cow::Borrowed(&{trees}) }},",
            real(forest.bias)
        );
    }
    out.push_str("};\n");
    for (name, forest) in
        [("ventricular", &weights.ventricular), ("supraventricular", &weights.supraventricular)]
    {
        let (name, count) = (name.to_uppercase(), forest.trees.len());
        let _ = writeln!(out, "\n#[rustfmt::skip]\nconst {name}: [Tree; {count}] = [");
        for tree in forest.trees.iter() {
            let features: Vec<String> = tree.features.iter().map(u8::to_string).collect();
            let limits: Vec<String> = tree.limits.iter().map(|limit| real(*limit)).collect();
            let leaves: Vec<String> = tree.leaves.iter().map(|leaf| real(*leaf)).collect();
            let _ = writeln!(out, "    Tree {{ features: [{}],", features.join(", "));
            let _ = writeln!(out, "        limits: [{}],", limits.join(", "));
            let _ = writeln!(out, "        leaves: [{}] }},", leaves.join(", "));
        }
        out.push_str("];\n");
    }
    out
}

/// A number as Rust source.
fn real(value: f32) -> String {
    if value == f32::MAX { "f32::MAX".to_owned() } else { format!("{value:?}") }
}
