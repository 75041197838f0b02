//! Why a file is not a strip: one sentence a person can act on.

use std::io;

/// Why no strip came of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The reader itself failed.
    #[error("The file could not be read to its end: {0}.")]
    Io(#[from] io::Error),
    /// Nothing in it.
    #[error("The file is empty.")]
    Empty,
    /// A file of another kind.
    #[error("This is not a text file of numbers but {kind}: export the ECG as CSV and upload that.")]
    NotText {
        /// What it looks like instead, with its article.
        kind: &'static str,
    },
    /// Text without numbers.
    #[error(
        "No line of the file holds numbers: an ECG file has rows of a time and a voltage, such as 0.004,-0.145."
    )]
    NoNumbers,
    /// A line nobody writes by hand or by program.
    #[error("Line {line} is longer than {limit} bytes: this is not a CSV file of an ECG.")]
    LineTooLong {
        /// Line number, from 1.
        line: u64,
        /// Most bytes a line may have.
        limit: usize,
    },
    /// More rows than the reader was declared to take.
    #[error("The file has more than {limit} rows: cut the recording into shorter files.")]
    TooManyRows {
        /// Most rows a file may have.
        limit: u64,
    },
    /// A handful of rows.
    #[error("{} a time and a voltage{}: {MIN_DURATION_S} s of ECG need at least {needed}.", rows_hold(*.rows), bad_lines(.lines))]
    TooFewRows {
        /// Rows with usable numbers.
        rows: u64,
        /// Rows that the shortest strip has.
        needed: u64,
        /// Line numbers, from 1, of the first rows without usable numbers.
        lines: Vec<u64>,
    },
    /// Most of the file is not what it should be.
    #[error("{skipped} of {total} rows hold no usable time and voltage{}: the file is damaged or of another kind.", first_at(.lines))]
    TooManyBadRows {
        /// Rows left out.
        skipped: u64,
        /// All rows.
        total: u64,
        /// Line numbers, from 1, of the first of them.
        lines: Vec<u64>,
    },
    /// Less than a few heart beats.
    #[error("The strip is {duration_s:.1} s long: a heart rate needs at least {MIN_DURATION_S} s.")]
    TooShort {
        /// Seconds of signal.
        duration_s: f64,
    },
    /// Voltages and nothing to tell the rate from.
    #[error(
        "No column of the file grows like a time: if it holds voltages only, give its sampling rate (samples per second)."
    )]
    NoTime,
    /// A column of row numbers.
    #[error(
        "The time column counts in steps of one, which may be samples or milliseconds: give the sampling rate (samples per second), or name the column with its unit."
    )]
    TimeCountsRows,
    /// A column that is called time but is none.
    #[error("The time does not grow from row to row (first on line {line}): check the time column.")]
    TimeDoesNotGrow {
        /// Line number, from 1.
        line: u64,
    },
    /// Times that no even sampling explains.
    #[error("The times do not follow an even step (first on line {line}): an ECG is sampled evenly.")]
    TimeUneven {
        /// Line number, from 1.
        line: u64,
    },
    /// A rate no ECG has.
    #[error(
        "The times mean {rate_hz:.4} samples per second, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}: check the unit of the time column or give the sampling rate."
    )]
    ImplausibleRate {
        /// Samples per second that follow from the times.
        rate_hz: f64,
    },
    /// A given rate no ECG has.
    #[error(
        "A sampling rate of {rate_hz} per second was given, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}."
    )]
    GivenRateImplausible {
        /// Samples per second that were given.
        rate_hz: f64,
    },
    /// Full of holes.
    #[error(
        "The recording has more than {limit} holes (the last one on line {line}): it is no continuous ECG."
    )]
    TooManyGaps {
        /// Most holes a recording may have.
        limit: usize,
        /// Line number, from 1.
        line: u64,
    },
    /// A flat line.
    #[error(
        "Every one of the {rows} voltages is {value}: the lead was not connected or the wrong column was exported."
    )]
    Constant {
        /// The one value.
        value: f64,
        /// Rows with usable numbers.
        rows: u64,
    },
    /// A time and nothing else.
    #[error("The file has times but no column of voltages.")]
    NoLead,
    /// A lead that is not there, by name.
    #[error("The file has no lead of the name {wanted:?}; it has {available}.")]
    NoSuchLead {
        /// The name asked for.
        wanted: String,
        /// The names there are.
        available: String,
    },
    /// A lead that is not there, by number.
    #[error("Lead number {wanted} was asked for (counting from 0), but the file has {count}.")]
    NoLeadAt {
        /// The index asked for.
        wanted: usize,
        /// How many leads there are.
        count: usize,
    },
}

/// Shortest strip that supports a heart rate, in seconds.
pub const MIN_DURATION_S: f64 = 3.0;
/// Lowest sampling rate that still shows a QRS complex.
pub const MIN_RATE_HZ: f64 = 40.0;
/// Highest sampling rate taken for an ECG; above, the unit of time is wrong.
pub const MAX_RATE_HZ: f64 = 20_000.0;

fn rows_hold(rows: u64) -> String {
    match rows {
        0 => "No row holds".to_owned(),
        1 => "Only 1 row holds".to_owned(),
        rows => format!("Only {rows} rows hold"),
    }
}

fn bad_lines(lines: &[u64]) -> String {
    match lines {
        [] => String::new(),
        [line] => format!(" (line {line} does not)"),
        lines => format!(" (lines {} do not)", enumerate(lines)),
    }
}

fn first_at(lines: &[u64]) -> String {
    match lines {
        [] => String::new(),
        lines => format!(" (first on {})", name_lines(lines)),
    }
}

/// `line 4`, or `lines 4, 9 and 11`.
pub(crate) fn name_lines(lines: &[u64]) -> String {
    match lines {
        [line] => format!("line {line}"),
        lines => format!("lines {}", enumerate(lines)),
    }
}

/// `4, 9 and 11`.
fn enumerate(lines: &[u64]) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str(if index + 1 == lines.len() { " and " } else { ", " });
        }
        text.push_str(&line.to_string());
    }
    text
}
