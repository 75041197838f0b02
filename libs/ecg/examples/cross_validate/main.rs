//! Measures the detector on records that its constants were not fitted on:
//!
//! `cargo run --release -p bedside-ecg --example cross_validate -- DIR [--folds 4] [--start 1]`
//!
//! The records of a folder (WFDB with reference beats) are divided into folds. For each fold the constants
//! are perturbed at random, fitted again by coordinate search on the other folds, and scored on the left-out
//! fold. `--start` seeds the perturbation. The stages of the detector themselves were designed with knowledge
//! of all records; this program cannot correct for that.
//!
//! `fit_evidence --folds` cross-validates the weights of the signal quality.

#[path = "../shared/exit.rs"]
mod exit;
#[path = "../shared/wfdb_files.rs"]
mod wfdb_files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ecg::detect::{Tuning, detect_with};
use ecg::score::{MATCH_WINDOW_S, Score, compare};
use ecg::synth::Random;
use ecg::wfdb;
use exit::exit_code;
use wfdb_files::{RecordFiles, has_atr, headers};

/// Largest factor of the perturbation.
const SCATTER: f32 = 1.5;
/// Relative step at the start of the search, and the step at which it ends.
const FIRST_STEP: f32 = 0.4;
const LAST_STEP: f32 = 0.04;
const ROUNDS: usize = 12;

struct Record {
    name: String,
    samples: Vec<f32>,
    rate_hz: f64,
    beats: Vec<f64>,
    flutter: Vec<(f64, f64)>,
}

fn main() -> ExitCode {
    exit_code(run(std::env::args().skip(1).collect()).map(|()| true))
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let usage = || "usage: cross_validate DIR [--folds 4] [--start 1]".to_owned();
    let option = |name: &str, default: u64| match arguments.iter().position(|argument| argument == name) {
        None => Ok(default),
        Some(at) => arguments.get(at + 1).and_then(|value| value.parse().ok()).ok_or_else(usage),
    };
    let folder = arguments.first().filter(|first| !first.starts_with('-')).ok_or_else(usage)?;
    let (folds, seed) = (option("--folds", 4)?.max(2) as usize, option("--start", 1)?);
    let records = load(Path::new(folder))?;
    let mut random = Random::new(seed);
    let (mut left_out, mut shipped, mut scattered) = (Score::default(), Score::default(), Score::default());
    for fold in 0..folds {
        let is_out = |index: &usize| index % folds == fold;
        let pick = |out: bool| -> Vec<&Record> {
            (0..records.len()).filter(|index| is_out(index) == out).map(|index| &records[index]).collect()
        };
        let (train, test) = (pick(false), pick(true));
        let mut start = Tuning::default();
        for (_, weight) in start.weights() {
            *weight *= SCATTER.powf(2.0 * random.uniform() as f32 - 1.0);
        }
        let chosen = search(&train, start);
        println!("fold {fold}: errors on the others {} -> {}", errors(&train, start), errors(&train, chosen));
        let names: Vec<&str> = test.iter().map(|record| record.name.as_str()).collect();
        let (before, after, as_shipped) =
            (score(&test, start), score(&test, chosen), score(&test, Tuning::default()));
        println!("left out {}:", names.join(" "));
        for (name, result) in
            [("scattered", before), ("chosen on the others", after), ("as shipped", as_shipped)]
        {
            print(name, result);
        }
        scattered += before;
        left_out += after;
        shipped += as_shipped;
    }
    println!("all folds:");
    for (name, result) in
        [("scattered", scattered), ("chosen on the others", left_out), ("as shipped", shipped)]
    {
        print(name, result);
    }
    Ok(())
}

fn print(name: &str, score: Score) {
    println!(
        "  {name:<21} se={:.2} pp={:.2} f1={:.2} missed={} false={}",
        score.sensitivity(),
        score.positive_predictivity(),
        score.f1(),
        score.missed,
        score.false_beats
    );
}

fn load(folder: &Path) -> Result<Vec<Record>, String> {
    let headers = headers(folder, has_atr)?;
    if headers.len() < 2 {
        return Err(format!("{} holds fewer than two records with .atr files", folder.display()));
    }
    let record = |path: &PathBuf| {
        let files = RecordFiles::open(path)?;
        let samples =
            wfdb::signal(&files.header, 0, &files.signal_bytes(0)?).map_err(|error| error.to_string())?;
        let rate_hz = files.header.frame_rate_hz;
        let (beats, flutter) = wfdb::beats_and_flutter(&files.annotations("atr")?, rate_hz);
        Ok(Record { name: files.header.name, samples, rate_hz, beats, flutter })
    };
    headers.iter().map(record).collect()
}

fn score(records: &[&Record], tuning: Tuning) -> Score {
    let mut sum = Score::default();
    for record in records {
        let beats = detect_with(&record.samples, record.rate_hz, tuning);
        let found: Vec<f64> = beats.iter().map(|beat| beat.sample as f64 / record.rate_hz).collect();
        sum += compare(&record.beats, &found, &record.flutter, MATCH_WINDOW_S, |_| {});
    }
    sum
}

fn errors(records: &[&Record], tuning: Tuning) -> usize {
    let score = score(records, tuning);
    score.missed + score.false_beats
}

/// Coordinate search: changes one constant at a time while the errors decrease; halves steps without success.
fn search(records: &[&Record], start: Tuning) -> Tuning {
    let mut best = start;
    let mut least = errors(records, best);
    let mut steps = vec![FIRST_STEP; best.weights().len()];
    for _ in 0..ROUNDS {
        for (index, step) in steps.iter_mut().enumerate().filter(|(_, step)| **step > LAST_STEP) {
            let mut moved = false;
            for factor in [1.0 + *step, 1.0 / (1.0 + *step)] {
                let mut tried = best;
                *tried.weights()[index].1 *= factor;
                let now = errors(records, tried);
                if now < least {
                    (best, least, moved) = (tried, now, true);
                    break;
                }
            }
            if !moved {
                *step /= 2.0;
            }
        }
    }
    best
}
