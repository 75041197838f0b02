//! The station's own alarms and notices, and the file that stores them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use proto_json::{Mrn, Timestamp};
use serde::{Deserialize, Serialize};
use ui::{SettingsError, SettingsFile};

/// The maximum number of stored events.
pub(super) const MAX_EVENTS: usize = 500;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StationEventKind {
    /// An alarm of the station was raised.
    Raised,
    /// An alarm of the station has ended.
    Ended,
    /// Not an alarm: information about a patient.
    Noticed,
}

/// An event of the station. It contains the number of a patient, but no name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StationEvent {
    /// When it happened, by the clock of the server.
    pub at: Timestamp,
    /// The patient. `None` for an alarm of the station.
    pub mrn: Option<Mrn>,
    /// What has happened.
    pub kind: StationEventKind,
    /// The text, in English.
    pub text: String,
}

/// The latest events of the station.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StationLog {
    events: VecDeque<StationEvent>,
    /// Increases with every event.
    #[serde(skip)]
    revision: u64,
}

/// The reason why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file exists, but cannot be read.
    #[error("{}", ui::tr!("the history of this station cannot be read: {}", .0))]
    Read(SettingsError),
    /// The file cannot be written.
    #[error("{}", ui::tr!("the history of this station cannot be saved and is lost when this app ends: {}", .0))]
    Write(SettingsError),
}

impl StationLog {
    /// Adds an event.
    pub fn record(&mut self, event: StationEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.revision += 1;
    }

    /// The events, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &StationEvent> {
        self.events.iter().rev()
    }

    /// Increases with every event.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads the file. Returns an empty log if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Read`]. The file is then renamed to `*.unreadable`, so that it can be inspected.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        SettingsFile::at(path).load().map_err(|error| {
            // If this fails, the file stays where it is and the next event overwrites it.
            let _ = std::fs::rename(path, path.with_extension("unreadable"));
            StoreError::Read(error)
        })
    }

    /// Replaces the file atomically.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        SettingsFile::at(path).save(self).map_err(StoreError::Write)
    }
}

/// The file in which earlier versions stored limits and alarms of this station. The server has them now.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct OldAlarms {
    defaults: serde_json::Value,
    #[serde(alias = "own")]
    patient_limits: serde_json::Map<String, serde_json::Value>,
    latching: String,
}

impl Default for OldAlarms {
    fn default() -> Self {
        OldAlarms {
            defaults: serde_json::Value::Null,
            patient_limits: serde_json::Map::new(),
            latching: "high".to_owned(),
        }
    }
}

impl OldAlarms {
    /// Renames the file, if there is one. Returns its new path if it has limits that differ from the defaults of those versions: the
    /// user has to compare them with the limits of the server.
    #[must_use]
    pub fn retire(path: &Path) -> Option<PathBuf> {
        let text = std::fs::read(path).ok()?;
        let kept = path.with_extension("before-server.json");
        if let Err(error) = std::fs::rename(path, &kept) {
            tracing::warn!(%error, "the file of alarms of an earlier version cannot be renamed");
            return None;
        }
        // A file that cannot be read may have had limits.
        let is_custom = serde_json::from_slice::<OldAlarms>(&text).map_or(true, |old| old.is_custom());
        is_custom.then_some(kept)
    }

    fn is_custom(&self) -> bool {
        let value = |names: [&str; 2]| names.iter().find_map(|name| self.defaults.get(name)?.as_u64());
        let limits = [
            (["low", "low"], 50),
            (["high", "high"], 120),
            (["critical_low", "extreme_low"], 35),
            (["critical_high", "extreme_high"], 150),
        ];
        !self.patient_limits.is_empty()
            || self.latching != "high"
            || limits.iter().any(|(names, default)| value(*names).is_some_and(|limit| limit != *default))
    }
}
