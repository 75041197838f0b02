//! Reader for ECG strips in text files.
//!
//! [`read`] accepts tables of numbers with or without a header, with comma, semicolon, tab or spaces as
//! delimiter, with decimal points or commas, with comments and damaged rows, and with times in seconds,
//! milliseconds, samples or as clock times. `layout` determines dialect, columns and units from the first
//! lines; `csv-core` then splits the records and `fast-float2` reads the numbers (`rows`); `timeline` places
//! the samples on an even grid.
//!
//! The stream is read once; memory holds one block and the samples as `f32`. The result is a [`Strip`] with
//! warnings for everything that was assumed, or an error that states the problem in one sentence.

mod error;
mod header;
mod header_text;
mod layout;
mod number;
mod rows;
mod source;
mod table;
mod timeline;
mod warnings;

use std::io::Read;

pub(crate) use error::name_lines;
pub use error::{MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ, ReadError};

use crate::strip::{RowCounts, Segment, Strip};
use crate::units;
use header_text::TimeUnit;
use layout::{Layout, TimeColumn};
use rows::Rows;
use source::Source;
use timeline::{Grid, Row, Run, Timeline};

/// Largest share of rows without usable numbers.
pub const MAX_BAD_SHARE: f64 = 0.2;
/// Smallest number of rows: the shortest strip at the lowest rate.
const MIN_ROWS: u64 = (MIN_DURATION_S * MIN_RATE_HZ) as u64;
/// Length of a gap at which the clock runs backwards, in seconds. The true length is unknown.
const UNKNOWN_GAP_S: f64 = 1.0;

/// Settings of the reader.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Samples per second, for files without times or with times that count samples. Other times in the file
    /// take precedence.
    pub sample_rate_hz: Option<f64>,
    /// The lead to read; the first one if not given.
    pub lead: Option<LeadChoice>,
    /// Limit in rows. A row takes four bytes of memory.
    pub max_rows: u64,
    /// Limit in bytes per line (64 bytes to 128 KiB).
    pub max_line_bytes: usize,
}

/// Selection of a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadChoice {
    /// By its name in the header, ignoring case.
    Name(String),
    /// By its index among the leads, from 0.
    Index(usize),
}

impl Default for Options {
    /// Up to 100 million rows: 24 hours at 1 kHz, 400 MB of memory.
    fn default() -> Self {
        Options { sample_rate_hz: None, lead: None, max_rows: 100_000_000, max_line_bytes: 64 * 1024 }
    }
}

/// Reads one lead of an ECG from a text file.
///
/// # Errors
/// Returns a [`ReadError`] if the file is not a usable ECG.
pub fn read(reader: impl Read, options: &Options) -> Result<Strip, ReadError> {
    if let Some(rate_hz) = options.sample_rate_hz
        && !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz)
    {
        return Err(ReadError::GivenRateImplausible { rate_hz });
    }
    let mut source = Source::new(reader, options.max_line_bytes);
    if !source.advance()? {
        return Err(ReadError::Empty);
    }
    let start = rows::check_text(source.raw())?;
    let raw = source.raw();
    if memchr::memchr(b'\n', raw).is_none() && memchr::memchr(b'\r', raw).is_some() {
        source.set_terminator(b'\r');
    }
    let terminator = source.terminator();
    let block = source.block(1)?;
    let head = block.get(start..).unwrap_or_default();
    let layout = Layout::of(head, terminator, options)?;
    let mut rows = Rows::new(layout.clone(), terminator, options.max_rows, source.max_line_bytes());

    // The rows of the first block are kept until the grid of their times is known. Later rows go to the
    // timeline directly.
    let mut first = Vec::new();
    rows.read_block(head, |row| {
        first.push(row);
        Ok(())
    })?;
    let clock = match Clock::of(&layout, &first, &rows) {
        Ok(clock) => clock,
        // If there are few rows, that error is reported before any other.
        Err(error) => {
            while source.advance()? {
                let block = source.block(rows.line())?;
                rows.read_block(block, |_| Ok(()))?;
            }
            check_rows(&rows, 0)?;
            return Err(error);
        }
    };
    let mut timeline = Timeline::new(clock.grid, clock.seconds_per_unit);
    for row in first.drain(..) {
        timeline.push(row)?;
    }
    drop(first);
    while source.advance()? {
        let block = source.block(rows.line())?;
        rows.read_block(block, |row| timeline.push(row))?;
    }
    finish(&layout, &clock, &rows, timeline)
}

/// Conversion of times to seconds.
#[derive(Debug, Clone, Copy)]
struct Clock {
    grid: Grid,
    seconds_per_unit: f64,
    /// Unit of a numeric time column.
    unit: Option<TimeUnit>,
    /// Whether the unit was inferred from the values.
    inferred: bool,
    /// A given rate, if the times count samples or there are none.
    fixed_rate_hz: Option<f64>,
}

impl Clock {
    fn of(layout: &Layout, first: &[Row], rows: &Rows) -> Result<Self, ReadError> {
        let given = layout.given_rate_hz;
        let (unit, by_name) = match layout.time {
            TimeColumn::None { rate_hz } => return Ok(Clock::counting(rate_hz)),
            TimeColumn::Clock { .. } => (Some(TimeUnit::Seconds), true),
            TimeColumn::Number { unit, .. } => (unit, unit.is_some()),
        };
        let grid = timeline::measure(first, rows.time_resolution())?;
        let plausible = |unit: &TimeUnit| {
            unit.per_second()
                .is_some_and(|per_second| (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&(per_second / grid.step)))
        };
        let unit = match unit {
            Some(unit) => unit,
            None if is_one(&grid, first) => match given {
                Some(_) => TimeUnit::Samples,
                None => return Err(ReadError::TimeCountsRows),
            },
            None => {
                [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds]
                    .into_iter()
                    .find(plausible)
                    .ok_or(ReadError::ImplausibleRate { rate_hz: 1.0 / grid.step })?
            }
        };
        let Some(per_second) = unit.per_second() else {
            let rate_hz = given.ok_or(ReadError::TimeCountsRows)?;
            let seconds_per_unit = 1.0 / (rate_hz * grid.step);
            return Ok(Clock {
                grid,
                seconds_per_unit,
                unit: Some(unit),
                inferred: false,
                fixed_rate_hz: Some(rate_hz),
            });
        };
        if !plausible(&unit) {
            return Err(ReadError::ImplausibleRate { rate_hz: per_second / grid.step });
        }
        Ok(Clock {
            grid,
            seconds_per_unit: 1.0 / per_second,
            unit: Some(unit),
            inferred: !by_name,
            fixed_rate_hz: None,
        })
    }

    /// Times that are row numbers at a given rate.
    fn counting(rate_hz: f64) -> Self {
        Clock {
            grid: Grid { step: 1.0, tolerance: 0.5, resolution: 1e-9 },
            seconds_per_unit: 1.0 / rate_hz,
            unit: None,
            inferred: false,
            fixed_rate_hz: Some(rate_hz),
        }
    }
}

/// Whether times increase by one.
fn is_one(grid: &Grid, first: &[Row]) -> bool {
    (grid.step - 1.0).abs() < 1e-6 && first.iter().all(|row| row.time.fract() == 0.0)
}

/// Checks the number and the share of usable rows.
fn check_rows(rows: &Rows, left_out: u64) -> Result<(), ReadError> {
    let skipped = rows.skipped() + left_out;
    let used = rows.good().saturating_sub(left_out);
    let lines = rows.first_skipped_lines().to_vec();
    if used == 0 && skipped == 0 {
        return Err(ReadError::NoNumbers);
    }
    if used < MIN_ROWS && rows.good() + rows.skipped() < 10 * MIN_ROWS {
        return Err(ReadError::TooFewRows { rows: used, needed: MIN_ROWS, lines });
    }
    if skipped as f64 > MAX_BAD_SHARE * (used + skipped) as f64 {
        return Err(ReadError::TooManyBadRows { skipped, total: used + skipped, lines });
    }
    Ok(())
}

/// Builds the strip and its warnings from the runs.
fn finish(layout: &Layout, clock: &Clock, rows: &Rows, timeline: Timeline) -> Result<Strip, ReadError> {
    let (mut runs, events, _) = timeline.finish();
    check_rows(rows, events.repeated + events.stray)?;
    let step = timeline::step_of(&runs).unwrap_or(clock.grid.step);
    let rate_hz = match clock.fixed_rate_hz {
        Some(rate_hz) => rate_hz,
        None => nominal_rate(1.0 / (step * clock.seconds_per_unit), &runs, clock),
    };
    let samples: usize = runs.iter().map(|run| run.samples.len()).sum();
    let duration_s = samples as f64 / rate_hz;
    if duration_s < MIN_DURATION_S {
        return Err(ReadError::TooShort { duration_s });
    }
    let (low, high) = runs
        .iter()
        .map(|run| units::extremes(&run.samples))
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (run_low, run_high)| {
            (low.min(run_low), high.max(run_high))
        });
    if low == high {
        return Err(ReadError::Constant { value: f64::from(low), rows: rows.good() });
    }

    let window = (2.0 * rate_hz) as usize;
    let swing = units::typical_swing(runs.iter().map(|run| run.samples.as_slice()), window);
    let swing = if swing > 0.0 { swing } else { f64::from(high) - f64::from(low) };
    let unit = layout.unit.unwrap_or_else(|| units::VoltageUnit::inferred_from(swing));
    let factor = unit.to_millivolt() as f32;
    if factor != 1.0 {
        for sample in runs.iter_mut().flat_map(|run| run.samples.iter_mut()) {
            *sample *= factor;
        }
    }
    let facts = warnings::Facts {
        layout,
        clock,
        rows,
        events: &events,
        runs: &runs,
        rate_hz,
        unit,
        swing,
        low,
        high,
    };
    let warnings = facts.warnings();
    let counts = RowCounts {
        used: rows.good() - events.repeated - events.stray,
        skipped: rows.skipped() + events.repeated + events.stray,
        first_skipped_lines: facts.skipped_lines(),
    };
    Ok(Strip {
        sample_rate_hz: rate_hz,
        lead: layout.lead_name.clone(),
        segments: segments(runs, clock, rate_hz),
        warnings,
        rows: counts,
    })
}

/// Returns the nearest whole rate if the measured rate cannot be distinguished from it, else the measured
/// rate.
fn nominal_rate(measured_hz: f64, runs: &[Run], clock: &Clock) -> f64 {
    let span: f64 = runs.iter().map(|run| run.last - run.first).sum();
    let doubt = 2.0 * clock.grid.resolution.max(clock.grid.tolerance * 0.1) / span.max(f64::MIN_POSITIVE);
    let whole = measured_hz.round();
    let near = (measured_hz / whole - 1.0).abs();
    if whole >= 1.0 && near <= doubt.clamp(1e-6, 2e-3) { whole } else { measured_hz }
}

/// Places the runs on one time axis that never decreases.
fn segments(runs: Vec<Run>, clock: &Clock, rate_hz: f64) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::with_capacity(runs.len());
    // Offset from file time to strip time; it changes where the clock runs backwards.
    let mut shift = runs.first().map_or(0.0, |run| -run.first * clock.seconds_per_unit);
    for run in runs {
        let mut start_s = run.first * clock.seconds_per_unit + shift;
        if let Some(last) = segments.last() {
            let end_s = last.start_s + last.samples.len() as f64 / rate_hz;
            if start_s < end_s {
                shift += end_s + UNKNOWN_GAP_S - start_s;
                start_s = end_s + UNKNOWN_GAP_S;
            }
        }
        segments.push(Segment { start_s, samples: run.samples });
    }
    segments
}
