//! What the columns of a file are: found once, from its first lines.

use super::{LeadChoice, Options, ReadError, number, source::first_line, words};
use crate::units::VoltageUnit;
use words::TimeUnit;

/// Lines that the layout is judged by.
const SAMPLE_LINES: usize = 400;
/// Lines that the punctuation is judged by, spread over those.
const PUNCTUATION_LINES: usize = 60;
/// Columns beyond these are not looked at.
const MAX_COLUMNS: usize = 512;
/// Share of rows in which a time must grow.
const GROWING_SHARE: f64 = 0.8;

/// How fields are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    Byte(u8),
    /// Any number of blanks and tabs.
    Blanks,
}

/// Where the time comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TimeColumn {
    /// Nowhere: rows follow each other at a given rate.
    None { rate_hz: f64 },
    /// A number, in a unit that the header tells or the values will.
    Number { column: usize, unit: Option<TimeUnit> },
    /// A clock.
    Clock { column: usize },
}

/// What the columns of a file are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) delimiter: Delimiter,
    pub(super) decimal: u8,
    /// Fields of a row.
    pub(super) columns: usize,
    pub(super) time: TimeColumn,
    /// Column of the voltages.
    pub(super) lead: usize,
    pub(super) lead_name: Option<String>,
    /// Leads that were not chosen, by name or by number.
    pub(super) other_leads: Vec<String>,
    pub(super) unit: Option<VoltageUnit>,
    /// Sampling rate that the options or a comment give.
    pub(super) given_rate_hz: Option<f64>,
    /// Lines before the first row of numbers.
    pub(super) header_lines: u64,
}

/// Fields of a line, blanks and quotes taken off, for any delimiter.
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
                    // A quote opens only at the start of a field; elsewhere it is a letter.
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
pub(super) fn is_silent(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    match line.first() {
        None | Some(b'#' | b'%') => true,
        Some(b'/') => line.get(1) == Some(&b'/'),
        Some(_) => false,
    }
}

fn is_value(field: &[u8], decimal: u8) -> bool {
    number::whole(field, decimal).is_some() || number::clock(field).is_some() || number::is_date(field)
}

impl Layout {
    /// Judges the first lines of a file.
    pub(super) fn of(head: &[u8], terminator: u8, options: &Options) -> Result<Self, ReadError> {
        let mut lines = Vec::new();
        let mut rest = head;
        while !rest.is_empty() && lines.len() < SAMPLE_LINES {
            let (line, taken) = first_line(rest, terminator);
            lines.push(line);
            rest = rest.get(taken..).unwrap_or_default();
        }
        let told = lines.first().and_then(|line| delimiter_line(line));
        let (delimiter, decimal) = punctuation(&lines, told);
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

/// What is wrong with a handful of rows is that they are few, whatever else may be.
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
    for (index, line) in data.iter().enumerate().filter(|(_, line)| !is_silent(line)) {
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

/// The `sep=;` that spreadsheet programs write as a first line.
fn delimiter_line(line: &[u8]) -> Option<u8> {
    match line {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// Delimiter and decimal sign that make numbers of most lines.
fn punctuation(lines: &[&[u8]], told: Option<u8>) -> (Delimiter, u8) {
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
        if told.is_some_and(|told| delimiter != Delimiter::Byte(told)) {
            continue;
        }
        let mut score = 0;
        for line in lines.iter().step_by(spread).filter(|line| !is_silent(line)) {
            split(line, delimiter, &mut fields);
            let values = fields.iter().filter(|field| is_value(field, decimal)).count();
            let filled = fields.iter().filter(|field| !field.is_empty()).count();
            // Two fields make a table; a line that is all numbers is a better witness than one with text in it.
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

/// Punctuation where no delimiter makes two columns: a decimal sign is all there is to find.
fn single_column(lines: &[&[u8]]) -> (Delimiter, u8) {
    let count =
        |decimal| lines.iter().filter(|line| number::whole(unquoted(line), decimal).is_some()).count();
    // A comma never is a decimal sign and a delimiter at once; a blank is in nobody's numbers.
    let decimal = if count(b',') > count(b'.') { b',' } else { b'.' };
    (Delimiter::Blanks, decimal)
}

/// Index of the first line that is a row of numbers.
fn first_row(lines: &[&[u8]], delimiter: Delimiter, decimal: u8) -> Option<usize> {
    let mut fields = Vec::new();
    let mut alone = None;
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !is_silent(line)) {
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

/// Names and units above the rows.
#[derive(Default)]
struct Header {
    names: Vec<String>,
    units: Vec<String>,
    rate_hz: Option<f64>,
    unit: Option<VoltageUnit>,
    lead: Option<String>,
}

impl Header {
    fn of(preamble: &[&[u8]], lines: &[&[u8]], delimiter: Delimiter, columns: usize) -> Self {
        let mut header = Header::default();
        let comments = lines.iter().skip(preamble.len()).filter(|line| is_silent(line) && !line.is_empty());
        for line in preamble.iter().chain(comments) {
            let line = words::text(line);
            header.rate_hz = header.rate_hz.or_else(|| words::sample_rate(&line));
            if let Some(unit) = words::value_of(&line, "unit").or_else(|| words::value_of(&line, "units")) {
                header.unit = header.unit.or(words::voltage_unit(unit, true));
            }
            if let Some(lead) = words::value_of(&line, "lead").or_else(|| words::value_of(&line, "channel")) {
                header.lead.get_or_insert_with(|| lead.chars().take(32).collect());
            }
        }
        // The names stand in the last line above the rows that has as many cells, commented out or not; a line of units
        // may stand between.
        let mut fields = Vec::new();
        for line in preamble.iter().rev() {
            let line = line.trim_ascii_start();
            let line = line.strip_prefix(b"#").or_else(|| line.strip_prefix(b"%")).unwrap_or(line);
            split(line, delimiter, &mut fields);
            while fields.len() > columns && fields.last().is_some_and(|field| field.is_empty()) {
                fields.pop();
            }
            if fields.len() != columns || fields.iter().all(|field| field.is_empty()) {
                continue;
            }
            let cells: Vec<String> = fields.iter().map(|field| words::text(field)).collect();
            let units = cells.iter().filter(|cell| !cell.is_empty()).all(|cell| words::is_unit(cell));
            if units && header.units.is_empty() && columns > 1 {
                header.units.clone_from(&cells);
                // It may as well be the only line there is: `s,mV`.
                header.names = cells;
                continue;
            }
            // Above a single column, a line of several cells is a setting, such as `Unit,mV`.
            let setting = columns == 1 && line.iter().any(|byte| matches!(byte, b',' | b':' | b';' | b'='));
            if setting {
                continue;
            }
            let spoken_for = words::sample_rate(&cells.join(" ")).is_some()
                || (columns == 2 && ["unit", "units", "lead"].contains(&cells[0].to_lowercase().as_str()));
            if !spoken_for {
                header.names = cells;
            }
            break;
        }
        header
    }

    fn name(&self, column: usize) -> Option<&str> {
        self.names.get(column).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// Numbers of the first rows, by column; NaN where there is none.
struct Table {
    columns: Vec<Column>,
}

#[derive(Default)]
struct Column {
    values: Vec<f64>,
    clocks: usize,
    dates: usize,
}

impl Table {
    fn of(data: &[&[u8]], delimiter: Delimiter, decimal: u8) -> Self {
        let mut fields = Vec::new();
        // The width most rows have.
        let mut widths: Vec<(usize, usize)> = Vec::new();
        for line in data.iter().filter(|line| !is_silent(line)) {
            split(line, delimiter, &mut fields);
            let mut width = fields.len();
            if fields.last().is_some_and(|field| field.is_empty()) {
                width -= 1;
            }
            match widths.iter_mut().find(|(known, _)| *known == width) {
                Some((_, count)) => *count += 1,
                None => widths.push((width, 1)),
            }
        }
        let width = widths.iter().max_by_key(|(_, count)| *count).map_or(1, |(width, _)| (*width).max(1));
        let mut columns: Vec<Column> = Vec::new();
        columns.resize_with(width, Column::default);
        for line in data.iter().filter(|line| !is_silent(line)) {
            split(line, delimiter, &mut fields);
            for (index, column) in columns.iter_mut().enumerate() {
                let field = fields.get(index).copied().unwrap_or_default();
                let value = match number::whole(field, decimal) {
                    Some(value) => value,
                    None => match number::clock(field) {
                        Some(time) => {
                            column.clocks += 1;
                            time.seconds
                        }
                        None => {
                            column.dates += usize::from(number::is_date(field));
                            f64::NAN
                        }
                    },
                };
                column.values.push(value);
            }
        }
        Table { columns }
    }

    fn layout(
        self,
        header: Header,
        delimiter: Delimiter,
        decimal: u8,
        header_lines: u64,
        options: &Options,
    ) -> Result<Layout, ReadError> {
        if let Some(rewritten) = self.decimal_comma(&header, delimiter, options) {
            return Ok(Layout { header_lines, ..rewritten });
        }
        let given_rate_hz = options.sample_rate_hz.or(header.rate_hz);
        let time = self.time_column(&header, given_rate_hz)?;
        let time_column = match time {
            TimeColumn::None { .. } => None,
            TimeColumn::Number { column, .. } | TimeColumn::Clock { column } => Some(column),
        };
        let leads: Vec<usize> =
            (0..self.columns.len()).filter(|&column| self.is_lead(column, time_column, &header)).collect();
        let name_of = |column: usize| -> Option<String> {
            header
                .name(column)
                .map(bare_name)
                .filter(|name| !name.is_empty())
                .or_else(|| if leads.len() == 1 { header.lead.clone() } else { None })
        };
        let lead = choose(options.lead.as_ref(), &leads, name_of)?;
        let unit = header.units.get(lead).and_then(|cell| words::voltage_unit(cell, true));
        let unit = unit
            .or_else(|| header.name(lead).and_then(|cell| words::voltage_unit(cell, false)))
            .or(header.unit);
        let other_leads = leads
            .iter()
            .enumerate()
            .filter(|&(_, &column)| column != lead)
            .map(|(index, &column)| name_of(column).unwrap_or_else(|| format!("number {index}")))
            .collect();
        Ok(Layout {
            delimiter,
            decimal,
            columns: self.columns.len(),
            time,
            lead,
            lead_name: name_of(lead),
            other_leads,
            unit,
            given_rate_hz,
            header_lines,
        })
    }

    /// One column of numbers with a decimal comma looks like two columns, the first of them small and not growing.
    fn decimal_comma(&self, header: &Header, delimiter: Delimiter, options: &Options) -> Option<Layout> {
        let rate_hz = options.sample_rate_hz.or(header.rate_hz)?;
        let [whole, fraction] = self.columns.as_slice() else { return None };
        let natural = |value: &f64| value.is_nan() || (value.fract() == 0.0 && *value >= 0.0);
        let looks_so = delimiter == Delimiter::Byte(b',')
            && header.names.len() != 2
            && !grows(&whole.values)
            && whole.values.iter().all(|value| value.is_nan() || value.fract() == 0.0)
            && fraction.values.iter().all(natural);
        looks_so.then(|| Layout {
            delimiter: Delimiter::Blanks,
            decimal: b',',
            columns: 1,
            time: TimeColumn::None { rate_hz },
            lead: 0,
            lead_name: header.lead.clone(),
            other_leads: Vec::new(),
            unit: header.unit,
            given_rate_hz: Some(rate_hz),
            header_lines: 0,
        })
    }

    fn time_column(&self, header: &Header, given_rate_hz: Option<f64>) -> Result<TimeColumn, ReadError> {
        let rows = self.columns.first().map_or(0, |column| column.values.len());
        let is_clock =
            |column: usize| self.columns.get(column).is_some_and(|column| column.clocks * 2 > rows);
        let as_time = |column: usize, unit: Option<TimeUnit>| {
            if is_clock(column) { TimeColumn::Clock { column } } else { TimeColumn::Number { column, unit } }
        };
        if let Some(column) = (0..self.columns.len()).find(|&column| is_clock(column)) {
            return Ok(TimeColumn::Clock { column });
        }
        // A name is believed before values are; of two names, the one whose values are a time.
        let named: Vec<(usize, Option<TimeUnit>)> = (0..self.columns.len())
            .filter_map(|column| {
                let unit = words::time_column(header.name(column)?)?;
                Some((
                    column,
                    unit.or_else(|| header.units.get(column).and_then(|cell| words::time_unit(cell))),
                ))
            })
            .filter(|&(column, _)| self.columns[column].values.iter().any(|value| !value.is_nan()))
            .collect();
        let is_sure = |unit: &Option<TimeUnit>| !matches!(unit, Some(TimeUnit::Samples));
        let best = named.iter().find(|(_, unit)| is_sure(unit)).or_else(|| named.first());
        if let Some(&(column, unit)) = best
            && self.columns.len() > 1
        {
            return Ok(as_time(column, unit));
        }
        // Without names: a first column that grows; if it only counts rows, a second one that grows as well is better.
        let growing = |column: usize| self.columns.get(column).is_some_and(|column| grows(&column.values));
        if self.columns.len() > 1 && growing(0) {
            let better = counts(&self.columns[0].values) && self.columns.len() > 2 && growing(1);
            return Ok(as_time(usize::from(better), None));
        }
        match given_rate_hz {
            Some(rate_hz) => Ok(TimeColumn::None { rate_hz }),
            None => Err(ReadError::NoTime),
        }
    }

    fn is_lead(&self, index: usize, time: Option<usize>, header: &Header) -> bool {
        let Some(column) = self.columns.get(index) else { return false };
        let numbers = column.values.iter().filter(|value| !value.is_nan()).count();
        if Some(index) == time
            || numbers * 2 < column.values.len().min(8)
            || column.dates > 0
            || column.clocks > 0
        {
            return false;
        }
        let counter = self.columns.len() > 2 || time.is_none() && self.columns.len() > 1;
        let unnamed_counter = header.names.is_empty() || header.name(index).is_none_or(words::counts_rows);
        let also_time = header.name(index).is_some_and(|name| words::time_column(name).is_some());
        !(counter && ((unnamed_counter && counts(&column.values)) || (also_time && grows(&column.values))))
    }
}

fn choose(
    choice: Option<&LeadChoice>,
    leads: &[usize],
    name_of: impl Fn(usize) -> Option<String>,
) -> Result<usize, ReadError> {
    match choice {
        None => leads.first().copied().ok_or(ReadError::NoLead),
        Some(LeadChoice::Index(wanted)) => {
            leads.get(*wanted).copied().ok_or(ReadError::NoLeadAt { wanted: *wanted, count: leads.len() })
        }
        Some(LeadChoice::Name(wanted)) => {
            let same = |name: &str| name.eq_ignore_ascii_case(wanted.trim());
            leads.iter().copied().find(|&column| name_of(column).is_some_and(|name| same(&name))).ok_or_else(
                || {
                    let names: Vec<String> = leads.iter().filter_map(|&column| name_of(column)).collect();
                    let available = match names.as_slice() {
                        [] => "leads without names: choose by number".to_owned(),
                        names => names.join(", "),
                    };
                    ReadError::NoSuchLead { wanted: wanted.clone(), available }
                },
            )
        }
    }
}

/// Name of a lead without its unit: `V5` of `V5_uV`, `voltage` of `voltage (mV)`.
fn bare_name(cell: &str) -> String {
    let mut name = cell.trim();
    if words::voltage_unit(name, false).is_some() {
        let end = name.rfind(['(', '[', '/', ',', '_', ' ']).unwrap_or(0);
        name = name.get(..end).unwrap_or_default().trim_end_matches(['(', '[', '/', ',', '_', ' ']);
    }
    name.chars().take(32).collect()
}

/// Whether values go up like a time: mostly growing, rarely falling.
fn grows(values: &[f64]) -> bool {
    let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    let steps = known.len().saturating_sub(1);
    if steps == 0 {
        return known.len() == 1;
    }
    let risen = known.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let fallen = known.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // Times cut to milliseconds repeat where the rate is above 1 kHz, so standing still is no witness against.
    (risen + fallen) > 0 && risen as f64 >= GROWING_SHARE * (risen + fallen) as f64 && risen * 5 >= steps
}

/// Whether values count rows: 0, 1, 2 and so on.
fn counts(values: &[f64]) -> bool {
    let mut known = values.windows(2).filter(|pair| !pair[0].is_nan() && !pair[1].is_nan()).peekable();
    known.peek().is_some() && known.all(|pair| pair[1] - pair[0] == 1.0)
}
