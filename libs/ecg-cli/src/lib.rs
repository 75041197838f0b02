//! The parts of the command `bedside-ecg`, which the programs in `libs/ecg/examples` share.
//!
//! `ecg` does no I/O; this crate opens files and prints results. Errors are sentences for the user.

pub mod evaluate;
pub mod exit;
pub mod input;
pub mod report;
pub mod timing;
pub mod wfdb_files;
