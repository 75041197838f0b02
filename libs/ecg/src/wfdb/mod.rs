//! Reader for records in PhysioNet's WFDB format: `.hea` headers, `.dat` signals, `.atr` annotations.
//!
//! All functions take text and bytes in memory; the caller opens the files. Formats: WFDB Applications Guide,
//! header(5), signal(5) and annot(5). The reader is custom because no maintained crate covers signals and
//! annotations without I/O.

mod annotations;
mod header;
mod signal;
pub mod writer;

pub use annotations::{Annotation, annotations, beats_and_flutter};
pub use header::{Header, SignalSpec};
pub use signal::{recording, signal, strip};

/// Error of the WFDB reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WfdbError {
    /// The header is empty or its first line is not a record line.
    #[error(
        "the header has no record line: expected a name, the number of signals and the sampling rate, found {0:?}"
    )]
    NoRecordLine(String),
    /// A line of the header is damaged.
    #[error("line {line} of the header cannot be understood: {text:?}")]
    BadLine {
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The record consists of several segments with their own headers.
    #[error("the record has several segments, each a record of its own: read those one by one")]
    MultiSegment,
    /// The sample format is not supported.
    #[error("signals in format {0} are not read, only formats 16, 24, 32, 61, 80 and 212")]
    Format(u32),
    /// No signal has the requested index.
    #[error("the record has {count} signals, there is no signal {index}")]
    NoSignal {
        /// The requested index, from 0.
        index: usize,
        /// Number of signals.
        count: usize,
    },
    /// A signal file is not available.
    #[error("the signal file {0:?} is not available")]
    NoFile(String),
    /// No signal of the record is a lead of an ECG.
    #[error("the record has no signal that is named like a lead of an ECG")]
    NoLead,
    /// The annotation file ends in the middle of an annotation.
    #[error("the annotation file ends in the middle of an annotation at byte {0}")]
    AnnotationsCutOff(usize),
}
