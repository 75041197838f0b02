//! Dialect and column layout of a file, determined once from its first lines.

use super::header::Header;
use super::table::Table;
use super::{Options, ReadError, header_text, number, source::first_line};
use crate::units::VoltageUnit;
use header_text::TimeUnit;

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
    /// Index of the column of voltages.
    pub(super) lead: usize,
    pub(super) lead_name: Option<String>,
    /// Names or numbers of the leads that are not read.
    pub(super) other_leads: Vec<String>,
    pub(super) unit: Option<VoltageUnit>,
    /// Sampling rate from the options or from a comment.
    pub(super) given_rate_hz: Option<f64>,
    /// Number of lines before the first row of numbers.
    pub(super) header_lines: u64,
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
    number::whole(field, decimal).is_some() || number::clock(field).is_some() || number::is_date(field)
}

impl Layout {
    /// Determines the layout from the first lines of a file.
    pub(super) fn of(head: &[u8], terminator: u8, options: &Options) -> Result<Self, ReadError> {
        let mut lines = Vec::new();
        let mut rest = head;
        while !rest.is_empty() && lines.len() < SAMPLE_LINES {
            let (line, taken) = first_line(rest, terminator);
            lines.push(line);
            rest = rest.get(taken..).unwrap_or_default();
        }
        let declared = lines.first().and_then(|line| delimiter_line(line));
        let (delimiter, decimal) = punctuation(&lines, declared);
        let first_row = first_row(&lines, delimiter, decimal).ok_or(ReadError::NoNumbers)?;
        let (preamble, data) = lines.split_at(first_row);
        let table = Table::of(data, delimiter, decimal);
        let header = Header::of(preamble, &lines, delimiter, table.columns.len());
        let few = too_few(data, first_row, delimiter, decimal, table.columns.len());
        match table.layout(header, delimiter, decimal, first_row as u64, options) {
            Err(ReadError::NoTime) if few.is_some() => Err(few.unwrap_or(ReadError::NoTime)),
            layout => layout,
        }
    }
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

/// The `sep=;` line that spreadsheet programs write first.
fn delimiter_line(line: &[u8]) -> Option<u8> {
    match line {
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
            let values = fields.iter().filter(|field| is_value(field, decimal)).count();
            let filled = fields.iter().filter(|field| !field.is_empty()).count();
            // Two values make a table. A line with values only counts more than one that also contains text.
            score += match values {
                0 | 1 => 0,
                _ if values == filled => 2,
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

/// Index of the first line that is a row of numbers.
fn first_row(lines: &[&[u8]], delimiter: Delimiter, decimal: u8) -> Option<usize> {
    let mut fields = Vec::new();
    let mut alone = None;
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !is_ignored(line)) {
        split(line, delimiter, &mut fields);
        let values = fields.iter().filter(|field| is_value(field, decimal)).count();
        let filled = fields.iter().filter(|field| !field.is_empty()).count();
        if values >= 2 || (values == 1 && filled == 1 && fields.len() == 1) {
            return Some(index);
        }
        if values >= 1 && alone.is_none() {
            alone = Some(index);
        }
    }
    alone
}
