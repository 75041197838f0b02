//! Where the beats are.

mod candidates;
mod decide;
mod filter;
mod resample;
mod stream;
mod template;
mod tuning;

pub use stream::{Detection, Detector, detect};
