//! What can be said of a strip.

use crate::strip::Warning;

/// What can be said of a strip. Times are seconds from its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Heart rate, or nothing where the signal does not support one (then [`Analysis::no_heart_rate_reason`] says why).
    pub heart_rate: Option<HeartRate>,
    /// One sentence; present exactly when there is no heart rate.
    pub no_heart_rate_reason: Option<String>,
    /// Statistics of the valid RR intervals; nothing where there are fewer than two.
    pub rr: Option<RrStatistics>,
    /// Quality of the whole strip.
    pub quality: Quality,
    /// Quality of each stretch: of 10 s, shorter at the end of a segment, and of the time in which the lead is off.
    pub quality_segments: Vec<QualitySegment>,
    /// Findings of the strip, worded as findings, not as diagnoses.
    pub rhythm_notes: Vec<RhythmNote>,
    /// Heart rate over time, one point for each stretch that supports one.
    pub trend: Vec<TrendPoint>,
    /// Beats in order of time.
    pub beats: Vec<Beat>,
    /// Warnings of the reader and of the analysis.
    pub warnings: Vec<Warning>,
}

/// One heart beat: a QRS complex.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// Time of the R peak.
    pub time_s: f64,
    /// Index of its segment in [`crate::Strip::segments`].
    pub segment: usize,
    /// Index of its R peak in the samples of that segment.
    pub sample: usize,
    /// 0 (doubtful) to 1 (certain).
    pub confidence: f32,
}

/// Heart rate in beats per minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeartRate {
    /// 60 s over the mean valid RR interval.
    pub mean_bpm: f64,
    /// Lowest rate of any window of 8 beats (of all beats where there are fewer); never above the mean.
    pub min_bpm: f64,
    /// Highest rate of any window of 8 beats (of all beats where there are fewer); never below the mean.
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
    /// Root mean square of successive differences (RMSSD); nothing where no two valid intervals are neighbours.
    pub rmssd_ms: Option<f64>,
}

/// How far a signal can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Nothing can be said: no heart rate comes from it.
    Unusable,
    /// Beats are found, with doubt.
    Poor,
    /// Beats stand out clearly.
    Good,
}

/// Quality of one stretch.
#[derive(Debug, Clone, PartialEq)]
pub struct QualitySegment {
    /// Start.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Its quality.
    pub quality: Quality,
    /// One sentence where the quality is not good.
    pub reason: Option<String>,
}

/// A finding of the strip, such as an irregular rhythm or a pause.
#[derive(Debug, Clone, PartialEq)]
pub struct RhythmNote {
    /// Stable word for programs: `irregular`, `pause`, `slow`, `fast`.
    pub code: &'static str,
    /// One sentence for people, worded as a finding of the strip.
    pub message: String,
    /// Where in the strip, if it is at one place.
    pub at_s: Option<f64>,
}

/// Heart rate at one point of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendPoint {
    /// Middle of the stretch.
    pub time_s: f64,
    /// Mean rate of the stretch.
    pub mean_bpm: f64,
    /// Lowest instantaneous rate in the stretch.
    pub min_bpm: f64,
    /// Highest instantaneous rate in the stretch.
    pub max_bpm: f64,
}
