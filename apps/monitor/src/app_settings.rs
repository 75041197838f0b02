//! The settings file of the monitor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::live::Speed;
use crate::live::pane::MAX_TRACES;
use crate::overview::TileOrder;
use crate::wards::PlaceFilter;

/// The saved settings: the connection, and the preferences of this station. The log of the station has a file
/// of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AppSettings {
    /// The connection and the theme.
    #[serde(flatten)]
    pub(crate) connection: ui::Settings,
    /// The age in seconds after which a value is stale.
    pub(crate) stale_after_s: u64,
    /// The time in seconds for which the sound of an alarm is paused.
    #[serde(alias = "silence_s")]
    pub(crate) pause_s: u64,
    /// The volume of the alarms, from 1 to 10.
    pub(crate) volume: u8,
    /// The order of the tiles on the overview.
    pub(crate) order: TileOrder,
    /// Which patients and beds the overview shows.
    pub(crate) place: PlaceFilter,
    /// Whether ECGs are drawn on paper instead of on a dark background.
    pub(crate) paper: bool,
    /// The index of the time range of the trend.
    pub(crate) range: usize,
    /// The paper speed of live waveforms.
    pub(crate) live_speed: Speed,
    /// The maximum number of live waveforms on the patient page.
    pub(crate) live_traces: usize,
    /// Whether the patient page shows live waveforms instead of strips, if there are any.
    pub(crate) live_tab: bool,
    /// The folder of the last saved file.
    pub(crate) download_folder: Option<PathBuf>,
}

impl Default for AppSettings {
    fn default() -> Self {
        AppSettings {
            connection: ui::Settings::default(),
            stale_after_s: 60,
            pause_s: 120,
            volume: alarm_sound::Volume::default().step(),
            order: TileOrder::default(),
            place: PlaceFilter::default(),
            paper: false,
            range: 1,
            live_speed: Speed::default(),
            live_traces: MAX_TRACES,
            live_tab: true,
            download_folder: None,
        }
    }
}

impl AppSettings {
    /// The age after which a value is stale.
    #[must_use]
    pub(crate) fn stale_after(&self) -> Duration {
        Duration::from_secs(self.stale_after_s.max(1))
    }

    /// The time in seconds for which the sound of an alarm is paused.
    #[must_use]
    pub(crate) fn pause_s(&self) -> u32 {
        u32::try_from(self.pause_s.clamp(1, 600)).unwrap_or(600)
    }

    /// The folder that the save dialog suggests: that of the last saved file, or else the user's downloads or home folder.
    #[must_use]
    pub(crate) fn folder(&self) -> PathBuf {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("."));
        let downloads = home.join("Downloads");
        let default = if downloads.is_dir() { downloads } else { home };
        self.download_folder.clone().filter(|folder| folder.is_dir()).unwrap_or(default)
    }
}

/// The path of the log of the station: next to the settings file.
#[must_use]
pub(crate) fn log_path(settings: &Path) -> PathBuf {
    settings.with_extension("station.json")
}

/// The path of the file in which earlier versions stored limits and alarms.
#[must_use]
pub(crate) fn old_alarms_path(settings: &Path) -> PathBuf {
    settings.with_extension("alarms.json")
}
