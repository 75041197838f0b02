//! Errors of the EDF reader. Each is one sentence that tells a person what to do.

use std::io;

use crate::csv::{MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ};

/// Error of [`super::read`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The underlying reader failed.
    #[error("The file could not be read to its end: {0}.")]
    Io(#[from] io::Error),
    /// The file is of another format.
    #[error("This is not an EDF file: it does not start as one.")]
    NotEdf,
    /// The header is damaged.
    #[error("The header of the EDF file is damaged: {what}.")]
    Header {
        /// The problem, as the end of a sentence.
        what: String,
    },
    /// The file contains annotations only.
    #[error("The EDF file holds no signal.")]
    NoEcg,
    /// No signal is named like an ECG.
    #[error("No signal of the EDF file is named like an ECG; select one of {available}.")]
    NoEcgAmong {
        /// The available names.
        available: String,
    },
    /// No signal has the requested name.
    #[error("The EDF file has no signal of the name {wanted:?}; it has {available}.")]
    NoSuchSignal {
        /// The requested name.
        wanted: String,
        /// The available names.
        available: String,
    },
    /// No signal has the requested index.
    #[error("Signal number {wanted} was requested (counting from 0), but the EDF file has {count}.")]
    NoSignalAt {
        /// The requested index.
        wanted: usize,
        /// Number of signals.
        count: usize,
    },
    /// The rate is outside the accepted range.
    #[error("The signal has {rate_hz:.4} samples per second, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}.")]
    ImplausibleRate {
        /// Samples per second.
        rate_hz: f64,
    },
    /// The recording is too short.
    #[error("The recording is {duration_s:.1} s long: a heart rate needs at least {MIN_DURATION_S} s.")]
    TooShort {
        /// Duration in seconds.
        duration_s: f64,
    },
    /// The signal has more samples than the limit.
    #[error("The signal has more than {limit} samples: cut the recording into shorter files.")]
    TooLong {
        /// Limit in samples.
        limit: usize,
    },
    /// The recording has too many gaps.
    #[error("The recording has more than {limit} gaps and is not a continuous ECG.")]
    TooManyGaps {
        /// Limit in segments.
        limit: usize,
    },
    /// All samples are equal.
    #[error(
        "Every sample of the signal is {value}: the lead was not connected or the wrong signal was chosen."
    )]
    Constant {
        /// The value.
        value: f64,
    },
}
