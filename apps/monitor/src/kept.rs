//! What the app remembers from one start to the next, besides alarms.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings file of the monitor: how to reach the system, and how this station likes things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// How to reach the system, and the theme.
    #[serde(flatten)]
    pub(crate) connection: ui::Settings,
    /// Age past which a value is stale, in seconds.
    pub(crate) stale_after_s: u64,
    /// How long an alarm is silenced, in seconds.
    pub(crate) silence_s: u64,
    /// ECGs on paper instead of a dark screen.
    pub(crate) paper: bool,
    /// Range of the trend, by its place among the ranges.
    pub(crate) range: usize,
    /// Where files were saved last.
    pub(crate) download_folder: Option<PathBuf>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            connection: ui::Settings::default(),
            stale_after_s: 60,
            silence_s: 120,
            paper: false,
            range: 1,
            download_folder: None,
        }
    }
}

impl Kept {
    /// Age past which a value is stale.
    #[must_use]
    pub(crate) fn stale_after(&self) -> Duration {
        Duration::from_secs(self.stale_after_s.max(1))
    }

    /// How long an alarm is silenced.
    #[must_use]
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_s.max(1))
    }

    /// Where to offer to save: where it was last, else the user's downloads or home.
    #[must_use]
    pub(crate) fn folder(&self) -> PathBuf {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("."));
        let downloads = home.join("Downloads");
        let usual = if downloads.is_dir() { downloads } else { home };
        self.download_folder.clone().filter(|folder| folder.is_dir()).unwrap_or(usual)
    }
}

/// The file of alarms that belongs to a settings file.
#[must_use]
pub(crate) fn alarms_beside(settings: &Path) -> PathBuf {
    settings.with_extension("alarms.json")
}
