//! The connection: how it stands, what comes over it, and what the screen may claim.

use client::{FeedEvent, FeedMode, Gateway};
use proto_json::{ChangeKind, PatientSummary, PatientUpdated};
use slint::{ComponentHandle, Model};
use ui::format;

use super::Station;
use crate::alarms::Happening;
use crate::phrases;
use crate::window::{self, Api, Page, Tone};

impl Station {
    /// Connects, with the settings in force.
    pub(super) fn connect(&mut self) {
        self.connection += 1;
        self.state = None;
        self.link.connect(self.connection, self.settings.clone());
        self.show_connection();
    }

    /// Takes everything off the screen.
    pub(super) fn forget(&mut self) {
        self.close_patient(Page::Wall);
        self.has_snapshot = false;
        self.sparks.clear();
        self.wall.replace(Vec::new(), |_| None);
        self.show_all_tiles();
        self.search_patients_again();
    }

    pub(super) fn take_connected(&mut self, made: Result<Gateway, String>) {
        match made {
            Ok(gateway) => {
                self.server_time = Some(gateway.server_time().clone());
                self.link.use_gateway(gateway);
            }
            Err(reason) => {
                let api = self.window.global::<Api>();
                api.set_level(window::ConnectionLevel::Bad);
                api.set_connection("not connected".into());
                api.set_technical_alarm("Not connected: the settings cannot work".into());
                self.say(Tone::Danger, &format::sentence(&reason));
            }
        }
    }

    pub(super) fn take_event(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connection(state) => {
                let was_offline = self.state.as_ref().is_some_and(|state| state.mode == FeedMode::Offline);
                let is_offline = state.mode == FeedMode::Offline;
                if was_offline != is_offline {
                    let happening = if is_offline { Happening::Raised } else { Happening::Ended };
                    self.alarms.remember_station(happening, "Connection lost".to_owned(), self.now());
                }
                self.state = Some(state);
                self.show_connection();
                self.list_alarms();
            }
            FeedEvent::Snapshot(all) => self.take_snapshot(all),
            FeedEvent::Damaged(records) => {
                self.damaged_patients = records;
                self.show_damage();
            }
            FeedEvent::Updated(update) => self.take_update(&update),
        }
    }

    fn take_snapshot(&mut self, all: Vec<PatientSummary>) {
        let now = self.now();
        for patient in &all {
            self.alarms.judge(patient, now);
        }
        let alarms = &self.alarms;
        self.wall.replace(all, |mrn| alarms.of(mrn).map(|alarm| alarm.severity));
        let there = self.wall.numbers();
        self.alarms.retain(|mrn| there.contains(&mrn));
        self.has_snapshot = true;
        self.show_all_tiles();
        self.search_patients_again();
        self.show_alarms();
        match &self.looked {
            Some(looked) => {
                let summary = self.wall.get(looked.view.mrn()).map(|tile| tile.patient.clone());
                self.reload_patient(summary);
            }
            None => {
                if let Some(mrn) = self.opens_at_start.take() {
                    self.open(mrn);
                }
            }
        }
    }

    fn take_update(&mut self, update: &PatientUpdated) {
        let mrn = update.patient.mrn;
        let is_new = self.wall.get(mrn).is_none();
        let alarm_changed = self.alarms.judge(&update.patient, self.now());
        let severity = self.alarms.of(mrn).map(|alarm| alarm.severity);
        let edit = self.wall.update(update.patient.clone(), severity);
        self.show_tile(edit);
        self.want_spark(mrn);
        self.note_names(update);
        if is_new {
            self.search_patients_again();
        }
        if alarm_changed {
            self.show_alarms();
        }
        self.update_patient(update);
    }

    /// Notes names that were replaced without a question, and names that were given but not taken.
    fn note_names(&mut self, update: &PatientUpdated) {
        let patient = &update.patient;
        let has = |kind| update.changes.iter().any(|change| change.kind == kind);
        let text = match &patient.renamed {
            Some(change) if has(ChangeKind::Name) && !change.confirmed => {
                format!("renamed without confirmation, was {}", change.from)
            }
            _ if has(ChangeKind::NameKept) => "an upload gave another name; the name was kept".to_owned(),
            _ => return,
        };
        self.alarms.remember_notice(patient.mrn, text, self.now());
        self.show_alarms();
    }

    /// Shows how the connection stands, and whether numbers may look live.
    pub(super) fn show_connection(&self) {
        let api = self.window.global::<Api>();
        let light = ui::ConnectionStatus::of(self.state.as_ref());
        api.set_level(match light.level {
            ui::ConnectionLevel::Unknown => window::ConnectionLevel::Unknown,
            ui::ConnectionLevel::Good => window::ConnectionLevel::Good,
            ui::ConnectionLevel::Fair => window::ConnectionLevel::Fair,
            ui::ConnectionLevel::Bad => window::ConnectionLevel::Bad,
        });
        let now = self.now();
        let since = self.state.as_ref().map(|state| format::time_or_date(state.since, now));
        api.set_connection(light.text.into());
        api.set_connection_since(
            since.as_ref().map(|since| format!("since {since}")).unwrap_or_default().into(),
        );
        api.set_connection_detail(light.detail.into());
        let is_offline = self.state.as_ref().is_none_or(|state| state.mode == FeedMode::Offline);
        api.set_live(!is_offline);
        let alarm = match (&self.state, &since) {
            (Some(state), Some(since)) if is_offline => {
                let reason = state.reason.as_deref().map(format::sentence).unwrap_or_default();
                format!("Connection lost since {since}. What is shown may be out of date. {reason}")
            }
            _ => self.clock_alarm.clone().or_else(|| self.damage_alarm()).unwrap_or_default(),
        };
        api.set_technical_alarm(alarm.into());
        self.show_note();
    }

    /// What is wrong with what is stored: patients that cannot be shown, and records of the patient that is open.
    fn damage_alarm(&self) -> Option<String> {
        let of_patient = self.looked.iter().flat_map(|looked| looked.view.damaged());
        phrases::damage_alarm(self.damaged_patients.iter().chain(of_patient))
    }

    /// Shows or ends the alarm that records are damaged.
    pub(super) fn show_damage(&mut self) {
        let alarm = self.damage_alarm();
        if alarm.is_some() != self.had_damage {
            let happening = if alarm.is_some() { Happening::Raised } else { Happening::Ended };
            self.alarms.remember_station(happening, "Stored data damaged".to_owned(), self.now());
            self.had_damage = alarm.is_some();
            self.list_alarms();
        }
        self.show_connection();
    }

    /// Raises or ends the alarm that a clock is wrong: the server's, or that of this computer, compared with the server's.
    pub(super) fn check_clocks(&mut self) {
        let Some(time) = &self.server_time else { return };
        let ahead = time.ahead_of_computer_ms().map(|ahead| ahead - self.clock_off_ms);
        let alarm = phrases::clock_alarm(time.problem().as_deref(), ahead);
        if alarm == self.clock_alarm {
            return;
        }
        if alarm.is_some() != self.clock_alarm.is_some() {
            let happening = if alarm.is_some() { Happening::Raised } else { Happening::Ended };
            self.alarms.remember_station(happening, "Clock wrong".to_owned(), self.now());
        }
        self.clock_alarm = alarm;
        self.show_connection();
        self.list_alarms();
    }

    /// Says on an empty wall why it is empty.
    pub(super) fn show_note(&self) {
        let note = if self.models.tiles.row_count() > 0 {
            String::new()
        } else if self.has_snapshot {
            "No patients yet. They appear here as soon as something is uploaded.".to_owned()
        } else {
            format!("Connecting to {}…", self.settings.gateway)
        };
        self.window.global::<Api>().set_wall_note(note.into());
    }
}
