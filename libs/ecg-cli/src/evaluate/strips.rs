//! Comparison of CSV strips with a table of reference values.

use std::path::Path;

/// Prints a line per strip of the table. Returns whether all are right.
pub(crate) fn check(table: &Path) -> Result<bool, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", table.display());
    let text = std::fs::read_to_string(table).map_err(unreadable)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        header.iter().position(|field| *field == name).ok_or(format!("the table has no column {name}"))
    };
    let (file, beats) = (column("file")?, column("beats")?);
    let (rate, tolerance) = (column("heart_rate_bpm")?, column("tolerance_bpm")?);
    let mut all_right = true;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |index: usize| -> Result<f64, String> {
            let field = fields.get(index).ok_or(format!("a row of the table is too short: {line}"))?;
            field.trim().parse().map_err(|_| format!("the table holds {field:?} instead of a number"))
        };
        let name = fields.get(file).copied().unwrap_or_default();
        let truth = Truth { beats: number(beats)?, bpm: number(rate)?, tolerance: number(tolerance)? };
        let (right, words) = one(&table.with_file_name(name), &truth);
        all_right &= right;
        println!("{} {name:<26} {words}", if right { "ok   " } else { "WRONG" });
    }
    Ok(all_right)
}

struct Truth {
    beats: f64,
    bpm: f64,
    tolerance: f64,
}

fn one(path: &Path, truth: &Truth) -> (bool, String) {
    let strip = match std::fs::File::open(path) {
        Err(error) => return (false, error.to_string()),
        Ok(file) => match ecg::csv::read(file, &ecg::csv::Options::default()) {
            Err(error) => return (false, error.to_string()),
            Ok(strip) => strip,
        },
    };
    let analysis = ecg::analyze(&strip);
    let rate = analysis.heart_rate.map(|rate| rate.mean_bpm);
    let right = rate.is_some_and(|rate| (rate - truth.bpm).abs() <= truth.tolerance)
        && (analysis.beats.len() as f64 - truth.beats).abs() <= 1.0;
    let rate = rate.map_or("no rate".to_owned(), |rate| format!("{rate:.1} bpm"));
    let warnings: Vec<&str> = analysis.warnings.iter().map(|warning| warning.code).collect();
    let words = format!(
        "{rate} (true {:.1}), {} beats (true {}), {:?}, warnings: {}",
        truth.bpm,
        analysis.beats.len(),
        truth.beats,
        analysis.quality,
        warnings.join(" ")
    );
    (right, words)
}
