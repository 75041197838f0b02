//! Live waveforms: what devices send, what the broker carries, and what screens receive.
//!
//! A device opens a **waveform stream** with its channels and then sends frames and numerics. Both are numbered by
//! one sequence per stream, which starts at 0 and has no gaps. Samples of a channel are numbered by an index that
//! starts at 0; an index that is skipped is a sample that the device declares lost.
//!
//! Invariants: a [`SampleRate`] read from JSON is in range. [`Frame::decode`] accepts exactly the bytes that
//! [`Frame::encode`] returns, and rejects frames that do not fit the channels of the stream. Nothing here panics
//! on input of a device.

mod close_codes;
mod device;
mod frame;
mod live;
mod stream;
#[cfg(test)]
mod tests;

use crate::ids::Mrn;
pub use crate::ids::StreamId;
pub use close_codes::{CloseCode, close};
pub use device::{DeviceMessage, DeviceReply};
pub use frame::{Frame, FrameError, FrameLimits, MAX_FRAME_BYTES, MAX_FRAME_MS, MISSING_SAMPLE, Segment};
pub use live::{
    Column, ColumnBlock, LiveFrame, LiveMessage, LiveMode, LiveRequest, OVERVIEW_COLUMNS_PER_SECOND,
};
pub use stream::{
    BeatTimes, Channel, ChannelError, Device, DeviceNumeric, MAX_CHANNELS, MAX_NUMERICS, MAX_RATE_HZ,
    MAX_TOTAL_RATE_HZ, Numeric, Numerics, RateError, SampleRate, StreamClock, StreamDescription,
    StreamsState, Vitals, VitalsSource, check_channels,
};

/// Number of partitions of the waveform subjects.
pub const PARTITIONS: u16 = 16;

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
