//! Limits, alarms and their history on disk.

use std::path::Path;

use ui::{SettingsError, SettingsFile};

use super::Alarms;

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is there, but cannot be read.
    #[error("the alarm limits cannot be read, and the usual ones are in force: {0}")]
    Read(SettingsError),
    /// It cannot be written.
    #[error("the alarm limits cannot be kept and are lost when this app ends: {0}")]
    Write(SettingsError),
}

/// What was kept; the usual limits where there is no file yet.
///
/// # Errors
/// [`StoreError::Read`]; the file is then put aside, so that a person can look at it.
pub fn load(path: &Path) -> Result<Alarms, StoreError> {
    SettingsFile::at(path).load().map_err(|error| {
        // Where that fails the file stays where it is, and is replaced by the next change.
        let _ = std::fs::rename(path, path.with_extension("unreadable"));
        StoreError::Read(error)
    })
}

/// Keeps them: a crash leaves the old file or the new one, never half.
///
/// # Errors
/// [`StoreError::Write`].
pub fn save(path: &Path, alarms: &Alarms) -> Result<(), StoreError> {
    SettingsFile::at(path).save(alarms).map_err(StoreError::Write)
}
