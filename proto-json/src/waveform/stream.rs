//! Streams: channels, devices, numerics and vitals.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::{MAX_FRAME_MS, MISSING_SAMPLE};
use crate::ecg::EcgQuality;
use crate::ids::{Mrn, StreamId};
use crate::time::Timestamp;

/// Largest number of channels of a stream.
pub const MAX_CHANNELS: usize = 32;
/// Highest sample rate of a channel, in Hz.
pub const MAX_RATE_HZ: u32 = 100_000;
/// Longest period of a channel, in seconds: the reciprocal of the lowest sample rate.
const MAX_PERIOD_S: u32 = 60;
/// Highest sum of the sample rates of a stream, in Hz. A frame of [`MAX_FRAME_MS`] then fits into a message of
/// the broker.
pub const MAX_TOTAL_RATE_HZ: u32 = 400_000;
/// Largest number of values in one numerics message.
pub const MAX_NUMERICS: usize = 64;
/// Longest label or unit, in characters.
const MAX_TEXT: usize = 32;
/// Longest code, name or serial number, in characters.
const MAX_NAME: usize = 64;

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
#[serde(rename = "SampleRate", deny_unknown_fields)]
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
    pub(super) fn samples_per_frame(self) -> u16 {
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
    /// The mapping of the clock of the device, for a gateway at which the device resumes after this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<StreamClock>,
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
    /// Whether data arrives.
    #[serde(default)]
    pub streams: StreamsState,
    /// Beats of the analysed lead; absent if the signal does not support a statement about beats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beats: Option<BeatTimes>,
}

/// Whether data of a patient arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamsState {
    /// Data arrives.
    #[default]
    Live,
    /// No data has arrived for some seconds, and the device has not ended its stream.
    Silent,
    /// The devices have ended all streams. No vitals follow until a stream is opened.
    Ended,
}

/// The latest beats of the analysed lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeatTimes {
    /// R peak of the latest beat, in server time.
    pub last: Timestamp,
    /// Milliseconds up to now in which the lead certainly has no beat. They begin after the latest beat, or after a later gap
    /// in the samples.
    pub silent_ms: u32,
    /// Intervals between the latest beats in milliseconds, newest first, at most [`BeatTimes::MAX_INTERVALS`].
    pub intervals_ms: Vec<u32>,
}

impl BeatTimes {
    /// Largest number of intervals.
    pub const MAX_INTERVALS: usize = 8;
}
