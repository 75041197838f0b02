//! Chunks: the samples of one channel in one window of 60 s, and their encoding.
//!
//! A window is a range of sample indices (see [`window_length`]), so each sample belongs to exactly one chunk, and a
//! sample that arrives twice is stored once. Samples that were never received are gaps. The time of a sample follows
//! from the anchor before it.
//!
//! A chunk is stored in two parts. The **head** has the index range, the anchors, the gaps, and two levels of the
//! min/max pyramid: one column per second, and one for the chunk; the samples are the level below. The **data** are the
//! samples without the gaps, compressed with `pco`. Each part ends with a CRC-32 that covers its place, too. Overviews
//! and lists of intervals read heads alone.
//!
//! `pco` uses differences of the second order, in the mode "classic", at level 8. On both leads of the 22 records of
//! the MIT-BIH Arrhythmia Database that the benchmark `waveforms` names, this takes 4.23 bits per sample in chunks of
//! 10 s and 4.11 in chunks of 60 s, of 11 bits. First differences take 4.35 and 4.22. A convolution over six samples
//! (`Conv1`) takes 4.11 and 3.93, but is read three times as slowly; searching the order for each chunk (`Auto`) gains
//! 0.5 % and halves the speed of writing.
//!
//! Damage is a [`CodecError`]; it never panics and never returns other samples.

use std::ops::Range;

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use proto_json::waveform::{MISSING_SAMPLE, SampleRate, StreamId};

use super::bytes::{Input, Place, put, put_signed};

/// Duration of a window, in seconds.
const WINDOW_S: u64 = 60;

/// Anchors closer than this to the time line before them are not stored, in microseconds. Device and server clocks are
/// not that precise.
const ANCHOR_TOLERANCE_US: i64 = 1_000;

/// Version of both parts.
const VERSION: u8 = 1;

/// Largest number of samples of a chunk: 60 s at 100 kHz.
const MAX_SAMPLES: u64 = 6_000_000;

/// Why stored bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum matches, but the content is not valid: it was written by another version.
    #[error("it has another version or layout")]
    Layout,
}

/// Number of samples in a window of 60 s; at least 1.
#[must_use]
pub fn window_length(rate: SampleRate) -> u64 {
    (u64::from(rate.numerator) * WINDOW_S).div_ceil(u64::from(rate.denominator.max(1))).max(1)
}

/// Number of samples in a column of the pyramid: about 1 s, at least 1.
fn column_length(rate: SampleRate) -> u64 {
    u64::from(rate.numerator).div_ceil(u64::from(rate.denominator.max(1))).max(1)
}

/// Position of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The stream.
    pub stream: StreamId,
    /// Position of the channel in the description of the stream.
    pub channel: u16,
    /// Number of the window: sample index / [`window_length`].
    pub window: u64,
}

impl ChunkKey {
    fn place(self, part: &'static str) -> Place {
        Place { part, stream: self.stream, channel: self.channel, window: self.window }
    }

    fn head(self) -> Place {
        self.place("waveform head")
    }

    fn data(self) -> Place {
        self.place("waveform data")
    }
}

/// The time of samples from an index on: sample `i` is at `zero_us + i / rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The first sample for which it holds, up to the next anchor.
    pub first: u64,
    /// Server time of index 0 on this time line, microseconds since 1970.
    pub zero_us: i64,
}

/// Smallest and largest sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extremes {
    /// Smallest sample.
    pub min: i16,
    /// Largest sample.
    pub max: i16,
}

impl Extremes {
    /// The extremes of samples; `None` if all are missing.
    #[must_use]
    pub fn of(samples: &[i16]) -> Option<Extremes> {
        // Missing samples are the smallest number, so they do not change the maximum.
        let max = samples.iter().copied().max().filter(|max| *max != MISSING_SAMPLE)?;
        let present = |sample: &i16| if *sample == MISSING_SAMPLE { i16::MAX } else { *sample };
        let min = samples.iter().map(present).min()?;
        Some(Extremes { min, max })
    }

    /// Extends these extremes by others.
    pub fn extend(&mut self, other: Extremes) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Contiguous samples on one time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Indices.
    pub indices: Range<u64>,
    /// Server time of index 0 on the time line, microseconds since 1970.
    pub zero_us: i64,
}

impl Span {
    /// Server time of the first sample, and of the end of the last one, in microseconds.
    #[must_use]
    pub fn times(&self, rate: SampleRate) -> Range<i64> {
        let time = |index| self.zero_us.saturating_add(rate.micros(index));
        time(self.indices.start)..time(self.indices.end)
    }

    /// The first index of the span whose time is not before `time_us`; the end of the span if there is none.
    #[must_use]
    pub fn index_from(&self, time_us: i64, rate: SampleRate) -> u64 {
        let Range { start, end } = self.indices;
        let after = time_us.saturating_sub(self.zero_us);
        if after <= 0 {
            return start;
        }
        // One less than the nearest one, because times are rounded.
        let mut index = rate.index_at(after).saturating_sub(1).clamp(start, end);
        while index < end && rate.micros(index) < after {
            index += 1;
        }
        index
    }
}

/// Where the samples of a chunk are in index and time, without their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// From the first to the end of the last sample.
    pub indices: Range<u64>,
    /// Ascending; the first one is at the first sample.
    pub anchors: Vec<Anchor>,
    /// Indices without samples, ascending and disjoint.
    pub gaps: Vec<Range<u64>>,
    /// Indices at which the electrode or sensor was disconnected, ascending and disjoint.
    pub lead_off: Vec<Range<u64>>,
}

impl Layout {
    /// The samples as contiguous spans, each on one time line, ascending by index.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::with_capacity(self.gaps.len() + self.anchors.len());
        let ends = self.anchors.iter().skip(1).map(|anchor| anchor.first).chain([self.indices.end]);
        let mut gaps = self.gaps.iter().peekable();
        for (anchor, end) in self.anchors.iter().zip(ends) {
            let mut at = anchor.first;
            while at < end {
                // Gaps that end before this position are done.
                while gaps.next_if(|gap| gap.end <= at).is_some() {}
                let next = gaps.peek().filter(|gap| gap.start < end);
                let stop = next.map_or(end, |gap| gap.start);
                if stop > at {
                    spans.push(Span { indices: at..stop, zero_us: anchor.zero_us });
                }
                at = next.map_or(end, |gap| gap.end.max(at));
            }
        }
        spans
    }

    /// Smallest and largest time, in microseconds. Equal for a layout without samples.
    #[must_use]
    pub fn times(&self, rate: SampleRate) -> Range<i64> {
        let times: Vec<Range<i64>> = self.spans().iter().map(|span| span.times(rate)).collect();
        let start = times.iter().map(|time| time.start).min().unwrap_or(0);
        start..times.iter().map(|time| time.end).max().unwrap_or(start)
    }
}

/// The head of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Where the samples are.
    pub layout: Layout,
    /// Level of the pyramid: extremes of the chunk.
    pub whole: Extremes,
    /// Samples per column.
    pub column_length: u64,
    /// Level of the pyramid: extremes of each second. Column `n` has the indices from `n * column_length` on, beginning
    /// with the column of the first sample. `None` without samples.
    pub columns: Vec<Option<Extremes>>,
}

/// Samples of one channel in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index of the first value.
    pub first: u64,
    /// Samples; [`MISSING_SAMPLE`] in gaps. The first and the last one are not missing.
    pub values: Vec<i16>,
    /// As in [`Layout`].
    pub anchors: Vec<Anchor>,
    /// As in [`Layout`].
    pub lead_off: Vec<Range<u64>>,
}

/// An encoded chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// Smallest and largest time of its samples, in microseconds.
    pub times: Range<i64>,
    /// The head.
    pub head: Vec<u8>,
    /// The samples.
    pub data: Vec<u8>,
}

fn config() -> ChunkConfig {
    ChunkConfig::default()
        .with_compression_level(8)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::TryConsecutive(2))
}

impl Chunk {
    /// Index after the last value.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.values.len() as u64
    }

    /// Where the samples are.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let mut gaps = Vec::new();
        let mut at = 0;
        while let Some(start) = self.values[at..].iter().position(|value| *value == MISSING_SAMPLE) {
            let start = at + start;
            let length = self.values[start..].iter().take_while(|value| **value == MISSING_SAMPLE).count();
            at = start + length;
            gaps.push(self.first + start as u64..self.first + at as u64);
        }
        Layout {
            indices: self.first..self.end(),
            anchors: self.anchors.clone(),
            gaps,
            lead_off: self.lead_off.clone(),
        }
    }

    /// The samples with these indices; the part of them that is in this chunk.
    #[must_use]
    pub fn samples(&self, indices: Range<u64>) -> &[i16] {
        let at = |index: u64| (index.clamp(self.first, self.end()) - self.first) as usize;
        &self.values[at(indices.start)..at(indices.end).max(at(indices.start))]
    }

    /// The head; `None` without samples.
    #[must_use]
    pub fn head(&self, rate: SampleRate) -> Option<Head> {
        let column_length = column_length(rate);
        let columns: Vec<Option<Extremes>> = (self.first / column_length..self.end().div_ceil(column_length))
            .map(|column| Extremes::of(self.samples(column * column_length..(column + 1) * column_length)))
            .collect();
        let whole = columns.iter().flatten().copied().reduce(|mut all, column| {
            all.extend(column);
            all
        })?;
        Some(Head { layout: self.layout(), whole, column_length, columns })
    }

    /// Encodes the chunk. `None` without samples, or with more than fit into a window.
    #[must_use]
    pub fn encode(&self, key: ChunkKey, rate: SampleRate) -> Option<EncodedChunk> {
        let head = self.head(rate).filter(|_| self.values.len() as u64 <= MAX_SAMPLES)?;
        let compressed = if head.layout.gaps.is_empty() {
            simple_compress(&self.values, &config())
        } else {
            let present = |value: &i16| *value != MISSING_SAMPLE;
            let values: Vec<i16> = self.values.iter().copied().filter(present).collect();
            simple_compress(&values, &config())
        };
        let mut data = vec![VERSION];
        // It fails for invalid settings alone.
        data.extend(compressed.ok()?);
        Some(EncodedChunk {
            times: head.layout.times(rate),
            head: key.head().finish(head.encode()),
            data: key.data().finish(data),
        })
    }

    /// Decodes a chunk.
    ///
    /// # Errors
    /// When one of the parts is damaged.
    pub fn decode(key: ChunkKey, head: &[u8], data: &[u8]) -> Result<Chunk, CodecError> {
        let Layout { indices, anchors, gaps, lead_off } = Head::decode(key, head)?.layout;
        let mut input = key.data().verify(data)?;
        if input.byte()? != VERSION {
            return Err(CodecError::Layout);
        }
        let length = (indices.end - indices.start) as usize;
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        let present = length - missing as usize;
        let mut values = vec![MISSING_SAMPLE; length];
        let progress =
            simple_decompress_into(input.0, &mut values[..present]).map_err(|_| CodecError::Layout)?;
        if progress.n_processed != present || !progress.finished {
            return Err(CodecError::Layout);
        }
        // From the end, so that no value is overwritten before it is moved.
        let (mut from, mut to) = (present, length);
        for gap in gaps.iter().rev() {
            let after = (gap.end - indices.start) as usize;
            let count = to - after;
            values.copy_within(from - count..from, after);
            from -= count;
            to = (gap.start - indices.start) as usize;
            values[to..after].fill(MISSING_SAMPLE);
        }
        Ok(Chunk { first: indices.start, values, anchors, lead_off })
    }
}

fn put_ranges(out: &mut Vec<u8>, mut from: u64, ranges: &[Range<u64>]) {
    put(out, ranges.len() as u64);
    for range in ranges {
        put(out, range.start - from);
        put(out, range.end - range.start);
        from = range.end;
    }
}

/// Ranges that are not empty, ascending, disjoint and inside of `within`.
fn ranges(input: &mut Input<'_>, within: &Range<u64>) -> Result<Vec<Range<u64>>, CodecError> {
    let mut at = within.start;
    (0..input.count()?)
        .map(|_| {
            let start = at.checked_add(input.number()?).ok_or(CodecError::Layout)?;
            let end = start.checked_add(input.number()?).ok_or(CodecError::Layout)?;
            at = end;
            if start < end && end <= within.end { Ok(start..end) } else { Err(CodecError::Layout) }
        })
        .collect()
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let Layout { indices, anchors, gaps, lead_off } = &self.layout;
        let mut out = vec![VERSION];
        put(&mut out, indices.start);
        put(&mut out, indices.end - indices.start);
        put(&mut out, anchors.len() as u64);
        let (mut first, mut zero_us) = (indices.start, 0);
        for anchor in anchors {
            put(&mut out, anchor.first - first);
            put_signed(&mut out, anchor.zero_us.wrapping_sub(zero_us));
            (first, zero_us) = (anchor.first, anchor.zero_us);
        }
        put_ranges(&mut out, indices.start, gaps);
        put_ranges(&mut out, indices.start, lead_off);
        put(&mut out, self.column_length);
        let missing = Extremes { min: MISSING_SAMPLE, max: MISSING_SAMPLE };
        for column in [Some(self.whole)].iter().chain(&self.columns) {
            let Extremes { min, max } = column.unwrap_or(missing);
            out.extend(min.to_le_bytes());
            out.extend(max.to_le_bytes());
        }
        out
    }

    /// Decodes a head.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(key: ChunkKey, bytes: &[u8]) -> Result<Head, CodecError> {
        let mut input = key.head().verify(bytes)?;
        if input.byte()? != VERSION {
            return Err(CodecError::Layout);
        }
        let (start, length) = (input.number()?, input.number()?);
        if length == 0 || length > MAX_SAMPLES {
            return Err(CodecError::Layout);
        }
        let indices = start..start.checked_add(length).ok_or(CodecError::Layout)?;
        let mut anchors: Vec<Anchor> = Vec::new();
        let (mut first, mut zero_us) = (start, 0_i64);
        for _ in 0..input.count()? {
            first = first.checked_add(input.number()?).ok_or(CodecError::Layout)?;
            zero_us = zero_us.wrapping_add(input.signed()?);
            let is_next = anchors.last().map_or(first == start, |last| last.first < first);
            if !is_next || first >= indices.end {
                return Err(CodecError::Layout);
            }
            anchors.push(Anchor { first, zero_us });
        }
        if anchors.is_empty() {
            return Err(CodecError::Layout);
        }
        let gaps = ranges(&mut input, &indices)?;
        let lead_off = ranges(&mut input, &indices)?;
        let column_length = input.number()?.max(1);
        let mut levels = input.0.as_chunks::<4>().0.iter().map(|&[a, b, c, d]| {
            let (min, max) = (i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d]));
            (max != MISSING_SAMPLE).then_some(Extremes { min, max })
        });
        let whole = levels.next().flatten().ok_or(CodecError::Layout)?;
        let columns: Vec<Option<Extremes>> = levels.collect();
        let count = indices.end.div_ceil(column_length) - indices.start / column_length;
        if columns.len() as u64 != count {
            return Err(CodecError::Layout);
        }
        Ok(Head { layout: Layout { indices, anchors, gaps, lead_off }, whole, column_length, columns })
    }
}

/// Collects the samples of a chunk. A sample that is there already is not replaced.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    first: u64,
    values: Vec<i16>,
    /// Indices with samples, each on one time line.
    spans: Vec<Span>,
    lead_off: Vec<Range<u64>>,
}

impl ChunkBuilder {
    /// Starts with the samples of a chunk.
    #[must_use]
    pub fn from_chunk(chunk: Chunk) -> Self {
        let spans = chunk.layout().spans();
        ChunkBuilder { first: chunk.first, values: chunk.values, spans, lead_off: chunk.lead_off }
    }

    /// Adds samples from index `first` on. The caller ensures that all of them belong to the same window.
    pub fn add(&mut self, first: u64, zero_us: i64, lead_off: bool, samples: &[i16]) {
        if samples.is_empty() {
            return;
        }
        let end = first + samples.len() as u64;
        if lead_off {
            self.lead_off.push(first..end);
        }
        if self.values.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let missing = (self.first - first) as usize;
            self.values.splice(..0, std::iter::repeat_n(MISSING_SAMPLE, missing));
            self.first = first;
        }
        let length = ((end - self.first) as usize).max(self.values.len());
        self.values.resize(length, MISSING_SAMPLE);
        let offset = (first - self.first) as usize;
        let places = &mut self.values[offset..offset + samples.len()];
        let mut filled: Option<u64> = None;
        for (index, (place, sample)) in (first..).zip(places.iter_mut().zip(samples)) {
            if *place == MISSING_SAMPLE && *sample != MISSING_SAMPLE {
                *place = *sample;
                filled.get_or_insert(index);
            } else if let Some(start) = filled.take() {
                self.spans.push(Span { indices: start..index, zero_us });
            }
        }
        if let Some(start) = filled {
            self.spans.push(Span { indices: start..end, zero_us });
        }
    }

    /// The chunk; `None` without samples.
    #[must_use]
    pub fn finish(mut self) -> Option<Chunk> {
        let is_present = |value: &i16| *value != MISSING_SAMPLE;
        let start = self.values.iter().position(is_present)?;
        let end = self.values.iter().rposition(is_present)? + 1;
        self.values.truncate(end);
        self.values.drain(..start);
        let first = self.first + start as u64;
        let end = first + self.values.len() as u64;
        self.spans.sort_by_key(|span| span.indices.start);
        let mut anchors: Vec<Anchor> = Vec::new();
        for Span { indices, zero_us } in self.spans {
            let is_same =
                |last: &Anchor| last.zero_us.abs_diff(zero_us) <= ANCHOR_TOLERANCE_US.unsigned_abs();
            if !anchors.last().is_some_and(is_same) {
                anchors.push(Anchor { first: indices.start, zero_us });
            }
        }
        let lead_off = joined(self.lead_off, &(first..end));
        Some(Chunk { first, values: self.values, anchors, lead_off })
    }
}

/// The union of ranges as ascending, disjoint ranges within `within`.
fn joined(mut ranges: Vec<Range<u64>>, within: &Range<u64>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start.max(within.start)..range.end.min(within.end);
        match joined.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn rate(numerator: u32, denominator: u32) -> SampleRate {
        SampleRate::new(numerator, denominator).unwrap()
    }

    fn key() -> ChunkKey {
        ChunkKey { stream: StreamId::generate(), channel: 3, window: 7 }
    }

    /// Runs of samples at any place of a window, with missing samples, in any order and overlapping.
    fn runs() -> impl Strategy<Value = Vec<(u64, i64, bool, Vec<i16>)>> {
        let sample = prop_oneof![3 => any::<i16>(), 1 => Just(MISSING_SAMPLE)];
        let zero = prop_oneof![Just(1_800_000_000_000_000_i64), any::<i32>().prop_map(i64::from)];
        let run = (0_u64..4_000, zero, any::<bool>(), prop::collection::vec(sample, 0..300));
        prop::collection::vec(run, 1..12)
    }

    fn build(first: u64, runs: &[(u64, i64, bool, Vec<i16>)]) -> Option<Chunk> {
        let mut builder = ChunkBuilder::default();
        for (offset, zero_us, lead_off, samples) in runs {
            builder.add(first + offset, *zero_us, *lead_off, samples);
        }
        builder.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn chunk_is_read_as_it_was_written_with_any_gaps(runs in runs(), first in 0_u64..(1 << 53)) {
            let mut expected: BTreeMap<u64, (i16, i64)> = BTreeMap::new();
            let mut off = std::collections::BTreeSet::new();
            for (offset, zero_us, lead_off, samples) in &runs {
                for (index, sample) in (first + offset..).zip(samples) {
                    if *sample != MISSING_SAMPLE {
                        expected.entry(index).or_insert((*sample, *zero_us));
                    }
                    if *lead_off {
                        off.insert(index);
                    }
                }
            }
            let rate = rate(250, 1);
            let Some(chunk) = build(first, &runs) else {
                prop_assert!(expected.is_empty());
                return Ok(());
            };
            let key = key();
            let encoded = chunk.encode(key, rate).unwrap();
            let read = Chunk::decode(key, &encoded.head, &encoded.data).unwrap();
            prop_assert_eq!(&read, &chunk);
            let spans = read.layout().spans();
            let found: Vec<(u64, i16)> = spans.iter()
                .flat_map(|span| span.indices.clone().zip(read.samples(span.indices.clone()).iter().copied()))
                .collect();
            let samples: Vec<(u64, i16)> = expected.iter().map(|(index, (sample, _))| (*index, *sample)).collect();
            prop_assert_eq!(found, samples);
            for span in &spans {
                for index in span.indices.clone() {
                    prop_assert!(expected[&index].1.abs_diff(span.zero_us) <= 1_000);
                }
            }
            let inside = |index: &u64| read.layout().indices.contains(index);
            let off: Vec<u64> = off.into_iter().filter(inside).collect();
            prop_assert_eq!(read.lead_off.iter().cloned().flatten().collect::<Vec<_>>(), off);
            let head = Head::decode(key, &encoded.head).unwrap();
            prop_assert_eq!(head, chunk.head(rate).unwrap());
        }

        #[test]
        fn order_of_arrival_does_not_matter(runs in runs(), first in 0_u64..1_000_000) {
            // The same samples whatever arrives first: the value follows from the index.
            let same: Vec<_> = runs.iter().map(|(offset, _, lead_off, samples)| {
                let values = (first + offset..).zip(samples).map(|(index, sample)| {
                    if *sample == MISSING_SAMPLE { *sample } else { (index % 1_000) as i16 }
                });
                (*offset, 5, *lead_off, values.collect::<Vec<_>>())
            }).collect();
            let backwards: Vec<_> = same.iter().rev().cloned().collect();
            prop_assert_eq!(build(first, &same), build(first, &backwards));
            let twice: Vec<_> = same.iter().chain(&same).cloned().collect();
            prop_assert_eq!(build(first, &same), build(first, &twice));
        }

        #[test]
        fn damage_is_found(runs in runs(), bit in any::<prop::sample::Index>(), in_head in any::<bool>()) {
            let Some(chunk) = build(40, &runs) else { return Ok(()) };
            let key = key();
            let mut encoded = chunk.encode(key, rate(125, 2)).unwrap();
            let part = if in_head { &mut encoded.head } else { &mut encoded.data };
            let bit = bit.index(part.len() * 8);
            part[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Chunk::decode(key, &encoded.head, &encoded.data), Err(CodecError::Checksum));
        }

        #[test]
        fn arbitrary_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = key();
            prop_assert!(Head::decode(key, &bytes).is_err());
            // With a valid checksum, too, nothing panics.
            let _ = Chunk::decode(key, &key.head().finish(bytes.clone()), &key.data().finish(bytes));
        }

        #[test]
        fn index_from_is_the_first_one_that_is_not_earlier(
            numerator in 1_u32..100_000,
            denominator in 1_u32..60,
            start in 0_u64..1_000_000,
            after in 0_i64..50_000_000,
        ) {
            let rate = rate(numerator, denominator);
            let span = Span { indices: start..start + 1_000, zero_us: 1_700_000_000_000_000 };
            let time = span.times(rate).start + after;
            let found = span.index_from(time, rate);
            prop_assert!(found == span.indices.end || span.zero_us + rate.micros(found) >= time);
            prop_assert!(found == start || span.zero_us + rate.micros(found - 1) < time);
        }
    }

    #[test]
    fn chunk_of_another_place_is_damaged() {
        let key = key();
        let encoded = build(0, &[(0, 0, false, vec![1, 2, 3])]).unwrap().encode(key, rate(250, 1)).unwrap();
        let other = ChunkKey { channel: 4, ..key };
        assert_eq!(Chunk::decode(other, &encoded.head, &encoded.data), Err(CodecError::Checksum));
        assert_eq!(Chunk::decode(key, &encoded.data, &encoded.head), Err(CodecError::Checksum));
    }

    #[test]
    fn clock_jump_starts_a_new_time_line() {
        let hour = 3_600_000_000;
        let runs =
            [(0, 0, false, vec![1; 100]), (100, 400, false, vec![2; 100]), (200, hour, false, vec![3; 50])];
        let chunk = build(0, &runs).unwrap();
        assert_eq!(chunk.anchors, [Anchor { first: 0, zero_us: 0 }, Anchor { first: 200, zero_us: hour }]);
        let encoded = chunk.encode(key(), rate(250, 1)).unwrap();
        assert_eq!(encoded.times, 0..hour + 1_000_000);
    }

    #[test]
    fn columns_of_the_pyramid_are_seconds_and_skip_gaps() {
        let mut values = vec![MISSING_SAMPLE; 1_000];
        values[10] = -5;
        values[260] = 7;
        values[999] = i16::MAX;
        let head = build(0, &[(0, 0, false, values)]).unwrap().head(rate(250, 1)).unwrap();
        let one = |value| Some(Extremes { min: value, max: value });
        assert_eq!(head.columns, [one(-5), one(7), None, one(i16::MAX)]);
        assert_eq!(head.whole, Extremes { min: -5, max: i16::MAX });
    }
}
