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
    /// Version of the method of analysis, a number that increases with each change of results. 0: an analysis
    /// before versions were recorded; the fields below up to `st` are then empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub algorithm: u32,
    /// Intervals of the lead that gives the heart rate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub intervals: EcgIntervals,
    /// Rhythm of the strip. Findings, not a diagnosis. At most 50; of each code, the longest. `EcgDetail::rhythm`
    /// contains all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rhythm: Vec<EcgFinding>,
    /// Number of all findings of the rhythm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rhythm_count: u64,
    /// Number of beats of each type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub beat_types: EcgBeatCounts,
    /// The leads of the file in their order, then those derived from leads I and II. The first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leads: Vec<EcgLead>,
    /// ST level of each of `leads` in which it can be measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub st: Vec<EcgSt>,
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

/// Intervals of a strip, over its beats. An interval is absent if too few beats support it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgIntervals {
    /// From P onset to QRS onset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr: Option<EcgInterval>,
    /// Duration of the QRS complex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qrs: Option<EcgInterval>,
    /// From QRS onset to T end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qt: Option<EcgInterval>,
    /// QT interval divided by the square root of the RR interval in seconds (Bazett).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qtc_bazett: Option<EcgInterval>,
    /// QT interval divided by the cube root of the RR interval in seconds (Fridericia).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qtc_fridericia: Option<EcgInterval>,
}

/// An interval of a strip, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgInterval {
    /// Median over the beats.
    pub median_ms: f64,
    /// Interquartile range over the beats.
    pub spread_ms: f64,
    /// Number of measured beats.
    pub beats: u64,
}

/// A finding of the rhythm with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgFinding {
    /// Stable code for programs: `sinus_rhythm`, `sinus_bradycardia`, `sinus_tachycardia`, `atrial_fibrillation`,
    /// `paced`, `bigeminy`, `trigeminy`, `couplet`, `ventricular_run`, `supraventricular_run` or `pause`. Later versions may add
    /// codes.
    pub code: String,
    /// Name of the finding for users.
    pub message: String,
    /// The evidence, one sentence for users.
    pub evidence: String,
    /// Start, in seconds from the start of the strip.
    pub start_s: f64,
    /// End, in seconds from the start of the strip.
    pub end_s: f64,
}

/// Number of beats of each type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EcgBeatCounts {
    /// Normal beats.
    #[serde(default)]
    pub normal: u64,
    /// Supraventricular ectopic beats.
    #[serde(default)]
    pub supraventricular: u64,
    /// Ventricular ectopic beats.
    #[serde(default)]
    pub ventricular: u64,
    /// Paced beats.
    #[serde(default)]
    pub paced: u64,
    /// Beats without a decision.
    #[serde(default)]
    pub unknown: u64,
}

/// A lead of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgLead {
    /// Name of the lead as in the file, at most 64 characters, or its number, starting at 1. The drawing of the
    /// lead is requested by this name.
    pub name: String,
    /// Whether this lead gives heart rate, beats, intervals and rhythm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gives_rate: bool,
    /// Whether the lead is derived from leads I and II.
    #[serde(default, skip_serializing_if = "is_default")]
    pub derived: bool,
    /// Quality of the lead; absent for a derived lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<EcgQuality>,
    /// Mean heart rate of this lead alone; absent if its signal does not support one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_bpm: Option<f64>,
}

/// ST level of a lead relative to the PR segment. Ventricular and paced beats are not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgSt {
    /// Name of the lead, as in [`EcgLead::name`].
    pub lead: String,
    /// Level 60 ms after the J point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub j60: Option<EcgLevel>,
    /// Level 80 ms after the J point; absent above 120 beats per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub j80: Option<EcgLevel>,
}

/// A level over the beats of a lead, in millivolts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgLevel {
    /// Median over the beats.
    pub median_mv: f64,
    /// Interquartile range over the beats.
    pub spread_mv: f64,
    /// Number of measured beats.
    pub beats: u64,
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

/// Whether a field is left out. Records have checksums of their serialized form, so a field that is added to an existing
/// record must be left out where earlier versions did not write it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Beats, waves, rhythm and trend of the lead that gives the heart rate. The size grows with the length of the strip. Times are seconds from its
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
    /// All findings of the rhythm, ordered by their start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rhythm: Vec<EcgFinding>,
    /// Times of pacemaker pulses, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pacing_pulses_s: Vec<f64>,
}

/// The samples of a lead, for clients that draw it. The size grows with the length of the strip.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgSamples {
    /// Name of the lead, as in [`EcgLead::name`].
    pub lead: String,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// Length in seconds, including gaps.
    pub duration_s: f64,
    /// The samples between the gaps of the recording, in chronological order.
    pub segments: Vec<EcgSampleSegment>,
}

/// Samples without a gap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgSampleSegment {
    /// Time of the first sample in seconds from the start of the strip.
    pub start_s: f64,
    /// The samples in microvolts.
    pub microvolts: Vec<i32>,
}

/// Type of a beat: the classes of ANSI/AAMI EC57, with paced beats of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EcgBeatType {
    /// Normal, including bundle branch block.
    Normal,
    /// Supraventricular ectopic.
    Supraventricular,
    /// Ventricular ectopic.
    Ventricular,
    /// Paced.
    Paced,
    /// Not decided, or an analysis before types were recorded.
    #[default]
    Unknown,
}

/// A wave of a beat. Times are seconds from the start of the strip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgWave {
    /// Onset.
    pub on_s: f64,
    /// Largest deflection.
    pub peak_s: f64,
    /// End.
    pub end_s: f64,
    /// Confidence, from 0 (low) to 1 (high).
    pub confidence: f32,
}

/// A beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BeatMark {
    /// Time of the R peak, in seconds.
    pub time_s: f64,
    /// Confidence of the detection, from 0 (low) to 1 (high).
    pub confidence: f32,
    /// Type of the beat.
    #[serde(default, rename = "type")]
    pub beat_type: EcgBeatType,
    /// P wave; absent if the beat has none or if it cannot be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<EcgWave>,
    /// QRS complex; absent if it cannot be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qrs: Option<EcgWave>,
    /// T wave; absent if it cannot be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<EcgWave>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_earlier_versions_remain_readable() {
        let stored = concat!(
            r#"{"duration_s":10.0,"sample_rate_hz":250.0,"quality":"good","beat_count":12,"notes":[],"#,
            r#""warnings":[],"rows_used":2500,"rows_skipped":0,"first_skipped_lines":[]}"#
        );
        let analysis: EcgAnalysis = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&analysis).unwrap(), stored, "its checksum must stay the same");
        assert_eq!((analysis.algorithm, analysis.beat_types), (0, EcgBeatCounts::default()));
        assert_eq!(analysis.intervals, EcgIntervals::default());
        let stored =
            r#"{"beats":[{"time_s":1.5,"confidence":0.75}],"quality_segments":[],"trend":[],"gaps":[]}"#;
        let detail: EcgDetail = serde_json::from_str(stored).unwrap();
        let beat = BeatMark {
            time_s: 1.5,
            confidence: 0.75,
            beat_type: EcgBeatType::Unknown,
            p: None,
            qrs: None,
            t: None,
        };
        assert_eq!(detail.beats, [beat]);
    }
}
