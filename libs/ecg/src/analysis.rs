//! Results of the analysis of a strip.

use crate::strip::Warning;

/// Result of the analysis of a strip. Times are seconds from the start of the strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Heart rate. `None` if the signal does not support one; [`Analysis::no_heart_rate_reason`] then states
    /// the reason.
    pub heart_rate: Option<HeartRate>,
    /// One sentence, present exactly if there is no heart rate.
    pub no_heart_rate_reason: Option<String>,
    /// Statistics of the valid RR intervals. `None` if there are fewer than two.
    pub rr: Option<RrStatistics>,
    /// Quality of the whole strip.
    pub quality: Quality,
    /// Quality of each segment of up to 10 s, and of each segment in which the lead is off.
    pub quality_segments: Vec<QualitySegment>,
    /// Findings of the strip. They are findings, not diagnoses.
    pub rhythm_notes: Vec<RhythmNote>,
    /// Heart rate over time, one point for each segment that supports a rate.
    pub trend: Vec<TrendPoint>,
    /// Times of pacemaker pulses, in order. Empty below 250 Hz, where pulses are not detected.
    pub pacing_pulses_s: Vec<f64>,
    /// Beats in order of time.
    pub beats: Vec<Beat>,
    /// Warnings of the reader and of the analysis.
    pub warnings: Vec<Warning>,
}

/// A heart beat (a QRS complex).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// Time of the R peak.
    pub time_s: f64,
    /// Index of the segment in [`crate::Strip::segments`] that contains the beat.
    pub segment: usize,
    /// Index of the R peak in the samples of that segment.
    pub sample: usize,
    /// Confidence, from 0 (doubtful) to 1 (certain).
    pub confidence: f32,
}

/// Heart rate in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeartRate {
    /// 60 s divided by the mean valid RR interval.
    pub mean_bpm: f64,
    /// Lowest rate of any window of 8 beats, or of all beats if there are fewer. Never above the mean.
    pub min_bpm: f64,
    /// Highest rate of any window of 8 beats, or of all beats if there are fewer. Never below the mean.
    pub max_bpm: f64,
}

/// Statistics of the valid RR intervals, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RrStatistics {
    /// Number of valid RR intervals.
    pub count: usize,
    /// Median RR interval.
    pub median_ms: f64,
    /// Standard deviation of the RR intervals (SDNN).
    pub sdnn_ms: f64,
    /// Root mean square of successive differences (RMSSD). `None` if no two valid intervals are adjacent.
    pub rmssd_ms: Option<f64>,
}

/// Quality of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// The signal supports no heart rate.
    Unusable,
    /// Beats are found, but some are doubtful.
    Poor,
    /// Beats are clear.
    Good,
}

/// Quality of one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct QualitySegment {
    /// Start of the segment.
    pub start_s: f64,
    /// End of the segment.
    pub end_s: f64,
    /// Quality of the segment.
    pub quality: Quality,
    /// One sentence, present if the quality is not good.
    pub reason: Option<String>,
}

/// A finding of the strip, such as an irregular rhythm or a pause.
#[derive(Debug, Clone, PartialEq)]
pub struct RhythmNote {
    /// Stable code for programs: `irregular`, `pause`, `slow` or `fast`.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Position in the strip, if the finding has one.
    pub at_s: Option<f64>,
}

/// Heart rate at one point in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendPoint {
    /// Middle of the segment.
    pub time_s: f64,
    /// Mean rate of the segment.
    pub mean_bpm: f64,
    /// Lowest instantaneous rate in the segment.
    pub min_bpm: f64,
    /// Highest instantaneous rate in the segment.
    pub max_bpm: f64,
}
