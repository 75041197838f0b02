//! Warnings of the text reader, each one sentence.

use super::layout::Layout;
use super::rows::Rows;
use super::timeline::{Events, Run};
use super::{Clock, name_lines};
use crate::strip::Warning;
use crate::units::{PLAUSIBLE_SWING_MV, VoltageUnit};

/// Number of line numbers kept for warnings.
const KEPT_LINES: usize = 10;
/// Relative difference between a given and a measured rate that causes a warning.
const RATE_DIFFERENCE: f64 = 0.02;

/// Everything that the warnings depend on.
pub(super) struct Facts<'a> {
    pub(super) layout: &'a Layout,
    pub(super) clock: &'a Clock,
    pub(super) rows: &'a Rows,
    pub(super) events: &'a Events,
    pub(super) runs: &'a [Run],
    pub(super) rate_hz: f64,
    pub(super) unit: VoltageUnit,
    /// Typical peak-to-peak amplitude in the unit of the file.
    pub(super) swing: f64,
    pub(super) low: f32,
    pub(super) high: f32,
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
        self.voltages(&mut warn);
        if !self.layout.other_leads.is_empty() {
            let read = self.layout.lead_name.as_deref().unwrap_or("the first one");
            let others: Vec<&str> = self.layout.other_leads.iter().take(16).map(String::as_str).collect();
            warn(
                "other_leads",
                format!("The file has several leads: {read} was read, not {}.", others.join(", ")),
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
        if self.clock.fixed_rate_hz.is_none() && self.clock.grid.jitters() {
            warn(
                "time_jitter",
                "The times deviate by more than half a sample; even spacing was assumed.".to_owned(),
            );
        }
    }

    fn voltages(&self, warn: &mut impl FnMut(&'static str, String)) {
        let (low, high, name) = (self.low, self.high, self.unit.name());
        if self.layout.unit.is_none() && self.unit != VoltageUnit::Millivolt {
            let why = if self.unit == VoltageUnit::Volt { "small" } else { "large" };
            warn(
                "unit_assumed",
                format!(
                    "The file names no unit, and values from {low} to {high} are too {why} for millivolts; {name} were assumed."
                ),
            );
        }
        let swing_mv = self.swing * self.unit.to_millivolt();
        if !PLAUSIBLE_SWING_MV.contains(&swing_mv) {
            warn(
                "range_unusual",
                format!(
                    "Values from {low} to {high} {name} are unusual for an ECG: check the unit of the file."
                ),
            );
        }
    }
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
