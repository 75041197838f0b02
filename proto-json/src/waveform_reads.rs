//! Bodies of the reads of stored waveforms.
//!
//! Times are server time. A range includes its start and excludes its end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Mrn;
use crate::time::Timestamp;
use crate::waveform::{Channel, Device, SampleRate, StreamId};

/// Longest range of a list of stored intervals, in milliseconds: 31 days.
pub const MAX_LISTED_MS: i64 = 31 * 24 * 3_600_000;
/// Longest range of one read of samples or of an overview, in milliseconds: 31 days.
pub const MAX_READ_MS: i64 = 31 * 24 * 3_600_000;
/// Largest number of samples in one response.
pub const MAX_READ_SAMPLES: u64 = 500_000;
/// Largest number of columns of an overview.
pub const MAX_POINTS: u32 = 20_000;
/// Largest number of samples of an export, gaps included.
pub const MAX_EXPORT_SAMPLES: u64 = 200_000_000;
/// Largest number of intervals in one response.
pub const MAX_INTERVALS: usize = 20_000;

/// A range of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeRange {
    /// Start.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
}

/// The stored waveforms of a patient in a range of times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredWaveforms {
    /// The patient.
    pub mrn: Mrn,
    /// Start of the range.
    pub from: Timestamp,
    /// End of the range.
    pub to: Timestamp,
    /// The channels with samples in the range, in the order in which their streams were opened.
    pub channels: Vec<StoredChannel>,
}

/// A channel of a stream that has stored samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredChannel {
    /// The stream.
    pub stream: StreamId,
    /// The device.
    pub device: Device,
    /// The channel.
    pub channel: Channel,
    /// The times with samples, within the range.
    pub intervals: Vec<TimeRange>,
    /// The times without samples between the intervals.
    pub gaps: Vec<TimeRange>,
}

/// Samples or an overview of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StoredWaveform {
    /// Every stored sample of the range.
    Samples {
        /// The patient.
        mrn: Mrn,
        /// Label of the channel.
        channel: String,
        /// Start of the range.
        from: Timestamp,
        /// End of the range.
        to: Timestamp,
        /// Contiguous samples, by time. What lies between two segments is a gap.
        segments: Vec<SampleSegment>,
    },
    /// Smallest and largest sample of columns of equal duration.
    Envelope {
        /// The patient.
        mrn: Mrn,
        /// Label of the channel.
        channel: String,
        /// Start of the range.
        from: Timestamp,
        /// End of the range.
        to: Timestamp,
        /// Number of columns in the range.
        points: u32,
        /// The columns of each stream with samples in the range, in the order in which the streams were opened.
        streams: Vec<EnvelopeColumns>,
    },
}

/// Contiguous samples of a channel, on one time line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SampleSegment {
    /// The stream.
    pub stream: StreamId,
    /// The channel. The value of a sample is `sample * scale + offset`, in its unit.
    pub channel: Channel,
    /// Index of the first sample in the stream.
    pub first: u64,
    /// Server time of the first sample, microseconds since 1970. Sample `n` of the segment is `n / rate` later.
    pub time_us: i64,
    /// The samples.
    pub samples: Vec<i16>,
    /// Ranges of positions in `samples`, start and end, at which the electrode or sensor was disconnected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lead_off: Vec<[u32; 2]>,
}

/// Columns of an overview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvelopeColumns {
    /// The stream.
    pub stream: StreamId,
    /// The channel. The value of a sample is `sample * scale + offset`, in its unit.
    pub channel: Channel,
    /// Position of the first of these columns in the range, starting at 0.
    pub first_column: u32,
    /// Smallest and largest sample of each column; null in a gap. If columns are longer than 2 s, samples are assigned
    /// by seconds.
    pub columns: Vec<Option<[i16; 2]>>,
}

/// Format of an exported file. All channels of a file belong to one stream and have the same sample rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaveformFormat {
    /// WFDB header (`.hea`).
    WfdbHeader,
    /// WFDB samples in format 16 (`.dat`).
    WfdbSamples,
    /// EDF+ (`.edf`).
    Edf,
    /// CSV with one row per sample.
    Csv,
}

impl WaveformFormat {
    /// All formats.
    pub const ALL: [WaveformFormat; 4] =
        [WaveformFormat::WfdbHeader, WaveformFormat::WfdbSamples, WaveformFormat::Edf, WaveformFormat::Csv];

    /// Its name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaveformFormat::WfdbHeader => "wfdb_header",
            WaveformFormat::WfdbSamples => "wfdb_samples",
            WaveformFormat::Edf => "edf",
            WaveformFormat::Csv => "csv",
        }
    }

    /// Extension of the file name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            WaveformFormat::WfdbHeader => "hea",
            WaveformFormat::WfdbSamples => "dat",
            WaveformFormat::Edf => "edf",
            WaveformFormat::Csv => "csv",
        }
    }

    /// Media type of the file.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            WaveformFormat::WfdbHeader => "text/plain; charset=utf-8",
            WaveformFormat::WfdbSamples => "application/octet-stream",
            WaveformFormat::Edf => "application/edf",
            WaveformFormat::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        WaveformFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Name of an exported file, without its extension. It consists of letters, digits, hyphens and underscores, as WFDB
/// requires. `from` is the start of the range.
#[must_use]
pub fn export_name(mrn: Mrn, from: Timestamp, stream: StreamId, rate: SampleRate) -> String {
    let from: String = from.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let SampleRate { numerator, denominator } = rate;
    match denominator {
        1 => format!("{mrn}-{from}-{stream}-{numerator}Hz"),
        _ => format!("{mrn}-{from}-{stream}-{numerator}_{denominator}Hz"),
    }
}
