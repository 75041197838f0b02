//! Dialect and column layout of a file, determined once from its first lines.

use super::exporters::Scale;
use super::header::Header;
use super::header_text::TimeUnit;
use super::table::Table;
use super::{Leads, Options, ReadError, clock, number, source::first_line};
use crate::units::VoltageUnit;

/// Number of lines that the layout is determined from.
const SAMPLE_LINES: usize = 400;
/// Number of those lines, evenly spread, that delimiter and decimal sign are determined from.
const PUNCTUATION_LINES: usize = 60;

/// Columns after these are ignored.
pub(super) const MAX_COLUMNS: usize = 512;

/// Delimiter of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    Byte(u8),
    /// Any number of spaces and tabs.
    Blanks,
}

/// Source of the times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TimeColumn {
    /// None: rows are evenly spaced at a given rate.
    None { rate_hz: f64 },
    /// A number, in a unit from the header or inferred from the values.
    Number { column: usize, unit: Option<TimeUnit> },
    /// A clock time.
    Clock { column: usize },
}

/// Dialect and columns of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) delimiter: Delimiter,
    pub(super) decimal: u8,
    /// Number of fields per row.
    pub(super) columns: usize,
    pub(super) time: TimeColumn,
    /// The columns of voltages that are read. Not empty.
    pub(super) leads: Vec<LeadColumn>,
    /// Index in `leads` of the requested lead, or of the preferred one.
    pub(super) selected: usize,
    /// Whether the selected lead was requested.
    pub(super) is_requested: bool,
    /// Names of the signals that are not read.
    pub(super) other_signals: Vec<String>,
    /// Sampling rate from the options or from a comment.
    pub(super) given_rate_hz: Option<f64>,
    /// Number of lines before the first row of numbers.
    pub(super) header_lines: u64,
}

/// A column of voltages.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LeadColumn {
    pub(super) column: usize,
    pub(super) name: Option<String>,
    /// Unit stated by the file.
    pub(super) unit: Option<VoltageUnit>,
    /// Conversion of counts to millivolts. Takes precedence over the unit.
    pub(super) scale: Option<Scale>,
}

/// Splits a line into fields without surrounding spaces and quotes.
pub(super) fn split<'a>(line: &'a [u8], delimiter: Delimiter, fields: &mut Vec<&'a [u8]>) {
    fields.clear();
    match delimiter {
        Delimiter::Blanks => {
            let parts = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty());
            fields.extend(parts.take(MAX_COLUMNS).map(unquoted));
        }
        Delimiter::Byte(delimiter) => {
            let mut start = 0;
            let mut quote = None;
            for (at, &byte) in line.iter().enumerate() {
                match quote {
                    Some(open) if byte == open => quote = None,
                    Some(_) => {}
                    None if byte == delimiter => {
                        fields.push(unquoted(line.get(start..at).unwrap_or_default()));
                        start = at + 1;
                        if fields.len() >= MAX_COLUMNS {
                            return;
                        }
                    }
                    // A quote has a meaning at the start of a field only.
                    None if matches!(byte, b'"' | b'\'')
                        && line.get(start..at).is_some_and(|before| before.trim_ascii().is_empty()) =>
                    {
                        quote = Some(byte);
                    }
                    None => {}
                }
            }
            fields.push(unquoted(line.get(start..).unwrap_or_default()));
        }
    }
}

fn unquoted(field: &[u8]) -> &[u8] {
    let field = field.trim_ascii();
    for quote in [b'"', b'\''] {
        if let [first, inner @ .., last] = field
            && *first == quote
            && *last == quote
        {
            return inner.trim_ascii();
        }
    }
    field
}

/// Whether a line is blank or a comment.
pub(super) fn is_ignored(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    match line.first() {
        None | Some(b'#' | b'%') => true,
        Some(b'/') => line.get(1) == Some(&b'/'),
        Some(_) => false,
    }
}

pub(super) fn is_value(field: &[u8], decimal: u8) -> bool {
    number::value_of(field, decimal).is_some() || clock::clock(field).is_some() || clock::is_date(field)
}

/// Whether a field is a value without groups of thousands, which could be a decimal comma as well.
fn is_certain_value(field: &[u8], decimal: u8) -> bool {
    number::whole(field, decimal).is_some() || clock::clock(field).is_some() || clock::is_date(field)
}

impl Layout {
    /// Determines the layout from the first lines of a file.
    pub(super) fn of(
        head: &[u8],
        terminator: u8,
        options: &Options,
        leads: Leads,
    ) -> Result<Self, ReadError> {
        let mut lines = Vec::new();
        let mut rest = head;
        while !rest.is_empty() && lines.len() < SAMPLE_LINES {
            let (line, taken) = first_line(rest, terminator);
            lines.push(line);
            rest = rest.get(taken..).unwrap_or_default();
        }
        let declared = lines.first().and_then(|line| delimiter_line(line));
        let (mut delimiter, mut decimal) = punctuation(&lines, declared);
        let mut first_row = first_row(&lines, delimiter, decimal).ok_or(ReadError::NoNumbers)?;
        if delimiter == Delimiter::Byte(b',') && declared.is_none() {
            let (preamble, data) = lines.split_at(first_row);
            let header_of = |columns| Header::of(preamble, &lines, delimiter, decimal, columns);
            let has_rate = || options.sample_rate_hz.or(header_of(1).rate_hz).is_some();
            if is_column_with_comma(data) && has_rate() && header_of(2).names.len() != 2 {
                (delimiter, decimal) = (Delimiter::Blanks, b',');
                first_row = self::first_row(&lines, delimiter, decimal).ok_or(ReadError::NoNumbers)?;
            }
        }
        let (preamble, data) = lines.split_at(first_row);
        let table = Table::of(data, delimiter, decimal);
        let header = Header::of(preamble, &lines, delimiter, decimal, table.columns.len());
        let few = too_few(data, first_row, delimiter, decimal, table.columns.len());
        match table.layout(header, delimiter, decimal, first_row as u64, options, leads) {
            Err(ReadError::NoTime) if few.is_some() => Err(few.unwrap_or(ReadError::NoTime)),
            layout => layout,
        }
    }
}

/// Detects a single column with a decimal comma, which looks like two columns: integers that do not increase,
/// and digits without a sign. The digits are as good as random, unless the integers are few, as in millivolts.
fn is_column_with_comma(data: &[&[u8]]) -> bool {
    const FEW_INTEGERS: usize = 20;
    /// Mean difference of successive digits after the comma. It is a third for random digits.
    const MIN_ROUGHNESS: f64 = 0.15;
    let mut values: Vec<f64> = Vec::with_capacity(data.len());
    let mut commas = 0;
    for line in data.iter().map(|line| unquoted(line)).filter(|line| !is_ignored(line)) {
        let Some(value) = number::value_of(line, b',') else { return false };
        if let Some(at) = memchr::memchr(b',', line) {
            let digits = line.get(at + 1..).unwrap_or_default();
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return false;
            }
            commas += 1;
        }
        values.push(value);
    }
    let steps = || values.windows(2).map(|pair| pair[1] - pair[0]);
    let (rising, falling) =
        (steps().filter(|step| *step > 0.0).count(), steps().filter(|step| *step < 0.0).count());
    let roughness: f64 =
        values.windows(2).map(|pair| (pair[1].abs().fract() - pair[0].abs().fract()).abs()).sum();
    let mut integers: Vec<i64> = values.iter().map(|value| value.trunc() as i64).collect();
    integers.sort_unstable();
    integers.dedup();
    // A time column only rises.
    commas > 0
        && falling * 5 > rising
        && (integers.len() <= FEW_INTEGERS || roughness > MIN_ROUGHNESS * values.len() as f64)
}

/// If there are few rows, that error is reported before any other.
fn too_few(
    data: &[&[u8]],
    first: usize,
    delimiter: Delimiter,
    decimal: u8,
    columns: usize,
) -> Option<ReadError> {
    if data.len() as u64 >= super::MIN_ROWS {
        return None;
    }
    let mut fields = Vec::new();
    let mut lines = Vec::new();
    let mut rows = 0;
    for (index, line) in data.iter().enumerate().filter(|(_, line)| !is_ignored(line)) {
        split(line, delimiter, &mut fields);
        if fields.len() == columns && fields.iter().all(|field| is_value(field, decimal)) {
            rows += 1;
        } else {
            lines.push((first + index + 1) as u64);
        }
    }
    lines.truncate(10);
    Some(ReadError::TooFewRows { rows, needed: super::MIN_ROWS, lines })
}

/// The `sep=;` line, with or without quotes, that spreadsheet programs read first.
fn delimiter_line(line: &[u8]) -> Option<u8> {
    let inner = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\""));
    match inner.unwrap_or(line) {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// Selects delimiter and decimal sign: the combination that makes numbers of most lines.
fn punctuation(lines: &[&[u8]], declared: Option<u8>) -> (Delimiter, u8) {
    const CANDIDATES: [(Delimiter, u8); 9] = [
        (Delimiter::Byte(b';'), b'.'),
        (Delimiter::Byte(b';'), b','),
        (Delimiter::Byte(b'\t'), b'.'),
        (Delimiter::Byte(b'\t'), b','),
        (Delimiter::Byte(b'|'), b'.'),
        (Delimiter::Byte(b'|'), b','),
        (Delimiter::Byte(b','), b'.'),
        (Delimiter::Blanks, b'.'),
        (Delimiter::Blanks, b','),
    ];
    let mut best = None;
    let mut best_score = 0;
    let mut fields = Vec::new();
    let spread = (lines.len() / PUNCTUATION_LINES).max(1);
    for candidate @ (delimiter, decimal) in CANDIDATES {
        if declared.is_some_and(|declared| delimiter != Delimiter::Byte(declared)) {
            continue;
        }
        let mut score = 0;
        for line in lines.iter().step_by(spread).filter(|line| !is_ignored(line)) {
            split(line, delimiter, &mut fields);
            let certain = fields.iter().filter(|field| is_certain_value(field, decimal)).count();
            let values = fields.iter().filter(|field| is_value(field, decimal)).count();
            let filled = fields.iter().filter(|field| !field.is_empty()).count();
            // Two values make a table. A line with values only counts more than one that also contains text, and
            // a comma counts less as a separator of thousands than as a decimal comma.
            score += match values {
                0 | 1 => 0,
                _ if certain == filled => 4,
                _ if values == filled => 3,
                _ if certain >= 2 => 2,
                _ => 1,
            };
        }
        if score > best_score {
            (best, best_score) = (Some(candidate), score);
        }
    }
    best.unwrap_or_else(|| single_column(lines))
}

/// Decimal sign of a single column.
fn single_column(lines: &[&[u8]]) -> (Delimiter, u8) {
    let count =
        |decimal| lines.iter().filter(|line| number::whole(unquoted(line), decimal).is_some()).count();
    // A comma cannot be delimiter and decimal sign at once.
    let decimal = if count(b',') > count(b'.') { b',' } else { b'.' };
    (Delimiter::Blanks, decimal)
}

/// Index of the first line that is a row of numbers: the first that contains nothing else, or else the first
/// with a number.
fn first_row(lines: &[&[u8]], delimiter: Delimiter, decimal: u8) -> Option<usize> {
    /// More lines that contain text and numbers are rows with a column of text, not a header.
    const MAX_MIXED_HEADER: usize = 8;
    let mut fields = Vec::new();
    let (mut mixed, mut alone) = (None, None);
    let mut mixed_lines = 0;
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !is_ignored(line)) {
        split(line, delimiter, &mut fields);
        let values = fields.iter().filter(|field| is_value(field, decimal)).count();
        let filled = fields.iter().filter(|field| !field.is_empty()).count();
        if values >= 2 && values == filled || values == 1 && filled == 1 && fields.len() == 1 {
            return Some(index);
        }
        if values >= 2 {
            mixed = mixed.or(Some(index));
            mixed_lines += 1;
            if mixed_lines > MAX_MIXED_HEADER {
                return mixed;
            }
        } else if values == 1 {
            alone = alone.or(Some(index));
        }
    }
    mixed.or(alone)
}
