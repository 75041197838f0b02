//! The file that stores limits, alarms and their history.

use std::path::Path;

use ui::{SettingsError, SettingsFile};

use super::alarm_list::Alarms;

/// The reason why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file exists, but cannot be read.
    #[error("{}", ui::tr!("the alarm limits cannot be read, and the default limits apply: {}", .0))]
    Read(SettingsError),
    /// The file cannot be written.
    #[error("{}", ui::tr!("the alarm limits cannot be saved and are lost when this app ends: {}", .0))]
    Write(SettingsError),
}

/// Reads the file. Returns the defaults if it does not exist.
///
/// # Errors
/// [`StoreError::Read`]. The file is then renamed to `*.unreadable`, so that it can be inspected.
pub fn load(path: &Path) -> Result<Alarms, StoreError> {
    SettingsFile::at(path).load().map_err(|error| {
        // If this fails, the file stays where it is and the next change overwrites it.
        let _ = std::fs::rename(path, path.with_extension("unreadable"));
        StoreError::Read(error)
    })
}

/// Replaces the file atomically.
///
/// # Errors
/// [`StoreError::Write`].
pub fn save(path: &Path, alarms: &Alarms) -> Result<(), StoreError> {
    SettingsFile::at(path).save(alarms).map_err(StoreError::Write)
}
