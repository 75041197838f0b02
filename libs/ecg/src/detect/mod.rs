//! Beat detection.
//!
//! [`resample`] converts the signal to one working rate, [`signal`] filters it, and the peaks of the envelope are the
//! [`candidates`]. [`scorer`] scores each candidate by height, contrast and correlation with the learned
//! [`templates`]. [`viterbi`] selects the most plausible sequence. [`stream`] runs these stages step by step with
//! bounded look-ahead, and decides on provisional beats as soon as they are known. docs/ECG.md explains them with
//! figures.

mod candidates;
mod filter;
mod logarithm;
mod resample;
mod scorer;
mod signal;
mod stream;
mod t_wave;
mod templates;
mod tuning;
mod viterbi;

pub(crate) use stream::{Change, supported_rate};
pub use stream::{Detection, Detector, detect, detect_with};
pub use tuning::Tuning;
