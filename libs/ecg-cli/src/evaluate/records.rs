//! Evaluation of one record against its reference annotations.

use std::fmt;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use ecg::score::{MATCH_WINDOW_S, Score, compare};
use ecg::{Quality, Strip, wfdb};

use crate::timing::processor_time;
use crate::wfdb_files::{self, RecordFiles};

/// Extensions of files with reference beats, in order of preference. `.atr` is the usual one; the others are
/// used by the QT database (manual annotations) and a few other databases.
const REFERENCES: [&str; 5] = ["atr", "ecg", "qrs", "q1c", "man"];
/// Number of runs for the timing of the detector.
const RUNS: usize = 5;
/// Length of the windows on which rates are compared.
const WINDOW_S: f64 = 10.0;

/// Selection of a channel.
#[derive(Debug, Clone, Copy)]
pub enum Channel {
    /// The channel with this index.
    Number(usize),
    /// The channel with the best signal quality.
    Best,
}

/// Rates of windows of 10 s against the reference.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Windows {
    /// Windows with at least two reference beats and without flutter.
    pub(crate) total: usize,
    /// Windows within 5 bpm or 10 % of the reference.
    pub(crate) close: usize,
    /// Windows without a rate.
    pub(crate) unusable: usize,
    /// Sum of the absolute errors of the windows with a rate.
    pub(crate) error_sum: f64,
}

impl Windows {
    /// Mean absolute error in bpm of the windows with a rate.
    pub(crate) fn mean_error(&self) -> f64 {
        self.error_sum / (self.total - self.unusable).max(1) as f64
    }
}

/// Results of one record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) score: Score,
    pub(crate) windows: Windows,
    pub(crate) samples: usize,
    /// Processor time of the detector.
    pub(crate) seconds: f64,
}

impl Row {
    pub(crate) const HEADER: &str =
        "record          se      pp      f1  missed  false  beats  rate_mae  without_rate    Ms/s";
    pub(crate) const CSV_HEADER: &str = "record,se,pp,f1,missed,false,beats,rate_mae_bpm,windows,windows_close,windows_unusable,samples_per_s";

    pub(crate) fn csv(&self) -> String {
        let Row { name, score, windows, .. } = self;
        format!(
            "{name},{:.3},{:.3},{:.3},{},{},{},{:.3},{},{},{},{:.0}",
            score.sensitivity(),
            score.positive_predictivity(),
            score.f1(),
            score.missed,
            score.false_beats,
            score.beats(),
            windows.mean_error(),
            windows.total,
            windows.close,
            windows.unusable,
            self.samples as f64 / self.seconds.max(1e-9),
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, score, windows, .. } = self;
        write!(
            f,
            "{name:<10} {:>7.2} {:>7.2} {:>7.2} {:>7} {:>6} {:>6} {:>9.2} {:>6}/{:<6} {:>7.1}",
            score.sensitivity(),
            score.positive_predictivity(),
            score.f1(),
            score.missed,
            score.false_beats,
            score.beats(),
            windows.mean_error(),
            windows.unusable,
            windows.total,
            self.samples as f64 / self.seconds.max(1e-9) / 1e6,
        )
    }
}

impl std::ops::Add<&Row> for Row {
    type Output = Row;

    fn add(mut self, row: &Row) -> Row {
        self.score += row.score;
        self.windows.total += row.windows.total;
        self.windows.close += row.windows.close;
        self.windows.unusable += row.windows.unusable;
        self.windows.error_sum += row.windows.error_sum;
        self.samples += row.samples;
        self.seconds += row.seconds;
        self
    }
}

/// Headers in a folder that have reference beats, in order of name.
///
/// # Errors
/// Returns a sentence if the folder cannot be read or contains no such header.
pub fn headers(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let out = wfdb_files::headers(folder, |path| reference(path).is_some())?;
    if out.is_empty() {
        return Err(format!(
            "{} holds no WFDB record with reference beats beside its header",
            folder.display()
        ));
    }
    Ok(out)
}

/// Extension of the file with the reference beats.
pub(crate) fn reference(header: &Path) -> Option<&'static str> {
    REFERENCES.into_iter().find(|extension| header.with_extension(extension).is_file())
}

/// References that cover a part of the record only, from their first to their last beat.
const PARTIAL: [&str; 2] = ["q1c", "man"];

/// A channel of a record and its reference.
struct Record {
    name: String,
    strip: Strip,
    beats: Vec<f64>,
    flutter: Vec<(f64, f64)>,
    /// Whether the reference covers a part of the record only.
    partial: bool,
}

fn load(path: &Path, channel: Channel) -> Result<Record, String> {
    let files = RecordFiles::open(path)?;
    let strip = match channel {
        Channel::Number(index) => files.strip(index)?,
        Channel::Best => {
            let count = files.header.signals.len();
            let mut strips = (0..count).map(|index| files.strip(index)).collect::<Result<Vec<_>, _>>()?;
            let analyses: Vec<_> = strips.iter().map(ecg::analyze).collect();
            strips.swap_remove(ecg::best_channel(&analyses).ok_or("the record has no signal")?)
        }
    };
    let reference = reference(path).ok_or("there are no reference beats")?;
    let (beats, flutter) =
        wfdb::beats_and_flutter(&files.annotations(reference)?, files.header.frame_rate_hz);
    let partial = PARTIAL.contains(&reference);
    Ok(Record { name: files.header.name, strip, beats, flutter, partial })
}

/// Analyses one channel of a record and compares the result with the reference.
pub(crate) fn evaluate(path: &Path, channel: Channel) -> Result<Row, String> {
    let Record { name, strip, beats, flutter, .. } = load(path, channel)?;
    let seconds = detection_time(&strip);
    let analysis = ecg::analyze(&strip);
    let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).collect();
    Ok(Row {
        name,
        score: compare(&beats, &found, &flutter, MATCH_WINDOW_S, |_| {}),
        windows: windows(&strip, &analysis, &beats, &flutter),
        samples: strip.sample_count(),
        seconds,
    })
}

/// Strips with their reference beats in seconds.
pub type Strips = Vec<(Strip, Vec<f64>)>;

/// Name of a record, and its channel cut into consecutive strips of each length with their reference beats. Strips that
/// touch flutter or exceed the reference are skipped.
///
/// # Errors
/// Returns a sentence if a file of the record is missing or damaged.
pub fn strips(path: &Path, channel: Channel, lengths_s: &[f64]) -> Result<(String, Strips), String> {
    let record = load(path, channel)?;
    let strips = cut(&record, lengths_s).collect();
    Ok((record.name, strips))
}

/// The strips of [`strips`].
fn cut<'a>(record: &'a Record, lengths_s: &'a [f64]) -> impl Iterator<Item = (Strip, Vec<f64>)> + 'a {
    let Record { strip, beats, flutter, partial, .. } = record;
    let rate = strip.sample_rate_hz;
    strip.segments.iter().flat_map(move |segment| {
        let end_s = segment.start_s + segment.samples.len() as f64 / rate;
        let (covered_from, covered_to) = match (partial, beats.first(), beats.last()) {
            (true, Some(first), Some(last)) => (*first, last + 1.0 / rate),
            _ => (segment.start_s, end_s),
        };
        let first_s = covered_from.max(segment.start_s);
        let last_s = covered_to.min(end_s) + 0.5 / rate;
        lengths_s.iter().flat_map(move |length_s| {
            let starts = std::iter::successors(Some(first_s), move |from_s| Some(from_s + length_s))
                .take_while(move |from_s| from_s + length_s <= last_s);
            starts.filter_map(move |from_s| {
                let to_s = from_s + length_s;
                if flutter.iter().any(|(start, end)| *start < to_s && *end > from_s) {
                    return None;
                }
                let index = |time_s: f64| {
                    (((time_s - segment.start_s) * rate).round() as usize).min(segment.samples.len())
                };
                let samples = segment.samples[index(from_s)..index(to_s)].to_vec();
                let inside = beats.iter().filter(|time| (from_s..to_s).contains(*time));
                Some((Strip::from_samples(rate, samples), inside.map(|time| time - from_s).collect()))
            })
        })
    })
}

/// Processor time of the detector alone in seconds: the mean of several runs.
fn detection_time(strip: &Strip) -> f64 {
    let seconds = processor_time(|| {
        for _ in 0..RUNS {
            for segment in &strip.segments {
                black_box(ecg::detect::detect(black_box(&segment.samples), strip.sample_rate_hz));
            }
        }
    });
    seconds / RUNS as f64
}

/// Mean rate from the first to the last beat of a window.
fn rate(beats: &[f64], from: f64, to: f64) -> Option<f64> {
    let first = beats.partition_point(|time| *time < from);
    let end = beats.partition_point(|time| *time < to);
    let inside = &beats[first..end.max(first)];
    (inside.len() >= 2).then(|| 60.0 * (inside.len() - 1) as f64 / (inside[inside.len() - 1] - inside[0]))
}

fn windows(strip: &Strip, analysis: &ecg::Analysis, reference: &[f64], flutter: &[(f64, f64)]) -> Windows {
    let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).collect();
    let mut out = Windows::default();
    for index in 0..(strip.duration_s() / WINDOW_S) as usize {
        let (from, to) = (index as f64 * WINDOW_S, (index + 1) as f64 * WINDOW_S);
        if flutter.iter().any(|(start, end)| *start < to && *end > from) {
            continue;
        }
        let Some(truth) = rate(reference, from, to) else { continue };
        out.total += 1;
        let unusable = analysis.quality_segments.iter().any(|segment| {
            segment.quality == Quality::Unusable && segment.start_s < to && segment.end_s > from
        });
        match rate(&found, from, to).filter(|_| !unusable) {
            None => out.unusable += 1,
            Some(rate) => {
                let error = (rate - truth).abs();
                out.error_sum += error;
                out.close += usize::from(error <= 5.0_f64.max(0.1 * truth));
            }
        }
    }
    out
}
