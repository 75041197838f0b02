//! Messages between screens and the gateway, over `/api/v1/live`.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::{BlockHead, FrameError, LEAD_OFF, MISSING_SAMPLE, Reader, padding};
use super::stream::{StreamDescription, Vitals};
use crate::ids::Mrn;
use crate::time::Timestamp;

/// Columns of an overview per second.
pub const OVERVIEW_COLUMNS_PER_SECOND: i64 = 60;

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
    /// Columns of an overview. A column can follow in two messages, with other samples: a screen keeps the smaller
    /// minimum and the larger maximum.
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
        let BlockHead { channel, count, lead_off } = reader.block_head()?;
        let first = reader.i64()?;
        let columns = reader.slice(count * 4)?;
        reader.zeros(padding(count * 2))?;
        let columns = columns.as_chunks().0.iter().map(|[a, b, c, d]| Column {
            min: i16::from_le_bytes([*a, *b]),
            max: i16::from_le_bytes([*c, *d]),
        });
        Ok(ColumnBlock { channel, lead_off, first, columns: columns.collect() })
    }
}
