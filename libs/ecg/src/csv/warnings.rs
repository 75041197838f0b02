//! Warnings of the text reader, each one sentence.

use super::layout::{Layout, LeadColumn};
use super::rows::Rows;
use super::timeline::{Events, Run};
use super::{Clock, ReadError, name_lines};
use crate::strip::Warning;
use crate::units::{PLAUSIBLE_SWING_MV, VoltageUnit};

/// Number of line numbers kept for warnings.
const KEPT_LINES: usize = 10;
/// Relative difference between a given and a measured rate that causes a warning.
const RATE_DIFFERENCE: f64 = 0.02;
/// Most names in a sentence.
const NAMED: usize = 16;

/// Everything that the warnings about all leads depend on.
pub(super) struct Facts<'a> {
    pub(super) layout: &'a Layout,
    pub(super) clock: &'a Clock,
    pub(super) rows: &'a Rows,
    pub(super) events: &'a Events,
    pub(super) runs: &'a [Run],
    pub(super) rate_hz: f64,
}

/// Everything that the warnings about one lead depend on.
pub(super) struct Voltages<'a> {
    pub(super) column: &'a LeadColumn,
    pub(super) unit: VoltageUnit,
    /// Typical peak-to-peak amplitude in millivolts.
    pub(super) swing_mv: f64,
    /// Lowest and highest value in the unit of the file.
    pub(super) low: f32,
    pub(super) high: f32,
    /// Number of rows without a voltage of this lead.
    pub(super) missing: usize,
}

impl Facts<'_> {
    /// The first skipped lines, for any reason.
    pub(super) fn skipped_lines(&self) -> Vec<u64> {
        let mut lines = self.rows.first_skipped_lines().to_vec();
        lines.extend_from_slice(&self.events.lines_left_out);
        lines.sort_unstable();
        lines.truncate(KEPT_LINES);
        lines
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |code, message| warnings.push(Warning { code, message });
        let total = self.rows.good() + self.rows.skipped();
        if self.rows.skipped() > 0 {
            let lines = name_lines(self.rows.first_skipped_lines());
            let more = self.rows.skipped() > self.rows.first_skipped_lines().len() as u64;
            warn(
                "rows_skipped",
                format!(
                    "{} of {total} rows {} no usable time and voltage and {} skipped ({}{lines}).",
                    self.rows.skipped(),
                    if self.rows.skipped() == 1 { "holds" } else { "hold" },
                    if self.rows.skipped() == 1 { "was" } else { "were" },
                    if more { "first on " } else { "" },
                ),
            );
        }
        if self.events.repeated > 0 {
            warn(
                "time_repeated",
                format!(
                    "{} the time of the row before and {} skipped (first on line {}).",
                    rows(self.events.repeated, "repeats", "repeat"),
                    if self.events.repeated == 1 { "was" } else { "were" },
                    self.events.first_repeated_line
                ),
            );
        }
        if self.events.stray > 0 {
            warn(
                "time_stray",
                format!(
                    "{} a time that does not fit the adjacent rows and {} skipped (first on line {}).",
                    rows(self.events.stray, "has", "have"),
                    if self.events.stray == 1 { "was" } else { "were" },
                    self.events.lines_left_out.first().copied().unwrap_or_default()
                ),
            );
        }
        if self.events.retimed > 0 {
            warn(
                "time_stray",
                format!(
                    "{} a time that does not fit the adjacent rows; the order of the file was used (first on line {}).",
                    rows(self.events.retimed, "has", "have"),
                    self.events.first_retimed_line
                ),
            );
        }
        if self.events.filled > 0 {
            let one = self.events.filled == 1;
            warn(
                "samples_filled",
                format!(
                    "{} missing sample{} {} interpolated; longer gaps split the strip.",
                    self.events.filled,
                    if one { "" } else { "s" },
                    if one { "was" } else { "were" },
                ),
            );
        }
        self.gaps(&mut warn);
        self.times(&mut warn);
        if !self.layout.other_signals.is_empty() {
            let read: Vec<&str> =
                self.layout.leads.iter().filter_map(|lead| lead.name.as_deref()).take(NAMED).collect();
            let was = if self.layout.leads.len() == 1 { "was" } else { "were" };
            let read = if read.is_empty() { "the first one".to_owned() } else { read.join(", ") };
            warn(
                "other_leads",
                format!(
                    "The file has several signals: {read} {was} read, not {}.",
                    shortened(&self.layout.other_signals)
                ),
            );
        }
        warnings
    }

    fn gaps(&self, warn: &mut impl FnMut(&'static str, String)) {
        if self.events.backward > 0 {
            warn(
                "time_backward",
                format!(
                    "The time goes backwards {} (first on line {}): the strip is split there, and how much is missing is not known.",
                    times(self.events.backward),
                    self.events.first_backward_line
                ),
            );
        }
        let scale = self.clock.seconds_per_unit;
        let gaps: Vec<(f64, u64)> = self
            .runs
            .windows(2)
            .map(|pair| ((pair[1].first - pair[0].last) * scale - 1.0 / self.rate_hz, pair[1].line))
            .filter(|(length_s, _)| *length_s > 0.0)
            .collect();
        if let Some((first_s, line)) = gaps.first() {
            let sum_s: f64 = gaps.iter().map(|(length_s, _)| length_s).sum();
            warn(
                "time_gap",
                match gaps.len() {
                    1 => format!(
                        "{first_s:.2} s of the recording are missing before line {line}: the strip is split there."
                    ),
                    count => format!(
                        "{sum_s:.2} s of the recording are missing at {count} places (first before line {line}): the strip is split there."
                    ),
                },
            );
        }
    }

    fn times(&self, warn: &mut impl FnMut(&'static str, String)) {
        if let Some(unit) = self.clock.unit
            && self.clock.inferred
            && unit != super::TimeUnit::Seconds
        {
            warn(
                "time_unit_assumed",
                format!(
                    "The time column names no unit; {} were assumed, which gives {:.4} samples per second.",
                    unit.name(),
                    self.rate_hz
                ),
            );
        }
        if let Some(given) = self.layout.given_rate_hz
            && (self.rate_hz / given - 1.0).abs() > RATE_DIFFERENCE
        {
            warn(
                "rate_differs",
                format!(
                    "A sampling rate of {given} per second was given, but the times mean {:.4}; the times were used.",
                    self.rate_hz
                ),
            );
        }
        if let Some(tick_s) = self.clock.counted_tick_s {
            warn(
                "rate_counted",
                format!(
                    "The times have a resolution of {tick_s:.3} s; {:.4} samples per second were counted.",
                    self.rate_hz
                ),
            );
        }
        if self.clock.fixed_rate_hz.is_none() && self.clock.grid.jitters() {
            warn(
                "time_jitter",
                "The times deviate by more than half a sample; even spacing was assumed.".to_owned(),
            );
        }
    }
}

impl Voltages<'_> {
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |code, message| warnings.push(Warning { code, message });
        let (low, high, name) = (self.low, self.high, self.unit.name());
        let is_stated = self.column.unit.is_some() || self.column.scale.is_some();
        if !is_stated && self.unit != VoltageUnit::Millivolt {
            let why = if self.unit == VoltageUnit::Volt { "small" } else { "large" };
            warn(
                "unit_assumed",
                format!(
                    "The file names no unit, and values from {low} to {high} are too {why} for millivolts; {name} were assumed."
                ),
            );
        }
        if !PLAUSIBLE_SWING_MV.contains(&self.swing_mv) {
            let unit = if self.column.scale.is_some() { "counts" } else { name };
            warn(
                "range_unusual",
                format!(
                    "Values from {low} to {high} {unit} are unusual for an ECG: check the unit of the file."
                ),
            );
        }
        if self.missing > 0 {
            warn(
                "values_missing",
                format!(
                    "{} of this lead; longer gaps split the strip.",
                    rows(self.missing as u64, "has no voltage", "have no voltage")
                ),
            );
        }
        warnings
    }
}

/// A lead that has no usable signal. `error` is a sentence.
pub(super) fn lead_left_out(name: &str, error: &ReadError) -> Warning {
    Warning { code: "lead_left_out", message: format!("Lead {name} is left out. {error}") }
}

/// Leads that are left out because the file is too long.
pub(super) fn too_many_leads(names: &[String], limit: u64) -> Warning {
    let message = format!(
        "The leads have more than {limit} values in total, so {} {} left out.",
        shortened(names),
        if names.len() == 1 { "is" } else { "are" }
    );
    Warning { code: "lead_left_out", message }
}

/// The first names of a list.
fn shortened(names: &[String]) -> String {
    let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    named.join(", ")
}

fn rows(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 row {one}") } else { format!("{count} rows {many}") }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}
