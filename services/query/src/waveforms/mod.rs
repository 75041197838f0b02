//! Reads of stored waveforms: the list of channels, samples and overviews, and exports.

mod export;
mod grid;
mod params;

use std::ops::Range;

use axum::Json;
use axum::extract::State;
use futures::StreamExt;
use http_server::problem::ApiError;
use proto_json::waveform::{Channel, SampleRate};
use proto_json::waveform_reads::{
    EnvelopeColumns, MAX_INTERVALS, MAX_READ_SAMPLES, SampleSegment, StoredChannel, StoredWaveform,
    StoredWaveforms, TimeRange,
};
use proto_json::{Mrn, Timestamp};
use store::waveforms::{
    Chunk, Extremes, Interval, Layout, Span, StoredStream, envelope_of_chunks, envelope_of_heads,
    gaps_between, intervals_of, spans_in,
};

use crate::errors::store_error;
use crate::params::PathMrn;
use crate::state::Ports;

pub(crate) use export::export;
use params::{ListParams, ReadParams};

/// Columns shorter than this are made from samples, in microseconds; others from the seconds of the pyramid.
const FINE_COLUMN_US: i64 = 2_000_000;
/// Largest number of samples that are read for an overview.
const MAX_OVERVIEW_SAMPLES: f64 = 20e6;
/// Channels that are read at the same time.
const CONCURRENCY: usize = 4;

/// A channel of a stored stream.
#[derive(Debug, Clone)]
struct Source {
    stream: StoredStream,
    number: u16,
}

impl Source {
    fn channel(&self) -> &Channel {
        &self.stream.description.channels[usize::from(self.number)]
    }

    fn rate(&self) -> SampleRate {
        self.channel().rate
    }

    /// The spans with samples in a range of times, ascending by index.
    async fn spans(&self, store: &Ports, times: &Range<i64>) -> Result<Vec<Span>, ApiError> {
        let heads = store.waveforms.waveform_heads(&self.stream, self.number, times.clone()).await;
        let layouts: Vec<Layout> = heads.map_err(store_error)?.into_iter().map(|head| head.layout).collect();
        Ok(spans_in(&layouts, times, self.rate()))
    }

    async fn chunks(&self, store: &Ports, times: &Range<i64>) -> Result<Vec<Chunk>, ApiError> {
        let chunks = store.waveforms.waveform_chunks(&self.stream, self.number, times.clone());
        chunks.await.map_err(store_error)
    }
}

/// The channels of a patient that may have samples in a range of times.
async fn sources(store: &Ports, mrn: Mrn, before: Timestamp) -> Result<Vec<Source>, ApiError> {
    let streams = store.waveforms.waveform_streams(mrn, before).await.map_err(store_error)?;
    let of_stream = |stream: StoredStream| {
        let channels = 0..stream.description.channels.len() as u16;
        channels.map(move |number| Source { stream: stream.clone(), number })
    };
    Ok(streams.into_iter().flat_map(of_stream).collect())
}

fn micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1_000)
}

/// Start rounded up and end rounded down, so that a range never covers times without samples.
fn time_range(times: &Interval) -> Option<TimeRange> {
    let from = Timestamp::from_millis(times.start.div_euclid(1_000)).ok()?;
    let to = Timestamp::from_millis(times.end.div_euclid(1_000)).ok()?;
    Some(TimeRange { from, to })
}

pub(crate) async fn channels(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    ListParams { from, to }: ListParams,
) -> Result<Json<StoredWaveforms>, ApiError> {
    let times = micros(from)..micros(to);
    let sources = sources(&store, mrn, to).await?;
    let (store, times) = (&store, &times);
    let reads = sources.iter().map(|source| async move {
        let rate = source.rate();
        let intervals = intervals_of(&source.spans(store, times).await?, rate);
        if intervals.is_empty() {
            return Ok(None);
        }
        let ranges = |times: &[Interval]| times.iter().filter_map(time_range).collect::<Vec<_>>();
        Ok::<_, ApiError>(Some(StoredChannel {
            stream: source.stream.description.stream,
            device: source.stream.description.device.clone(),
            channel: source.channel().clone(),
            gaps: ranges(&gaps_between(&intervals)),
            intervals: ranges(&intervals),
        }))
    });
    let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY);
    let (mut channels, mut count) = (Vec::new(), 0);
    while let Some(channel) = reads.next().await {
        let Some(channel) = channel? else { continue };
        count += channel.intervals.len();
        if count > MAX_INTERVALS {
            return Err(ApiError::invalid(format!(
                "The range has more than {MAX_INTERVALS} intervals; request a shorter one."
            )));
        }
        channels.push(channel);
    }
    Ok(Json(StoredWaveforms { mrn, from, to, channels }))
}

pub(crate) async fn read(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    ReadParams { channel, from, to, points }: ReadParams,
) -> Result<Json<StoredWaveform>, ApiError> {
    let times = micros(from)..micros(to);
    let mut sources = sources(&store, mrn, to).await?;
    sources.retain(|source| source.channel().label == channel);
    if sources.is_empty() {
        return Err(ApiError::not_found(format!(
            "The patient has no stored channel {channel:?} before the end of the range; \
             /api/v1/patients/{mrn}/waveforms/channels lists the channels."
        )));
    }
    let fastest = sources.iter().map(|source| source.rate().hz()).fold(0.0, f64::max);
    let samples = fastest * (times.end - times.start) as f64 / 1e6;
    let Some(points) = points else {
        if samples > MAX_READ_SAMPLES as f64 {
            let longest = (MAX_READ_SAMPLES as f64 / fastest).floor();
            return Err(ApiError::invalid(format!(
                "The range has more than {MAX_READ_SAMPLES} samples: request at most {longest} s, or an overview \
                 with `points`."
            )));
        }
        let mut segments = Vec::new();
        for source in &sources {
            segments.extend(sample_segments(source, &source.chunks(&store, &times).await?, &times));
        }
        segments.sort_by_key(|segment| segment.time_us);
        return Ok(Json(StoredWaveform::Samples { mrn, channel, from, to, segments }));
    };
    let is_fine = (times.end - times.start) / i64::from(points) < FINE_COLUMN_US;
    if is_fine && samples > MAX_OVERVIEW_SAMPLES {
        return Err(ApiError::invalid(
            "The range has too many samples for columns of less than 2 s: request a shorter range or fewer `points`.",
        ));
    }
    let mut streams = Vec::new();
    for source in &sources {
        let count = points as usize;
        let columns = if is_fine {
            envelope_of_chunks(&source.chunks(&store, &times).await?, &times, count, source.rate())
        } else {
            let heads = store.waveforms.waveform_heads(&source.stream, source.number, times.clone()).await;
            envelope_of_heads(&heads.map_err(store_error)?, &times, count, source.rate())
        };
        streams.extend(envelope_columns(source, &columns));
    }
    Ok(Json(StoredWaveform::Envelope { mrn, channel, from, to, points, streams }))
}

/// The samples of a range as segments without gaps.
fn sample_segments(source: &Source, chunks: &[Chunk], times: &Range<i64>) -> Vec<SampleSegment> {
    let rate = source.rate();
    let layouts: Vec<Layout> = chunks.iter().map(Chunk::layout).collect();
    let segment = |Span { indices, zero_us }: Span| {
        let mut samples = Vec::with_capacity((indices.end - indices.start) as usize);
        chunks.iter().for_each(|chunk| samples.extend_from_slice(chunk.samples(indices.clone())));
        let mut lead_off: Vec<[u32; 2]> = Vec::new();
        for range in layouts.iter().flat_map(|layout| &layout.lead_off) {
            let position = |index: u64| (index.clamp(indices.start, indices.end) - indices.start) as u32;
            let (start, end) = (position(range.start), position(range.end));
            match lead_off.last_mut() {
                _ if start == end => {}
                // It continues in the next chunk.
                Some(last) if last[1] == start => last[1] = end,
                _ => lead_off.push([start, end]),
            }
        }
        SampleSegment {
            stream: source.stream.description.stream,
            channel: source.channel().clone(),
            first: indices.start,
            time_us: zero_us.saturating_add(rate.micros(indices.start)),
            samples,
            lead_off,
        }
    };
    spans_in(&layouts, times, rate).into_iter().map(segment).collect()
}

/// From the first to the last column with samples; `None` without any.
fn envelope_columns(source: &Source, columns: &[Option<Extremes>]) -> Option<EnvelopeColumns> {
    let first = columns.iter().position(Option::is_some)?;
    let last = columns.iter().rposition(Option::is_some)?;
    let pair = |column: &Option<Extremes>| column.map(|Extremes { min, max }| [min, max]);
    Some(EnvelopeColumns {
        stream: source.stream.description.stream,
        channel: source.channel().clone(),
        first_column: first as u32,
        columns: columns[first..=last].iter().map(pair).collect(),
    })
}
