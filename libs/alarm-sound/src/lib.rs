//! Sounds of alarms.
//!
//! - [`burst`] renders the burst of a priority to samples.
//! - [`Sequencer`] decides when bursts are played. It has no clock of its own.
//! - [`AlarmSound`] plays them on a thread of its own.
//!
//! Pulses, bursts and the times between them have the characteristics of IEC 60601-1-8, tables 3 and 4. Volume, loudspeaker and
//! room are not part of this crate: whether a sound is loud enough has to be checked where it is used.

mod output;
mod player;
mod sequencer;
mod synthesis;

pub use output::{OutputError, PlayedBurst, Recorder, SoundOutput};
pub use player::{AlarmSound, SoundStatus};
pub use sequencer::{Sequencer, Step};
pub use synthesis::{SAMPLE_RATE_HZ, SoundPriority, Volume, burst, burst_duration, interburst_interval};
