//! The recent samples of one channel of a live waveform, in bounded memory.
//!
//! Time is divided into cells on a fixed grid that starts in 1970: one sample per cell, or the extremes of several samples if the
//! channel has more than [`MAX_CELLS_PER_S`] samples per second, or one column of an overview. A cell is addressed by its number,
//! so that late samples fill in where they belong, and duplicates are stored once.
//!
//! Invariants: the memory is allocated once. A cell without samples is missing, never interpolated. A missing sample does not
//! replace a stored one. Samples that are older than the kept time are ignored.

use proto_json::waveform::OVERVIEW_COLUMNS_PER_SECOND;
use proto_json::{Channel, Column, MISSING_SAMPLE};

/// The maximum number of cells per second. Four times the highest number of pixels per second.
const MAX_CELLS_PER_S: f64 = 1000.0;
/// Samples by which the grid of a stream may drift before its position is computed again: the gateway smooths smaller differences.
const MAX_DRIFT: i64 = 2;

/// The samples of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The lowest sample.
    pub low: i16,
    /// The highest sample.
    pub high: i16,
    /// Whether the electrode or sensor was disconnected.
    pub lead_off: bool,
}

impl Cell {
    /// A cell without samples.
    pub const MISSING: Cell = Cell { low: MISSING_SAMPLE, high: MISSING_SAMPLE, lead_off: false };

    /// Whether the cell has no samples.
    #[must_use]
    pub fn is_missing(self) -> bool {
        self.low == MISSING_SAMPLE
    }
}

/// The recent samples of one channel.
#[derive(Debug, Clone)]
pub struct History {
    /// The cells of the kept time. The cell with number `n` is at `n` modulo the length.
    cells: Vec<Cell>,
    cells_per_s: f64,
    samples_per_s: f64,
    samples_per_cell: i64,
    /// The position in a cell that a drawn point represents, as a share of the cell.
    anchor: f64,
    scale: f64,
    offset: f64,
    /// The number of the newest cell.
    newest: Option<i64>,
    /// The number of the newest cell with samples.
    newest_valid: Option<i64>,
    /// The number of a sample on the grid minus its index in the stream.
    base: Option<i64>,
    /// The first and the last cell that have changed since the last call of [`History::take_changed`].
    changed: Option<(i64, i64)>,
}

impl History {
    /// An empty history of a channel that is received at full rate. Keeps `seconds`.
    #[must_use]
    pub fn of_samples(channel: &Channel, seconds: f64) -> Self {
        let rate = channel.rate.hz();
        let samples_per_cell = (rate / MAX_CELLS_PER_S).ceil().max(1.0);
        let anchor = if samples_per_cell > 1.0 { 0.5 } else { 0.0 };
        History::new(channel, rate, samples_per_cell as i64, anchor, seconds)
    }

    /// An empty history of a channel that is received as an overview. Keeps `seconds`.
    #[must_use]
    pub fn of_columns(channel: &Channel, seconds: f64) -> Self {
        History::new(channel, OVERVIEW_COLUMNS_PER_SECOND as f64, 1, 0.5, seconds)
    }

    fn new(channel: &Channel, rate: f64, samples_per_cell: i64, anchor: f64, seconds: f64) -> Self {
        let cells_per_s = rate / samples_per_cell as f64;
        let count = (cells_per_s * seconds).ceil().max(2.0) as usize;
        History {
            cells: vec![Cell::MISSING; count],
            cells_per_s,
            samples_per_s: rate,
            samples_per_cell,
            anchor,
            scale: channel.scale,
            offset: channel.offset,
            newest: None,
            newest_valid: None,
            base: None,
            changed: None,
        }
    }

    /// Adds samples. `index` is the index of the first sample in the stream, `time_us` its server time in microseconds since 1970.
    pub fn push_samples(&mut self, time_us: i64, index: u64, lead_off: bool, samples: &[i16]) {
        let index = i64::try_from(index).unwrap_or(i64::MAX / 2);
        let measured = (time_us as f64 * 1e-6 * self.samples_per_s).round() as i64 - index;
        let base = match self.base {
            Some(base) if (base - measured).abs() <= MAX_DRIFT => base,
            _ => measured,
        };
        self.base = Some(base);
        for (at, sample) in (index + base..).zip(samples) {
            let cell = at.div_euclid(self.samples_per_cell);
            self.add(cell, Cell { low: *sample, high: *sample, lead_off }, self.samples_per_cell > 1);
        }
    }

    /// Adds columns of an overview. `first` is the number of the first column, in units of 1/60 s since 1970.
    pub fn push_columns(&mut self, first: i64, lead_off: bool, columns: &[Column]) {
        for (number, column) in (first..).zip(columns) {
            // A column is repeated once more of its samples are known.
            self.add(number, Cell { low: column.min, high: column.max, lead_off }, false);
        }
    }

    fn add(&mut self, number: i64, new: Cell, combine: bool) {
        let count = self.cells.len() as i64;
        let newest = self.newest.unwrap_or(number - 1);
        if number <= newest - count {
            return;
        }
        for skipped in (newest + 1).max(number - count + 1)..=number {
            let slot = self.slot(skipped);
            self.cells[slot] = Cell::MISSING;
        }
        self.newest = Some(newest.max(number));
        let slot = self.slot(number);
        let old = self.cells[slot];
        let cell = match (old.is_missing(), new.is_missing()) {
            (_, true) => Cell { lead_off: old.lead_off || new.lead_off, ..old },
            (false, false) if combine => Cell {
                low: old.low.min(new.low),
                high: old.high.max(new.high),
                lead_off: old.lead_off || new.lead_off,
            },
            _ => new,
        };
        if !cell.is_missing() || cell.lead_off {
            self.newest_valid = Some(self.newest_valid.map_or(number, |newest| newest.max(number)));
        }
        if cell != old {
            self.cells[slot] = cell;
            let (first, last) = self.changed.unwrap_or((number, number));
            self.changed = Some((first.min(number), last.max(number)));
        }
    }

    fn slot(&self, number: i64) -> usize {
        number.rem_euclid(self.cells.len() as i64) as usize
    }

    /// The cell with this number. Missing if it is not kept.
    #[must_use]
    pub fn cell(&self, number: i64) -> Cell {
        match self.newest {
            Some(newest) if number <= newest && number > newest - self.cells.len() as i64 => {
                self.cells[self.slot(number)]
            }
            _ => Cell::MISSING,
        }
    }

    /// The numbers of the first and the last cell that have changed since the last call.
    pub fn take_changed(&mut self) -> Option<(i64, i64)> {
        self.changed.take()
    }

    /// The number of the cell that contains a time in seconds since 1970.
    #[must_use]
    pub fn number_at(&self, time_s: f64) -> i64 {
        (time_s * self.cells_per_s).floor() as i64
    }

    /// The time at which a cell is drawn, in seconds since 1970.
    #[must_use]
    pub fn time_s(&self, number: i64) -> f64 {
        (number as f64 + self.anchor) / self.cells_per_s
    }

    /// Cells per second.
    #[must_use]
    pub fn cells_per_s(&self) -> f64 {
        self.cells_per_s
    }

    /// The value of a sample in the unit of the channel.
    #[must_use]
    pub fn value(&self, sample: i16) -> f64 {
        f64::from(sample) * self.scale + self.offset
    }

    /// The end of the newest cell with samples, in microseconds since 1970. `None` without samples.
    #[must_use]
    pub fn end_us(&self) -> Option<i64> {
        self.newest_valid.map(|number| ((number + 1) as f64 / self.cells_per_s * 1e6).round() as i64)
    }

    /// Whether the electrode or sensor was disconnected at a time in seconds since 1970, or at the newest sample before it.
    #[must_use]
    pub fn is_lead_off(&self, time_s: f64) -> bool {
        let number = self.number_at(time_s).min(self.newest.unwrap_or(i64::MAX));
        // The cell at this time may not be received yet.
        (number - (self.cells_per_s / 2.0) as i64..=number)
            .rev()
            .map(|number| self.cell(number))
            .find(|cell| !cell.is_missing() || cell.lead_off)
            .is_some_and(|cell| cell.lead_off)
    }

    /// The lowest and the highest value between two times in seconds since 1970, without the samples of a disconnected sensor.
    #[must_use]
    pub fn range(&self, from_s: f64, to_s: f64) -> Option<(f64, f64)> {
        let first = self.number_at(from_s).max(self.newest? - self.cells.len() as i64 + 1);
        let last = self.number_at(to_s).min(self.newest?);
        let mut range: Option<(i16, i16)> = None;
        for cell in (first..=last).map(|number| self.cell(number)) {
            if !cell.is_missing() && !cell.lead_off {
                let (low, high) = range.unwrap_or((cell.low, cell.high));
                range = Some((low.min(cell.low), high.max(cell.high)));
            }
        }
        let (low, high) = range.map(|(low, high)| (self.value(low), self.value(high)))?;
        // A channel with a negative scale is inverted.
        Some((low.min(high), low.max(high)))
    }

    /// Memory of the cells in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>()
    }
}

#[cfg(test)]
mod tests {
    use proto_json::SampleRate;

    use super::*;

    fn channel(rate: u32) -> Channel {
        Channel {
            label: "II".to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate { numerator: rate, denominator: 1 },
            scale: 0.005,
            offset: 0.0,
        }
    }

    /// A time in microseconds since 1970.
    const START: i64 = 1_790_000_000_000_000;

    fn samples(history: &History, from: i64, count: i64) -> Vec<i16> {
        (from..from + count).map(|number| history.cell(number).low).collect()
    }

    #[test]
    fn late_samples_fill_in_and_duplicates_and_old_samples_change_nothing() {
        let mut history = History::of_samples(&channel(100), 10.0);
        let first = history.number_at(START as f64 * 1e-6);
        history.push_samples(START, 0, false, &[1, 2]);
        history.push_samples(START + 40_000, 4, false, &[5, 6]);
        assert_eq!(samples(&history, first, 7), [1, 2, MISSING_SAMPLE, MISSING_SAMPLE, 5, 6, MISSING_SAMPLE]);
        assert_eq!(history.take_changed(), Some((first, first + 5)));
        history.push_samples(START + 20_000, 2, false, &[3, 4]);
        assert_eq!(samples(&history, first, 6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(history.take_changed(), Some((first + 2, first + 3)), "only the late samples");
        history.push_samples(START, 0, false, &[1, MISSING_SAMPLE]);
        history.push_samples(START - 60_000_000, 9_000, false, &[7; 100]);
        assert_eq!(history.take_changed(), None);
        assert_eq!(samples(&history, first, 6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(history.range(START as f64 * 1e-6, START as f64 * 1e-6 + 1.0), Some((0.005, 0.03)));
    }

    #[test]
    fn memory_stays_the_same_and_a_jump_leaves_no_old_samples() {
        let mut history = History::of_samples(&channel(250), 4.0);
        let bytes = history.bytes();
        for second in 0..100_u64 {
            history.push_samples(START + second as i64 * 1_000_000, second * 250, false, &[9; 250]);
        }
        history.push_samples(START + 3_600_000_000, 25_000, false, &[1]);
        assert_eq!(history.bytes(), bytes);
        let newest = history.number_at(START as f64 * 1e-6 + 3600.0);
        assert_eq!(history.cell(newest).low, 1);
        assert!((newest - 2000..newest).all(|number| history.cell(number).is_missing()));
    }

    #[test]
    fn times_that_are_rounded_leave_no_holes() {
        // 62.4725 Hz with frames of 12 and 13 samples, and times in whole milliseconds.
        let channel = Channel { rate: SampleRate { numerator: 624_725, denominator: 10_000 }, ..channel(1) };
        let mut history = History::of_samples(&channel, 60.0);
        let (mut index, mut frame) = (0_u64, 0);
        while index < 3000 {
            let count = 12 + (frame % 2);
            let time = START + channel.rate.micros(index) / 1000 * 1000;
            history.push_samples(time, index, false, &vec![1; count]);
            index += count as u64;
            frame += 1;
        }
        let end = history.newest.unwrap();
        assert!((end - 2990..end).all(|number| !history.cell(number).is_missing()));
    }

    #[test]
    fn fast_channels_are_stored_as_extremes() {
        let mut history = History::of_samples(&channel(8000), 2.0);
        assert!(history.cells_per_s() <= MAX_CELLS_PER_S);
        let wave: Vec<i16> = (0..800).map(|at| if at == 403 { 900 } else { at % 7 }).collect();
        history.push_samples(START, 0, false, &wave);
        let (low, high) = history.range(START as f64 * 1e-6, START as f64 * 1e-6 + 0.1).unwrap();
        assert!((low - 0.0).abs() < 1e-9 && (high - 4.5).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn a_column_that_is_repeated_is_replaced() {
        let mut history = History::of_columns(&channel(250), 5.0);
        history.push_columns(1000, false, &[Column { min: 1, max: 3 }, Column { min: 2, max: 2 }]);
        history.push_columns(1001, true, &[Column { min: -4, max: 2 }, Column::MISSING]);
        assert_eq!(history.cell(1000), Cell { low: 1, high: 3, lead_off: false });
        assert_eq!(history.cell(1001), Cell { low: -4, high: 2, lead_off: true });
        assert_eq!(history.cell(1002), Cell { lead_off: true, ..Cell::MISSING });
        assert!(history.is_lead_off(1003.5 / 60.0), "the newest sample counts");
        assert!(!history.is_lead_off(1000.5 / 60.0));
    }
}
