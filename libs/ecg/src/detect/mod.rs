//! Where the beats are.
//!
//! The way of a sample: [`resample`] to one working rate; [`signal`] filters; [`candidates`] are the peaks of the
//! envelope; [`judge`] scores each by height, contrast and correlation to the learned [`shapes`]; [`decide`] picks the most
//! plausible sequence; [`stream`] does so step by step with a bounded look ahead. docs/ECG.md explains it with pictures.

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

pub use stream::{Detection, Detector, detect, detect_with};
pub use tuning::Tuning;
