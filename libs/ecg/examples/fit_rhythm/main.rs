//! Fits the weights of atrial fibrillation (`ecg::rhythm::FIBRILLATION_WEIGHTS`) and cross-validates them by patient:
//!
//! `cargo run --release -p bedside-ecg --example fit_rhythm -- DIR... [--folds]`
//!
//! The folders contain WFDB records with rhythm annotations (`(AFIB`, `(N` and so on); the first channel is used. Examples are the
//! windows of 30 s of `ecg::rhythm::windows`; a window is positive if more than half of it is annotated as fibrillation. Windows with
//! atrial flutter or ventricular flutter are skipped. Each patient and class has the same total weight. The result is deterministic
//! and is printed as Rust source.
//!
//! `--folds` fits once per patient without that patient's records and prints sensitivity and specificity. Records of one patient
//! are 201 and 202 of MIT-BIH, and those of CPSC 2021 with the same number (`data_21_1`, `data_21_2`). Beat types use the weights in
//! use, which were fitted on records of MIT-BIH.

#[path = "../shared/exit.rs"]
mod exit;
#[path = "../shared/regression.rs"]
mod regression;
#[path = "../shared/wfdb_files.rs"]
mod wfdb_files;

use std::path::Path;
use std::process::ExitCode;

use ecg::analyze;
use ecg::beat_types::classify;
use ecg::rhythm::{FIBRILLATION_FEATURES, FibrillationWeights, fibrillation_features, windows};
use ecg::waves::delineate;
use exit::exit_code;
use wfdb_files::{RecordFiles, has_atr, headers};

struct Record {
    name: String,
    patient: String,
    /// Features and label of each window.
    windows: Vec<([f64; FIBRILLATION_FEATURES], bool)>,
    /// Windows without features, by label: too few beats.
    without: [usize; 2],
}

fn main() -> ExitCode {
    exit_code(run(std::env::args().skip(1).collect()).map(|()| true))
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let mut records = Vec::new();
    for folder in arguments.iter().filter(|argument| !argument.starts_with('-')) {
        for path in headers(Path::new(folder), has_atr)? {
            records.push(record(&path)?);
        }
    }
    if records.is_empty() {
        return Err("usage: fit_rhythm DIR... [--folds]".to_owned());
    }
    let all: Vec<&Record> = records.iter().collect();
    let weights = fit(&all);
    let features: Vec<String> = weights.features.iter().map(|weight| format!("{weight:.3}")).collect();
    println!("bias: {:.3}, features: [{}]", weights.bias, features.join(", "));
    print_scores("fitted and scored on all records", &all, &|_| weights);
    if arguments.iter().any(|argument| argument == "--folds") {
        let left_out = |record: &Record| {
            let others: Vec<&Record> =
                records.iter().filter(|other| other.patient != record.patient).collect();
            fit(&others)
        };
        print_scores("each record with weights fitted on the other patients", &all, &left_out);
    }
    Ok(())
}

fn record(path: &Path) -> Result<Record, String> {
    let files = RecordFiles::open(path)?;
    let (strip, annotations) = (files.strip(0)?, files.annotations("atr")?);
    let rate_hz = files.header.frame_rate_hz;
    let rhythms: Vec<(f64, String)> = annotations
        .iter()
        .filter(|annotation| annotation.symbol == '+')
        .filter_map(|annotation| {
            let name = annotation.text.as_deref()?.trim().to_owned();
            Some((annotation.tick as f64 / rate_hz, name))
        })
        .collect();
    // Seconds of a window in the rhythms for which `is` holds.
    let seconds = |start_s: f64, end_s: f64, is: &dyn Fn(&str) -> bool| -> f64 {
        rhythms
            .iter()
            .enumerate()
            .filter(|(_, (_, name))| is(name))
            .map(|(index, (from, _))| {
                let to = rhythms.get(index + 1).map_or(f64::INFINITY, |next| next.0);
                (to.min(end_s) - from.max(start_s)).max(0.0)
            })
            .sum()
    };
    let analysis = analyze(&strip);
    let waves = delineate(&strip, &analysis.beats);
    let types = classify(&strip, &analysis, &waves);
    let mut out = Record {
        patient: patient(&files.header.name),
        name: files.header.name,
        windows: Vec::new(),
        without: [0; 2],
    };
    for (start_s, end_s, range) in windows(&strip, &analysis.beats) {
        if seconds(start_s, end_s, &|name| matches!(name, "(AFL" | "(VFL")) > 0.0 {
            continue;
        }
        let positive = seconds(start_s, end_s, &|name| name == "(AFIB") > (end_s - start_s) / 2.0;
        let (beats, waves) = (&analysis.beats[range.clone()], &waves[range.clone()]);
        match fibrillation_features(&strip, beats, waves, &types[range]) {
            Some(features) => out.windows.push((features, positive)),
            None => out.without[usize::from(positive)] += 1,
        }
    }
    Ok(out)
}

fn patient(name: &str) -> String {
    match name.rsplit_once('_') {
        Some((patient, _)) => patient.to_owned(),
        None if name == "202" => "201".to_owned(),
        None => name.to_owned(),
    }
}

fn fit(records: &[&Record]) -> FibrillationWeights {
    let mut examples = Vec::new();
    for record in records {
        for (features, positive) in &record.windows {
            let same = records.iter().filter(|other| other.patient == record.patient);
            let count = same.flat_map(|other| &other.windows).filter(|(_, other)| other == positive).count();
            // Patients with fibrillation are fewer: both classes have the same total weight.
            let patients = |positive: bool| {
                let has = |record: &&&Record| record.windows.iter().any(|(_, other)| *other == positive);
                let mut names: Vec<&str> =
                    records.iter().filter(has).map(|record| record.patient.as_str()).collect();
                names.dedup();
                names.len()
            };
            let weight = 1.0 / (count * patients(*positive)).max(1) as f64;
            examples.push(regression::Example { features, positive: *positive, weight });
        }
    }
    let weights = regression::fit(&examples);
    FibrillationWeights {
        bias: weights[FIBRILLATION_FEATURES],
        features: std::array::from_fn(|index| weights[index]),
    }
}

fn print_scores(title: &str, records: &[&Record], weights: &dyn Fn(&Record) -> FibrillationWeights) {
    println!("{title}:");
    let mut sum = [[0_usize; 2]; 2];
    for record in records {
        let weights = weights(record);
        // [positive][right]
        let mut counts = [[0_usize; 2]; 2];
        for (features, positive) in &record.windows {
            let right = (weights.log_odds(features) >= 0.0) == *positive;
            counts[usize::from(*positive)][usize::from(right)] += 1;
        }
        // A window with too few beats has no finding: missed if it is fibrillation.
        counts[1][0] += record.without[1];
        counts[0][1] += record.without[0];
        println!("{:<10} {}", record.name, line(&counts));
        for (sum, counts) in sum.iter_mut().flatten().zip(counts.iter().flatten()) {
            *sum += counts;
        }
    }
    println!("gross      {}", line(&sum));
}

fn line(counts: &[[usize; 2]; 2]) -> String {
    let percent = |[wrong, right]: [usize; 2]| 100.0 * right as f64 / (wrong + right).max(1) as f64;
    format!(
        "sensitivity={:.1} of {} specificity={:.1} of {}",
        percent(counts[1]),
        counts[1][0] + counts[1][1],
        percent(counts[0]),
        counts[0][0] + counts[0][1]
    )
}
