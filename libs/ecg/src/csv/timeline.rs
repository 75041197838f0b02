//! Places samples on an even grid, and detects where the recording does not follow it.
//!
//! Times in files are truncated to milliseconds, jitter, repeat, jump and run backwards. They are not stored:
//! a phase-locked loop predicts the time of the next sample, and a row is classified by its deviation. Memory
//! holds the samples only.

use super::error::ReadError;

/// Inverse gain of the loop once it has settled.
const SETTLED_GAIN_ROWS: u64 = 32;
/// Number of rows after which the step is measured again from the current run.
const REMEASURE_ROWS: u64 = 4096;
/// Number of evenly spaced rows that start a new run after a jump.
const ROWS_TO_TRUST: usize = 3;
/// Number of rows held while it is undecided whether the clock jumped or single times are wrong.
const MAX_PENDING: usize = 16;
/// Longest gap in seconds that is filled by interpolation: shorter than any relevant part of a QRS complex.
pub(super) const MAX_FILL_S: f64 = 0.02;
/// Limit in runs, so that a file full of gaps cannot exhaust memory.
const MAX_RUNS: usize = 10_000;
/// Number of rows that the grid is measured on. The sampling rate is computed from the whole file.
const MEASURED_ROWS: usize = 4000;
/// Number of line numbers kept for warnings.
const KEPT_LINES: usize = 10;

/// The even grid of the times, in the unit of the time column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    /// Distance of two samples.
    pub(super) step: f64,
    /// Largest deviation of a time from its grid point.
    pub(super) tolerance: f64,
    /// Smallest difference that the times can represent.
    pub(super) resolution: f64,
}

/// Position and time of a row. Its voltages are passed next to it, one per lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) line: u64,
    /// Number of rows before it, including skipped ones.
    pub(super) ordinal: u64,
    pub(super) time: f64,
}

/// Samples without a gap.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Samples of each lead, all of the same length. NaN where a row has no voltage for a lead.
    pub(super) leads: Vec<Vec<f32>>,
    /// Number of samples of each lead.
    pub(super) count: usize,
    /// Time of the first sample according to the loop.
    pub(super) first: f64,
    /// Time of the last sample according to the loop.
    pub(super) last: f64,
    /// Line of the first row.
    pub(super) line: u64,
}

impl Run {
    #[inline]
    fn push(&mut self, values: &[f32]) {
        // Most files have one lead.
        if let ([lead], [value]) = (self.leads.as_mut_slice(), values) {
            lead.push(*value);
        } else {
            for (lead, &value) in self.leads.iter_mut().zip(values) {
                lead.push(value);
            }
        }
        self.count += 1;
    }
}

/// Irregularities of the times.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Samples filled by interpolation.
    pub(super) filled: u64,
    /// Rows with the same time as the row before.
    pub(super) repeated: u64,
    pub(super) first_repeated_line: u64,
    /// Backward jumps after which the recording continues.
    pub(super) backward: u64,
    pub(super) first_backward_line: u64,
    /// Rows skipped because their time fits no neighbour.
    pub(super) stray: u64,
    /// Rows with a wrong time that are kept because exactly their sample is missing.
    pub(super) retimed: u64,
    pub(super) first_retimed_line: u64,
    pub(super) lines_left_out: Vec<u64>,
}

/// Places rows on the grid; see the module documentation.
#[derive(Debug)]
pub(super) struct Timeline {
    grid: Grid,
    max_fill: f64,
    finished: Vec<Run>,
    run: Run,
    predicted: f64,
    latest: f64,
    rows_in_run: u64,
    pending: Vec<Row>,
    /// The voltages of the pending rows, row by row.
    pending_values: Vec<f32>,
    pub(super) events: Events,
    /// Deviations of the rows, collected while the grid is measured.
    deviations: Option<Vec<f64>>,
}

impl Timeline {
    /// `seconds_per_unit` may be approximate: it only determines how long a filled gap may be.
    pub(super) fn new(grid: Grid, seconds_per_unit: f64, leads: usize) -> Self {
        let fill = MAX_FILL_S / (grid.step * seconds_per_unit);
        Timeline {
            grid,
            max_fill: fill.floor().max(1.0),
            finished: Vec::new(),
            run: Run { leads: vec![Vec::new(); leads], ..Run::default() },
            predicted: 0.0,
            latest: f64::NAN,
            rows_in_run: 0,
            pending: Vec::with_capacity(MAX_PENDING),
            pending_values: Vec::new(),
            events: Events::default(),
            deviations: None,
        }
    }

    /// Keeps the samples of one lead and drops those of the others. Later rows have one voltage.
    pub(super) fn keep_only(&mut self, lead: usize) {
        let width = self.run.leads.len();
        for run in self.finished.iter_mut().chain([&mut self.run]) {
            run.leads = vec![run.leads.swap_remove(lead)];
        }
        let mut index = 0;
        self.pending_values.retain(|_| {
            index += 1;
            (index - 1) % width == lead
        });
    }

    /// Number of samples of all leads.
    pub(super) fn sample_count(&self) -> usize {
        let finished: usize = self.finished.iter().map(|run| run.count).sum();
        (finished + self.run.count) * self.run.leads.len()
    }

    /// Adds a row with one voltage per lead.
    #[inline]
    pub(super) fn push(&mut self, row: Row, values: &[f32]) -> Result<(), ReadError> {
        let deviation = row.time - self.predicted;
        if deviation.abs() <= self.grid.tolerance
            && self.rows_in_run > SETTLED_GAIN_ROWS
            && self.pending.is_empty()
            && (row.time != self.latest || self.grid.step < self.grid.resolution)
        {
            self.predicted += self.grid.step + deviation * (1.0 / SETTLED_GAIN_ROWS as f64);
            self.latest = row.time;
            self.rows_in_run += 1;
            self.run.push(values);
            if self.rows_in_run.is_multiple_of(REMEASURE_ROWS) {
                self.remeasure();
            }
            return Ok(());
        }
        self.push_irregular(row, values)
    }

    /// Adds a row that is not the next sample of a settled run.
    fn push_irregular(&mut self, row: Row, values: &[f32]) -> Result<(), ReadError> {
        if self.run.count == 0 {
            self.start(row, values);
            return Ok(());
        }
        // Two rows with the same time are one sample, unless the clock cannot distinguish successive samples.
        let before = self.pending.last().map_or(self.latest, |held| held.time);
        if row.time == before && self.grid.step > 1.5 * self.grid.resolution {
            self.events.repeated += 1;
            if self.events.first_repeated_line == 0 {
                self.events.first_repeated_line = row.line;
            }
            self.leave_out(row.line);
            return Ok(());
        }
        let deviation = row.time - self.predicted;
        // The phase of a new run is not known better than the resolution of the clock.
        let settling = self.rows_in_run <= SETTLED_GAIN_ROWS;
        let tolerance = self.grid.tolerance + if settling { self.grid.resolution / 2.0 } else { 0.0 };
        let slots = (deviation / self.grid.step).round();
        let off = deviation - slots * self.grid.step;
        if deviation.abs() <= tolerance {
            self.drop_pending();
            self.accept(row, values, 0);
        } else if slots == self.pending.len() as f64 && off.abs() <= tolerance {
            self.retime_pending();
            self.accept(row, values, 0);
        } else if slots >= 1.0 && slots <= self.max_fill + self.pending.len() as f64 && off.abs() <= tolerance
        {
            self.drop_pending();
            self.accept(row, values, slots as u64);
        } else {
            self.hold(row, values)?;
        }
        Ok(())
    }

    fn start(&mut self, row: Row, values: &[f32]) {
        self.run.first = row.time;
        self.run.last = row.time;
        self.run.line = row.line;
        self.run.push(values);
        self.predicted = row.time + self.grid.step;
        self.latest = row.time;
        self.rows_in_run = 1;
    }

    /// Adds a row that comes `missing` samples late, and fills those by interpolation.
    fn accept(&mut self, row: Row, values: &[f32], missing: u64) {
        if missing > 0 {
            for (lead, &value) in self.run.leads.iter_mut().zip(values) {
                let from = lead.last().copied().unwrap_or(value);
                lead.extend((1..=missing).map(|slot| {
                    let share = slot as f32 / (missing + 1) as f32;
                    from + (value - from) * share
                }));
            }
            self.run.count += missing as usize;
            self.events.filled += missing;
        }
        let due = self.predicted + missing as f64 * self.grid.step;
        let deviation = row.time - due;
        if let Some(deviations) = &mut self.deviations
            && missing == 0
        {
            deviations.push(deviation.abs());
        }
        // The first rows of a run are averaged, so that its phase settles quickly.
        let gain = 1.0 / self.rows_in_run.saturating_add(1).min(SETTLED_GAIN_ROWS) as f64;
        if self.rows_in_run < SETTLED_GAIN_ROWS {
            self.run.first += deviation * gain;
        }
        self.predicted = due + deviation * gain + self.grid.step;
        self.latest = row.time;
        self.rows_in_run += 1;
        self.run.push(values);
    }

    /// Holds a row that does not fit until later rows decide.
    fn hold(&mut self, row: Row, values: &[f32]) -> Result<(), ReadError> {
        self.pending.push(row);
        self.pending_values.extend_from_slice(values);
        let width = values.len();
        let apart = self.grid.tolerance + self.grid.resolution / 2.0;
        let even = |pair: &[Row]| (pair[1].time - pair[0].time - self.grid.step).abs() <= apart;
        let tail = self.pending.len().saturating_sub(ROWS_TO_TRUST);
        let trusted = self.pending.len() >= ROWS_TO_TRUST
            && self.pending.get(tail..).is_some_and(|rows| rows.windows(2).all(even));
        if trusted {
            let rows = self.pending.split_off(tail);
            let held = self.pending_values.split_off(tail * width);
            self.drop_pending();
            self.finish_run();
            if self.finished.len() >= MAX_RUNS {
                return Err(ReadError::TooManyGaps { limit: MAX_RUNS, line: row.line });
            }
            if rows[0].time < self.latest {
                self.events.backward += 1;
                if self.events.first_backward_line == 0 {
                    self.events.first_backward_line = rows[0].line;
                }
            }
            for (index, (row, values)) in rows.into_iter().zip(held.chunks_exact(width)).enumerate() {
                if index == 0 { self.start(row, values) } else { self.accept(row, values, 0) }
            }
        } else if self.pending.len() >= MAX_PENDING {
            let stray = self.pending.remove(0);
            self.pending_values.drain(..width);
            self.events.stray += 1;
            self.leave_out(stray.line);
        }
        Ok(())
    }

    /// The held rows are exactly the missing samples: only their times are wrong.
    fn retime_pending(&mut self) {
        let width = self.run.leads.len().max(1);
        for (held, values) in self.pending.drain(..).zip(self.pending_values.chunks_exact(width)) {
            self.events.retimed += 1;
            if self.events.first_retimed_line == 0 {
                self.events.first_retimed_line = held.line;
            }
            self.run.push(values);
            self.predicted += self.grid.step;
            self.rows_in_run += 1;
        }
        self.pending_values.clear();
    }

    /// The held rows fit neither the rows before nor the rows after them.
    fn drop_pending(&mut self) {
        for index in 0..self.pending.len() {
            self.events.stray += 1;
            self.leave_out(self.pending[index].line);
        }
        self.pending.clear();
        self.pending_values.clear();
    }

    fn leave_out(&mut self, line: u64) {
        if self.events.lines_left_out.len() < KEPT_LINES {
            self.events.lines_left_out.push(line);
        }
    }

    #[cold]
    fn remeasure(&mut self) {
        let slots = self.run.count as f64;
        let measured = (self.predicted - self.run.first) / slots;
        // Large changes are ignored: one glitch must not change the grid.
        if (measured / self.grid.step - 1.0).abs() < 0.01 {
            self.grid.step = measured;
        }
    }

    fn finish_run(&mut self) {
        let empty = Run { leads: vec![Vec::new(); self.run.leads.len()], ..Run::default() };
        let mut run = std::mem::replace(&mut self.run, empty);
        if run.count > 0 {
            run.last = self.predicted - self.grid.step;
            run.leads.iter_mut().for_each(Vec::shrink_to_fit);
            self.finished.push(run);
        }
    }

    /// Ends the recording.
    pub(super) fn finish(mut self) -> (Vec<Run>, Events, Grid) {
        self.drop_pending();
        self.finish_run();
        (self.finished, self.events, self.grid)
    }
}

/// Step over all runs, weighted by their lengths.
pub(super) fn step_of(runs: &[Run]) -> Option<f64> {
    let slots: f64 = runs.iter().map(|run| run.count as f64 - 1.0).sum();
    let span: f64 = runs.iter().map(|run| run.last - run.first).sum();
    (slots >= 1.0 && span > 0.0).then(|| span / slots)
}

/// Measures the grid of the first rows over their whole span. Two rows are not sufficient, since times
/// truncated to milliseconds make 360 Hz look like 333 Hz. `resolution` is the smallest difference that the
/// column can represent.
pub(super) fn measure(rows: &[Row], resolution: f64) -> Result<Grid, ReadError> {
    let rows = rows.get(..MEASURED_ROWS).unwrap_or(rows);
    let uneven = || ReadError::TimeUneven { line: rows.get(1).map_or(0, |row| row.line) };
    let falls = rows.windows(2).find(|pair| pair[1].time <= pair[0].time);
    let line = falls.map_or(0, |pair| pair[1].line);
    let mut steps: Vec<f64> =
        rows.windows(2).map(|pair| pair[1].time - pair[0].time).filter(|&step| step > 0.0).collect();
    let fallen = rows.windows(2).filter(|pair| pair[1].time < pair[0].time).count();
    if steps.is_empty() || steps.len() * 5 < rows.len() || fallen * 5 > rows.len() {
        return Err(ReadError::TimeDoesNotGrow { line });
    }
    let middle = steps.len() / 2;
    let (_, &mut median, _) = steps.select_nth_unstable_by(middle, f64::total_cmp);
    if !median.is_finite() || median <= 0.0 {
        return Err(ReadError::TimeDoesNotGrow { line });
    }
    // If the median step is several times the resolution, an equal time is a repeated row.
    let coarse = median < 2.0 * resolution;
    let jump = 5.0 * median + 2.0 * resolution;
    let (mut span, mut count) = (0.0, 0u64);
    for pair in rows.windows(2) {
        let step = pair[1].time - pair[0].time;
        if step > 0.0 && step < jump || step == 0.0 && coarse {
            span += step;
            count += 1;
        }
    }
    if count == 0 || span <= 0.0 {
        return Err(uneven());
    }
    let mut grid = Grid { step: span / count as f64, tolerance: jump / 2.0, resolution };
    // Iteration: a better step identifies missing samples, which improves the step.
    for _ in 0..3 {
        let mut timeline = Timeline::new(grid, 0.0, 1);
        timeline.max_fill = 20.0;
        timeline.deviations = Some(Vec::new());
        for &row in rows {
            timeline.push_irregular(row, &[0.0])?;
        }
        let mut deviations = timeline.deviations.take().unwrap_or_default();
        let (runs, _, _) = timeline.finish();
        if deviations.is_empty() {
            return Err(uneven());
        }
        // The first deviations are those of the settling phase.
        let skip = if deviations.len() > 200 { 50 } else { 0 };
        let settled = deviations.get_mut(skip..).unwrap_or_default();
        let at = settled.len() * 95 / 100;
        let (_, &mut usual, _) = settled.select_nth_unstable_by(at.min(settled.len() - 1), f64::total_cmp);
        grid.step = step_of(&runs).ok_or_else(uneven)?;
        let half =
            grid.step.max(resolution) / 2.0 + if grid.step < resolution { grid.step / 2.0 } else { 0.0 };
        grid.tolerance = if usual * 1.3 <= half { half } else { usual * 2.5 };
    }
    Ok(grid)
}

impl Grid {
    /// Whether times deviate by more than half a step, so that single missing samples cannot be detected.
    pub(super) fn jitters(&self) -> bool {
        self.tolerance > 0.51 * self.step && self.step > self.resolution
    }
}
