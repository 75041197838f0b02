//! Comparison of wave boundaries with manual annotations of the QT database.

use std::fmt;
use std::path::Path;

use ecg::waves::{BeatWaves, delineate};
use ecg::wfdb;

use crate::wfdb_files::RecordFiles;

/// Largest distance of a boundary from its annotation, in seconds; T ends vary more.
const TOLERANCE_S: f64 = 0.15;
const T_TOLERANCE_S: f64 = 0.25;

/// The boundaries that are compared.
pub(crate) const BOUNDARIES: [&str; 4] = ["p_on", "qrs_on", "qrs_off", "t_end"];

/// Errors of one boundary in one record, or means over records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Boundary {
    pub(crate) annotated: usize,
    pub(crate) found: usize,
    sum_ms: f64,
    square_ms: f64,
}

impl Boundary {
    fn add(&mut self, error_s: Option<f64>) {
        self.annotated += 1;
        if let Some(error_s) = error_s {
            self.found += 1;
            self.sum_ms += 1000.0 * error_s;
            self.square_ms += (1000.0 * error_s).powi(2);
        }
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        self.sum_ms / self.found.max(1) as f64
    }

    pub(crate) fn sd_ms(&self) -> f64 {
        let count = self.found.max(2) as f64;
        ((self.square_ms - self.sum_ms.powi(2) / count) / (count - 1.0)).max(0.0).sqrt()
    }
}

/// Results of one record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waves {
    pub(crate) name: String,
    pub(crate) boundaries: [Boundary; 4],
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}", self.name)?;
        for (name, boundary) in BOUNDARIES.iter().zip(&self.boundaries) {
            let Boundary { annotated, found, .. } = boundary;
            write!(f, " {name}={:.1}/{:.1}/{found}of{annotated}", boundary.mean_ms(), boundary.sd_ms())?;
        }
        Ok(())
    }
}

/// Compares the waves of a record with its annotations in the file with this extension, with the better lead per beat.
pub(crate) fn evaluate(path: &Path, extension: &str) -> Result<Waves, String> {
    let files = RecordFiles::open(path)?;
    let annotations = files.annotations(extension)?;
    let mut leads: Vec<[Vec<f64>; 4]> = Vec::new();
    for index in 0..files.header.signals.len() {
        let strip = files.strip(index)?;
        leads.push(times(&delineate(&strip, &ecg::analyze(&strip).beats)));
    }
    let mut out = Waves { name: files.header.name.clone(), ..Waves::default() };
    for (boundary, time_s) in boundaries(&annotations, files.header.frame_rate_hz) {
        let tolerance_s = if boundary == 3 { T_TOLERANCE_S } else { TOLERANCE_S };
        let errors = leads.iter().filter_map(|lead| nearest(&lead[boundary], time_s, tolerance_s));
        out.boundaries[boundary].add(errors.min_by(|left, right| left.abs().total_cmp(&right.abs())));
    }
    Ok(out)
}

/// Times of the compared boundaries.
fn times(waves: &[BeatWaves]) -> [Vec<f64>; 4] {
    [
        waves.iter().filter_map(|beat| Some(beat.p?.on_s)).collect(),
        waves.iter().filter_map(|beat| Some(beat.qrs?.on_s)).collect(),
        waves.iter().filter_map(|beat| Some(beat.qrs?.end_s)).collect(),
        waves.iter().filter_map(|beat| Some(beat.t?.end_s)).collect(),
    ]
}

/// Annotated boundaries with their times: `(` before and `)` after `p`, `N` and `t`.
fn boundaries(annotations: &[wfdb::Annotation], rate: f64) -> Vec<(usize, f64)> {
    let mut out = Vec::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let time = |at: Option<usize>, symbol: char| {
            let other = annotations.get(at?)?;
            (other.symbol == symbol).then_some(other.tick as f64 / rate)
        };
        let before = time(index.checked_sub(1), '(');
        let after = time(Some(index + 1), ')');
        match annotation.symbol {
            'p' => out.extend(before.map(|time| (0, time))),
            'N' => {
                out.extend(before.map(|time| (1, time)));
                out.extend(after.map(|time| (2, time)));
            }
            't' => out.extend(after.map(|time| (3, time))),
            _ => {}
        }
    }
    out
}

fn nearest(times: &[f64], time_s: f64, tolerance_s: f64) -> Option<f64> {
    let next = times.partition_point(|other| *other < time_s);
    let candidates = [next.checked_sub(1), Some(next)].into_iter().flatten();
    candidates
        .filter_map(|at| Some(times.get(at)? - time_s))
        .filter(|error| error.abs() <= tolerance_s)
        .min_by(|left, right| left.abs().total_cmp(&right.abs()))
}

/// The summary line: mean of the record means, mean of the record SDs in ms, and found share in percent.
pub(crate) fn summary(records: &[Waves]) -> String {
    let mut line = "waves".to_owned();
    for (index, name) in BOUNDARIES.iter().enumerate() {
        let used: Vec<Boundary> = records
            .iter()
            .map(|record| record.boundaries[index])
            .filter(|boundary| boundary.found > 1)
            .collect();
        let count = used.len().max(1) as f64;
        let mean = used.iter().map(Boundary::mean_ms).sum::<f64>() / count;
        let sd = used.iter().map(Boundary::sd_ms).sum::<f64>() / count;
        let all = records.iter().map(|record| record.boundaries[index]);
        let (found, annotated) =
            all.fold((0, 0), |sum, boundary| (sum.0 + boundary.found, sum.1 + boundary.annotated));
        line += &format!(" {name}={mean:.1}/{sd:.1}/{:.1}", 100.0 * found as f64 / annotated.max(1) as f64);
    }
    line
}
