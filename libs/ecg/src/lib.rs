//! ECG strips: from the bytes of a file to beats, heart rate, signal quality and a picture.
//!
//! [`read_recording`] returns all leads of a file, each a [`Strip`], and [`read`] one of them. [`analyze`] returns
//! the [`Analysis`] of a strip, and [`plot`] draws both on ECG paper. [`Stream`] finds the same beats while they are
//! recorded. If the signal does not support a heart rate, the analysis contains a reason instead. The crate does no
//! I/O except through a given [`std::io::Read`]; it has no async code and no global state.

mod analysis;
mod analyze;
pub mod beat_types;
pub mod csv;
pub mod detect;
pub mod edf;
mod lead_off;
mod leads;
pub mod limb_leads;
mod pacing;
mod parts;
pub mod plot;
pub mod quality;
mod rate;
mod read;
mod recording;
mod report;
pub mod rhythm;
pub mod score;
pub mod st;
mod start;
pub mod stream;
mod strip;
pub mod synth;
mod units;
pub mod waves;
pub mod wfdb;

pub use analysis::{
    Analysis, Beat, HeartRate, Quality, QualitySegment, RhythmNote, RrStatistics, TrendPoint,
};
pub use analyze::analyze;
pub use detect::{Detection, Detector};
pub use quality::best_channel;
pub use read::{ReadError, read, read_recording};
pub use recording::{Lead, Recording, RecordingAnalysis};
pub use report::{ALGORITHM, LeadSt, LeadView, Report, report};
pub use start::{START_BYTES, Start, start_of, start_of_wfdb};
pub use stream::Stream;
pub use strip::{Gap, RowCounts, Segment, Strip, Warning};
pub use units::VoltageUnit;
