//! Intervals, gaps and overviews from chunks and their heads.

use std::ops::Range;

use proto_json::waveform::SampleRate;

use super::chunk::{Chunk, Extremes, Head, Layout, Span};

/// A range of times with samples, in microseconds.
pub type Interval = Range<i64>;

/// The spans of chunks within a range of times, as ranges of indices with their time lines; ascending by index and
/// disjoint. Layouts may overlap.
pub fn spans_in<'a>(
    layouts: impl IntoIterator<Item = &'a Layout>,
    times: &Range<i64>,
    rate: SampleRate,
) -> Vec<Span> {
    let mut found: Vec<Span> = layouts.into_iter().flat_map(Layout::spans).collect();
    found.sort_by_key(|span| span.indices.start);
    let mut spans: Vec<Span> = Vec::new();
    for span in found {
        let mut indices = span.index_from(times.start, rate)..span.index_from(times.end, rate);
        let end = spans.last().map_or(0, |last| last.indices.end);
        indices.start = indices.start.max(end);
        if indices.is_empty() {
            continue;
        }
        match spans.last_mut() {
            // A time line continues in the next chunk.
            Some(last) if end == indices.start && is_same_line(last.zero_us, span.zero_us) => {
                last.indices.end = indices.end;
            }
            _ => spans.push(Span { indices, zero_us: span.zero_us }),
        }
    }
    spans
}

/// Time lines of neighbouring chunks that differ by less than this continue each other, in microseconds.
const SAME_LINE_US: u64 = 1_000;

fn is_same_line(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= SAME_LINE_US
}

/// The times with samples, ascending and disjoint. Times that are less than two samples apart belong to one interval.
#[must_use]
pub fn intervals_of(spans: &[Span], rate: SampleRate) -> Vec<Interval> {
    let mut times: Vec<Interval> = spans.iter().map(|span| span.times(rate)).collect();
    times.sort_by_key(|time| time.start);
    let tolerance = rate.micros(1) / 2 + 1_000;
    let mut intervals: Vec<Interval> = Vec::new();
    for time in times {
        match intervals.last_mut() {
            Some(last) if time.start <= last.end.saturating_add(tolerance) => {
                last.end = last.end.max(time.end)
            }
            _ => intervals.push(time),
        }
    }
    intervals
}

/// The times between intervals.
#[must_use]
pub fn gaps_between(intervals: &[Interval]) -> Vec<Interval> {
    intervals.windows(2).map(|pair| pair[0].end..pair[1].start).collect()
}

/// A row of columns of equal duration that extremes are collected in.
struct Columns {
    times: Range<i64>,
    columns: Vec<Option<Extremes>>,
}

impl Columns {
    fn new(times: &Range<i64>, points: usize) -> Self {
        Columns { times: times.clone(), columns: vec![None; points] }
    }

    /// The column of a time inside of the range.
    fn at(&self, time: i64) -> usize {
        let (length, points) = (i128::from(self.times.end - self.times.start), self.columns.len() as i128);
        let after = i128::from(time) - i128::from(self.times.start);
        (after * points / length).clamp(0, points - 1) as usize
    }

    /// Start of a column, rounded up.
    fn start(&self, column: usize) -> i64 {
        let (length, points) = (i128::from(self.times.end - self.times.start), self.columns.len() as i128);
        let after = (column as i128 * length + points - 1).div_euclid(points);
        self.times.start.saturating_add(after as i64)
    }

    fn add(&mut self, column: usize, extremes: Option<Extremes>) {
        let Some(extremes) = extremes else { return };
        if let Some(place) = self.columns.get_mut(column) {
            place.get_or_insert(extremes).extend(extremes);
        }
    }
}

/// Extremes of the samples in `points` columns of equal duration, from the seconds in the heads. A second is assigned
/// to the column in which its first sample lies; therefore a column should be several seconds long.
#[must_use]
pub fn envelope_of_heads(
    heads: &[Head],
    times: &Range<i64>,
    points: usize,
    rate: SampleRate,
) -> Vec<Option<Extremes>> {
    let mut columns = Columns::new(times, points);
    if times.is_empty() || points == 0 {
        return columns.columns;
    }
    for head in heads {
        let Layout { indices, anchors, .. } = &head.layout;
        let mut anchors = anchors.iter().peekable();
        let Some(mut anchor) = anchors.next() else { continue };
        let hull = Span { indices: indices.clone(), zero_us: anchor.zero_us }.times(rate);
        if anchors.peek().is_none() && times.start <= hull.start && hull.end <= times.end {
            let (first, last) = (columns.at(hull.start), columns.at(hull.end - 1));
            if first == last {
                columns.add(first, Some(head.whole));
                continue;
            }
        }
        for (number, extremes) in (indices.start / head.column_length..).zip(&head.columns) {
            let first = (number * head.column_length).max(indices.start);
            while let Some(next) = anchors.next_if(|next| next.first <= first) {
                anchor = next;
            }
            let time = anchor.zero_us.saturating_add(rate.micros(first));
            if times.contains(&time) {
                columns.add(columns.at(time), *extremes);
            }
        }
    }
    columns.columns
}

/// Extremes of the samples in `points` columns of equal duration, from the samples.
#[must_use]
pub fn envelope_of_chunks(
    chunks: &[Chunk],
    times: &Range<i64>,
    points: usize,
    rate: SampleRate,
) -> Vec<Option<Extremes>> {
    let mut columns = Columns::new(times, points);
    if times.is_empty() || points == 0 {
        return columns.columns;
    }
    for chunk in chunks {
        for span in chunk.layout().spans() {
            let mut from = span.index_from(times.start, rate);
            let end = span.index_from(times.end, rate);
            while from < end {
                let column = columns.at(span.zero_us.saturating_add(rate.micros(from)));
                let next = span.index_from(columns.start(column + 1), rate).clamp(from + 1, end);
                columns.add(column, Extremes::of(chunk.samples(from..next)));
                from = next;
            }
        }
    }
    columns.columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_json::waveform::MISSING_SAMPLE;

    use super::super::chunk::ChunkBuilder;
    use super::*;

    const START: i64 = 1_800_000_000_000_000;

    fn chunk(first: u64, zero_us: i64, samples: &[i16]) -> Chunk {
        let mut builder = ChunkBuilder::default();
        builder.add(first, zero_us, false, samples);
        builder.finish().unwrap()
    }

    #[test]
    fn intervals_join_over_chunks_and_split_at_gaps_and_jumps() {
        let rate = SampleRate::new(100, 1).unwrap();
        let mut with_gap = vec![1; 300];
        with_gap[100..150].fill(MISSING_SAMPLE);
        let chunks = [
            chunk(0, START, &with_gap),
            chunk(300, START, &[2; 100]),
            chunk(400, START + 60_000_000, &[3; 100]),
        ];
        let layouts: Vec<Layout> = chunks.iter().map(Chunk::layout).collect();
        let spans = spans_in(&layouts, &(START + 500_000..START + 100_000_000), rate);
        let indices: Vec<_> = spans.iter().map(|span| span.indices.clone()).collect();
        assert_eq!(indices, [50..100, 150..400, 400..500]);
        let second = |from: f64, to: f64| START + (from * 1e6) as i64..START + (to * 1e6) as i64;
        let intervals = intervals_of(&spans, rate);
        assert_eq!(intervals, [second(0.5, 1.0), second(1.5, 4.0), second(64.0, 65.0)]);
        assert_eq!(gaps_between(&intervals), [second(1.0, 1.5), second(4.0, 64.0)]);
    }

    #[test]
    fn missing_sample_is_a_gap() {
        let rate = SampleRate::new(100, 1).unwrap();
        let layout = chunk(0, START, &[1, MISSING_SAMPLE, 2]).layout();
        let intervals = intervals_of(&spans_in([&layout], &(0..i64::MAX), rate), rate);
        assert_eq!(intervals, [START..START + 10_000, START + 20_000..START + 30_000]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn envelope_has_the_extremes_of_each_column(
            samples in prop::collection::vec(prop_oneof![4 => any::<i16>(), 1 => Just(MISSING_SAMPLE)], 1..2_000),
            points in 1_usize..50, from in -2_000_000_i64..9_000_000, length in 1_i64..12_000_000,
        ) {
            let rate = SampleRate::new(624_725, 10_000).unwrap();
            let mut builder = ChunkBuilder::default();
            builder.add(700, START, false, &samples);
            let Some(chunk) = builder.finish() else { return Ok(()) };
            let begin = START + rate.micros(700) + from;
            let times = begin..begin + length;
            let mut expected: Vec<Option<Extremes>> = vec![None; points];
            for (index, sample) in (700..).zip(&samples) {
                let time = START + rate.micros(index);
                if times.contains(&time) && *sample != MISSING_SAMPLE {
                    let column = (i128::from(time - begin) * points as i128 / i128::from(length)) as usize;
                    let one = Extremes { min: *sample, max: *sample };
                    expected[column].get_or_insert(one).extend(one);
                }
            }
            prop_assert_eq!(envelope_of_chunks(std::slice::from_ref(&chunk), &times, points, rate), expected.clone());
            // From the seconds: no extreme is lost, and none is invented.
            let all = expected.iter().flatten().copied().reduce(|mut all, next| { all.extend(next); all });
            let hull = begin.min(START)..begin.max(START + 60_000_000);
            let seconds = envelope_of_heads(&[chunk.head(rate).unwrap()], &hull, points, rate);
            let of_seconds = seconds.iter().flatten().copied().reduce(|mut all, next| { all.extend(next); all });
            let whole = chunk.head(rate).unwrap().whole;
            prop_assert_eq!(of_seconds, Some(whole));
            prop_assert!(all.is_none_or(|all| all.min >= whole.min && all.max <= whole.max));
        }
    }
}
