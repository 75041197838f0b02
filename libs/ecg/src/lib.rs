//! ECG strips, from bytes to a heart rate that can be trusted, and to a picture of it.
//!
//! The way of a strip: [`csv::read`] (or another reader) makes a [`Strip`], [`analyze`] finds its beats and says what
//! follows from them as an [`Analysis`], [`plot`] draws both on ECG paper. Where nothing can be said honestly, there is
//! no heart rate but a reason. No I/O beyond a given [`std::io::Read`], no async, no global state.

mod analysis;
mod analyze;
pub mod csv;
pub mod detect;
pub mod edf;
mod lead_off;
pub mod plot;
pub mod quality;
mod rate;
mod read;
pub mod score;
mod start;
mod strip;
pub mod synth;
mod units;
pub mod wfdb;

pub use analysis::{
    Analysis, Beat, HeartRate, Quality, QualitySegment, RhythmNote, RrStatistics, TrendPoint,
};
pub use analyze::analyze;
pub use detect::{Detection, Detector};
pub use quality::best_channel;
pub use read::{ReadError, read};
pub use start::{START_BYTES, Start, start_of, start_of_wfdb};
pub use strip::{Gap, RowCounts, Segment, Strip, Warning};
