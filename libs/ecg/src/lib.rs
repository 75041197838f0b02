//! ECG strips: from the bytes of a file to beats, heart rate, signal quality and a picture.
//!
//! [`read_recording`] returns all leads of a file, each a [`Strip`], and [`read`] one of them. [`analyze`] returns
//! the [`Analysis`] of a strip, and [`plot`] draws both on ECG paper. [`Stream`] finds the same beats while they are
//! recorded. If the signal does not support a heart rate, the analysis contains a reason instead. The crate does no
//! I/O except through a given [`std::io::Read`]; it has no async code and no global state.

mod analysis;
mod analyze;
pub mod beat_types;
#[cfg(feature = "readers")]
pub mod csv;
pub mod detect;
#[cfg(feature = "readers")]
pub mod edf;
mod lead_off;
#[cfg_attr(not(feature = "readers"), allow(dead_code, reason = "a part is for the readers"))]
mod leads;
pub mod limb_leads;
mod pacing;
mod parts;
#[cfg(feature = "plots")]
pub mod plot;
pub mod quality;
mod rate;
#[cfg(feature = "readers")]
mod read;
#[cfg_attr(not(feature = "readers"), allow(dead_code, reason = "a part is for the readers"))]
mod recording;
mod report;
pub mod rhythm;
pub mod score;
pub mod st;
#[cfg(feature = "readers")]
mod start;
pub mod stream;
mod strip;
pub mod synth;
#[cfg_attr(not(feature = "readers"), allow(dead_code, reason = "a part is for the readers"))]
mod units;
pub mod waves;
#[cfg(feature = "readers")]
pub mod wfdb;

pub use analysis::{
    Analysis, Beat, HeartRate, Quality, QualitySegment, RhythmNote, RrStatistics, TrendPoint,
};
pub use analyze::analyze;
pub use detect::{Detection, Detector};
pub use quality::best_channel;
#[cfg(feature = "readers")]
pub use read::{ReadError, read, read_recording};
pub use recording::{Lead, Recording, RecordingAnalysis};
pub use report::{ALGORITHM, LeadSt, LeadView, Report, report};
#[cfg(feature = "readers")]
pub use start::{START_BYTES, Start, start_of, start_of_wfdb};
pub use stream::Stream;
pub use strip::{Gap, RowCounts, Segment, Strip, Warning};
pub use units::VoltageUnit;

/// The examples of the README, compiled as tests.
#[cfg(all(doctest, feature = "readers", feature = "plots"))]
#[doc = include_str!("../README.md")]
struct Readme;
