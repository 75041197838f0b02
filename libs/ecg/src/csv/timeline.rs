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
const MAX_FILL_S: f64 = 0.02;
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

/// A row with a time and a voltage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) time: f64,
    pub(super) value: f32,
}

/// Samples without a gap.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) samples: Vec<f32>,
    /// Time of the first sample according to the loop.
    pub(super) first: f64,
    /// Time of the last sample according to the loop.
    pub(super) last: f64,
    /// Line of the first row.
    pub(super) line: u64,
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
    pub(super) events: Events,
    /// Deviations of the rows, collected while the grid is measured.
    deviations: Option<Vec<f64>>,
}

impl Timeline {
    /// `seconds_per_unit` may be approximate: it only determines how long a filled gap may be.
    pub(super) fn new(grid: Grid, seconds_per_unit: f64) -> Self {
        let fill = MAX_FILL_S / (grid.step * seconds_per_unit);
        Timeline {
            grid,
            max_fill: fill.floor().max(1.0),
            finished: Vec::new(),
            run: Run::default(),
            predicted: 0.0,
            latest: f64::NAN,
            rows_in_run: 0,
            pending: Vec::with_capacity(MAX_PENDING),
            events: Events::default(),
            deviations: None,
        }
    }

    /// Adds a row.
    #[inline]
    pub(super) fn push(&mut self, row: Row) -> Result<(), ReadError> {
        let deviation = row.time - self.predicted;
        if deviation.abs() <= self.grid.tolerance
            && self.rows_in_run > SETTLED_GAIN_ROWS
            && self.pending.is_empty()
            && (row.time != self.latest || self.grid.step < self.grid.resolution)
        {
            self.predicted += self.grid.step + deviation * (1.0 / SETTLED_GAIN_ROWS as f64);
            self.latest = row.time;
            self.rows_in_run += 1;
            self.run.samples.push(row.value);
            if self.rows_in_run.is_multiple_of(REMEASURE_ROWS) {
                self.remeasure();
            }
            return Ok(());
        }
        self.push_irregular(row)
    }

    /// Adds a row that is not the next sample of a settled run.
    fn push_irregular(&mut self, row: Row) -> Result<(), ReadError> {
        if self.run.samples.is_empty() {
            self.start(row);
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
            self.accept(row, 0);
        } else if slots == self.pending.len() as f64 && off.abs() <= tolerance {
            self.retime_pending();
            self.accept(row, 0);
        } else if slots >= 1.0 && slots <= self.max_fill + self.pending.len() as f64 && off.abs() <= tolerance
        {
            self.drop_pending();
            self.accept(row, slots as u64);
        } else {
            self.hold(row)?;
        }
        Ok(())
    }

    fn start(&mut self, row: Row) {
        self.run = Run {
            samples: std::mem::take(&mut self.run.samples),
            first: row.time,
            last: row.time,
            line: row.line,
        };
        self.run.samples.push(row.value);
        self.predicted = row.time + self.grid.step;
        self.latest = row.time;
        self.rows_in_run = 1;
    }

    /// Adds a row that comes `missing` samples late, and fills those by interpolation.
    fn accept(&mut self, row: Row, missing: u64) {
        if missing > 0 {
            let from = self.run.samples.last().copied().unwrap_or(row.value);
            for slot in 1..=missing {
                let share = slot as f32 / (missing + 1) as f32;
                self.run.samples.push(from + (row.value - from) * share);
            }
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
        self.run.samples.push(row.value);
    }

    /// Holds a row that does not fit until later rows decide.
    fn hold(&mut self, row: Row) -> Result<(), ReadError> {
        self.pending.push(row);
        let apart = self.grid.tolerance + self.grid.resolution / 2.0;
        let even = |pair: &[Row]| (pair[1].time - pair[0].time - self.grid.step).abs() <= apart;
        let tail = self.pending.len().saturating_sub(ROWS_TO_TRUST);
        let trusted = self.pending.len() >= ROWS_TO_TRUST
            && self.pending.get(tail..).is_some_and(|rows| rows.windows(2).all(even));
        if trusted {
            let rows = self.pending.split_off(tail);
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
            for (index, row) in rows.into_iter().enumerate() {
                if index == 0 { self.start(row) } else { self.accept(row, 0) }
            }
        } else if self.pending.len() >= MAX_PENDING {
            let stray = self.pending.remove(0);
            self.events.stray += 1;
            self.leave_out(stray.line);
        }
        Ok(())
    }

    /// The held rows are exactly the missing samples: only their times are wrong.
    fn retime_pending(&mut self) {
        for held in self.pending.drain(..) {
            self.events.retimed += 1;
            if self.events.first_retimed_line == 0 {
                self.events.first_retimed_line = held.line;
            }
            self.run.samples.push(held.value);
            self.predicted += self.grid.step;
            self.rows_in_run += 1;
        }
    }

    /// The held rows fit neither the rows before nor the rows after them.
    fn drop_pending(&mut self) {
        for index in 0..self.pending.len() {
            self.events.stray += 1;
            self.leave_out(self.pending[index].line);
        }
        self.pending.clear();
    }

    fn leave_out(&mut self, line: u64) {
        if self.events.lines_left_out.len() < KEPT_LINES {
            self.events.lines_left_out.push(line);
        }
    }

    #[cold]
    fn remeasure(&mut self) {
        let slots = self.run.samples.len() as f64;
        let measured = (self.predicted - self.run.first) / slots;
        // Large changes are ignored: one glitch must not change the grid.
        if (measured / self.grid.step - 1.0).abs() < 0.01 {
            self.grid.step = measured;
        }
    }

    fn finish_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        if !run.samples.is_empty() {
            run.last = self.predicted - self.grid.step;
            run.samples.shrink_to_fit();
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
    let slots: f64 = runs.iter().map(|run| run.samples.len() as f64 - 1.0).sum();
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
        let mut timeline = Timeline::new(grid, 0.0);
        timeline.max_fill = 20.0;
        timeline.deviations = Some(Vec::new());
        for &row in rows {
            timeline.push_irregular(row)?;
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
