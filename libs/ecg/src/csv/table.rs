//! Roles of the columns, determined from the first rows and the header.

use super::header::Header;
use super::header_text::{self, TimeUnit};
use super::layout::{Delimiter, Layout, LeadColumn, TimeColumn, is_ignored, split};
use super::{LeadChoice, Leads, Options, ReadError, clock, number};
use crate::leads::{self, SignalKind};
use crate::units::VoltageUnit;

/// Share of the rows in which a time column must increase.
const GROWING_SHARE: f64 = 0.8;
/// Evenness from which a column that is not the first one is a time without being named so.
const MIN_EVENNESS: f64 = 0.95;
/// Longest name of a lead in characters.
const MAX_NAME_CHARS: usize = 32;
/// Number of names of other signals that are kept.
const MAX_OTHER_NAMES: usize = 32;

/// Numbers of the first rows by column; NaN if a field is not a number.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
}

#[derive(Default)]
pub(super) struct Column {
    values: Vec<f64>,
    clocks: usize,
    dates: usize,
}

impl Table {
    pub(super) fn of(data: &[&[u8]], delimiter: Delimiter, decimal: u8) -> Self {
        let mut fields = Vec::new();
        // The most common number of fields.
        let mut widths: Vec<(usize, usize)> = Vec::new();
        for line in data.iter().filter(|line| !is_ignored(line)) {
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
        for line in data.iter().filter(|line| !is_ignored(line)) {
            split(line, delimiter, &mut fields);
            for (index, column) in columns.iter_mut().enumerate() {
                let field = fields.get(index).copied().unwrap_or_default();
                let value = match number::value_of(field, decimal) {
                    Some(value) => value,
                    None => match clock::clock(field) {
                        Some(time) => {
                            column.clocks += 1;
                            time.seconds
                        }
                        None => {
                            column.dates += usize::from(clock::is_date(field));
                            f64::NAN
                        }
                    },
                };
                column.values.push(value);
            }
        }
        Table { columns }
    }

    pub(super) fn layout(
        self,
        header: Header,
        delimiter: Delimiter,
        decimal: u8,
        header_lines: u64,
        options: &Options,
        wanted: Leads,
    ) -> Result<Layout, ReadError> {
        let given_rate_hz = options.sample_rate_hz.or(header.rate_hz);
        let time = self.time_column(&header, given_rate_hz)?;
        let time_column = match time {
            TimeColumn::None { .. } => None,
            TimeColumn::Number { column, .. } | TimeColumn::Clock { column } => Some(column),
        };
        let candidates: Vec<usize> =
            (0..self.columns.len()).filter(|&column| self.is_numeric(column, time_column, &header)).collect();
        let (leads, others) = self.leads(&candidates, &header);
        let name_of = |column: usize| header.name(column).map(bare_name).filter(|name| !name.is_empty());
        let names: Vec<Option<String>> = match leads.as_slice() {
            [only] => vec![name_of(*only).or_else(|| header.lead.clone())],
            several => several.iter().map(|&column| name_of(column)).collect(),
        };
        let mut read: Vec<LeadColumn> = leads
            .iter()
            .zip(leads::unique_names(names))
            .map(|(&column, name)| LeadColumn {
                column,
                name,
                unit: stated_unit(column, &header).or(header.unit),
                scale: header.scales.get(column).copied().flatten(),
            })
            .collect();
        let mut other_signals: Vec<String> = others.iter().filter_map(|&column| name_of(column)).collect();
        let selected = match choose(options.lead.as_ref(), &read)? {
            Chosen::Lead(index) => index,
            // A signal that is not named like an ECG is read if it is requested by its name.
            Chosen::OtherSignal(wanted) => {
                let same = |column: &usize| name_of(*column).is_some_and(|name| same_name(&name, wanted));
                let column = others.iter().copied().find(same).ok_or_else(|| ReadError::NoSuchLead {
                    wanted: wanted.to_owned(),
                    available: available(&read),
                })?;
                other_signals.retain(|name| !same_name(name, wanted));
                read.push(LeadColumn {
                    column,
                    name: name_of(column),
                    unit: stated_unit(column, &header).or(header.unit),
                    scale: None,
                });
                read.len() - 1
            }
            Chosen::Preferred => {
                let preferred = leads
                    .iter()
                    .enumerate()
                    .min_by_key(|&(_, &column)| (self.kind(column, &header), self.is_marker(column)));
                match preferred {
                    Some((index, _)) => index,
                    None if other_signals.is_empty() => return Err(ReadError::NoLead),
                    None => return Err(ReadError::NoEcgAmong { available: other_signals.join(", ") }),
                }
            }
        };
        let (leads, selected) = match wanted {
            Leads::All => (read, selected),
            Leads::Selected => {
                let lead = read.swap_remove(selected);
                // In the order of the file.
                read.sort_by_key(|lead| lead.column);
                let names = read.into_iter().filter_map(|lead| lead.name);
                other_signals = names.chain(other_signals).collect();
                (vec![lead], 0)
            }
        };
        other_signals.truncate(MAX_OTHER_NAMES);
        Ok(Layout {
            delimiter,
            decimal,
            columns: self.columns.len(),
            time,
            leads,
            selected,
            is_requested: options.lead.is_some(),
            other_signals,
            given_rate_hz,
            header_lines,
        })
    }

    /// The columns that are leads of an ECG, and the other signals. If a column is named like a lead, columns
    /// without such a name are leads only if the file states a unit of voltage for them.
    fn leads(&self, candidates: &[usize], header: &Header) -> (Vec<usize>, Vec<usize>) {
        let kind = |column: usize| self.kind(column, header);
        let is_named = candidates.iter().any(|&column| kind(column) < SignalKind::Unknown);
        let has_signal = candidates.iter().any(|&column| !self.is_marker(column));
        candidates.iter().copied().partition(|&column| match kind(column) {
            SignalKind::LimbLead | SignalKind::Lead => true,
            SignalKind::Unknown if is_named => stated_unit(column, header).is_some(),
            SignalKind::Unknown => !(has_signal && self.is_marker(column)),
            SignalKind::Other => false,
        })
    }

    fn kind(&self, column: usize, header: &Header) -> SignalKind {
        let Some(name) = header.name(column) else { return SignalKind::Unknown };
        let kind = leads::kind_of(name);
        let has = |wanted: &[&str]| {
            header.names.iter().filter(|name| wanted.contains(&name.trim().to_lowercase().as_str())).count()
        };
        match name.trim().to_lowercase().as_str() {
            // Lead I of Portuguese and Spanish recorders; elsewhere a digital input.
            "di" if has(&["dii"]) > 0 => SignalKind::LimbLead,
            // Axes of an acceleration; a single `y` may be a digitised curve.
            "x" | "y" | "z" if has(&["x", "y", "z"]) == 3 => SignalKind::Other,
            _ if kind == SignalKind::Unknown && states_other_unit(column, header) => SignalKind::Other,
            _ => kind,
        }
    }

    /// Whether a column has at most two values, both integers, like a marker.
    fn is_marker(&self, column: usize) -> bool {
        let Some(column) = self.columns.get(column) else { return true };
        let mut known = column.values.iter().copied().filter(|value| !value.is_nan());
        let Some(first) = known.next() else { return true };
        let mut second = None;
        first.fract() == 0.0
            && known
                .all(|value| value == first || value.fract() == 0.0 && value == *second.get_or_insert(value))
    }

    /// Selects the time: the most even of the clocks and of the columns that are named a time, else a counter
    /// of samples, else the first column that increases.
    fn time_column(&self, header: &Header, given_rate_hz: Option<f64>) -> Result<TimeColumn, ReadError> {
        let rows = self.columns.first().map_or(0, |column| column.values.len());
        let is_clock =
            |column: usize| self.columns.get(column).is_some_and(|column| column.clocks * 2 > rows);
        let as_time = |column: usize, unit: Option<TimeUnit>| {
            if is_clock(column) { TimeColumn::Clock { column } } else { TimeColumn::Number { column, unit } }
        };
        let named: Vec<(usize, Option<TimeUnit>)> = (0..self.columns.len())
            .filter(|&column| self.columns.len() > 1 || is_clock(column))
            .filter_map(|column| {
                let unit = header_text::time_column(header.name(column)?)?;
                let in_row = || header.unit_cell(column).and_then(header_text::time_unit);
                Some((column, unit.or_else(in_row)))
            })
            .filter(|&(column, _)| self.columns[column].values.iter().any(|value| !value.is_nan()))
            .collect();
        let is_counter = |&(_, unit): &(usize, Option<TimeUnit>)| matches!(unit, Some(TimeUnit::Samples));
        // Apps write the time at which a packet arrived next to the time of the sensor: only the latter is even.
        let clocks = (0..self.columns.len()).filter(|&column| is_clock(column)).map(|column| (column, None));
        let real: Vec<(usize, Option<TimeUnit>)> = clocks
            .chain(named.iter().copied().filter(|named| !is_counter(named) && !is_clock(named.0)))
            .collect();
        let mut best: Option<(usize, Option<TimeUnit>, f64)> = None;
        for &(column, unit) in &real {
            let evenness = evenness(&self.columns[column].values);
            // An earlier column is preferred to one that is as even.
            if best.is_none_or(|(_, _, known)| evenness > known + 1e-9) {
                best = Some((column, unit, evenness));
            }
        }
        if let Some((column, unit, _)) = best {
            return Ok(as_time(column, unit));
        }
        if let Some(&(column, unit)) = named.first() {
            return Ok(as_time(column, unit));
        }
        // Without names, the time is the first column if it increases. If it counts rows and the second
        // column increases too, the second is used.
        let growing = |column: usize| self.columns.get(column).is_some_and(|column| grows(&column.values));
        let is_named_other = |column: usize| {
            header.name(column).is_some_and(|name| leads::kind_of(name) != SignalKind::Unknown)
        };
        if self.columns.len() > 1 && growing(0) && !is_named_other(0) {
            let better = counts(&self.columns[0].values) && self.columns.len() > 2 && growing(1);
            return Ok(as_time(usize::from(better), None));
        }
        let is_time =
            |&column: &usize| growing(column) && evenness(&self.columns[column].values) > MIN_EVENNESS;
        if let Some(column) =
            (1..self.columns.len()).find(|column| is_time(column) && !is_named_other(*column))
        {
            return Ok(as_time(column, None));
        }
        match given_rate_hz {
            Some(rate_hz) => Ok(TimeColumn::None { rate_hz }),
            None => Err(ReadError::NoTime),
        }
    }

    /// Whether a column contains values that are neither times nor row numbers.
    fn is_numeric(&self, index: usize, time: Option<usize>, header: &Header) -> bool {
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
        let unnamed_counter =
            header.names.is_empty() || header.name(index).is_none_or(header_text::counts_rows);
        let also_time = header.name(index).is_some_and(|name| header_text::time_column(name).is_some());
        !(counter && ((unnamed_counter && counts(&column.values)) || (also_time && grows(&column.values))))
    }
}

/// What the options select.
enum Chosen<'a> {
    Lead(usize),
    OtherSignal(&'a str),
    Preferred,
}

fn choose<'a>(choice: Option<&'a LeadChoice>, leads: &[LeadColumn]) -> Result<Chosen<'a>, ReadError> {
    match choice {
        None => Ok(Chosen::Preferred),
        Some(LeadChoice::Index(wanted)) if *wanted < leads.len() => Ok(Chosen::Lead(*wanted)),
        Some(LeadChoice::Index(wanted)) => Err(ReadError::NoLeadAt { wanted: *wanted, count: leads.len() }),
        Some(LeadChoice::Name(wanted)) => {
            let found = leads
                .iter()
                .position(|lead| lead.name.as_deref().is_some_and(|name| same_name(name, wanted)));
            Ok(found.map_or(Chosen::OtherSignal(wanted), Chosen::Lead))
        }
    }
}

fn same_name(name: &str, wanted: &str) -> bool {
    name.trim().to_lowercase() == wanted.trim().to_lowercase()
}

fn available(leads: &[LeadColumn]) -> String {
    let names: Vec<&str> =
        leads.iter().filter_map(|lead| lead.name.as_deref()).take(MAX_OTHER_NAMES).collect();
    match names.as_slice() {
        [] => "leads without names: choose by number".to_owned(),
        names => names.join(", "),
    }
}

/// The unit of voltage that the header states for a column.
fn stated_unit(column: usize, header: &Header) -> Option<VoltageUnit> {
    let row = header.unit_cell(column).and_then(|cell| header_text::voltage_unit(cell, true));
    row.or_else(|| header.name(column).and_then(|cell| header_text::voltage_unit(cell, false)))
}

/// Whether the header states a unit that is none of voltage, such as `mmHg` or `(bpm)`.
fn states_other_unit(column: usize, header: &Header) -> bool {
    let bracketed = |name: &str| {
        let start = name.rfind(['(', '['])?;
        let unit = name.get(start + 1..)?.trim_end().trim_end_matches([')', ']']);
        Some(leads::is_other_unit(unit))
    };
    header.unit_cell(column).is_some_and(leads::is_other_unit)
        || header.name(column).and_then(bracketed).unwrap_or(false)
}

/// Name of a lead without its unit: `V5` of `V5_uV`, `voltage` of `voltage (mV)`.
fn bare_name(cell: &str) -> String {
    let mut name = cell.trim();
    if header_text::voltage_unit(name, false).is_some() {
        let end = name.rfind(['(', '[', '/', ',', '_', ' ']).unwrap_or(0);
        name = name.get(..end).unwrap_or_default().trim_end_matches(['(', '[', '/', ',', '_', ' ']);
    }
    name.chars().take(MAX_NAME_CHARS).collect()
}

/// Share of the steps that are one step of an even grid, whose times may be truncated. Zero if most values repeat
/// the one before.
fn evenness(values: &[f64]) -> f64 {
    let mut steps: Vec<f64> =
        values.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| !step.is_nan()).collect();
    if steps.is_empty() {
        return 0.0;
    }
    let middle = steps.len() / 2;
    let (_, &mut median, _) = steps.select_nth_unstable_by(middle, f64::total_cmp);
    if median <= 0.0 {
        return 0.0;
    }
    steps.iter().filter(|step| (**step - median).abs() <= 0.6 * median).count() as f64 / steps.len() as f64
}

/// Whether values increase like a time: mostly increasing, rarely decreasing.
fn grows(values: &[f64]) -> bool {
    let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    let steps = known.len().saturating_sub(1);
    if steps == 0 {
        return known.len() == 1;
    }
    let risen = known.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let fallen = known.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // Times in milliseconds repeat if the rate exceeds 1 kHz, so equal values count neither way.
    (risen + fallen) > 0 && risen as f64 >= GROWING_SHARE * (risen + fallen) as f64 && risen * 5 >= steps
}

/// Whether values count rows: 0, 1, 2 and so on.
fn counts(values: &[f64]) -> bool {
    let mut known = values.windows(2).filter(|pair| !pair[0].is_nan() && !pair[1].is_nan()).peekable();
    known.peek().is_some() && known.all(|pair| pair[1] - pair[0] == 1.0)
}
