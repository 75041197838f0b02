//! The channels of an export on a common grid of samples.
//!
//! All channels of a grid belong to one stream and have the same rate. Position 0 is the first sample in the range. A
//! sample is at the position of its time; positions without samples are missing. Samples are copied, never resampled.
//! If a clock went back, two samples would have the same position: such a range is rejected.

use std::ops::Range;

use http_server::problem::ApiError;
use proto_json::Timestamp;
use proto_json::waveform::{Channel, MISSING_SAMPLE, SampleRate};
use proto_json::waveform_reads::MAX_EXPORT_SAMPLES;
use store::waveforms::Span;

use super::Source;
use crate::state::Ports;

/// A span of samples and its position.
#[derive(Debug, Clone)]
struct Placed {
    position: u64,
    span: Span,
}

impl Placed {
    fn positions(&self) -> Range<u64> {
        self.position..self.position + (self.span.indices.end - self.span.indices.start)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Grid {
    sources: Vec<(Source, Vec<Placed>)>,
    rate: SampleRate,
    /// Server time of position 0, in microseconds.
    start_us: i64,
    length: u64,
}

impl Grid {
    /// Arranges channels. There is at least one, and each has at least one span.
    pub(super) fn new(sources: Vec<(Source, Vec<Span>)>) -> Result<Self, ApiError> {
        let rate = sources.first().map(|(source, _)| source.rate());
        let times = sources.iter().flat_map(|(source, spans)| {
            let rate = source.rate();
            spans.iter().map(move |span| span.times(rate).start)
        });
        let (Some(start_us), Some(rate)) = (times.min(), rate) else {
            return Err(ApiError::not_found("There are no samples in the range."));
        };
        let mut grid = Grid { sources: Vec::new(), rate, start_us, length: 0 };
        for (source, mut spans) in sources {
            spans.sort_by_key(|span| span.times(rate).start);
            let mut placed: Vec<Placed> = Vec::new();
            let mut end = 0;
            for span in spans {
                let start = span.times(rate).start;
                let one = Placed { position: rate.index_at(start - start_us), span };
                if one.position < end {
                    let at = Timestamp::from_millis(start.div_euclid(1_000)).map(|time| time.to_string());
                    return Err(ApiError::invalid(format!(
                        "The clock of the device went back, and times overlap at {}: export the ranges before and \
                         after it.",
                        at.unwrap_or_default()
                    )));
                }
                end = one.positions().end;
                placed.push(one);
            }
            grid.length = grid.length.max(end);
            grid.sources.push((source, placed));
        }
        if grid.length.saturating_mul(grid.sources.len() as u64) > MAX_EXPORT_SAMPLES {
            return Err(ApiError::invalid(format!(
                "The range has more than {MAX_EXPORT_SAMPLES} samples, gaps included; request a shorter one."
            )));
        }
        Ok(grid)
    }

    pub(super) fn rate(&self) -> SampleRate {
        self.rate
    }

    pub(super) fn start_us(&self) -> i64 {
        self.start_us
    }

    /// Number of positions.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn source(&self) -> &Source {
        &self.sources[0].0
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.sources.iter().map(|(source, _)| source.channel())
    }

    /// Whether a channel has samples in a range of positions.
    pub(super) fn has_samples(&self, positions: &Range<u64>) -> bool {
        let overlaps = |placed: &Placed| {
            let own = placed.positions();
            own.start < positions.end && positions.start < own.end
        };
        self.sources.iter().any(|(_, placed)| {
            let next = placed.partition_point(|placed| placed.positions().end <= positions.start);
            placed.get(next).is_some_and(overlaps)
        })
    }

    /// The samples of all channels in a range of positions; [`MISSING_SAMPLE`] where there is none.
    pub(super) async fn samples(
        &self,
        store: &Ports,
        positions: &Range<u64>,
    ) -> Result<Vec<Vec<i16>>, ApiError> {
        let mut all = Vec::with_capacity(self.sources.len());
        for (source, placed) in &self.sources {
            let mut samples = vec![MISSING_SAMPLE; (positions.end - positions.start) as usize];
            let first = placed.partition_point(|placed| placed.positions().end <= positions.start);
            for Placed { position, span } in
                placed[first..].iter().take_while(|one| one.position < positions.end)
            {
                let own = *position..*position + (span.indices.end - span.indices.start);
                let (from, to) = (own.start.max(positions.start), own.end.min(positions.end));
                let indices = span.indices.start + (from - position)..span.indices.start + (to - position);
                let part = Span { indices: indices.clone(), zero_us: span.zero_us };
                for chunk in source.chunks(store, &part.times(self.rate)).await? {
                    let (start, end) = (chunk.first.max(indices.start), chunk.end().min(indices.end));
                    if start < end {
                        let at = (from - positions.start + (start - indices.start)) as usize;
                        let found = chunk.samples(start..end);
                        samples[at..at + found.len()].copy_from_slice(found);
                    }
                }
            }
            all.push(samples);
        }
        Ok(all)
    }
}
