//! Errors of the text reader. Each is one sentence that tells a person what to do.

use std::io;

/// Error of [`super::read`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The underlying reader failed.
    #[error("The file could not be read to its end: {0}.")]
    Io(#[from] io::Error),
    /// The file is empty.
    #[error("The file is empty.")]
    Empty,
    /// The file is of another format.
    #[error("This is not a text file of numbers but {kind}: export the ECG as CSV and upload that.")]
    NotText {
        /// The detected format, with its article.
        kind: &'static str,
    },
    /// The file contains no numbers.
    #[error(
        "No line of the file holds numbers: an ECG file has rows of a time and a voltage, such as 0.004,-0.145."
    )]
    NoNumbers,
    /// A line exceeds the limit.
    #[error("Line {line} is longer than {limit} bytes, so the file is not a CSV file of an ECG.")]
    LineTooLong {
        /// Line number, from 1.
        line: u64,
        /// Limit in bytes.
        limit: usize,
    },
    /// The file has more rows than the limit.
    #[error("The file has more than {limit} rows: cut the recording into shorter files.")]
    TooManyRows {
        /// Limit in rows.
        limit: u64,
    },
    /// The file has too few rows.
    #[error("{} a time and a voltage{}: {MIN_DURATION_S} s of ECG need at least {needed}.", rows_hold(*.rows), bad_lines(.lines))]
    TooFewRows {
        /// Rows with a time and a voltage.
        rows: u64,
        /// Rows of the shortest accepted strip.
        needed: u64,
        /// Line numbers, from 1, of the first rows without usable numbers.
        lines: Vec<u64>,
    },
    /// Too many rows have no usable numbers.
    #[error("{skipped} of {total} rows hold no usable time and voltage{}: the file is damaged or in another format.", first_at(.lines))]
    TooManyBadRows {
        /// Rows skipped.
        skipped: u64,
        /// Rows in total.
        total: u64,
        /// Line numbers, from 1, of the first skipped rows.
        lines: Vec<u64>,
    },
    /// The strip is too short.
    #[error("The strip is {duration_s:.1} s long: a heart rate needs at least {MIN_DURATION_S} s.")]
    TooShort {
        /// Duration in seconds.
        duration_s: f64,
    },
    /// No time column and no sampling rate.
    #[error(
        "No column of the file contains times. If it contains only voltages, give the sampling rate (samples per second)."
    )]
    NoTime,
    /// The time column counts rows, and no sampling rate is given.
    #[error(
        "The time column increases by one, which may mean samples or milliseconds: give the sampling rate (samples per second), or name the unit in the header."
    )]
    TimeCountsRows,
    /// The times do not distinguish samples, and no sampling rate is given.
    #[error(
        "The times have a resolution of {tick_s:.3} s and do not distinguish the samples: give the sampling rate (samples per second)."
    )]
    TimeTooCoarse {
        /// Typical distance of two different times in seconds.
        tick_s: f64,
    },
    /// The time column does not increase.
    #[error("The time does not grow from row to row (first on line {line}): check the time column.")]
    TimeDoesNotGrow {
        /// Line number, from 1.
        line: u64,
    },
    /// The times are not evenly spaced.
    #[error("The times are not evenly spaced (first on line {line}); an ECG is sampled at a constant rate.")]
    TimeUneven {
        /// Line number, from 1.
        line: u64,
    },
    /// The times give a rate outside the accepted range.
    #[error(
        "The times mean {rate_hz:.4} samples per second, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}: check the unit of the time column or give the sampling rate."
    )]
    ImplausibleRate {
        /// Samples per second computed from the times.
        rate_hz: f64,
    },
    /// The given rate is outside the accepted range.
    #[error(
        "A sampling rate of {rate_hz} per second was given, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}."
    )]
    GivenRateImplausible {
        /// The given samples per second.
        rate_hz: f64,
    },
    /// The recording has too many gaps.
    #[error(
        "The recording has more than {limit} gaps (the last one on line {line}) and is not a continuous ECG."
    )]
    TooManyGaps {
        /// Limit in gaps.
        limit: usize,
        /// Line number, from 1.
        line: u64,
    },
    /// All voltages are equal.
    #[error(
        "Every one of the {rows} voltages is {value}: the lead was not connected or the wrong column was exported."
    )]
    Constant {
        /// The voltage.
        value: f64,
        /// Rows with usable numbers.
        rows: u64,
    },
    /// The file has no column of voltages.
    #[error("The file has a time column but no column of voltages.")]
    NoLead,
    /// No column is named like an ECG.
    #[error("No column of the file is named like an ECG; select one of {available}.")]
    NoEcgAmong {
        /// The available names.
        available: String,
    },
    /// No lead has the requested name.
    #[error("The file has no lead of the name {wanted:?}; it has {available}.")]
    NoSuchLead {
        /// The requested name.
        wanted: String,
        /// The available names.
        available: String,
    },
    /// No lead has the requested index.
    #[error("Lead number {wanted} was requested (counting from 0), but the file has {count}.")]
    NoLeadAt {
        /// The requested index.
        wanted: usize,
        /// Number of leads.
        count: usize,
    },
}

/// Shortest accepted strip in seconds.
pub const MIN_DURATION_S: f64 = 3.0;
/// Lowest accepted sampling rate.
pub const MIN_RATE_HZ: f64 = 40.0;
/// Highest accepted sampling rate. Above it, the unit of time is wrong.
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

/// Formats `line 4` or `lines 4, 9 and 11`.
pub(crate) fn name_lines(lines: &[u64]) -> String {
    match lines {
        [line] => format!("line {line}"),
        lines => format!("lines {}", enumerate(lines)),
    }
}

/// Formats `4, 9 and 11`.
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
