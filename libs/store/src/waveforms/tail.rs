//! The open tail of a stream: the pieces that are not sealed yet.
//!
//! Ingest appends a piece every few seconds: the samples of all channels as they arrived, not compressed. A piece has
//! the hash of its content as its id, so a repeated append stores nothing. Pieces may overlap each other and sealed
//! chunks; samples are identified by their index, and the first one that is stored counts.
//!
//! **Sealing** merges the pieces of a window, and the chunk that is already sealed for it, into a new chunk; then it
//! removes the pieces all of whose windows are sealed. A window is settled, and can be sealed, when its channel has
//! samples of a later window, or when nothing has arrived for [`SETTLED_AFTER_US`]. Samples that arrive later become
//! pieces again, and the next seal adds them to the chunk. So late samples are never rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proto_json::BlobHash;
use proto_json::waveform::{Channel, SampleRate, StreamId};

use super::bytes::{Place, put, put_signed};
use super::chunk::{Chunk, ChunkBuilder, ChunkKey, CodecError, Span, window_length};

/// A window is sealed when nothing has arrived for it for this long, in microseconds.
const SETTLED_AFTER_US: i64 = 90_000_000;

/// Age from which on pieces make a stream a candidate for sealing, in microseconds: by then a window has ended.
pub(crate) const SEAL_AFTER_US: i64 = 70_000_000;

const VERSION: u8 = 1;
const LEAD_OFF: u8 = 1;

/// Contiguous samples of a channel, on one time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Position of the channel in the description of the stream.
    pub channel: u16,
    /// Index of the first sample.
    pub first: u64,
    /// Server time of index 0 on the time line of these samples, microseconds since 1970: sample `i` is at
    /// `zero_us + i / rate`.
    pub zero_us: i64,
    /// Whether the electrode or sensor was disconnected.
    pub lead_off: bool,
    /// Samples; [`MISSING_SAMPLE`](proto_json::waveform::MISSING_SAMPLE) where there is none.
    pub samples: Vec<i16>,
}

impl Run {
    fn times(&self, rate: SampleRate) -> Range<i64> {
        Span { indices: self.first..self.first + self.samples.len() as u64, zero_us: self.zero_us }
            .times(rate)
    }
}

/// Smallest and largest time of runs, in microseconds; `None` without samples of these channels.
pub(crate) fn times_of(runs: &[Run], channels: &[Channel]) -> Option<Range<i64>> {
    let times = runs.iter().filter(|run| !run.samples.is_empty());
    let times = times.filter_map(|run| Some(run.times(channels.get(usize::from(run.channel))?.rate)));
    times.reduce(|all, time| all.start.min(time.start)..all.end.max(time.end))
}

fn place(stream: StreamId) -> Place {
    Place { part: "waveform piece", stream, channel: 0, window: 0 }
}

/// Encodes a piece: for each run, its header and its samples as little-endian numbers.
pub(crate) fn encode(stream: StreamId, runs: &[Run]) -> Vec<u8> {
    let samples: usize = runs.iter().map(|run| run.samples.len() * 2 + 24).sum();
    let mut out = Vec::with_capacity(samples + 8);
    out.push(VERSION);
    put(&mut out, runs.len() as u64);
    for run in runs {
        put(&mut out, u64::from(run.channel));
        put(&mut out, run.first);
        put_signed(&mut out, run.zero_us);
        out.push(if run.lead_off { LEAD_OFF } else { 0 });
        put(&mut out, run.samples.len() as u64);
        run.samples.iter().for_each(|sample| out.extend(sample.to_le_bytes()));
    }
    place(stream).finish(out)
}

/// Decodes a piece.
///
/// # Errors
/// When it is damaged.
pub(crate) fn decode(stream: StreamId, bytes: &[u8]) -> Result<Vec<Run>, CodecError> {
    let mut input = place(stream).verify(bytes)?;
    if input.byte()? != VERSION {
        return Err(CodecError::Layout);
    }
    (0..input.count()?)
        .map(|_| {
            let channel = u16::try_from(input.number()?).map_err(|_| CodecError::Layout)?;
            let (first, zero_us, lead_off) =
                (input.number()?, input.signed()?, input.byte()? & LEAD_OFF != 0);
            let bytes = input.count()?.checked_mul(2).ok_or(CodecError::Layout)?;
            let samples = input.take(bytes)?.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes));
            let samples: Vec<i16> = samples.collect();
            first.checked_add(samples.len() as u64).ok_or(CodecError::Layout)?;
            Ok(Run { channel, first, zero_us, lead_off, samples })
        })
        .collect()
}

/// A piece of the tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPiece {
    /// Hash of its content.
    pub(crate) id: BlobHash,
    /// When it was stored, in microseconds.
    pub(crate) stored_us: i64,
    pub(crate) runs: Vec<Run>,
}

/// A channel and the number of a window.
pub(crate) type Window = (u16, u64);

/// A part of a run that belongs to one window.
#[derive(Debug, Clone)]
struct Part {
    piece: usize,
    run: usize,
    samples: Range<usize>,
}

/// The pieces of a stream by window.
#[derive(Debug)]
pub(crate) struct Tail {
    pieces: Vec<StoredPiece>,
    windows: BTreeMap<Window, Vec<Part>>,
}

impl Tail {
    /// Sorts pieces, in the order in which they were stored. Runs of unknown channels are ignored.
    pub(crate) fn new(mut pieces: Vec<StoredPiece>, channels: &[Channel]) -> Self {
        pieces.sort_by_key(|piece| (piece.stored_us, piece.id.as_bytes().to_owned()));
        let mut windows: BTreeMap<Window, Vec<Part>> = BTreeMap::new();
        for (piece, stored) in pieces.iter().enumerate() {
            for (run, Run { channel, first, samples, .. }) in stored.runs.iter().enumerate() {
                let Some(description) = channels.get(usize::from(*channel)) else { continue };
                let length = window_length(description.rate);
                let mut at = 0;
                while at < samples.len() {
                    let index = first + at as u64;
                    let left = usize::try_from(length - index % length).unwrap_or(usize::MAX);
                    let end = at.saturating_add(left).min(samples.len());
                    let part = Part { piece, run, samples: at..end };
                    windows.entry((*channel, index / length)).or_default().push(part);
                    at = end;
                }
            }
        }
        Tail { pieces, windows }
    }

    /// The windows with pieces of a channel, ascending.
    pub(crate) fn windows_of(&self, channel: u16) -> impl Iterator<Item = u64> + '_ {
        self.windows.range((channel, 0)..=(channel, u64::MAX)).map(|((_, window), _)| *window)
    }

    fn last_window(&self, channel: u16) -> Option<u64> {
        self.windows.range((channel, 0)..=(channel, u64::MAX)).next_back().map(|((_, window), _)| *window)
    }

    /// The windows that can be sealed.
    pub(crate) fn settled(&self, now_us: i64) -> Vec<Window> {
        let is_settled = |(window, parts): &(&Window, &Vec<Part>)| {
            let (channel, number) = **window;
            let has_later = self.last_window(channel).is_some_and(|last| last > number);
            let newest = parts.iter().map(|part| self.pieces[part.piece].stored_us).max();
            has_later || newest.is_none_or(|newest| newest < now_us - SETTLED_AFTER_US)
        };
        self.windows.iter().filter(is_settled).map(|(window, _)| *window).collect()
    }

    /// Adds the samples of a window to its sealed chunk.
    pub(crate) fn merge(&self, window: Window, sealed: Option<Chunk>) -> Option<Chunk> {
        let mut builder = sealed.map(ChunkBuilder::from_chunk).unwrap_or_default();
        for Part { piece, run, samples } in self.windows.get(&window).into_iter().flatten() {
            let run = &self.pieces[*piece].runs[*run];
            let first = run.first + samples.start as u64;
            builder.add(first, run.zero_us, run.lead_off, &run.samples[samples.clone()]);
        }
        builder.finish()
    }

    /// The pieces all of whose windows are sealed.
    pub(crate) fn covered_by(&self, sealed: &BTreeSet<Window>) -> Vec<BlobHash> {
        let mut open = BTreeSet::new();
        for (_, parts) in self.windows.iter().filter(|(window, _)| !sealed.contains(window)) {
            open.extend(parts.iter().map(|part| part.piece));
        }
        let is_covered = |(index, piece): (usize, &StoredPiece)| (!open.contains(&index)).then_some(piece.id);
        self.pieces.iter().enumerate().filter_map(is_covered).collect()
    }
}

/// The key of a window of a stream.
pub(crate) fn key(stream: StreamId, (channel, window): Window) -> ChunkKey {
    ChunkKey { stream, channel, window }
}
