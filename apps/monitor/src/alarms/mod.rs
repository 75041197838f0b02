//! The alarms as this station knows them.
//!
//! The server raises, changes and ends the alarms of patients; [`Alarms`] mirrors them. An alarm is replaced only by a higher
//! version of itself. The alarms of the station itself (lost connection, wrong clock, damaged data) are local: [`StationLog`].

mod limits;
mod model;
mod severity;
mod sound;
mod station;

pub use limits::{Limits, rate_severity};
pub use model::{Alarms, Filter, StateFilter, flashes, needs_attention, paused_ms};
pub use severity::Severity;
pub use sound::{LocalPause, sound_priority};
pub use station::{OldAlarms, StationEvent, StationEventKind, StationLog, StoreError};

#[cfg(test)]
mod tests;
