//! What is said of a raw ECG.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to read a signal where the file itself does not say it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalOptions {
    /// Samples per second of a file that holds no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<f64>,
    /// Name or 1-based number of the lead to analyse, in a file that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
}

/// How far the analysis of an ECG has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EcgStatus {
    /// Stored; a worker will analyse it.
    Pending,
    /// Analysed. That does not promise a heart rate: the signal may not support one.
    Analyzed,
    /// Could not be read as an ECG; the reason is in `failure`.
    Failed,
    /// Uploaded as a picture: there is no signal to analyse.
    Picture,
}

/// How far a signal can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EcgQuality {
    /// Beats stand out clearly.
    Good,
    /// Beats are found, with doubt.
    Poor,
    /// Nothing can be said; no heart rate comes from it.
    Unusable,
}

/// What was found in a raw ECG. Bounded in size; every beat is in [`EcgDetail`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgAnalysis {
    /// Length in seconds, gaps included.
    pub duration_s: f64,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// The lead that was analysed, as the file names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
    /// Heart rate; absent where the signal does not support one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<EcgRate>,
    /// One sentence; present exactly when there is no heart rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_heart_rate_reason: Option<String>,
    /// Statistics of the valid RR intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rr: Option<EcgRrStatistics>,
    /// Quality of the whole strip.
    pub quality: EcgQuality,
    /// Number of beats found.
    pub beat_count: u64,
    /// Findings of the strip; not a diagnosis. The first 50.
    pub notes: Vec<EcgNote>,
    /// What a person should know of how the file was read and analysed. The first 50.
    pub warnings: Vec<EcgWarning>,
    /// Rows of the file that became samples.
    pub rows_used: u64,
    /// Rows of the file that were left out.
    pub rows_skipped: u64,
    /// Line numbers, from 1, of the first rows left out.
    pub first_skipped_lines: Vec<u64>,
}

/// Heart rate in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgRate {
    /// 60 s over the mean valid RR interval.
    pub mean_bpm: f64,
    /// Lowest rate of any window of 8 beats.
    pub min_bpm: f64,
    /// Highest rate of any window of 8 beats.
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

/// A finding of the strip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgNote {
    /// Stable word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Seconds from the start, if it is at one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_s: Option<f64>,
}

/// Something a person should know of how the file was read and analysed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgWarning {
    /// Stable word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

/// The long part of an analysis: its size grows with the strip. Times are seconds from the start of the strip.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgDetail {
    /// Every beat, in order of time.
    pub beats: Vec<BeatMark>,
    /// Quality of each stretch of 10 s.
    pub quality_segments: Vec<EcgQualitySegment>,
    /// Heart rate over time.
    pub trend: Vec<EcgTrendPoint>,
    /// Holes in the recording.
    pub gaps: Vec<EcgGap>,
}

/// One beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BeatMark {
    /// Time of the R peak.
    pub time_s: f64,
    /// 0 (doubtful) to 1 (certain).
    pub confidence: f32,
}

/// Quality of one stretch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgQualitySegment {
    /// Start.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Its quality.
    pub quality: EcgQuality,
    /// One sentence where it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Heart rate at one point of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgTrendPoint {
    /// Middle of the stretch.
    pub time_s: f64,
    /// Mean rate.
    pub mean_bpm: f64,
    /// Lowest instantaneous rate.
    pub min_bpm: f64,
    /// Highest instantaneous rate.
    pub max_bpm: f64,
}

/// A hole in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgGap {
    /// Start.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
}
