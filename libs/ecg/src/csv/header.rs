//! Header and comment lines of a file: column names, units, sampling rate.

use super::exporters::{self, Scale};
use super::header_text::{self, LEAD_KEYS, UNIT_KEYS};
use super::layout::{Delimiter, is_ignored, is_value, split};
use super::rate_text;
use crate::leads::{self, SignalKind};
use crate::units::VoltageUnit;

/// Contents of the header and the comments.
#[derive(Default)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    pub(super) units: Vec<String>,
    /// Conversions of counts, by column. Empty for files of physical values.
    pub(super) scales: Vec<Option<Scale>>,
    pub(super) rate_hz: Option<f64>,
    pub(super) unit: Option<VoltageUnit>,
    pub(super) lead: Option<String>,
}

impl Header {
    pub(super) fn of(
        preamble: &[&[u8]],
        lines: &[&[u8]],
        delimiter: Delimiter,
        decimal: u8,
        columns: usize,
    ) -> Self {
        let above: Vec<String> = preamble.iter().map(|line| header_text::text(line)).collect();
        let mut header = Header::default();
        let comments = lines.iter().skip(preamble.len()).filter(|line| is_ignored(line) && !line.is_empty());
        for line in above.iter().cloned().chain(comments.map(|line| header_text::text(line))) {
            header.rate_hz = header.rate_hz.or_else(|| rate_text::sample_rate(&line));
            if let Some(unit) = header_text::value_of(&line, &UNIT_KEYS) {
                header.unit = header.unit.or(header_text::voltage_unit(unit, true));
            }
            if let Some(lead) = header_text::value_of(&line, &LEAD_KEYS) {
                header.lead.get_or_insert_with(|| lead.chars().take(32).collect());
            }
        }
        if let Some(found) = exporters::of(&above, columns) {
            header.rate_hz = found.rate_hz.or(header.rate_hz);
            header.scales = found.columns.iter().map(|column| column.scale).collect();
            (header.names, header.units) =
                found.columns.into_iter().map(|column| (column.name, column.unit)).unzip();
            return header;
        }
        if columns == 1 {
            header.settings_of_unknown_language(&above);
        }
        header.names_and_units(preamble, delimiter, decimal, columns);
        header
    }

    /// Files of one column have a setting per line. Rate and unit are recognised by their values if their keys
    /// are not.
    fn settings_of_unknown_language(&mut self, above: &[String]) {
        if self.rate_hz.is_none() {
            let mut rates = above.iter().filter_map(|line| rate_text::frequency_setting(line));
            self.rate_hz = rates.next().filter(|rate| rates.all(|other| other == *rate));
        }
        if self.unit.is_none() {
            let unit = |line: &String| VoltageUnit::from_symbol(header_text::setting(line)?.1);
            self.unit = above.iter().filter_map(unit).next();
        }
    }

    /// The names are in the last line above the rows with the same number of cells, even if it is a comment. A
    /// line of units may follow it.
    fn names_and_units(&mut self, preamble: &[&[u8]], delimiter: Delimiter, decimal: u8, columns: usize) {
        let mut fields = Vec::new();
        for line in preamble.iter().rev() {
            let line = line.trim_ascii_start();
            let line = line.strip_prefix(b"#").or_else(|| line.strip_prefix(b"%")).unwrap_or(line);
            split(line, delimiter, &mut fields);
            while fields.len() > columns && fields.last().is_some_and(|field| field.is_empty()) {
                fields.pop();
            }
            let values = fields.iter().filter(|field| is_value(field, decimal)).count();
            if fields.len() != columns || fields.iter().all(|field| field.is_empty()) || values > 1 {
                continue;
            }
            let cells: Vec<String> = fields.iter().map(|field| header_text::text(field)).collect();
            let units = cells.iter().filter(|cell| !cell.is_empty()).all(|cell| header_text::is_unit(cell));
            if units && self.units.is_empty() && columns > 1 {
                self.units.clone_from(&cells);
                // A single header line such as `s,mV` is both.
                self.names = cells;
                continue;
            }
            // Above a single column, a line with several cells is a setting such as `Unit,mV`.
            if columns == 1 && line.iter().any(|byte| matches!(byte, b',' | b':' | b';' | b'=')) {
                continue;
            }
            if columns <= 2 && is_setting(&cells) {
                break;
            }
            self.names = cells;
            break;
        }
    }

    pub(super) fn name(&self, column: usize) -> Option<&str> {
        self.names.get(column).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn unit_cell(&self, column: usize) -> Option<&str> {
        self.units.get(column).map(String::as_str).filter(|unit| !unit.is_empty())
    }
}

/// Whether the cells of a line are key and value, not names of columns.
fn is_setting(cells: &[String]) -> bool {
    let [key, value] = cells else { return rate_text::sample_rate(&cells.join(",")).is_some() };
    let lower = key.to_lowercase();
    if UNIT_KEYS.contains(&lower.as_str())
        || LEAD_KEYS.contains(&lower.as_str())
        || is_value(value.as_bytes(), b'.')
    {
        return true;
    }
    let names_column =
        header_text::time_column(key).is_some() || header_text::counts_rows(key) || is_lead_name(key);
    let line = cells.join(",");
    !names_column
        && (rate_text::sample_rate(&line).is_some()
            || rate_text::frequency_setting(&line).is_some()
            || VoltageUnit::from_symbol(value).is_some())
}

fn is_lead_name(cell: &str) -> bool {
    matches!(leads::kind_of(cell), SignalKind::LimbLead | SignalKind::Lead)
}
