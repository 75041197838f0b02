//! Why an EDF file is not a strip: one sentence a person can act on.

use std::io;

use crate::csv::{MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ};

/// Why no strip came of an EDF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The reader itself failed.
    #[error("The file could not be read to its end: {0}.")]
    Io(#[from] io::Error),
    /// Not this format.
    #[error("This is not an EDF file: it does not start as one.")]
    NotEdf,
    /// A damaged header.
    #[error("The header of the EDF file is damaged: {what}.")]
    Header {
        /// What is wrong, as the rest of a sentence.
        what: String,
    },
    /// Annotations and nothing else.
    #[error("The EDF file holds no signal.")]
    NoEcg,
    /// Signals, but none that is named like an ECG.
    #[error("None of the signals of the EDF file is named as an ECG; choose one of {available}.")]
    NoEcgAmong {
        /// Their names.
        available: String,
    },
    /// A signal that is not there, by name.
    #[error("The EDF file has no signal of the name {wanted:?}; it has {available}.")]
    NoSuchSignal {
        /// The name asked for.
        wanted: String,
        /// The names there are.
        available: String,
    },
    /// A signal that is not there, by number.
    #[error("Signal number {wanted} was asked for (counting from 0), but the EDF file has {count}.")]
    NoSignalAt {
        /// The index asked for.
        wanted: usize,
        /// How many there are.
        count: usize,
    },
    /// A rate no ECG has.
    #[error("The signal has {rate_hz:.4} samples per second, but an ECG has {MIN_RATE_HZ} to {MAX_RATE_HZ}.")]
    ImplausibleRate {
        /// Samples per second.
        rate_hz: f64,
    },
    /// Less than a few heart beats.
    #[error("The recording is {duration_s:.1} s long: a heart rate needs at least {MIN_DURATION_S} s.")]
    TooShort {
        /// Seconds of signal.
        duration_s: f64,
    },
    /// More than the reader was told to take.
    #[error("The signal has more than {limit} samples: cut the recording into shorter files.")]
    TooLong {
        /// Most samples that are read.
        limit: usize,
    },
    /// Full of holes.
    #[error("The recording has more than {limit} holes: it is no continuous ECG.")]
    TooManyGaps {
        /// Most builder a recording may have.
        limit: usize,
    },
    /// A flat line.
    #[error(
        "Every sample of the signal is {value}: the lead was not connected or the wrong signal was chosen."
    )]
    Constant {
        /// The one value.
        value: f64,
    },
}
