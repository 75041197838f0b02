//! What a reader makes of a file: one lead, evenly sampled, split where the recording has holes.

/// One lead of an ECG: evenly sampled voltages in millivolt, split into segments where the recording has gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Samples per second, one rate for all segments.
    pub sample_rate_hz: f64,
    /// Name of the lead as the file gives it, such as `MLII` or `V5`.
    pub lead: Option<String>,
    /// Stretches without a hole, in order of time, never overlapping, none empty.
    pub segments: Vec<Segment>,
    /// What a person should know of how the file was read.
    pub warnings: Vec<Warning>,
    /// How many rows were read and skipped.
    pub rows: RowCounts,
}

/// An unbroken stretch of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the strip to the first sample.
    pub start_s: f64,
    /// Voltages in millivolt, `sample_rate_hz` of them per second.
    pub samples: Vec<f32>,
}

/// A hole between two segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Seconds from the start of the strip.
    pub start_s: f64,
    /// Seconds from the start of the strip.
    pub end_s: f64,
}

/// Rows of a text file that became samples, and rows that did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that became samples.
    pub used: u64,
    /// Rows that were left out because they hold no usable number.
    pub skipped: u64,
    /// Line numbers, from 1, of the first ten rows left out.
    pub first_skipped_lines: Vec<u64>,
}

/// Something a person should know of a strip: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable word for programs, such as `rows_skipped`, `unit_assumed`, `range_unusual`.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Strip {
    /// A strip of one unbroken segment that starts at time zero. `samples` in millivolt.
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

    /// The holes between the segments, in order of time.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.segments.windows(2).map(|pair| Gap {
            start_s: pair[0].start_s + pair[0].samples.len() as f64 / self.sample_rate_hz,
            end_s: pair[1].start_s,
        })
    }
}
