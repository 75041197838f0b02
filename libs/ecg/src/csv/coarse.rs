//! Times that do not distinguish samples: clocks with whole seconds, and the times at which packets arrived.
//!
//! The samples are counted. The clock only shows where the recording has a gap, to the accuracy of one tick.

use super::timeline::Row;

/// A clock is coarse if fewer than one row in this number has a later time than the row before.
const ROWS_PER_TICK: usize = 5;
/// Number of whole ticks that the rate is counted over.
const MIN_TICKS: usize = 3;
/// Largest relative difference of the rate of one tick from the median.
const TICK_DIFFERENCE: f64 = 0.03;
/// Share of the ticks that must have the median rate.
const EVEN_TICKS: f64 = 0.8;
/// Longest gap in samples.
const MAX_GAP_SAMPLES: f64 = 1e12;
/// Shortest gap, in seconds, that the clock shows.
const MIN_GAP_S: f64 = 1.0;

/// Samples counted between the ticks of a clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ticks {
    /// Median distance of two ticks in units of the clock.
    pub(super) length: f64,
    /// Samples per unit of the clock, if most ticks have the same number.
    pub(super) rate: Option<f64>,
    /// Rows per unit of the clock over the whole span, which may contain gaps.
    pub(super) mean_rate: f64,
}

/// Counts the rows between ticks. `None` if the clock distinguishes samples or does not run forwards.
pub(super) fn ticks(rows: &[Row]) -> Option<Ticks> {
    let steps = || rows.windows(2).map(|pair| pair[1].time - pair[0].time);
    let rising = steps().filter(|step| *step > 0.0).count();
    let falling = steps().filter(|step| *step < 0.0).count();
    if rising == 0 || rising * ROWS_PER_TICK >= rows.len() || falling * 100 > rows.len() {
        return None;
    }
    let starts: Vec<&Row> =
        rows.windows(2).filter(|pair| pair[1].time > pair[0].time).map(|pair| &pair[1]).collect();
    let mut lengths: Vec<f64> = starts.windows(2).map(|pair| pair[1].time - pair[0].time).collect();
    let mut rates: Vec<f64> = starts
        .windows(2)
        .map(|pair| (pair[1].ordinal - pair[0].ordinal) as f64 / (pair[1].time - pair[0].time))
        .collect();
    let length = match lengths.len() {
        0 => steps().find(|step| *step > 0.0)?,
        count => *lengths.select_nth_unstable_by(count / 2, f64::total_cmp).1,
    };
    let rate = (rates.len() >= MIN_TICKS).then(|| {
        let middle = rates.len() / 2;
        let median = *rates.select_nth_unstable_by(middle, f64::total_cmp).1;
        let even = rates.iter().filter(|rate| (**rate / median - 1.0).abs() <= TICK_DIFFERENCE).count();
        (even as f64 >= EVEN_TICKS * rates.len() as f64).then_some(median)
    });
    let (first, last) = (rows.first()?, rows.last()?);
    let mean_rate = (last.ordinal - first.ordinal) as f64 / (last.time - first.time);
    (mean_rate > 0.0).then_some(Ticks { length, rate: rate.flatten(), mean_rate })
}

/// Replaces coarse times by numbers of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SampleCounter {
    rate_hz: f64,
    seconds_per_unit: f64,
    tick_s: f64,
    /// Time of sample 0 by the clock, as far as it is known.
    origin_s: Option<f64>,
    /// Samples in gaps so far. Negative after a clock that was set back.
    gaps: f64,
}

impl SampleCounter {
    pub(super) fn new(rate_hz: f64, seconds_per_unit: f64, tick: f64) -> Self {
        SampleCounter {
            rate_hz,
            seconds_per_unit,
            tick_s: tick * seconds_per_unit,
            origin_s: None,
            gaps: 0.0,
        }
    }

    /// The row with the number of its sample as the time.
    pub(super) fn place(&mut self, row: Row) -> Row {
        let clock_s = row.time * self.seconds_per_unit;
        let sample = row.ordinal as f64 + self.gaps;
        let origin_s = self.origin_s.get_or_insert(clock_s - sample / self.rate_hz);
        // The clock shows the start of its tick, so it is behind by up to one tick.
        let ahead_s = clock_s - (*origin_s + sample / self.rate_hz);
        let gap_s = MIN_GAP_S.max(2.0 * self.tick_s);
        let gap = (ahead_s * self.rate_hz).round();
        // A time beyond any recording is wrong and does not move the samples.
        if gap.is_nan() || gap.abs() >= MAX_GAP_SAMPLES {
            return Row { time: sample, ..row };
        }
        if ahead_s > gap_s || ahead_s < -self.tick_s - gap_s {
            self.gaps += gap;
            return Row { time: sample + gap, ..row };
        }
        // The origin follows the clock: it is known better with each tick, and the rate may be inexact.
        if ahead_s > 0.0 {
            *origin_s += ahead_s;
        } else if ahead_s < -self.tick_s {
            *origin_s += ahead_s + self.tick_s;
        }
        Row { time: sample, ..row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(times: impl Iterator<Item = f64>) -> Vec<Row> {
        times.enumerate().map(|(index, time)| Row { line: 0, ordinal: index as u64, time }).collect()
    }

    #[test]
    fn rate_is_counted_between_whole_ticks() {
        let even = rows((0..2000).map(|index| (f64::from(index) / 250.0 + 0.3).floor()));
        let found = ticks(&even).unwrap();
        assert_eq!((found.length, found.rate), (1.0, Some(250.0)));
        assert!((found.mean_rate / 250.0 - 1.0).abs() < 0.05);
        let fine = rows((0..2000).map(|index| f64::from(index) / 250.0));
        assert_eq!(ticks(&fine), None);
        let uneven = rows((0..2000).map(|index| (f64::from(index * index) / 250_000.0).floor()));
        assert_eq!(ticks(&uneven).unwrap().rate, None);
        assert_eq!(ticks(&rows([1.0; 2000].into_iter())), None);
    }

    #[test]
    fn gap_of_the_clock_is_a_gap_of_the_samples() {
        let mut counter = SampleCounter::new(250.0, 1.0, 1.0);
        let clock = |index: u64| (index as f64 / 250.0 + 0.6).floor() + if index < 1000 { 0.0 } else { 60.0 };
        for index in 0..2000 {
            let row = counter.place(Row { line: 0, ordinal: index, time: clock(index) });
            let off = row.time - index as f64 - if index < 1000 { 0.0 } else { 15_000.0 };
            assert!(off.abs() <= 250.0 && (index >= 1000 || off == 0.0), "{index} {off}");
        }
    }

    #[test]
    fn inexact_rate_makes_no_gaps() {
        let mut counter = SampleCounter::new(250.0, 1.0, 1.0);
        for index in 0..1_000_000 {
            let time = (index as f64 / 249.0).floor();
            assert_eq!(counter.place(Row { line: 0, ordinal: index, time }).time, index as f64);
        }
    }
}
