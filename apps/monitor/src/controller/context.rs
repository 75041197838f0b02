//! The state that all controllers share.

use std::time::Duration;

use alarm_sound::AlarmSound;
use client::ServerTime;
use proto_json::alarms::StoredLimits;
use proto_json::{Mrn, Timestamp};
use slint::ComponentHandle;
use ui::trace::Size;
use ui::{Settings, tr};

use crate::alarms::{Alarms, Limits, LocalPause, StationEvent, StationEventKind, StationLog};
use crate::app_settings::AppSettings;
use crate::backend::Backend;
use crate::messages;
use crate::overview::Overview;
use crate::persistence::Persistence;
use crate::window::{Api, Dialog, Main, NameData, Theme, Tone};

/// The state that all controllers share: window, models, settings and clock.
pub(super) struct Context {
    pub(super) window: Main,
    pub(super) backend: Backend,
    pub(super) persistence: Persistence,
    /// The settings as they are saved.
    pub(super) saved: AppSettings,
    /// The connection settings in force: the saved ones, overridden by the command line.
    pub(super) settings: Settings,
    pub(super) stale_after: Duration,
    /// The person who has logged in sees some wards only.
    pub(super) is_limited: bool,
    /// The alarms of the server.
    pub(super) alarms: Alarms,
    /// The limits of the open patient.
    pub(super) limits: Option<(Mrn, StoredLimits)>,
    /// The station's own alarms.
    pub(super) log: StationLog,
    pub(super) sound: AlarmSound,
    pub(super) pause: LocalPause,
    pub(super) overview: Overview,
    /// The clock of the server. `None` before the first connection.
    pub(super) server_time: Option<ServerTime>,
    /// How far tests have advanced the clock.
    pub(super) advanced_ms: i64,
}

impl Context {
    pub(super) fn api(&self) -> Api<'_> {
        self.window.global::<Api>()
    }

    /// The time by the clock of the server, which all values use. This computer's clock may be wrong and is used only until the
    /// server has reported its time.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.server_time.as_ref().and_then(ServerTime::now).unwrap_or_else(Timestamp::now);
        now.plus_millis(self.advanced_ms)
    }

    /// The limits of the heart rate of the open patient. `None` for another patient, and while they are not loaded.
    pub(super) fn limits(&self, mrn: Mrn) -> Option<Limits> {
        let (_, stored) = self.limits.as_ref().filter(|(of, _)| *of == mrn)?;
        Limits::of(&stored.effective)
    }

    /// Adds an alarm of this station to the history. `text` is in English.
    pub(super) fn record(&mut self, kind: StationEventKind, text: &str) {
        let event = StationEvent { at: self.now(), mrn: None, kind, text: text.to_owned() };
        self.log.record(event);
    }

    /// Shows a message in the status bar.
    pub(super) fn show_message(&self, tone: Tone, text: &str) {
        let api = self.api();
        api.set_message_tone(tone);
        api.set_message(text.into());
    }

    pub(super) fn show_dialog(&self, dialog: Dialog) {
        self.api().set_dialog(dialog);
    }

    pub(super) fn save_settings(&self) {
        self.persistence.save_settings(&self.saved);
    }

    pub(super) fn is_dark(&self) -> bool {
        self.window.global::<Theme>().get_dark()
    }

    /// The size of a picture that fills an area, given in logical pixels of a window that is not zoomed.
    pub(super) fn picture_size(&self, width: f32, height: f32) -> Size {
        let zoom = self.window.global::<Theme>().get_zoom();
        Size::new(width, height, self.window.window().scale_factor() * zoom)
    }

    /// The name of a patient. Empty if the patient is not known.
    pub(super) fn patient_name(&self, mrn: Mrn) -> NameData {
        let tile = self.overview.get(mrn);
        tile.map(|tile| messages::name_data(&tile.patient, self.overview.split_name(mrn))).unwrap_or_default()
    }

    /// The name and the number of a patient.
    pub(super) fn patient_title(&self, mrn: Mrn) -> String {
        match self.overview.get(mrn) {
            Some(tile) => format!("{} · {mrn}", messages::name(&tile.patient)),
            None => tr!("MRN {}", mrn),
        }
    }
}
