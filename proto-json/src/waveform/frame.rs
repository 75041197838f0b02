//! Frames: samples of all channels of a stream, in binary form.
//!
//! Layout of a frame, little endian:
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u8 | version, 1 |
//! | 1 | u8 | flags, 0 |
//! | 2 | u16 | number of segments |
//! | 4 | u32 | 0 |
//! | 8 | u64 | sequence number |
//! | 16 | i64 | clock of the device at the first sample of the frame, microseconds since 1970 |
//! | 24 | | segments |
//!
//! Layout of a segment:
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u16 | channel, its position in the description, starting at 0 |
//! | 2 | u16 | number of samples, n |
//! | 4 | u16 | state; bit 0: lead off |
//! | 6 | u16 | 0 |
//! | 8 | u64 | index of the first sample |
//! | 16 | n * i16 | samples; -32768: missing |
//! | 16 + 2 n | | zeros up to a multiple of 8 bytes |

use super::stream::Channel;

/// The value of a sample that is missing.
pub const MISSING_SAMPLE: i16 = i16::MIN;
/// Longest frame, in milliseconds.
pub const MAX_FRAME_MS: u32 = 500;
/// Longest frame of any stream, in bytes.
pub const MAX_FRAME_BYTES: usize = 512 * 1024;
/// Indices are below this number, so that every JSON client can represent them.
const INDEX_END: u64 = 1 << 53;

pub(super) const FRAME_VERSION: u8 = 1;
const FRAME_HEADER: usize = 24;
const SEGMENT_HEADER: usize = 16;
pub(super) const LEAD_OFF: u16 = 1;
/// Segments per channel and frame for which [`FrameLimits`] leaves room. A device starts a new segment after lost
/// samples and when the lead-off state changes.
const SEGMENTS_PER_CHANNEL: usize = 8;

/// Samples of 100 to 500 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Sequence number in the stream, shared with numerics.
    pub sequence: u64,
    /// Clock of the device at the first sample of the frame, microseconds since 1970.
    pub device_time_us: i64,
    /// The samples. A channel may have several segments, in the order of their indices.
    pub segments: Vec<Segment>,
}

/// Contiguous samples of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Position of the channel in the description, starting at 0.
    pub channel: u16,
    /// Index of the first sample.
    pub first: u64,
    /// Whether the electrode or sensor is disconnected.
    pub lead_off: bool,
    /// Samples; [`MISSING_SAMPLE`] marks missing ones.
    pub samples: Vec<i16>,
}

impl Segment {
    /// Returns the index after the last sample.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.samples.len() as u64
    }
}

/// What a frame of a stream may contain. Computed once per stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameLimits {
    /// Largest number of samples per frame, of each channel.
    samples: Vec<u16>,
    max_bytes: usize,
}

impl FrameLimits {
    /// Returns the limits of a stream with these channels.
    #[must_use]
    pub fn of(channels: &[Channel]) -> Self {
        let samples: Vec<u16> = channels.iter().map(|channel| channel.rate.samples_per_frame()).collect();
        let bytes = samples.iter().map(|samples| {
            let segments = SEGMENTS_PER_CHANNEL.min(usize::from(*samples));
            usize::from(*samples) * 2 + segments * (SEGMENT_HEADER + 6)
        });
        FrameLimits { max_bytes: (FRAME_HEADER + bytes.sum::<usize>()).min(MAX_FRAME_BYTES), samples }
    }

    /// Longest frame, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// Why bytes are not a frame of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the longest frame of the stream.
    #[error("the frame has {bytes} bytes; at most {limit} are allowed for the channels of this stream")]
    TooLarge {
        /// Length of the frame.
        bytes: usize,
        /// Longest frame.
        limit: usize,
    },
    /// Ends within a header or within the samples that a segment declares.
    #[error("the frame ends at byte {0}, within its header or within declared samples")]
    Truncated(usize),
    /// Another version of the layout.
    #[error("the frame has version {0}; this server reads version {FRAME_VERSION}")]
    Version(u8),
    /// A reserved bit or byte is not 0.
    #[error("the reserved field at byte {0} is not 0")]
    Reserved(usize),
    /// No segments.
    #[error("the frame has no segments")]
    Empty,
    /// A segment without samples.
    #[error("a segment of channel {0} has no samples")]
    NoSamples(u16),
    /// The stream has no such channel.
    #[error("the stream has no channel {0}; a frame of another stream?")]
    Channel(u16),
    /// More samples of a channel than a frame of the longest duration contains.
    #[error(
        "the frame has {samples} samples of channel {channel}; its rate allows {limit} in {MAX_FRAME_MS} ms"
    )]
    TooManySamples {
        /// The channel.
        channel: u16,
        /// Samples in the frame.
        samples: usize,
        /// Largest number of samples.
        limit: u16,
    },
    /// The indices of a channel do not increase within the frame, or exceed 2^53.
    #[error(
        "sample index {index} of channel {channel} does not follow the samples before it, or exceeds 2^53"
    )]
    Index {
        /// The channel.
        channel: u16,
        /// Index of the first sample of the segment.
        index: u64,
    },
    /// Bytes after the last declared segment.
    #[error("{0} bytes follow the last declared segment")]
    Trailing(usize),
}

/// Reads little-endian numbers of a message.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk().ok_or(FrameError::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let slice = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        self.at += length;
        slice.ok_or(FrameError::Truncated(self.bytes.len()))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, FrameError> {
        self.take().map(i64::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn zeros(&mut self, count: usize) -> Result<(), FrameError> {
        let at = self.at;
        let zeros = self.slice(count)?;
        match zeros.iter().position(|byte| *byte != 0) {
            Some(position) => Err(FrameError::Reserved(at + position)),
            None => Ok(()),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Reads the head of a segment or of a block of columns.
    pub(super) fn block_head(&mut self) -> Result<BlockHead, FrameError> {
        let (channel, count) = (self.u16()?, usize::from(self.u16()?));
        let at = self.at;
        let state = self.u16()?;
        if state & !LEAD_OFF != 0 {
            return Err(FrameError::Reserved(at));
        }
        self.zeros(2)?;
        Ok(BlockHead { channel, count, lead_off: state & LEAD_OFF != 0 })
    }
}

/// The head of a segment or of a block of columns.
pub(super) struct BlockHead {
    pub(super) channel: u16,
    pub(super) count: usize,
    pub(super) lead_off: bool,
}

/// Zeros after `samples` samples, up to a multiple of 8 bytes.
pub(super) fn padding(samples: usize) -> usize {
    (samples * 2).next_multiple_of(8) - samples * 2
}

impl Frame {
    /// Returns the bytes of the frame. At most 65535 segments and 65535 samples per segment are encoded; a valid
    /// frame has fewer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let samples: usize = self.segments.iter().map(|segment| segment.samples.len() * 2 + 22).sum();
        let mut bytes = Vec::with_capacity(FRAME_HEADER + samples);
        let segments = &self.segments[..self.segments.len().min(usize::from(u16::MAX))];
        bytes.extend([FRAME_VERSION, 0]);
        bytes.extend((segments.len() as u16).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.device_time_us.to_le_bytes());
        for segment in segments {
            let samples = &segment.samples[..segment.samples.len().min(usize::from(u16::MAX))];
            bytes.extend(segment.channel.to_le_bytes());
            bytes.extend((samples.len() as u16).to_le_bytes());
            bytes.extend(if segment.lead_off { LEAD_OFF } else { 0 }.to_le_bytes());
            bytes.extend([0; 2]);
            bytes.extend(segment.first.to_le_bytes());
            samples.iter().for_each(|sample| bytes.extend(sample.to_le_bytes()));
            bytes.extend(std::iter::repeat_n(0, padding(samples.len())));
        }
        bytes
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`FrameError`] states the first rule that the bytes do not follow.
    pub fn decode(bytes: &[u8], limits: &FrameLimits) -> Result<Frame, FrameError> {
        if bytes.len() > limits.max_bytes {
            return Err(FrameError::TooLarge { bytes: bytes.len(), limit: limits.max_bytes });
        }
        let mut reader = Reader { bytes, at: 0 };
        let [version] = reader.take()?;
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        reader.zeros(1)?;
        let count = reader.u16()?;
        reader.zeros(4)?;
        let (sequence, device_time_us) = (reader.u64()?, reader.i64()?);
        if count == 0 {
            return Err(FrameError::Empty);
        }
        // Of each channel: samples so far, and the index after the last.
        let mut channels = vec![(0_usize, 0_u64); limits.samples.len()];
        let mut segments = Vec::with_capacity(usize::from(count).min(bytes.len() / SEGMENT_HEADER));
        for _ in 0..count {
            let segment = Segment::decode(&mut reader)?;
            let channel = segment.channel;
            let (samples, next) =
                channels.get_mut(usize::from(channel)).ok_or(FrameError::Channel(channel))?;
            let limit = limits.samples[usize::from(channel)];
            *samples += segment.samples.len();
            if *samples > usize::from(limit) {
                return Err(FrameError::TooManySamples { channel, samples: *samples, limit });
            }
            if segment.first < *next || segment.first >= INDEX_END {
                return Err(FrameError::Index { channel, index: segment.first });
            }
            *next = segment.end();
            segments.push(segment);
        }
        match reader.left() {
            0 => Ok(Frame { sequence, device_time_us, segments }),
            left => Err(FrameError::Trailing(left)),
        }
    }

    /// Returns the time from index 0 of the stream to the first sample of the frame, in microseconds: the smallest
    /// `first / rate` of all segments. 0 without segments.
    #[must_use]
    pub fn start_us(&self, channels: &[Channel]) -> i64 {
        self.segments.iter().filter_map(|segment| segment.start_us(channels)).min().unwrap_or(0)
    }

    /// Returns each segment with the server time of its first sample, in microseconds since 1970. `time_us` is the
    /// server time of the first sample of the frame.
    pub fn timed_segments<'a>(
        &'a self,
        time_us: i64,
        channels: &'a [Channel],
    ) -> impl Iterator<Item = (i64, &'a Segment)> {
        let start = self.start_us(channels);
        self.segments.iter().map(move |segment| {
            let from_start = segment.start_us(channels).map_or(0, |at| at - start);
            (time_us.saturating_add(from_start), segment)
        })
    }
}

impl Segment {
    fn decode(reader: &mut Reader<'_>) -> Result<Segment, FrameError> {
        let BlockHead { channel, count, lead_off } = reader.block_head()?;
        let first = reader.u64()?;
        if count == 0 {
            return Err(FrameError::NoSamples(channel));
        }
        let samples = reader.slice(count * 2)?;
        reader.zeros(padding(count))?;
        let samples = samples.as_chunks().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
        Ok(Segment { channel, first, lead_off, samples })
    }

    /// Time from index 0 of the stream to the first sample, in microseconds. `None` if there is no such channel.
    fn start_us(&self, channels: &[Channel]) -> Option<i64> {
        channels.get(usize::from(self.channel)).map(|channel| channel.rate.micros(self.first))
    }
}
