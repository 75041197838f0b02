//! Live waveforms: what devices send, what the broker carries, and what screens receive.
//!
//! A device opens a **waveform stream** with its channels and then sends frames and numerics. Both are numbered by
//! one sequence per stream, which starts at 0 and has no gaps. Samples of a channel are numbered by an index that
//! starts at 0; an index that is skipped is a sample that the device declares lost.
//!
//! Invariants: a [`SampleRate`] read from JSON is in range. [`Frame::decode`] accepts exactly the bytes that
//! [`Frame::encode`] returns, and rejects frames that do not fit the channels of the stream. Nothing here panics
//! on input of a device.
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

use std::collections::BTreeSet;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ecg::EcgQuality;
use crate::ids::{Mrn, StreamId};
use crate::time::Timestamp;

/// Number of partitions of the waveform subjects.
pub const PARTITIONS: u16 = 16;
/// The value of a sample that is missing.
pub const MISSING_SAMPLE: i16 = i16::MIN;
/// Largest number of channels of a stream.
pub const MAX_CHANNELS: usize = 32;
/// Highest sample rate of a channel, in Hz.
pub const MAX_RATE_HZ: u32 = 100_000;
/// Longest period of a channel, in seconds: the reciprocal of the lowest sample rate.
const MAX_PERIOD_S: u32 = 60;
/// Highest sum of the sample rates of a stream, in Hz. A frame of [`MAX_FRAME_MS`] then fits into a message of
/// the broker.
pub const MAX_TOTAL_RATE_HZ: u32 = 400_000;
/// Longest frame, in milliseconds.
pub const MAX_FRAME_MS: u32 = 500;
/// Longest frame of any stream, in bytes.
pub const MAX_FRAME_BYTES: usize = 512 * 1024;
/// Largest number of values in one numerics message.
pub const MAX_NUMERICS: usize = 64;
/// Columns of an overview per second.
pub const OVERVIEW_COLUMNS_PER_SECOND: i64 = 60;
/// Longest label or unit, in characters.
const MAX_TEXT: usize = 32;
/// Longest code, name or serial number, in characters.
const MAX_NAME: usize = 64;
/// Indices are below this number, so that every JSON client can represent them.
const INDEX_END: u64 = 1 << 53;

const FRAME_VERSION: u8 = 1;
const FRAME_HEADER: usize = 24;
const SEGMENT_HEADER: usize = 16;
const LEAD_OFF: u16 = 1;
/// Segments per channel and frame for which [`FrameLimits`] leaves room. A device starts a new segment after lost
/// samples and when the lead-off state changes.
const SEGMENTS_PER_CHANNEL: usize = 8;

/// Returns the partition of a patient, 0 to [`PARTITIONS`] - 1: the 32-bit FNV-1a hash of the decimal text of the
/// record number, modulo the number of partitions.
///
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm".
#[must_use]
pub fn partition_of(mrn: &Mrn) -> u16 {
    let hash = mrn
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash % u32::from(PARTITIONS)) as u16
}

/// Returns the subject of the messages of a stream: `wave.<partition>.<mrn>.<stream>`. Without `stream`, the
/// wildcard subject of all streams of the patient.
#[must_use]
pub fn wave_subject(mrn: Mrn, stream: Option<StreamId>) -> String {
    let partition = partition_of(&mrn);
    stream.map_or_else(
        || format!("wave.{partition}.{mrn}.*"),
        |stream| format!("wave.{partition}.{mrn}.{stream}"),
    )
}

/// Returns the subject of the vitals of a patient; without `mrn`, the wildcard subject of all patients.
#[must_use]
pub fn vitals_subject(mrn: Option<Mrn>) -> String {
    mrn.map_or_else(|| "vitals.*".to_owned(), |mrn| format!("vitals.{mrn}"))
}

/// Sample rate as a fraction: `numerator / denominator` samples per second, from 1/60 to 100000 Hz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RateFields")]
pub struct SampleRate {
    /// Samples in `denominator` seconds, at least 1.
    pub numerator: u32,
    /// Seconds, at least 1.
    pub denominator: u32,
}

/// The fields of a [`SampleRate`] before validation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SampleRate", extend("description" = "Sample rate as a fraction, from 1/60 to 100000 Hz."))]
struct RateFields {
    /// Samples in `denominator` seconds.
    #[schemars(range(min = 1))]
    numerator: u32,
    /// Seconds.
    #[schemars(range(min = 1))]
    denominator: u32,
}

/// The fraction is not a valid sample rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sample rate {0}/{1} Hz is outside of 1/60 to 100000 Hz")]
pub struct RateError(u32, u32);

impl SampleRate {
    /// Creates a sample rate.
    ///
    /// # Errors
    /// [`RateError`] outside of 1/60 to 100000 Hz, and for a denominator of 0.
    pub fn new(numerator: u32, denominator: u32) -> Result<Self, RateError> {
        let rate = SampleRate { numerator, denominator };
        if rate.is_valid() { Ok(rate) } else { Err(RateError(numerator, denominator)) }
    }

    fn is_valid(self) -> bool {
        let (numerator, denominator) = (u64::from(self.numerator), u64::from(self.denominator));
        denominator > 0
            && numerator * u64::from(MAX_PERIOD_S) >= denominator
            && numerator <= u64::from(MAX_RATE_HZ) * denominator
    }

    /// Returns the rate in samples per second.
    #[must_use]
    pub fn hz(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// Returns the time from sample 0 to sample `index`, in microseconds, rounded to the nearest. The result is
    /// exact for every index below 2^53.
    #[must_use]
    pub fn micros(self, index: u64) -> i64 {
        let numerator = u128::from(self.numerator.max(1));
        let micros = u128::from(index) * u128::from(self.denominator) * 1_000_000;
        i64::try_from((micros + numerator / 2) / numerator).unwrap_or(i64::MAX)
    }

    /// Returns the index of the sample that is nearest to `micros` microseconds after sample 0; 0 for times
    /// before it.
    #[must_use]
    pub fn index_at(self, micros: i64) -> u64 {
        let per_sample = u128::from(self.denominator.max(1)) * 1_000_000;
        let micros = u128::from(u64::try_from(micros).unwrap_or(0));
        let index = (micros * u128::from(self.numerator) + per_sample / 2) / per_sample;
        u64::try_from(index).unwrap_or(u64::MAX)
    }

    /// Returns the largest number of samples in a frame.
    fn samples_per_frame(self) -> u16 {
        let samples = (u64::from(self.numerator) * u64::from(MAX_FRAME_MS))
            .div_ceil(u64::from(self.denominator.max(1)) * 1_000);
        // A frame that does not start at a sample may contain one more.
        u16::try_from(samples + 1).unwrap_or(u16::MAX)
    }
}

impl TryFrom<RateFields> for SampleRate {
    type Error = RateError;
    fn try_from(fields: RateFields) -> Result<Self, RateError> {
        SampleRate::new(fields.numerator, fields.denominator)
    }
}

/// A channel of a stream. The value of a sample is `sample * scale + offset`, in `unit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Short name, such as `II`. Unique in the stream.
    pub label: String,
    /// Reference id of ISO/IEEE 11073-10101, such as `MDC_ECG_LEAD_II`.
    pub code: String,
    /// Unit of the values, as UCUM text, such as `mV`.
    pub unit: String,
    /// Samples per second.
    pub rate: SampleRate,
    /// Factor from sample to value; not 0.
    pub scale: f64,
    /// Value of sample 0.
    pub offset: f64,
}

impl Channel {
    /// Returns the value of a sample in the unit of the channel; `None` if the sample is missing.
    #[must_use]
    pub fn value(&self, sample: i16) -> Option<f64> {
        (sample != MISSING_SAMPLE).then(|| f64::from(sample) * self.scale + self.offset)
    }

    /// Returns whether the channel is an ECG lead, by its code.
    #[must_use]
    pub fn is_ecg(&self) -> bool {
        self.code.starts_with("MDC_ECG_")
    }
}

/// A device. Name and serial number together identify it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name of the model.
    pub name: String,
    /// Serial number.
    pub serial: String,
}

/// Why the channels of a stream, its device or its numerics are rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChannelError {
    /// No channels, or too many.
    #[error("a stream has 1 to {MAX_CHANNELS} channels, not {0}")]
    Count(usize),
    /// A text is empty, too long or contains control characters.
    #[error("{0} {1:?} is empty, too long or contains control characters; {2} characters are allowed")]
    Text(&'static str, String, usize),
    /// A code contains other characters than a reference id.
    #[error("the code {0:?} does not consist of 1 to 64 letters A to Z, digits and underscores")]
    Code(String),
    /// Two channels have the same label.
    #[error("two channels have the label {0:?}")]
    Duplicate(String),
    /// Scale or offset is not usable.
    #[error("scale and offset of channel {0:?} must be finite numbers, and the scale must not be 0")]
    Scale(String),
    /// The rate is out of range.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// All channels together have too many samples per second.
    #[error("the channels have {0:.0} samples per second together; at most {MAX_TOTAL_RATE_HZ} are allowed")]
    TotalRate(f64),
    /// A numerics message has no values, or too many.
    #[error("a numerics message has 1 to {MAX_NUMERICS} values, not {0}")]
    Numerics(usize),
    /// A numeric value is not finite.
    #[error("the value of {0} is not a finite number")]
    Value(String),
}

fn check_text(what: &'static str, text: &str, longest: usize) -> Result<(), ChannelError> {
    let valid =
        !text.trim().is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(ChannelError::Text(what, text.chars().take(longest).collect(), longest)) }
}

fn check_code(code: &str) -> Result<(), ChannelError> {
    let valid = (1..=MAX_NAME).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if valid { Ok(()) } else { Err(ChannelError::Code(code.chars().take(MAX_NAME).collect())) }
}

/// Checks the channels of a stream.
///
/// # Errors
/// [`ChannelError`] states the first channel that is invalid, and why.
pub fn check_channels(channels: &[Channel]) -> Result<(), ChannelError> {
    if !(1..=MAX_CHANNELS).contains(&channels.len()) {
        return Err(ChannelError::Count(channels.len()));
    }
    let mut labels = BTreeSet::new();
    for channel in channels {
        check_text("the label", &channel.label, MAX_TEXT)?;
        check_code(&channel.code)?;
        check_text("the unit", &channel.unit, MAX_TEXT)?;
        SampleRate::new(channel.rate.numerator, channel.rate.denominator)?;
        if !(channel.scale.is_finite() && channel.scale != 0.0 && channel.offset.is_finite()) {
            return Err(ChannelError::Scale(channel.label.clone()));
        }
        if !labels.insert(&channel.label) {
            return Err(ChannelError::Duplicate(channel.label.clone()));
        }
    }
    let total: f64 = channels.iter().map(|channel| channel.rate.hz()).sum();
    if total > f64::from(MAX_TOTAL_RATE_HZ) { Err(ChannelError::TotalRate(total)) } else { Ok(()) }
}

impl Device {
    /// Checks name and serial number.
    ///
    /// # Errors
    /// [`ChannelError::Text`] if one of them is empty, too long or contains control characters.
    pub fn check(&self) -> Result<(), ChannelError> {
        check_text("the device name", &self.name, MAX_NAME)?;
        check_text("the serial number", &self.serial, MAX_NAME)
    }
}

/// Everything that is fixed for the life of a stream, and its clock. Repeated every 10 s, so that a subscriber that starts
/// later learns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamDescription {
    /// The stream.
    pub stream: StreamId,
    /// The patient.
    pub mrn: Mrn,
    /// The device.
    pub device: Device,
    /// The channels. A segment names a channel by its position, starting at 0.
    pub channels: Vec<Channel>,
    /// When the stream was opened for the first time, in server time.
    pub opened_at: Timestamp,
    /// How the gateway maps the clock of the device to server time, as of this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<StreamClock>,
}

/// Mapping from the clock of a device to server time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamClock {
    /// Server time minus device time, in microseconds.
    pub offset_us: i64,
    /// Server time of index 0 of all channels, in microseconds since 1970: the time of sample `i` is
    /// `anchor_us + i / rate`. Absent before the first frame. A gap in time changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_us: Option<i64>,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numeric {
    /// Reference id of ISO/IEEE 11073-10101, such as `MDC_ECG_HEART_RATE`.
    pub code: String,
    /// The value.
    pub value: f64,
    /// Its unit, as UCUM text, such as `/min`.
    pub unit: String,
    /// When it was measured, in server time.
    pub time: Timestamp,
}

/// A measured value as a device sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceNumeric {
    /// Reference id of ISO/IEEE 11073-10101, such as `MDC_ECG_HEART_RATE`.
    pub code: String,
    /// The value.
    pub value: f64,
    /// Its unit, as UCUM text, such as `/min`.
    pub unit: String,
    /// When it was measured: clock of the device, microseconds since 1970.
    pub device_time_us: i64,
}

impl DeviceNumeric {
    /// Checks the values of a numerics message.
    ///
    /// # Errors
    /// [`ChannelError`] states the first value that is invalid, and why.
    pub fn check(values: &[DeviceNumeric]) -> Result<(), ChannelError> {
        if !(1..=MAX_NUMERICS).contains(&values.len()) {
            return Err(ChannelError::Numerics(values.len()));
        }
        values.iter().try_for_each(|numeric| {
            check_code(&numeric.code)?;
            check_text("the unit", &numeric.unit, MAX_TEXT)?;
            if numeric.value.is_finite() { Ok(()) } else { Err(ChannelError::Value(numeric.code.clone())) }
        })
    }
}

/// gateway -> broker: numerics of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numerics {
    /// Sequence number in the stream.
    pub sequence: u64,
    /// The values.
    pub values: Vec<Numeric>,
}

/// device -> gateway: text messages of the device protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceMessage {
    /// The first message of a connection.
    Open {
        /// The stream to continue; absent for a new stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<StreamId>,
        /// The device.
        device: Device,
        /// The channels; the same as before if a stream is continued.
        channels: Vec<Channel>,
        /// Clock of the device when it sends this message, microseconds since 1970.
        device_time_us: i64,
    },
    /// Measured values.
    Numerics {
        /// Sequence number in the stream, shared with frames.
        sequence: u64,
        /// The values.
        values: Vec<DeviceNumeric>,
    },
    /// The stream ends; it cannot be resumed. The server acknowledges what is outstanding and closes.
    End {},
}

/// gateway -> device: text messages of the device protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DeviceReply {
    /// The stream is open.
    Opened {
        /// The stream; a device stores it to resume.
        stream: StreamId,
        /// The next sequence number: everything before it is durable.
        next_sequence: u64,
        /// Largest number of frames and numerics that are sent and not yet acknowledged.
        window: u32,
        /// Longest frame, in bytes.
        max_frame_bytes: u32,
        /// Time of the server.
        server_time: Timestamp,
    },
    /// Everything up to and including this sequence number is durable.
    Ack {
        /// The sequence number.
        sequence: u64,
    },
    /// Something that the device or its operator should know. The stream continues.
    Notice {
        /// Stable code for programs, such as `clock_jump`.
        code: String,
        /// Message for people, one sentence.
        message: String,
    },
}

/// A code with which the server closes a WebSocket, with its default reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode {
    /// Code of RFC 6455, section 7.4.
    pub code: u16,
    /// Stable name for programs.
    pub name: &'static str,
    /// What happened, one sentence.
    pub reason: &'static str,
    /// Whether the same device may connect again without a change.
    pub retry: bool,
}

/// Codes with which the server closes a WebSocket.
pub mod close {
    use super::CloseCode;

    const fn code(code: u16, name: &'static str, retry: bool, reason: &'static str) -> CloseCode {
        CloseCode { code, name, reason, retry }
    }

    /// The stream ended as announced, or the client closed.
    pub const NORMAL: CloseCode = code(1000, "normal", false, "the stream has ended");
    /// The server is restarting.
    pub const GOING_AWAY: CloseCode =
        code(1001, "going_away", true, "the server is restarting; connect again");
    /// A message does not follow the protocol.
    pub const MALFORMED: CloseCode =
        code(4400, "malformed", false, "the message does not follow the protocol");
    /// The stream to resume or the patient does not exist.
    pub const UNKNOWN: CloseCode = code(4404, "unknown", false, "the stream does not exist or has ended");
    /// The client sent nothing for too long.
    pub const SILENT: CloseCode = code(4408, "silent", true, "nothing was received for too long");
    /// Another device sends this channel of the patient.
    pub const CONFLICT: CloseCode =
        code(4409, "conflict", true, "another device sends a channel with this label for this patient");
    /// A message is too large.
    pub const TOO_LARGE: CloseCode = code(4413, "too_large", false, "the message is too large");
    /// More is sent than the window allows, or than the server accepts from all devices.
    pub const WINDOW: CloseCode =
        code(4429, "window", true, "more messages are sent and not acknowledged than the window allows");
    /// The broker is unavailable or full, or the server has too many streams.
    pub const UNAVAILABLE: CloseCode =
        code(4503, "unavailable", true, "the server cannot store data now; resume later");

    /// All codes, in ascending order.
    pub const ALL: [CloseCode; 9] =
        [NORMAL, GOING_AWAY, MALFORMED, UNKNOWN, SILENT, CONFLICT, TOO_LARGE, WINDOW, UNAVAILABLE];
}

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
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk().ok_or(FrameError::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(*taken)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let slice = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        self.at += length;
        slice.ok_or(FrameError::Truncated(self.bytes.len()))
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.take().map(u16::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, FrameError> {
        self.take().map(i64::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_le_bytes)
    }

    fn zeros(&mut self, count: usize) -> Result<(), FrameError> {
        let at = self.at;
        let zeros = self.slice(count)?;
        match zeros.iter().position(|byte| *byte != 0) {
            Some(position) => Err(FrameError::Reserved(at + position)),
            None => Ok(()),
        }
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }
}

/// Zeros after `samples` samples, up to a multiple of 8 bytes.
fn padding(samples: usize) -> usize {
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
        let (channel, count) = (reader.u16()?, usize::from(reader.u16()?));
        let at = reader.at;
        let state = reader.u16()?;
        if state & !LEAD_OFF != 0 {
            return Err(FrameError::Reserved(at));
        }
        reader.zeros(2)?;
        let first = reader.u64()?;
        if count == 0 {
            return Err(FrameError::NoSamples(channel));
        }
        let samples = reader.slice(count * 2)?;
        reader.zeros(padding(count))?;
        let samples = samples.as_chunks().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
        Ok(Segment { channel, first, lead_off: state & LEAD_OFF != 0, samples })
    }

    /// Time from index 0 of the stream to the first sample, in microseconds. `None` if there is no such channel.
    fn start_us(&self, channels: &[Channel]) -> Option<i64> {
        channels.get(usize::from(self.channel)).map(|channel| channel.rate.micros(self.first))
    }
}

/// Source of vitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VitalsSource {
    /// Computed from a live ECG.
    Analysis,
    /// Only values that a device measured.
    Device,
}

/// State of a patient, once per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vitals {
    /// The patient.
    pub mrn: Mrn,
    /// The stream that was analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// The second that the values describe, in server time.
    pub time: Timestamp,
    /// Latest value of each code.
    pub values: Vec<Numeric>,
    /// Rhythm, if it can be determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<String>,
    /// Quality of the ECG.
    pub quality: EcgQuality,
    /// Labels of channels whose electrode or sensor is disconnected.
    #[serde(default)]
    pub lead_off: Vec<String>,
    /// Source of the values.
    pub source: VitalsSource,
}

/// How a screen receives the waveforms of a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveMode {
    /// Every frame.
    Full,
    /// Smallest and largest sample of 60 columns per second.
    Overview,
}

/// screen -> gateway: text messages of `/api/v1/live`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LiveRequest {
    /// Starts to send a patient, or changes the mode.
    Subscribe {
        /// The patient.
        mrn: Mrn,
        /// Full rate or overview.
        mode: LiveMode,
    },
    /// Stops to send a patient.
    Unsubscribe {
        /// The patient.
        mrn: Mrn,
    },
}

/// gateway -> screen: text messages of `/api/v1/live`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveMessage {
    /// A stream of a subscribed patient. Sent before its first binary message and whenever the description changes.
    Stream {
        /// Number of the stream in binary messages of this connection.
        number: u16,
        /// The stream.
        description: StreamDescription,
    },
    /// Vitals of a subscribed patient.
    Vitals {
        /// The vitals.
        vitals: Vitals,
    },
    /// The screen was too slow, or the gateway lost its connection to the broker: waveforms of the patient between these
    /// times were not sent.
    Lost {
        /// The patient.
        mrn: Mrn,
        /// Start, in server time.
        from: Timestamp,
        /// End, in server time.
        to: Timestamp,
    },
    /// The subscription of the patient ended, or all its streams did.
    Closed {
        /// The patient.
        mrn: Mrn,
    },
    /// A request was rejected. The connection continues.
    Rejected {
        /// Why, one sentence.
        message: String,
    },
}

/// Smallest and largest sample of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Smallest sample.
    pub min: i16,
    /// Largest sample.
    pub max: i16,
}

impl Column {
    /// A column without samples.
    pub const MISSING: Column = Column { min: MISSING_SAMPLE, max: MISSING_SAMPLE };

    /// Returns the number of the column that contains a server time in microseconds since 1970.
    #[must_use]
    pub fn at(time_us: i64) -> i64 {
        let columns = i128::from(time_us) * i128::from(OVERVIEW_COLUMNS_PER_SECOND);
        i64::try_from(columns.div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }
}

/// Contiguous columns of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnBlock {
    /// Position of the channel in the description, starting at 0.
    pub channel: u16,
    /// Whether the electrode or sensor is disconnected.
    pub lead_off: bool,
    /// Number of the first column: server time in units of 1/60 s since 1970, rounded down.
    pub first: i64,
    /// The columns; [`Column::MISSING`] where there are no samples.
    pub columns: Vec<Column>,
}

/// gateway -> screen: binary messages of `/api/v1/live`.
///
/// Layout, little endian:
///
/// | offset | type | field |
/// |---|---|---|
/// | 0 | u8 | 1: a frame; 2: columns |
/// | 1 | u8 | 0 |
/// | 2 | u16 | number of the stream, as in [`LiveMessage::Stream`] |
/// | 4 | u32 | 0 |
/// | 8 | i64 | server time of the first sample of the frame, microseconds since 1970 |
/// | 16 | | the frame as the device sent it, or blocks of columns |
///
/// Layout of a block of columns:
///
/// | offset | type | field |
/// |---|---|---|
/// | 0 | u16 | channel |
/// | 2 | u16 | number of columns, n |
/// | 4 | u16 | state; bit 0: lead off |
/// | 6 | u16 | 0 |
/// | 8 | i64 | number of the first column: server time in units of 1/60 s since 1970, rounded down |
/// | 16 | n * (i16, i16) | smallest and largest sample; both -32768: no samples |
/// | 16 + 4 n | | zeros up to a multiple of 8 bytes |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveFrame {
    /// A frame as the device sent it.
    Frame {
        /// Number of the stream on this connection.
        number: u16,
        /// Server time of the first sample of the frame, in microseconds since 1970.
        time_us: i64,
        /// For [`Frame::decode`].
        frame: Bytes,
    },
    /// Columns of an overview. A later message may repeat its last column with more samples.
    Columns {
        /// Number of the stream on this connection.
        number: u16,
        /// Server time of the first sample of the newest frame in the columns, in microseconds since 1970.
        time_us: i64,
        /// The columns of each channel.
        blocks: Vec<ColumnBlock>,
    },
}

const LIVE_FRAME: u8 = 1;
const LIVE_COLUMNS: u8 = 2;
const LIVE_HEADER: usize = 16;

impl LiveFrame {
    /// Returns the bytes of the message. At most 65535 columns per block are encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, number, time_us) = match self {
            LiveFrame::Frame { number, time_us, .. } => (LIVE_FRAME, number, time_us),
            LiveFrame::Columns { number, time_us, .. } => (LIVE_COLUMNS, number, time_us),
        };
        let length = match self {
            LiveFrame::Frame { frame, .. } => frame.len(),
            LiveFrame::Columns { blocks, .. } => {
                blocks.iter().map(|block| block.columns.len() * 4 + 20).sum()
            }
        };
        let mut bytes = Vec::with_capacity(LIVE_HEADER + length);
        bytes.extend([kind, 0]);
        bytes.extend(number.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(time_us.to_le_bytes());
        match self {
            LiveFrame::Frame { frame, .. } => bytes.extend_from_slice(frame),
            LiveFrame::Columns { blocks, .. } => blocks.iter().for_each(|block| block.encode(&mut bytes)),
        }
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`FrameError`] states the first rule that the bytes do not follow. The bytes of a frame are not checked.
    pub fn decode(bytes: &Bytes) -> Result<LiveFrame, FrameError> {
        let mut reader = Reader { bytes, at: 0 };
        let [kind] = reader.take()?;
        reader.zeros(1)?;
        let number = reader.u16()?;
        reader.zeros(4)?;
        let time_us = reader.i64()?;
        match kind {
            LIVE_FRAME => Ok(LiveFrame::Frame { number, time_us, frame: bytes.slice(LIVE_HEADER..) }),
            LIVE_COLUMNS => {
                let mut blocks = Vec::new();
                while reader.left() > 0 {
                    blocks.push(ColumnBlock::decode(&mut reader)?);
                }
                Ok(LiveFrame::Columns { number, time_us, blocks })
            }
            other => Err(FrameError::Version(other)),
        }
    }
}

impl ColumnBlock {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let columns = &self.columns[..self.columns.len().min(usize::from(u16::MAX))];
        bytes.extend(self.channel.to_le_bytes());
        bytes.extend((columns.len() as u16).to_le_bytes());
        bytes.extend(if self.lead_off { LEAD_OFF } else { 0 }.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.first.to_le_bytes());
        for column in columns {
            bytes.extend(column.min.to_le_bytes());
            bytes.extend(column.max.to_le_bytes());
        }
        bytes.extend(std::iter::repeat_n(0, padding(columns.len() * 2)));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<ColumnBlock, FrameError> {
        let (channel, count) = (reader.u16()?, usize::from(reader.u16()?));
        let at = reader.at;
        let state = reader.u16()?;
        if state & !LEAD_OFF != 0 {
            return Err(FrameError::Reserved(at));
        }
        reader.zeros(2)?;
        let first = reader.i64()?;
        let columns = reader.slice(count * 4)?;
        reader.zeros(padding(count * 2))?;
        let columns = columns.as_chunks().0.iter().map(|[a, b, c, d]| Column {
            min: i16::from_le_bytes([*a, *b]),
            max: i16::from_le_bytes([*c, *d]),
        });
        Ok(ColumnBlock { channel, lead_off: state & LEAD_OFF != 0, first, columns: columns.collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn channel(label: &str, numerator: u32, denominator: u32) -> Channel {
        Channel {
            label: label.to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate { numerator, denominator },
            scale: 0.005,
            offset: 0.0,
        }
    }

    fn channels() -> Vec<Channel> {
        vec![channel("II", 250, 1), channel("Pleth", 624_725, 10_000), channel("Temp", 1, 60)]
    }

    /// A valid frame of [`channels`]: increasing segments with gaps, at most 126, 33 and 2 samples.
    fn frame() -> impl Strategy<Value = Frame> {
        let segments = |channel: u16, most: usize| {
            vec((0..50_u64, any::<bool>(), vec(any::<i16>(), 1..=most)), 0..=2).prop_flat_map(move |parts| {
                (0..1_u64 << 50).prop_map(move |first| {
                    let mut next = first;
                    let of_part = |(gap, lead_off, samples): &(u64, bool, Vec<i16>)| {
                        let first = next + gap;
                        next = first + samples.len() as u64;
                        Segment { channel, first, lead_off: *lead_off, samples: samples.clone() }
                    };
                    parts.iter().map(of_part).collect::<Vec<_>>()
                })
            })
        };
        (any::<u64>(), any::<i64>(), segments(0, 63), segments(1, 16), segments(2, 1))
            .prop_map(|(sequence, device_time_us, ecg, pleth, temperature)| Frame {
                sequence,
                device_time_us,
                segments: [ecg, pleth, temperature].concat(),
            })
            .prop_filter("has segments", |frame| !frame.segments.is_empty())
    }

    fn limits() -> FrameLimits {
        FrameLimits::of(&channels())
    }

    proptest! {
        #[test]
        fn frames_round_trip(frame in frame()) {
            let bytes = frame.encode();
            prop_assert_eq!(bytes.len() % 8, 0);
            prop_assert_eq!(Frame::decode(&bytes, &limits()), Ok(frame));
        }

        #[test]
        fn truncated_and_extended_frames_are_rejected(frame in frame(), cut in any::<prop::sample::Index>()) {
            let mut bytes = frame.encode();
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(Frame::decode(short, &limits()), Err(FrameError::Truncated(short.len())));
            bytes.push(0);
            let extended = Frame::decode(&bytes, &limits());
            let too_large = matches!(extended, Err(FrameError::TooLarge { .. }));
            prop_assert!(too_large || extended == Err(FrameError::Trailing(1)));
        }

        #[test]
        fn every_accepted_message_has_exactly_one_encoding(
            frame in frame(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let mut bytes = frame.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(decoded) = Frame::decode(&bytes, &limits()) {
                prop_assert_ne!(&decoded, &frame);
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300), version in any::<bool>()) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (version, bytes.first_mut()) {
                *first = FRAME_VERSION;
            }
            if let Ok(frame) = Frame::decode(&bytes, &limits()) {
                prop_assert_eq!(frame.encode(), &bytes[..]);
            }
            let bytes = Bytes::from(bytes);
            if let Ok(live) = LiveFrame::decode(&bytes) {
                prop_assert_eq!(live.encode(), bytes);
            }
        }

        #[test]
        fn overview_columns_round_trip(
            number in any::<u16>(), time_us in any::<i64>(), first in any::<i64>(), lead_off in any::<bool>(),
            columns in vec((any::<i16>(), any::<i16>()), 0..100),
        ) {
            let columns = columns.into_iter().map(|(min, max)| Column { min, max }).collect();
            let block = ColumnBlock { channel: 3, lead_off, first, columns };
            let live = LiveFrame::Columns { number, time_us, blocks: vec![block.clone(), block] };
            prop_assert_eq!(LiveFrame::decode(&live.encode().into()), Ok(live));
        }

        #[test]
        fn index_and_time_of_a_sample_agree(index in 0..1_u64 << 40, numerator in 1..100_000_u32, denominator in 1..100_u32) {
            if let Ok(rate) = SampleRate::new(numerator, denominator) {
                prop_assert_eq!(rate.index_at(rate.micros(index)), index);
            }
        }
    }

    fn one(channel: u16, first: u64, samples: usize) -> Frame {
        let segment = Segment { channel, first, lead_off: false, samples: vec![7; samples] };
        Frame { sequence: 0, device_time_us: 0, segments: vec![segment] }
    }

    #[test]
    fn frames_that_do_not_fit_the_stream_are_rejected() {
        let reject = |frame: &Frame| Frame::decode(&frame.encode(), &limits()).unwrap_err();
        assert_eq!(reject(&one(3, 0, 1)), FrameError::Channel(3));
        assert_eq!(reject(&one(0, 0, 0)), FrameError::NoSamples(0));
        assert_eq!(
            reject(&one(0, 0, 127)),
            FrameError::TooManySamples { channel: 0, samples: 127, limit: 126 }
        );
        assert_eq!(reject(&one(0, 1 << 53, 1)), FrameError::Index { channel: 0, index: 1 << 53 });
        let mut overlapping = one(0, 10, 5);
        overlapping.segments.extend(one(0, 14, 5).segments);
        assert_eq!(reject(&overlapping), FrameError::Index { channel: 0, index: 14 });
        let none = Frame { segments: Vec::new(), ..one(0, 0, 1) };
        assert_eq!(reject(&none), FrameError::Empty);
        let large = vec![1; limits().max_bytes() + 1];
        assert!(matches!(Frame::decode(&large, &limits()), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn reserved_fields_and_versions_are_rejected() {
        let bytes = one(0, 0, 1).encode();
        for (at, error) in [
            (0, FrameError::Version(3)),
            (1, FrameError::Reserved(1)),
            (4, FrameError::Reserved(4)),
            (28, FrameError::Reserved(28)),
            (31, FrameError::Reserved(31)),
            (42, FrameError::Reserved(42)),
            (47, FrameError::Reserved(47)),
        ] {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            assert_eq!(Frame::decode(&changed, &limits()), Err(error), "{at}");
        }
    }

    #[test]
    fn layout_of_a_frame_is_the_documented_one() {
        let frame = Frame {
            sequence: 5,
            device_time_us: 1_700_000_000_000_000,
            segments: vec![Segment {
                channel: 1,
                first: 500,
                lead_off: true,
                samples: vec![1, -2, i16::MIN],
            }],
        };
        let hex: String = frame.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0100010000000000\
             0500000000000000\
             00401e18240a0600\
             0100030001000000\
             f401000000000000\
             0100feff00800000"
        );
    }

    #[test]
    fn largest_frame_of_the_fastest_stream_is_allowed() {
        let channels: Vec<Channel> = (0..4).map(|n| channel(&n.to_string(), 100_000, 1)).collect();
        assert_eq!(check_channels(&channels), Ok(()));
        let mut frame = one(0, 0, 50_000);
        (1..4).for_each(|channel| frame.segments.extend(one(channel, 0, 50_000).segments));
        assert_eq!(Frame::decode(&frame.encode(), &FrameLimits::of(&channels)), Ok(frame));
    }

    #[test]
    fn channels_are_checked() {
        let changed = |change: fn(&mut Channel)| {
            let mut channel = channel("II", 250, 1);
            change(&mut channel);
            check_channels(&[channel]).unwrap_err().to_string()
        };
        assert_eq!(check_channels(&channels()), Ok(()));
        assert_eq!(check_channels(&[]), Err(ChannelError::Count(0)));
        assert_eq!(
            changed(|c| c.rate.numerator = 0),
            "the sample rate 0/1 Hz is outside of 1/60 to 100000 Hz"
        );
        assert!(changed(|c| c.label = " ".to_owned()).starts_with("the label"));
        assert!(changed(|c| c.label = "a\u{0}".to_owned()).starts_with("the label"));
        assert!(changed(|c| c.unit = "m".repeat(33)).starts_with("the unit"));
        assert!(changed(|c| c.code = "mdc".to_owned()).starts_with("the code"));
        assert!(changed(|c| c.scale = 0.0).starts_with("scale and offset"));
        assert!(changed(|c| c.offset = f64::NAN).starts_with("scale and offset"));
        let twice = [channel("II", 250, 1), channel("II", 250, 1)];
        assert_eq!(check_channels(&twice), Err(ChannelError::Duplicate("II".to_owned())));
        let fast: Vec<Channel> = (0..5).map(|n| channel(&n.to_string(), 100_000, 1)).collect();
        assert_eq!(check_channels(&fast), Err(ChannelError::TotalRate(500_000.0)));
    }

    #[test]
    fn rates_outside_of_the_range_are_rejected_in_json() {
        let rate = |numerator: u64, denominator: u64| {
            let json = format!(r#"{{"numerator":{numerator},"denominator":{denominator}}}"#);
            serde_json::from_str::<SampleRate>(&json).map(SampleRate::hz).map_err(|error| error.to_string())
        };
        assert_eq!(rate(624_725, 10_000), Ok(62.4725));
        assert_eq!(rate(1, 60), Ok(1.0 / 60.0));
        assert_eq!(rate(100_000, 1), Ok(100_000.0));
        for (numerator, denominator) in [(0, 1), (1, 0), (1, 61), (100_001, 1), (1_000_000, 1)] {
            let error = rate(numerator, denominator).unwrap_err();
            assert!(error.contains("outside of 1/60 to 100000 Hz"), "{error}");
        }
    }

    #[test]
    fn segments_of_different_rates_have_their_own_times() {
        let channels = [channel("II", 250, 1), channel("Pleth", 125, 2)];
        let mut frame = one(0, 500, 50);
        frame.segments.extend(one(1, 126, 12).segments);
        assert_eq!(frame.start_us(&channels), 2_000_000);
        let times: Vec<i64> = frame.timed_segments(1_000, &channels).map(|(time, _)| time).collect();
        assert_eq!(times, [1_000, 17_000]);
    }

    #[test]
    fn partitions_are_stable_and_even() {
        let partition = |mrn| partition_of(&Mrn::new(mrn).unwrap());
        assert_eq!([0, 1, 7, 1_000, Mrn::MAX].map(partition), [15, 12, 6, 4, 11]);
        let mut counts = [0; PARTITIONS as usize];
        (0..16_000).for_each(|mrn| counts[usize::from(partition(mrn))] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        let stream: StreamId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        assert_eq!(
            wave_subject(Mrn::new(7).unwrap(), Some(stream)),
            "wave.6.7.0198c0de-0000-7000-8000-000000000001"
        );
        assert_eq!(wave_subject(Mrn::new(7).unwrap(), None), "wave.6.7.*");
    }

    #[test]
    fn messages_of_the_protocols_have_the_documented_json() {
        let open = r#"{"type":"open","device":{"name":"Sim","serial":"1"},"channels":[{"label":"II",
            "code":"MDC_ECG_LEAD_II","unit":"mV","rate":{"numerator":250,"denominator":1},"scale":0.005,"offset":0}],
            "device_time_us":1700000000000000}"#;
        let DeviceMessage::Open { resume, channels, .. } = serde_json::from_str(open).unwrap() else {
            panic!("not open");
        };
        assert_eq!((resume, channels), (None, vec![channel("II", 250, 1)]));
        let without_rate = open.replace(r#""rate":{"numerator":250,"denominator":1},"#, "");
        let error = serde_json::from_str::<DeviceMessage>(&without_rate).unwrap_err();
        assert!(error.to_string().contains("missing field `rate`"), "{error}");
        let json = |message: &LiveRequest| serde_json::to_string(message).unwrap();
        let mrn = Mrn::new(7).unwrap();
        assert_eq!(
            json(&LiveRequest::Subscribe { mrn, mode: LiveMode::Overview }),
            r#"{"type":"subscribe","mrn":7,"mode":"overview"}"#
        );
        assert!(
            serde_json::from_str::<LiveRequest>(r#"{"type":"subscribe","mrn":"*","mode":"full"}"#).is_err()
        );
        assert_eq!(
            serde_json::to_string(&DeviceReply::Ack { sequence: 4 }).unwrap(),
            r#"{"type":"ack","sequence":4}"#
        );
        assert_eq!(serde_json::to_string(&DeviceMessage::End {}).unwrap(), r#"{"type":"end"}"#);
    }

    #[test]
    fn close_codes_are_distinct_and_fit_a_close_frame() {
        assert!(close::ALL.is_sorted_by(|a, b| a.code < b.code));
        assert!(close::ALL.iter().all(|code| code.reason.len() <= 123));
    }
}
