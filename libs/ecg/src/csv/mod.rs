//! Reader for ECG strips in text files.
//!
//! [`read_recording`] accepts tables of numbers with or without a header, with comma, semicolon, tab or spaces
//! as delimiter, with decimal points or commas, with comments and damaged rows, and with times in any unit, in
//! samples or as clock times. `layout` determines dialect, columns and units from the first lines; `csv-core`
//! then splits the records and `fast-float2` reads the numbers (`rows`); `timeline` places the samples on an
//! even grid. [`read`] stores only one lead.
//!
//! The stream is read once; memory holds one block and the samples as `f32`. The result has warnings for
//! everything that was assumed; an error states the problem in one sentence.

pub(crate) mod clock;
mod coarse;
mod error;
mod exporters;
mod header;
mod header_text;
mod layout;
mod number;
mod rate_text;
mod rows;
mod source;
mod table;
mod timeline;
mod warnings;

use std::io::Read;

pub(crate) use error::name_lines;
pub use error::{MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ, ReadError};

use crate::recording::{Lead, Recording, split_at_gaps};
use crate::strip::{RowCounts, Segment, Strip};
use crate::units;
use coarse::SampleCounter;
use header_text::TimeUnit;
use layout::{Layout, LeadColumn, TimeColumn};
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
    /// The lead to read. If not given, the first one that is named like a lead of an ECG, and I and II before
    /// others. Signals that are named otherwise, such as `RESP` or `HR`, are read only by their name.
    pub lead: Option<LeadChoice>,
    /// Limit in rows. A row takes four bytes of memory per lead. If the rows of several leads have more values
    /// than this limit, only the selected lead is kept.
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

impl LeadChoice {
    /// The choice that a user states: a number counts from 1, anything else is a name.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.trim().parse::<usize>() {
            Ok(number) if number > 0 => LeadChoice::Index(number - 1),
            _ => LeadChoice::Name(text.trim().to_owned()),
        }
    }
}

impl Default for Options {
    /// Up to 100 million rows: 24 hours at 1 kHz, 400 MB of memory.
    fn default() -> Self {
        Options { sample_rate_hz: None, lead: None, max_rows: 100_000_000, max_line_bytes: 64 * 1024 }
    }
}

/// Number of leads to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    All,
    Selected,
}

/// Reads one lead of an ECG from a text file.
///
/// # Errors
/// Returns a [`ReadError`] if the file is not a usable ECG.
pub fn read(reader: impl Read, options: &Options) -> Result<Strip, ReadError> {
    Ok(read_leads(reader, options, Leads::Selected)?.into_selected())
}

/// Reads all leads of an ECG from a text file. Leads without a signal are left out with a warning.
///
/// # Errors
/// Returns a [`ReadError`] if the file is not a usable ECG, or if a requested lead is not usable.
pub fn read_recording(reader: impl Read, options: &Options) -> Result<Recording, ReadError> {
    read_leads(reader, options, Leads::All)
}

fn read_leads(reader: impl Read, options: &Options, leads: Leads) -> Result<Recording, ReadError> {
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
    let mut layout = Layout::of(head, terminator, options, leads)?;
    let mut rows = Rows::new(layout.clone(), terminator, options.max_rows, source.max_line_bytes());

    // The rows of the first block are kept until the grid of their times is known. Later rows go to the
    // timeline directly.
    let (mut first, mut first_values) = (Vec::new(), Vec::new());
    rows.read_block(head, |row, values| {
        first.push(row);
        first_values.extend_from_slice(values);
        Ok(())
    })?;
    let clock = match Clock::of(&layout, &first, &rows) {
        Ok(clock) => clock,
        // If there are few rows, that error is reported before any other.
        Err(error) => {
            while source.advance()? {
                let block = source.block(rows.line())?;
                rows.read_block(block, |_, _| Ok(()))?;
            }
            check_rows(&rows, 0)?;
            return Err(error);
        }
    };
    let mut counter = clock.counter;
    let mut place = |row: Row| match &mut counter {
        Some(counter) => counter.place(row),
        None => row,
    };
    let width = layout.leads.len();
    let mut timeline = Timeline::new(clock.grid, clock.seconds_per_unit, width);
    for (row, values) in first.drain(..).zip(first_values.chunks_exact(width)) {
        timeline.push(place(row), values)?;
    }
    drop((first, first_values));
    let mut left_out = Vec::new();
    while source.advance()? {
        let block = source.block(rows.line())?;
        rows.read_block(block, |row, values| timeline.push(place(row), values))?;
        if layout.leads.len() > 1 && timeline.sample_count() as u64 > options.max_rows {
            rows.keep_only(layout.selected);
            timeline.keep_only(layout.selected);
            let kept = layout.leads.swap_remove(layout.selected);
            left_out = layout.leads.drain(..).filter_map(|lead| lead.name).collect();
            layout.leads.push(kept);
            layout.selected = 0;
        }
    }
    finish(layout, &clock, &rows, timeline, left_out)
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
    /// A given or counted rate, if the times count samples or do not distinguish them, or there are none.
    fixed_rate_hz: Option<f64>,
    /// Counts the samples if the times do not distinguish them.
    counter: Option<SampleCounter>,
    /// Whether the rate was counted between the ticks of a coarse clock of this resolution in seconds.
    counted_tick_s: Option<f64>,
}

impl Clock {
    fn of(layout: &Layout, first: &[Row], rows: &Rows) -> Result<Self, ReadError> {
        let given = layout.given_rate_hz;
        let (unit, by_name) = match layout.time {
            TimeColumn::None { rate_hz } => return Ok(Clock::counting(rate_hz)),
            TimeColumn::Clock { .. } => (Some(TimeUnit::Seconds), true),
            TimeColumn::Number { unit, .. } => (unit, unit.is_some()),
        };
        if let Some(ticks) = coarse::ticks(first) {
            return Clock::coarse(ticks, unit, given);
        }
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
            None => inferred_unit(grid.step, first)
                .ok_or(ReadError::ImplausibleRate { rate_hz: 1.0 / grid.step })?,
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
                counter: None,
                counted_tick_s: None,
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
            counter: None,
            counted_tick_s: None,
        })
    }

    /// Times that do not distinguish samples. The rate is counted if the ticks are even, or else the given one.
    fn coarse(ticks: coarse::Ticks, unit: Option<TimeUnit>, given: Option<f64>) -> Result<Self, ReadError> {
        /// A given rate is used unless it differs from the counted one by more than this share.
        const DIFFERENCE: f64 = 0.05;
        /// Largest factor between the mean rate of the rows and the one that is used. Gaps lower the mean rate.
        const MAX_FACTOR: f64 = 4.0;
        let rate_in = |unit: TimeUnit| ticks.mean_rate * unit.per_second().unwrap_or(0.0);
        let fits = |unit: &TimeUnit| match given {
            Some(given) => (1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&(rate_in(*unit) / given)),
            None => (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_in(*unit)),
        };
        let units =
            [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];
        let used = match unit {
            Some(TimeUnit::Samples) => return Err(ReadError::TimeCountsRows),
            Some(unit) => Some(unit).filter(fits),
            None => units.into_iter().find(fits),
        };
        let used =
            used.ok_or(ReadError::ImplausibleRate { rate_hz: rate_in(unit.unwrap_or(TimeUnit::Seconds)) })?;
        let seconds_per_unit = 1.0 / used.per_second().unwrap_or(1.0);
        let tick_s = ticks.length * seconds_per_unit;
        // A tick contains a whole number of samples at best, so that a rate near a whole number is that number.
        let counted = ticks.rate.map(|rate| rate / seconds_per_unit).map(|rate| {
            let whole = rate.round();
            if (rate / whole - 1.0).abs() < 0.005 { whole } else { rate }
        });
        let rate_hz = match (given, counted) {
            (Some(given), Some(counted)) if (counted / given - 1.0).abs() > DIFFERENCE => counted,
            (Some(given), _) => given,
            (None, Some(counted)) => counted,
            (None, None) => return Err(ReadError::TimeTooCoarse { tick_s }),
        };
        if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
            return Err(ReadError::ImplausibleRate { rate_hz });
        }
        Ok(Clock {
            counter: Some(SampleCounter::new(rate_hz, seconds_per_unit, ticks.length)),
            counted_tick_s: given.is_none().then_some(tick_s),
            unit: Some(used),
            inferred: unit.is_none(),
            ..Clock::counting(rate_hz)
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
            counter: None,
            counted_tick_s: None,
        }
    }
}

/// The unit of times with this step that gives a plausible rate.
fn inferred_unit(step: f64, first: &[Row]) -> Option<TimeUnit> {
    /// Rate from which seconds are doubtful: a file with minutes and 83 Hz or more has a higher one.
    const DOUBTFUL_RATE_HZ: f64 = 5000.0;
    /// Highest rate of a file with minutes or days.
    const MAX_LONG_UNIT_RATE_HZ: f64 = 2000.0;
    let rate_of = |unit: TimeUnit| unit.per_second().map_or(0.0, |per_second| per_second / step);
    let plausible = |unit: &TimeUnit| (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_of(*unit));
    let in_minutes = rate_of(TimeUnit::Minutes);
    let is_minutes = (MIN_RATE_HZ..=MAX_LONG_UNIT_RATE_HZ).contains(&in_minutes);
    // Rates in use are whole numbers. 10 kHz would be 166.67 Hz in minutes, and 250 Hz would be 15 kHz in seconds.
    let is_whole = (in_minutes / in_minutes.round() - 1.0).abs() < 2e-4;
    if is_minutes && is_whole && rate_of(TimeUnit::Seconds) > DOUBTFUL_RATE_HZ {
        return Some(TimeUnit::Minutes);
    }
    let units = [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];
    if let Some(unit) = units.into_iter().find(plausible) {
        return Some(unit);
    }
    // Days since 1900 or since the year 0, as spreadsheet programs and Matlab count them.
    let is_date = first.first().is_some_and(|row| {
        (20_000.0..80_000.0).contains(&row.time) || (700_000.0..800_000.0).contains(&row.time)
    });
    let is_days = is_date && (MIN_RATE_HZ..=MAX_LONG_UNIT_RATE_HZ).contains(&rate_of(TimeUnit::Days));
    if is_minutes { Some(TimeUnit::Minutes) } else { is_days.then_some(TimeUnit::Days) }
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

/// Builds the leads and their warnings from the runs.
fn finish(
    layout: Layout,
    clock: &Clock,
    rows: &Rows,
    timeline: Timeline,
    left_out: Vec<String>,
) -> Result<Recording, ReadError> {
    let (mut runs, events, _) = timeline.finish();
    check_rows(rows, events.repeated + events.stray)?;
    let step = timeline::step_of(&runs).unwrap_or(clock.grid.step);
    let rate_hz = match clock.fixed_rate_hz {
        Some(rate_hz) => rate_hz,
        None => nominal_rate(1.0 / (step * clock.seconds_per_unit), &runs, clock),
    };
    let samples: usize = runs.iter().map(|run| run.count).sum();
    let duration_s = samples as f64 / rate_hz;
    if duration_s < MIN_DURATION_S {
        return Err(ReadError::TooShort { duration_s });
    }
    let starts_s = starts(&runs, clock, rate_hz);
    let samples_of: Vec<Vec<Vec<f32>>> = (0..layout.leads.len())
        .map(|lead| {
            let of_lead = |run: &mut Run| run.leads.get_mut(lead).map(std::mem::take).unwrap_or_default();
            runs.iter_mut().map(of_lead).collect()
        })
        .collect();
    let facts = warnings::Facts { layout: &layout, clock, rows, events: &events, runs: &runs, rate_hz };
    let mut shared = facts.warnings();
    let counts = RowCounts {
        used: rows.good() - events.repeated - events.stray,
        skipped: rows.skipped() + events.repeated + events.stray,
        first_skipped_lines: facts.skipped_lines(),
    };

    let mut leads = Vec::with_capacity(layout.leads.len());
    let mut selected = None;
    let mut other_signals = layout.other_signals.clone();
    let mut selected_error = None;
    for (index, (column, samples)) in layout.leads.iter().zip(samples_of).enumerate() {
        let is_selected = index == layout.selected;
        match lead(column, samples, &starts_s, rate_hz) {
            Ok(lead) => {
                if is_selected {
                    selected = Some(leads.len());
                }
                leads.push(lead);
            }
            Err(error) if is_selected && layout.is_requested => return Err(error),
            Err(error) => {
                let name = column.name.clone().unwrap_or_default();
                shared.push(warnings::lead_left_out(&name, &error));
                other_signals.push(name);
                if is_selected {
                    selected_error = Some(error);
                }
            }
        }
    }
    if !left_out.is_empty() {
        shared.push(warnings::too_many_leads(&left_out, rows.max_rows()));
        other_signals.extend(left_out);
    }
    if leads.is_empty() {
        return Err(selected_error.unwrap_or(ReadError::NoLead));
    }
    for lead in &mut leads {
        let own = std::mem::take(&mut lead.strip.warnings);
        lead.strip.warnings = shared.iter().cloned().chain(own).collect();
        lead.strip.rows = counts.clone();
    }
    Ok(Recording { leads, selected: selected.unwrap_or(0), is_requested: layout.is_requested, other_signals })
}

/// Builds a lead from its samples in each run. Its warnings are those of the lead alone.
fn lead(
    column: &LeadColumn,
    samples: Vec<Vec<f32>>,
    starts_s: &[f64],
    rate_hz: f64,
) -> Result<Lead, ReadError> {
    let total: usize = samples.iter().map(Vec::len).sum();
    let missing: usize = samples.iter().flatten().filter(|sample| sample.is_nan()).count();
    if missing as f64 > MAX_BAD_SHARE * total as f64 {
        let (skipped, total) = (missing as u64, total as u64);
        return Err(ReadError::TooManyBadRows { skipped, total, lines: Vec::new() });
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(samples.len());
    let longest = (timeline::MAX_FILL_S * rate_hz) as usize;
    for (&start_s, samples) in starts_s.iter().zip(samples) {
        if missing > 0 {
            split_at_gaps(start_s, rate_hz, samples, longest.max(1), &mut segments);
        } else {
            segments.push(Segment { start_s, samples });
        }
    }
    let (low, high) = segments
        .iter()
        .map(|segment| units::extremes(&segment.samples))
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (other_low, other_high)| {
            (low.min(other_low), high.max(other_high))
        });
    if low >= high {
        return Err(ReadError::Constant { value: f64::from(low), rows: (total - missing) as u64 });
    }
    let window = (2.0 * rate_hz) as usize;
    let swing = units::typical_swing(segments.iter().map(|segment| segment.samples.as_slice()), window);
    let swing = if swing > 0.0 { swing } else { f64::from(high) - f64::from(low) };
    let unit = column.unit.unwrap_or_else(|| units::VoltageUnit::inferred_from(swing));
    let (factor, zero) = match column.scale {
        Some(scale) => (scale.factor as f32, scale.zero as f32),
        None => (unit.to_millivolt() as f32, 0.0),
    };
    if factor != 1.0 || zero != 0.0 {
        for sample in segments.iter_mut().flat_map(|segment| segment.samples.iter_mut()) {
            *sample = (*sample - zero) * factor;
        }
    }
    let file_unit = column.unit.filter(|_| column.scale.is_none());
    let voltages =
        warnings::Voltages { column, unit, swing_mv: swing * f64::from(factor), low, high, missing };
    let strip = Strip {
        sample_rate_hz: rate_hz,
        lead: column.name.clone(),
        segments,
        warnings: voltages.warnings(),
        rows: RowCounts::default(),
    };
    Ok(Lead { strip, file_unit })
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

/// Start of each run in seconds from the start of the strip. The starts never decrease.
fn starts(runs: &[Run], clock: &Clock, rate_hz: f64) -> Vec<f64> {
    let mut starts_s = Vec::with_capacity(runs.len());
    // Offset from file time to strip time; it changes where the clock runs backwards.
    let mut shift = runs.first().map_or(0.0, |run| -run.first * clock.seconds_per_unit);
    let mut end_s = f64::NEG_INFINITY;
    for run in runs {
        let mut start_s = run.first * clock.seconds_per_unit + shift;
        if start_s < end_s {
            shift += end_s + UNKNOWN_GAP_S - start_s;
            start_s = end_s + UNKNOWN_GAP_S;
        }
        end_s = start_s + run.count as f64 / rate_hz;
        starts_s.push(start_s);
    }
    starts_s
}
