//! Stored waveforms: the port, and what both adapters share.
//!
//! A waveform stream has a description and channels. Ingest appends **pieces** to the open tail of a stream ([`tail`])
//! and seals them into **chunks** ([`chunk`]): 60 s of one channel, compressed, with a pyramid for overviews. Reads
//! combine both.
//!
//! Invariants:
//! - A sample is identified by stream, channel and index. It is stored once and read once, however often it is
//!   appended, and the first value counts.
//! - [`WaveformStore::append_waveforms`] is durable when it returns. A sample that was appended is in a piece or in a
//!   sealed chunk at every moment, also if the process ends at any point.
//! - Nothing grows with the length of a stream: an append writes one piece, a seal one chunk per channel and minute.
//! - Every part has a CRC-32, which is verified when it is read.

mod bytes;
mod chunk;
mod read;
pub(crate) mod tail;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use proto_json::waveform::{Channel, SampleRate, StreamDescription, StreamId};
use proto_json::{Mrn, Timestamp};

use crate::StoreError;

pub use chunk::{
    Anchor, Chunk, ChunkBuilder, ChunkKey, CodecError, EncodedChunk, Extremes, Head, Layout, Span,
    window_length,
};
pub use read::{Interval, envelope_of_chunks, envelope_of_heads, gaps_between, intervals_of, spans_in};
pub use tail::Run;

/// Largest number of streams of a patient that are read at once: the newest ones.
pub const MAX_STREAMS: usize = 1_000;

/// Assumed longest time from the first to the last sample of a chunk, in microseconds. A chunk that is longer, because
/// a clock has jumped, increases [`StoredStream::longest_chunk_us`].
pub(crate) const CHUNK_SPAN_US: i64 = 120_000_000;

/// A stored stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredStream {
    /// Its description.
    pub description: StreamDescription,
    /// Longest time from the first to the last sample of one of its chunks, in microseconds. It bounds the search for
    /// chunks of a range.
    pub longest_chunk_us: i64,
}

impl StoredStream {
    /// The channel at a position.
    #[must_use]
    pub fn channel(&self, channel: u16) -> Option<&Channel> {
        self.description.channels.get(usize::from(channel))
    }

    pub(crate) fn rate(&self, channel: u16) -> Result<SampleRate, StoreError> {
        let known = self.channel(channel).map(|channel| channel.rate);
        known.ok_or_else(|| StoreError::Corrupt(format!("the stream has no channel {channel}")))
    }
}

/// Samples to append to a stream.
#[derive(Debug, Clone)]
pub struct NewPiece {
    /// The stream; see [`WaveformStore::open_waveform`].
    pub stream: std::sync::Arc<StreamDescription>,
    /// The samples, in the order in which they arrived.
    pub runs: Vec<Run>,
}

/// Result of [`WaveformStore::seal_waveforms`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Number of streams that were candidates.
    pub streams: usize,
    /// Number of chunks that were written.
    pub chunks: u64,
    /// Number of pieces that were removed from the tail.
    pub pieces: u64,
    /// Number of pieces that were damaged and removed. Their samples are lost.
    pub damaged: u64,
}

impl SealReport {
    pub(crate) fn add(&mut self, other: SealReport) {
        self.streams += other.streams;
        self.chunks += other.chunks;
        self.pieces += other.pieces;
        self.damaged += other.damaged;
    }
}

/// Reads waveforms. Times are microseconds of server time since 1970.
#[async_trait]
pub trait WaveformReader: Debug + Send + Sync + 'static {
    /// One stream; `None` if it is unknown.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`].
    async fn waveform_stream(&self, stream: StreamId) -> Result<Option<StoredStream>, StoreError>;

    /// The streams of a patient that were opened before `before`, oldest first; at most the newest [`MAX_STREAMS`].
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`].
    async fn waveform_streams(&self, mrn: Mrn, before: Timestamp) -> Result<Vec<StoredStream>, StoreError>;

    /// The heads of the chunks of a channel that overlap the range of times, ascending by index. A window whose chunk
    /// is sealed and which also has a tail yields two heads.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`].
    async fn waveform_heads(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Head>, StoreError>;

    /// The chunks of a channel that overlap the range of times, ascending by index. Chunks that are not sealed are
    /// included.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`].
    async fn waveform_chunks(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Chunk>, StoreError>;
}

/// Writes waveforms. Ingest is the only writer. All writes are idempotent.
#[async_trait]
pub trait WaveformStore: WaveformReader {
    /// Stores the description of a stream. A known stream is left as it is.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn open_waveform(&self, description: &StreamDescription) -> Result<(), StoreError>;

    /// Appends pieces to the tails of their streams, at the time `now`. Durable when it returns. Samples that are
    /// stored already are not stored again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be reached; some of the pieces may be stored then, and
    /// appending them again is harmless.
    async fn append_waveforms(&self, pieces: Vec<NewPiece>, now: Timestamp) -> Result<(), StoreError>;

    /// Seals the settled windows of streams of a partition
    /// ([`partition_of`](proto_json::waveform::partition_of)) that have had a tail for more than a minute at the time
    /// `now`; at most `limit` streams, those with the oldest pieces first. Concurrent calls are harmless.
    ///
    /// # Errors
    /// When the store cannot be reached. What was sealed before stays sealed.
    async fn seal_waveforms(
        &self,
        partition: u16,
        now: Timestamp,
        limit: usize,
    ) -> Result<SealReport, StoreError>;

    /// Removes chunks that end before `before`, at most `limit`, and streams that were opened before `before` and have
    /// nothing left. Returns the number of chunks that were removed; less than `limit` if none are left.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn delete_waveforms(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The error for a part that cannot be read.
pub(crate) fn unreadable(key: ChunkKey, error: CodecError) -> StoreError {
    match error {
        CodecError::Checksum => StoreError::Damaged(proto_json::DamagedRecord {
            kind: proto_json::RecordKind::Waveform,
            key: format!("stream {}, channel {}, window {}", key.stream, key.channel, key.window),
        }),
        CodecError::Layout => StoreError::Corrupt(format!("a stored waveform cannot be read ({error})")),
    }
}

/// Microseconds since 1970.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1_000)
}
