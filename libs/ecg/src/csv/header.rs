//! Header and comment lines of a file: column names, units, sampling rate.

use super::header_text;
use super::layout::{Delimiter, is_ignored, split};
use crate::units::VoltageUnit;

/// Contents of the header and the comments.
#[derive(Default)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    pub(super) units: Vec<String>,
    pub(super) rate_hz: Option<f64>,
    pub(super) unit: Option<VoltageUnit>,
    pub(super) lead: Option<String>,
}

impl Header {
    pub(super) fn of(preamble: &[&[u8]], lines: &[&[u8]], delimiter: Delimiter, columns: usize) -> Self {
        let mut header = Header::default();
        let comments = lines.iter().skip(preamble.len()).filter(|line| is_ignored(line) && !line.is_empty());
        for line in preamble.iter().chain(comments) {
            let line = header_text::text(line);
            header.rate_hz = header.rate_hz.or_else(|| header_text::sample_rate(&line));
            if let Some(unit) =
                header_text::value_of(&line, "unit").or_else(|| header_text::value_of(&line, "units"))
            {
                header.unit = header.unit.or(header_text::voltage_unit(unit, true));
            }
            if let Some(lead) =
                header_text::value_of(&line, "lead").or_else(|| header_text::value_of(&line, "channel"))
            {
                header.lead.get_or_insert_with(|| lead.chars().take(32).collect());
            }
        }
        // The names are in the last line above the rows with the same number of cells, even if it is a
        // comment. A line of units may follow it.
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
            let cells: Vec<String> = fields.iter().map(|field| header_text::text(field)).collect();
            let units = cells.iter().filter(|cell| !cell.is_empty()).all(|cell| header_text::is_unit(cell));
            if units && header.units.is_empty() && columns > 1 {
                header.units.clone_from(&cells);
                // A single header line such as `s,mV` is both.
                header.names = cells;
                continue;
            }
            // Above a single column, a line with several cells is a setting such as `Unit,mV`.
            let setting = columns == 1 && line.iter().any(|byte| matches!(byte, b',' | b':' | b';' | b'='));
            if setting {
                continue;
            }
            let spoken_for = header_text::sample_rate(&cells.join(" ")).is_some()
                || (columns == 2 && ["unit", "units", "lead"].contains(&cells[0].to_lowercase().as_str()));
            if !spoken_for {
                header.names = cells;
            }
            break;
        }
        header
    }

    pub(super) fn name(&self, column: usize) -> Option<&str> {
        self.names.get(column).map(String::as_str).filter(|name| !name.is_empty())
    }
}
