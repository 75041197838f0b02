//! Fits weights of the evidence for a heart rhythm and cross-validates them. They are candidates for
//! `ecg::quality::EVIDENCE_WEIGHTS`, which are older than this program; docs/ECG.md compares the two:
//!
//! `cargo run --release -p bedside-ecg --example fit_evidence -- DIR... [--folds]`
//!
//! Positive examples are strips of 5 and 10 s of the records in the folders (WFDB with reference beats) whose detected
//! beats give the right rate, and generated strips of `synthesise` (seeds 0 to 199). Negative examples are strips of `noise`
//! (seeds 0 to 1499 of each kind). Strips that a rule excludes take no part. The features are standardised, all examples have the same
//! weight, and the ridge penalty is fixed. The result is deterministic and is printed as Rust source.
//!
//! `--folds` additionally fits once per record without that record (leave-one-record-out) and prints a curve over the
//! threshold: accepted noise (seeds from 100000, never used for fitting) against rejected strips of the left-out records.

#[path = "../synthesise/draw.rs"]
#[allow(dead_code, reason = "shared with the synthesise example, which uses all of it")]
mod draw;
#[path = "../shared/exit.rs"]
mod exit;
#[path = "../noise/kinds.rs"]
mod kinds;
#[path = "../shared/regression.rs"]
mod regression;
#[path = "../synthesise/sets.rs"]
#[allow(dead_code, reason = "shared with the synthesise example, which uses all of it")]
mod sets;

use std::path::PathBuf;
use std::process::ExitCode;

use ecg::Strip;
use ecg::detect::detect;
use ecg::quality::{EVIDENCE_FEATURES, EVIDENCE_WEIGHTS, EvidenceWeights, evidence_features, indices};
use ecg::score::{RATE_BPM, RATE_SHARE, mean_rate};
use ecg_cli::evaluate::records;
use exit::exit_code;

/// Lengths of the strips of records: each is one segment of the signal quality.
const LENGTHS_S: [f64; 2] = [5.0, 10.0];
/// Longest part of a generated strip that is one segment.
const SEGMENT_S: f64 = 10.0;
const SYNTHETIC_STRIPS: u64 = 200;
const NOISE_STRIPS: u64 = 1500;
const TEST_NOISE_FROM: u64 = 100_000;
type Features = [f64; EVIDENCE_FEATURES];

/// The strips of one record, or of one generated set.
struct Group {
    name: String,
    /// Index of the folder; generated sets come after the folders.
    source: usize,
    /// Features of the strips with right beats that no rule excludes.
    positives: Vec<Features>,
    /// Number of strips with right beats that a rule excludes.
    excluded: usize,
}

fn main() -> ExitCode {
    exit_code(run(std::env::args().skip(1).collect()).map(|()| true))
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let with_folds = arguments.iter().any(|argument| argument == "--folds");
    let folders: Vec<PathBuf> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).map(PathBuf::from).collect();
    if folders.is_empty()
        || arguments.iter().any(|argument| argument.starts_with('-') && argument != "--folds")
    {
        return Err("usage: fit_evidence DIR... [--folds]".to_owned());
    }
    let mut groups = Vec::new();
    for (source, folder) in folders.iter().enumerate() {
        for header in records::headers(folder)? {
            let (name, strips) = records::strips(&header, records::Channel::Number(0), &LENGTHS_S)?;
            groups.push(group(name, source, strips.into_iter()));
        }
    }
    let source = folders.len();
    for (name, draw) in sets::SETS {
        // Sets whose strips the analysis should not accept as they are.
        if ["paced_ineffective", "lead_off"].contains(&name) {
            continue;
        }
        let cases = (0..SYNTHETIC_STRIPS).map(|seed| {
            let sets::Case { mut strip, mut beats, .. } = sets::case(draw, seed);
            let samples = &mut strip.segments[0].samples;
            samples.truncate((SEGMENT_S * strip.sample_rate_hz) as usize);
            beats.retain(|time| *time < SEGMENT_S);
            (strip, beats)
        });
        groups.push(group(format!("synthesise {name}"), source, cases));
    }
    let negatives = noise(0..NOISE_STRIPS);
    let count: usize = groups.iter().map(|group| group.positives.len()).sum();
    println!("{count} positive and {} negative examples", negatives.len());
    let all: Vec<&Group> = groups.iter().collect();
    let weights = fit(&all, &negatives);
    print_source(&weights);
    let largest = EVIDENCE_WEIGHTS.features.iter().zip(weights.features);
    let difference = largest.map(|(left, right)| (left - right).abs()).fold(0.0, f64::max);
    println!("largest difference from the weights in use: {difference:.4}");
    if with_folds {
        cross_validate(&groups, &negatives, source);
    }
    Ok(())
}

/// The strips of one source whose detected beats give the right rate.
fn group(name: String, source: usize, strips: impl Iterator<Item = (Strip, Vec<f64>)>) -> Group {
    let mut group = Group { name, source, positives: Vec::new(), excluded: 0 };
    for (strip, beats) in strips {
        let (samples, rate) = (&strip.segments[0].samples, strip.sample_rate_hz);
        let found = detect(samples, rate);
        let times: Vec<f64> = found.iter().map(|beat| beat.sample as f64 / rate).collect();
        let (Some(truth), Some(measured)) = (mean_rate(&beats), mean_rate(&times)) else { continue };
        if (truth - measured).abs() > RATE_BPM.max(RATE_SHARE * truth) {
            continue;
        }
        match evidence_features(&indices(samples, rate, &found)) {
            Some(features) => group.positives.push(features),
            None => group.excluded += 1,
        }
    }
    group
}

/// Features of the first segment of the noise strips that no rule excludes.
fn noise(seeds: std::ops::Range<u64>) -> Vec<Features> {
    let mut out = Vec::new();
    for (_, kind) in kinds::KINDS {
        for seed in seeds.clone() {
            let strip = kinds::strip(kind, seed);
            let rate = strip.sample_rate_hz;
            let samples = &strip.segments[0].samples;
            for part in
                samples.chunks((SEGMENT_S * rate) as usize).filter(|part| part.len() as f64 >= 5.0 * rate)
            {
                out.extend(evidence_features(&indices(part, rate, &detect(part, rate))));
            }
        }
    }
    out
}

/// Fits the regression. All examples have the same weight.
fn fit(groups: &[&Group], negatives: &[Features]) -> EvidenceWeights {
    let example = |features, positive| regression::Example { features, positive, weight: 1.0 };
    let mut examples: Vec<regression::Example<'_>> = Vec::new();
    for group in groups {
        examples.extend(group.positives.iter().map(|features| example(features.as_slice(), true)));
    }
    examples.extend(negatives.iter().map(|features| example(features.as_slice(), false)));
    let weights = regression::fit(&examples);
    EvidenceWeights {
        bias: weights[EVIDENCE_FEATURES],
        features: std::array::from_fn(|index| weights[index]),
    }
}

fn print_source(weights: &EvidenceWeights) {
    let features: Vec<String> = weights.features.iter().map(|weight| format!("{weight:.3}")).collect();
    println!("bias: {:.3},\nfeatures: [{}],", weights.bias, features.join(", "));
}

/// Leave-one-record-out: the curve of accepted noise against rejected strips.
fn cross_validate(groups: &[Group], negatives: &[Features], synthetic: usize) {
    let thresholds = [-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0];
    let test_noise = noise(TEST_NOISE_FROM..TEST_NOISE_FROM + NOISE_STRIPS);
    let strips = NOISE_STRIPS as f64 * kinds::KINDS.len() as f64;
    let mut accepted = vec![0.0_f64; thresholds.len()];
    let mut folds = 0.0;
    let mut rejected = vec![vec![0_usize; thresholds.len()]; synthetic];
    let mut totals = vec![0_usize; synthetic];
    for (index, left_out) in groups.iter().enumerate().filter(|(_, group)| group.source < synthetic) {
        let others: Vec<&Group> =
            groups.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, group)| group).collect();
        let weights = fit(&others, negatives);
        folds += 1.0;
        totals[left_out.source] += left_out.positives.len() + left_out.excluded;
        let mut line = Vec::new();
        for (at, threshold) in thresholds.iter().enumerate() {
            let below = |features: &&Features| weights.log_odds(features) < *threshold;
            let count = left_out.excluded + left_out.positives.iter().filter(below).count();
            rejected[left_out.source][at] += count;
            accepted[at] += test_noise.iter().filter(|features| !below(features)).count() as f64;
            line.push(format!("{count}"));
        }
        let total = left_out.positives.len() + left_out.excluded;
        println!("{:<10} {total:>5} strips, rejected at each threshold: {}", left_out.name, line.join(" "));
    }
    println!("threshold, accepted noise per 1000 strips, rejected strips of each folder in percent");
    for (at, threshold) in thresholds.iter().enumerate() {
        let shares: Vec<String> = rejected
            .iter()
            .zip(&totals)
            .map(|(rejected, total)| format!("{:.1}", 100.0 * rejected[at] as f64 / (*total).max(1) as f64))
            .collect();
        println!("{threshold:>5} {:>8.2} {}", 1000.0 * accepted[at] / folds / strips, shares.join(" "));
    }
}
