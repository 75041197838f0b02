//! Roles of the columns, determined from the first rows and the header.

use super::header::Header;
use super::layout::{Delimiter, Layout, TimeColumn, is_ignored, split};
use super::{LeadChoice, Options, ReadError, header_text, number};
use header_text::TimeUnit;

/// Share of the rows in which a time column must increase.
const GROWING_SHARE: f64 = 0.8;

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

    pub(super) fn layout(
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
        let unit = header.units.get(lead).and_then(|cell| header_text::voltage_unit(cell, true));
        let unit = unit
            .or_else(|| header.name(lead).and_then(|cell| header_text::voltage_unit(cell, false)))
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

    /// Detects a single column with a decimal comma, which looks like two columns: small integers that do not
    /// increase, and digits.
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
        // A name takes precedence over values. Of two named columns, the one that is not a sample counter is
        // used.
        let named: Vec<(usize, Option<TimeUnit>)> = (0..self.columns.len())
            .filter_map(|column| {
                let unit = header_text::time_column(header.name(column)?)?;
                Some((
                    column,
                    unit.or_else(|| header.units.get(column).and_then(|cell| header_text::time_unit(cell))),
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
        // Without names, the time is the first column if it increases. If it counts rows and the second
        // column increases too, the second is used.
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
        let unnamed_counter =
            header.names.is_empty() || header.name(index).is_none_or(header_text::counts_rows);
        let also_time = header.name(index).is_some_and(|name| header_text::time_column(name).is_some());
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
    if header_text::voltage_unit(name, false).is_some() {
        let end = name.rfind(['(', '[', '/', ',', '_', ' ']).unwrap_or(0);
        name = name.get(..end).unwrap_or_default().trim_end_matches(['(', '[', '/', ',', '_', ' ']);
    }
    name.chars().take(32).collect()
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
