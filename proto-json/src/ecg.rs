//! Options and results of the ECG analysis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to read a signal, for files that do not state it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalOptions {
    /// Samples per second, for a file without times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<f64>,
    /// Name or 1-based number of the lead to analyse, for a file with several leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
}

/// Status of the analysis of an ECG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EcgStatus {
    /// Stored; the analysis is pending.
    Pending,
    /// Analysed. The result may lack a heart rate if the signal does not support one.
    Analyzed,
    /// The file could not be read as an ECG; `failure` states the reason.
    Failed,
    /// Uploaded as an image: there is no signal to analyse.
    Picture,
}

/// Quality of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EcgQuality {
    /// Beats are clearly detectable.
    Good,
    /// Beats are detected, but some may be wrong.
    Poor,
    /// Beats cannot be detected reliably; no heart rate is computed.
    Unusable,
}

/// Result of the analysis of a raw ECG. Bounded in size; [`EcgDetail`] contains every beat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgAnalysis {
    /// Length in seconds, including gaps.
    pub duration_s: f64,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// Name of the analysed lead, as in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
    /// Heart rate; absent if the signal does not support one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<EcgRate>,
    /// Why there is no heart rate, in one sentence; present if and only if `heart_rate` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_heart_rate_reason: Option<String>,
    /// Statistics of the valid RR intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rr: Option<EcgRrStatistics>,
    /// Quality of the whole strip.
    pub quality: EcgQuality,
    /// Number of detected beats.
    pub beat_count: u64,
    /// Findings, not a diagnosis. The first 50.
    pub notes: Vec<EcgNote>,
    /// Warnings about how the file was read and analysed. The first 50.
    pub warnings: Vec<EcgWarning>,
    /// Number of rows that were used as samples.
    pub rows_used: u64,
    /// Number of rows that were skipped.
    pub rows_skipped: u64,
    /// Line numbers, starting at 1, of the first skipped rows.
    pub first_skipped_lines: Vec<u64>,
}

/// Heart rate in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgRate {
    /// 60 s divided by the mean valid RR interval.
    pub mean_bpm: f64,
    /// Lowest rate of all windows of 8 beats.
    pub min_bpm: f64,
    /// Highest rate of all windows of 8 beats.
    pub max_bpm: f64,
}

/// Statistics of the valid RR intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgRrStatistics {
    /// Number of valid RR intervals.
    pub count: u64,
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// Standard deviation (SDNN), in milliseconds.
    pub sdnn_ms: f64,
    /// Root mean square of successive differences (RMSSD), in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmssd_ms: Option<f64>,
}

/// A finding of the analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgNote {
    /// Stable code for programs.
    pub code: String,
    /// Message for users, one sentence.
    pub message: String,
    /// Position in seconds from the start, if the finding has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_s: Option<f64>,
}

/// A warning about how the file was read or analysed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgWarning {
    /// Stable code for programs.
    pub code: String,
    /// Message for users, one sentence.
    pub message: String,
}

/// Beats and trend of an analysis. The size grows with the length of the strip. Times are seconds from its
/// start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgDetail {
    /// Every beat, in chronological order.
    pub beats: Vec<BeatMark>,
    /// Quality of each segment of 10 s.
    pub quality_segments: Vec<EcgQualitySegment>,
    /// Heart rate over time.
    pub trend: Vec<EcgTrendPoint>,
    /// Gaps in the recording.
    pub gaps: Vec<EcgGap>,
}

/// A beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BeatMark {
    /// Time of the R peak, in seconds.
    pub time_s: f64,
    /// Confidence of the detection, from 0 (low) to 1 (high).
    pub confidence: f32,
}

/// Quality of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgQualitySegment {
    /// Start, in seconds.
    pub start_s: f64,
    /// End, in seconds.
    pub end_s: f64,
    /// Quality.
    pub quality: EcgQuality,
    /// Why the quality is not good, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Heart rate at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgTrendPoint {
    /// Middle of the window, in seconds.
    pub time_s: f64,
    /// Mean rate in the window.
    pub mean_bpm: f64,
    /// Lowest instantaneous rate in the window.
    pub min_bpm: f64,
    /// Highest instantaneous rate in the window.
    pub max_bpm: f64,
}

/// A gap in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgGap {
    /// Start, in seconds.
    pub start_s: f64,
    /// End, in seconds.
    pub end_s: f64,
}
