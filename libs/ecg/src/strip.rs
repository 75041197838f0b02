//! The result of a reader: one lead, evenly sampled, split at gaps.

use crate::recording::split_at_gaps;

/// Longest sequence of missing samples, in seconds, that [`Strip::from_samples_with_gaps`] interpolates.
const LONGEST_BRIDGED_GAP_S: f64 = 0.1;

/// One lead of an ECG: evenly sampled voltages in millivolts, split into segments at the gaps of the
/// recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Samples per second of all segments.
    pub sample_rate_hz: f64,
    /// Name of the lead in the file, such as `MLII` or `V5`.
    pub lead: Option<String>,
    /// Segments in order of time. They do not overlap, and none is empty.
    pub segments: Vec<Segment>,
    /// Warnings about how the file was read.
    pub warnings: Vec<Warning>,
    /// Numbers of rows used and skipped.
    pub rows: RowCounts,
}

/// Samples without a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the strip to the first sample.
    pub start_s: f64,
    /// Voltages in millivolts.
    pub samples: Vec<f32>,
}

/// A gap between two segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Start in seconds from the start of the strip.
    pub start_s: f64,
    /// End in seconds from the start of the strip.
    pub end_s: f64,
}

/// Numbers of rows of a text file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that became samples.
    pub used: u64,
    /// Rows skipped because they contain no usable number.
    pub skipped: u64,
    /// Line numbers, from 1, of the first ten rows skipped.
    pub first_skipped_lines: Vec<u64>,
}

/// A warning about a strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable code for programs, such as `rows_skipped`, `unit_assumed` or `range_unusual`.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Strip {
    /// A strip with one segment that starts at time zero. `samples` are in millivolts.
    #[must_use]
    pub fn from_samples(sample_rate_hz: f64, samples: Vec<f32>) -> Self {
        let used = samples.len() as u64;
        Strip {
            sample_rate_hz,
            lead: None,
            segments: vec![Segment { start_s: 0.0, samples }],
            warnings: Vec::new(),
            rows: RowCounts { used, ..RowCounts::default() },
        }
    }

    /// A strip that starts at time zero. `samples` are in millivolts; NaN marks a missing one. Up to 0.1 s of
    /// missing samples are interpolated, and longer sequences are gaps.
    #[must_use]
    pub fn from_samples_with_gaps(sample_rate_hz: f64, samples: Vec<f32>) -> Self {
        let mut strip = Strip::from_samples(sample_rate_hz, Vec::new());
        let longest = (LONGEST_BRIDGED_GAP_S * sample_rate_hz) as usize;
        strip.segments.clear();
        split_at_gaps(0.0, sample_rate_hz, samples, longest, &mut strip.segments);
        strip.rows.used = strip.sample_count() as u64;
        strip
    }

    /// Seconds from the first sample to the end of the last, gaps included.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.segments
            .last()
            .map_or(0.0, |last| last.start_s + last.samples.len() as f64 / self.sample_rate_hz)
    }

    /// Number of samples in all segments.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.samples.len()).sum()
    }

    /// Gaps between the segments, in order of time.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.segments.windows(2).map(|pair| Gap {
            start_s: pair[0].start_s + pair[0].samples.len() as f64 / self.sample_rate_hz,
            end_s: pair[1].start_s,
        })
    }
}
