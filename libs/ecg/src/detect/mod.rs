//! Where the beats are.
//!
//! The way of a sample: [`resample`] to one working rate; [`signal`] filters; [`candidates`] are the peaks of the
//! envelope; [`judge`] scores each by height, contrast and likeness to the learned [`shapes`]; [`decide`] picks the most
//! plausible sequence; [`stream`] does so step by step with a bounded look ahead. docs/ECG.md explains it with pictures.

mod candidates;
mod decide;
mod filter;
mod judge;
mod logarithm;
mod resample;
mod shapes;
mod signal;
mod stream;
mod t_wave;
mod tuning;

pub use stream::{Detection, Detector, detect, detect_with};
pub use tuning::Tuning;
