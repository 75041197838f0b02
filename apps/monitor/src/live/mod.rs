//! Live waveforms: the streams of a patient, the traces of the patient page, and the traces of the tiles.
//!
//! [`patient::LivePatient`] keeps the recent samples and the vitals of one patient. [`pane::LivePane`] draws the traces of the
//! open patient, [`tile::LiveTile`] the trace of a tile. They contain no part of the window except pixels, and get the time from
//! the caller.
//!
//! Invariants: the memory of a patient is bounded by its channels. A trace without new samples for two seconds, or without a
//! connection, is stopped and says since when.

pub mod numerics;
pub mod pane;
pub mod patient;
pub mod strip;
pub mod tile;

pub use numerics::{NumericKind, NumericValue};
pub use pane::{LivePane, Speed};
pub use patient::{ChannelKind, LivePatient, SignalState};
pub use tile::LiveTile;
