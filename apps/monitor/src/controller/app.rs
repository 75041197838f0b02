//! The app controller: handles backend events and user actions that concern several pages.

use std::collections::BTreeSet;
use std::time::Duration;

use alarm_sound::{AlarmSound, SoundPriority};
use client::{AlarmsEvent, FeedEvent, Gateway, Outdated};
use proto_json::alarms::{Alarm, AlarmState, LimitScope, StoredLimits};
use proto_json::{Change, ChangeKind, Mrn, PatientSummary, PatientUpdated, RecordId};
use slint::ComponentHandle;
use ui::{Login, SettingsError, SettingsFile, UiReceiver, format, tr};

use super::account::{AccountController, AfterLogin};
use super::alarms::AlarmsController;
use super::connection::ConnectionController;
use super::context::Context;
use super::corrections::CorrectionsController;
use super::dialogs::DialogsController;
use super::limits::LimitsController;
use super::live::{LiveController, Visible};
use super::overview::OverviewController;
use super::patient::PatientController;
use super::wards::WardsController;
use crate::Args;
use crate::alarms::{
    Alarms, LocalPause, OldAlarms, StationEvent, StationEventKind, StationLog, needs_attention,
};
use crate::app_settings::{self, AppSettings};
use crate::backend::{AlarmAction, Backend, BackendEvent, CareChange, CareResult};
use crate::overview::Overview;
use crate::patient::Changes;
use crate::persistence::Persistence;
use crate::window::{Dialog, Live, Main, Page, SettingsForm, Tone};

/// The controller of the whole app. It owns the state and the controllers of the pages.
pub(crate) struct AppController {
    pub(super) context: Context,
    pub(super) overview: OverviewController,
    pub(super) patient: PatientController,
    pub(super) live: LiveController,
    pub(super) alarms: AlarmsController,
    pub(super) limits: LimitsController,
    pub(super) dialogs: DialogsController,
    pub(super) wards: WardsController,
    pub(super) account: AccountController,
    pub(super) corrections: CorrectionsController,
    connection: ConnectionController,
    receiver: UiReceiver<BackendEvent>,
    settings_file: SettingsFile,
    /// The error of a file that could not be read at start.
    start_error: Option<String>,
    /// The patient to open once all patients are loaded.
    open_at_start: Option<Mrn>,
    has_snapshot: bool,
    /// The revision of the log that was saved last.
    saved_log: u64,
    has_quit: bool,
    timer: slint::Timer,
}

impl AppController {
    /// Reads the files and creates the controllers. If a file cannot be read, the defaults apply and the window shows the error.
    pub(crate) fn new(
        args: Args,
        settings_file: SettingsFile,
        backend: Backend,
        persistence: Persistence,
        sound: AlarmSound,
        window: Main,
        receiver: UiReceiver<BackendEvent>,
    ) -> Self {
        let mut start_error = None;
        let saved = settings_file.load::<AppSettings>().unwrap_or_else(|error| {
            start_error = Some(error.to_string());
            AppSettings::default()
        });
        let settings = args.connection.apply_to(&saved.connection).unwrap_or_else(|error| {
            start_error = Some(error.to_string());
            saved.connection.clone()
        });
        let log = StationLog::load(&app_settings::log_path(settings_file.path())).unwrap_or_else(|error| {
            start_error = Some(error.to_string());
            StationLog::default()
        });
        if let Some(kept) = OldAlarms::retire(&app_settings::old_alarms_path(settings_file.path())) {
            start_error = Some(tr!(
                "The alarm limits of the server apply now. The limits of this station are kept in {}; compare them.",
                kept.display()
            ));
        }
        AppController {
            overview: OverviewController::default(),
            patient: PatientController::new(saved.range),
            live: LiveController::default(),
            alarms: AlarmsController::default(),
            limits: LimitsController::default(),
            dialogs: DialogsController::default(),
            wards: WardsController::default(),
            account: AccountController::new(args.lock_after),
            corrections: CorrectionsController::default(),
            connection: ConnectionController::default(),
            receiver,
            settings_file,
            start_error,
            open_at_start: args.patient,
            has_snapshot: false,
            saved_log: log.revision(),
            has_quit: false,
            timer: slint::Timer::default(),
            context: Context {
                window,
                backend,
                persistence,
                settings,
                is_limited: false,
                stale_after: args.stale_after.unwrap_or_else(|| saved.stale_after()),
                alarms: Alarms::default(),
                limits: None,
                log,
                sound,
                pause: LocalPause::default(),
                overview: Overview::new(saved.order),
                saved,
                server_time: None,
                advanced_ms: 0,
            },
        }
    }

    /// Shows the initial state and connects.
    pub(super) fn start(&mut self) {
        self.wards.bind(&mut self.context);
        let context = &self.context;
        self.overview.bind(context);
        self.patient.bind(context);
        self.live.bind(context);
        self.alarms.bind(context);
        self.account.bind(context);
        self.corrections.bind(context);
        let api = context.api();
        api.set_version(env!("CARGO_PKG_VERSION").into());
        api.set_settings_file(self.settings_file.path().display().to_string().into());
        self.dialogs.apply_theme(context);
        self.alarms.show(context);
        self.tick();
        if let Some(error) = self.start_error.take() {
            self.context.show_message(Tone::Danger, &format::sentence(&error));
        }
        self.connect();
    }

    pub(super) fn timer(&self) -> &slint::Timer {
        &self.timer
    }

    pub(crate) fn window(&self) -> Main {
        self.context.window.clone_strong()
    }

    pub(crate) fn has_quit(&self) -> bool {
        self.has_quit
    }

    /// Simulates an error of this computer's clock. For tests.
    pub(crate) fn set_clock_error(&mut self, error_ms: i64) {
        self.connection.set_clock_error(error_ms);
        self.tick();
    }

    /// Advances the clock. For tests.
    pub(crate) fn advance_clock(&mut self, by: Duration) {
        self.context.advanced_ms += i64::try_from(by.as_millis()).unwrap_or(0);
        self.tick();
    }

    /// Reverts all calls of [`AppController::advance_clock`].
    pub(crate) fn reset_clock(&mut self) {
        self.context.advanced_ms = 0;
        self.tick();
    }

    /// Processes all events that have arrived.
    pub(super) fn process_events(&mut self) {
        while let Some(event) = self.receiver.try_recv() {
            self.handle(event);
        }
    }

    /// Waits for an event and processes it. Returns `false` if none arrives within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> bool {
        match self.receiver.recv_timeout(limit) {
            Some(event) => {
                self.handle(event);
                true
            }
            None => false,
        }
    }

    fn handle(&mut self, event: BackendEvent) {
        let context = &mut self.context;
        match event {
            BackendEvent::Connected(number, result) if number == self.connection.number => {
                self.connected(result);
            }
            BackendEvent::Feed(number, event) if number == self.connection.number => self.feed_event(event),
            BackendEvent::LiveStarted(number, subscriber) if number == self.connection.number => {
                self.live.started(context, subscriber);
            }
            BackendEvent::Live(number, event, _permit) if number == self.connection.number => {
                self.live.event(context, event);
            }
            BackendEvent::Session(number, session) if number == self.connection.number => {
                self.account.set_session(context, session);
            }
            BackendEvent::LoggedIn(result) => self.logged_in(result),
            BackendEvent::Accessed(mrn, result) => self.accessed(mrn, result),
            BackendEvent::Correctable(mrn, result) => self.corrections.loaded(context, mrn, result),
            BackendEvent::Corrected(mrn, request, result) => {
                if let Some(into) = self.corrections.corrected(context, mrn, &request, result)
                    && self.patient.mrn() == Some(mrn)
                {
                    self.open_patient(into);
                }
            }
            BackendEvent::Kept(result) => self.strip_kept(result),
            BackendEvent::Connected(..)
            | BackendEvent::Feed(..)
            | BackendEvent::LiveStarted(..)
            | BackendEvent::Session(..)
            | BackendEvent::Live(..) => {}
            BackendEvent::Sparkline(mrn, id, result) => {
                self.overview.sparkline_loaded(context, mrn, id, result);
            }
            BackendEvent::Response(id, response) => {
                self.patient.apply(context, id, response);
                self.show_damage();
            }
            BackendEvent::AlarmChanged(result) => self.alarm_changed(result),
            BackendEvent::Limits(scope, result) => self.limits_loaded(scope, result),
            BackendEvent::LimitsSaved(scope, result) => {
                if let Ok(stored) = &result {
                    self.patient.limits_loaded(context, scope, stored);
                }
                self.limits.saved(context, scope, result);
                self.tick();
            }
            BackendEvent::EndedAlarms(page) => self.alarms.history_loaded(context, page),
            BackendEvent::Wards(wards) => {
                if self.wards.loaded(context, wards) {
                    self.show_overview();
                }
            }
            BackendEvent::CareChanged(mrn, change, result) => self.care_changed(mrn, &change, result),
            BackendEvent::Sound(status) => self.alarms.sound_status(context, &status),
            BackendEvent::Saved(path, result) => self.dialogs.saved(context, &path, result),
            BackendEvent::Tested(result) => self.dialogs.tested(context, result),
            BackendEvent::SaveFailed(reason) => {
                context.show_message(Tone::Danger, &format::sentence(&reason));
            }
            BackendEvent::PathSelected(path) => self.dialogs.path_selected(context, &path),
        }
    }

    /// Updates everything that changes with time. Runs once a second.
    pub(super) fn tick(&mut self) {
        let now = self.context.now();
        self.context.api().set_clock(format::time_of_day(now).into());
        if self.connection.check_clocks(&mut self.context) {
            self.show_connection();
            self.alarms.show_lists(&self.context);
        }
        self.overview.update_ages(&self.context, now);
        self.patient.update_age(&self.context, now);
        self.live.tick(&self.context);
        let paused = self.context.alarms.iter().filter(|alarm| alarm.audio_paused_until.is_some());
        let paused: BTreeSet<Mrn> = paused.map(|alarm| alarm.mrn).collect();
        if !paused.is_empty() {
            self.show_alarms_of(&paused);
        }
        self.account.tick(&self.context);
        self.update_sound();
        self.save_log();
    }

    /// Updates what sounds at this station.
    fn update_sound(&mut self) {
        let station = self.connection.severity(&self.context);
        self.alarms.update_sound(&mut self.context, station);
    }

    /// What sounds at this station. For tests.
    pub(crate) fn sounding(&self) -> Option<SoundPriority> {
        self.alarms.sounding()
    }

    /// Handles an event of the live waveforms. For tests.
    pub(crate) fn live_event(&mut self, event: client::LiveEvent) {
        self.live.event(&self.context, event);
    }

    /// The patients whose live waveforms are subscribed. For tests.
    pub(crate) fn live_subscriptions(&self) -> std::collections::BTreeMap<Mrn, proto_json::LiveMode> {
        self.live.subscribed()
    }

    /// The time by the clock of the server.
    pub(crate) fn now(&self) -> proto_json::Timestamp {
        self.context.now()
    }

    /// Draws a frame of the live waveforms.
    pub(super) fn live_frame(&mut self) {
        self.live.frame(&self.context);
    }

    /// Stores the last seconds of the live ECG as an upload.
    pub(super) fn keep_strip(&mut self, seconds: i32) {
        let context = &self.context;
        let Some((mrn, strip)) = self.live.strip(context, seconds) else {
            return context.show_message(Tone::Danger, tr!("There is no ECG to keep."));
        };
        if context.backend.keep(mrn, strip) {
            context.window.global::<Live>().set_keeping(true);
        } else {
            context.show_message(Tone::Danger, tr!("There is no connection."));
        }
    }

    fn strip_kept(&self, result: Result<(), String>) {
        self.context.window.global::<Live>().set_keeping(false);
        match result {
            Ok(()) => self.context.show_message(Tone::Good, tr!("The strip is stored.")),
            Err(reason) => {
                let text = tr!("The strip is not stored: {}", reason);
                self.context.show_message(Tone::Danger, &format::sentence(&text));
            }
        }
    }

    fn connect(&mut self) {
        self.connection.connect(&mut self.context);
        self.show_note();
    }

    fn connected(&mut self, result: Result<Gateway, SettingsError>) {
        match result {
            Ok(gateway) => {
                self.context.server_time = Some(gateway.server_time().clone());
                self.context.backend.set_gateway(gateway);
                self.context.backend.load_session(self.connection.number);
            }
            Err(error) => self.connection.settings_rejected(&self.context, &error),
        }
    }

    fn feed_event(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connection(state) => {
                if self.account.set_state(&mut self.context, &state) {
                    // The token of the station keeps the alarms on the screen.
                    return self.connect();
                }
                self.connection.set_state(&mut self.context, state);
                self.show_connection();
                self.alarms.show_lists(&self.context);
                self.update_sound();
            }
            FeedEvent::Snapshot(patients) => {
                self.account.accepted(&self.context);
                self.replace_patients(patients);
            }
            FeedEvent::Damaged(records) => {
                self.connection.set_damaged(records);
                self.show_damage();
            }
            FeedEvent::Updated(update) => self.update_patient(&update),
            FeedEvent::Alarms(event) => self.alarms_event(event),
            FeedEvent::Outdated(outdated) => self.reload(outdated),
        }
    }

    fn alarms_event(&mut self, event: AlarmsEvent) {
        let context = &mut self.context;
        let changed = match event {
            AlarmsEvent::Snapshot(alarms) => {
                let changed = context.alarms.replace(alarms);
                self.connection.alarms_available(context);
                self.show_connection();
                changed
            }
            AlarmsEvent::Updated(alarm) => return self.apply_alarm(*alarm),
            AlarmsEvent::Unavailable(reason) => {
                context.alarms.set_unavailable(reason);
                self.connection.alarms_available(context);
                self.show_connection();
                BTreeSet::new()
            }
        };
        self.show_alarms_of(&changed);
        self.update_sound();
    }

    fn apply_alarm(&mut self, alarm: Alarm) {
        let mut mrns = BTreeSet::from([alarm.mrn]);
        mrns.extend(self.context.alarms.get(alarm.id).map(|known| known.mrn));
        if self.context.alarms.apply(alarm) {
            self.show_alarms_of(&mrns);
            self.update_sound();
        }
    }

    /// The server has answered an action of the user.
    fn alarm_changed(&mut self, result: Result<Box<Alarm>, String>) {
        match result {
            Ok(alarm) => self.apply_alarm(*alarm),
            Err(reason) => {
                let text = tr!("The alarm is not changed: {}", reason);
                self.context.show_message(Tone::Danger, &format::sentence(&text));
            }
        }
    }

    /// The server has answered a change of a patient's bed or details.
    fn care_changed(&mut self, mrn: Mrn, change: &CareChange, result: CareResult) {
        let Some(patient) = self.wards.changed(&self.context, mrn, change, result) else { return };
        let kind = match change {
            CareChange::Details(_) => ChangeKind::Details,
            CareChange::Admit(_) | CareChange::Transfer(_) | CareChange::Discharge(_) => {
                ChangeKind::Admission
            }
        };
        // The update of the feed may have arrived before the answer.
        let known = self.context.overview.get(mrn).map(|tile| tile.patient.version);
        if known.is_none_or(|known| known < patient.version) {
            let changes = vec![Change { kind, id: None }];
            self.update_patient(&PatientUpdated { upload_id: None, changes, patient, sent_at: None });
        }
    }

    /// The user has chosen which patients and beds the overview shows.
    pub(super) fn select_ward(&mut self, key: &str) {
        self.wards.select(&mut self.context, key);
        self.show_overview();
        self.live.subscribe(&self.context);
    }

    /// Loads what has changed and is on the screen.
    fn reload(&mut self, outdated: Outdated) {
        if matches!(outdated, Outdated::Wards | Outdated::Everything) {
            self.context.backend.load_wards();
        }
        let Some(mrn) = self.patient.mrn() else { return };
        match outdated {
            Outdated::Limits(LimitScope::Patient { mrn: other }) if other != mrn => {}
            Outdated::Limits(_) | Outdated::Everything => {
                self.context.backend.load_limits(LimitScope::Patient { mrn });
            }
            Outdated::Patient(other) if other == mrn => {
                let summary = self.context.overview.get(mrn).map(|tile| tile.patient.clone());
                self.patient.reload(&mut self.context, summary);
            }
            Outdated::Wards | Outdated::Patient(_) => {}
        }
    }

    fn limits_loaded(&mut self, scope: LimitScope, result: Result<Box<StoredLimits>, String>) {
        self.limits.loaded(&self.context, scope, &result);
        match result {
            Ok(stored) => self.patient.limits_loaded(&mut self.context, scope, &stored),
            Err(reason) => tracing::debug!(reason, "limits cannot be loaded"),
        }
    }

    fn replace_patients(&mut self, patients: Vec<PatientSummary>) {
        let context = &mut self.context;
        let alarms = &context.alarms;
        context.overview.replace(patients, |mrn| alarms.severity(mrn));
        self.has_snapshot = true;
        self.context.backend.load_wards();
        self.show_overview();
        self.show_alarms();
        match self.patient.mrn() {
            Some(mrn) => {
                let summary = self.context.overview.get(mrn).map(|tile| tile.patient.clone());
                self.patient.reload(&mut self.context, summary);
            }
            None => {
                if let Some(mrn) = self.open_at_start.take() {
                    self.open_patient(mrn);
                }
            }
        }
    }

    fn update_patient(&mut self, update: &PatientUpdated) {
        let context = &mut self.context;
        let mrn = update.patient.mrn;
        let before = context.overview.get(mrn);
        let is_name_new = before.is_none_or(|tile| tile.patient.name != update.patient.name);
        let severity = context.alarms.severity(mrn);
        let change = context.overview.update(update.patient.clone(), severity);
        let places = context.overview.places();
        if update.patient.admission.is_some() && places.bed_key(&update.patient).is_none() {
            context.backend.load_wards();
        }
        let count_changed = self.overview.show_change(context, change);
        self.overview.load_sparkline(context, mrn);
        if count_changed {
            self.show_note();
        }
        let is_notice = self.record_name_notice(update);
        if is_name_new {
            self.overview.update_names(&self.context);
            self.overview.show_options(&self.context);
        }
        if is_notice {
            self.show_alarms();
        }
        self.patient.update(&mut self.context, update);
    }

    /// Adds unconfirmed renamings and rejected names to the history. Returns whether there was one.
    fn record_name_notice(&mut self, update: &PatientUpdated) -> bool {
        let patient = &update.patient;
        let has = |kind| update.changes.iter().any(|change| change.kind == kind);
        let text = match &patient.renamed {
            Some(change) if has(ChangeKind::Name) && !change.confirmed => {
                tr!("renamed without confirmation, was {}", change.from)
            }
            _ if has(ChangeKind::NameKept) => {
                tr!("an upload gave another name; the name was kept").to_owned()
            }
            _ => return false,
        };
        let (at, kind) = (self.context.now(), StationEventKind::Noticed);
        self.context.log.record(StationEvent { at, mrn: Some(patient.mrn), kind, text });
        true
    }

    fn show_overview(&mut self) {
        self.overview.show_all(&self.context);
        self.overview.show_options(&self.context);
        self.show_note();
    }

    /// Shows the number of alarms, the lists of the alarms page, and the alarm of another patient.
    fn show_alarms(&self) {
        self.alarms.show(&self.context);
        self.patient.show_other_alarm(&self.context);
        self.account.show_alarms(&self.context);
    }

    fn show_connection(&self) {
        self.connection.show(&self.context, self.patient.damaged());
    }

    fn show_damage(&mut self) {
        if self.connection.check_damage(&mut self.context, self.patient.damaged()) {
            self.alarms.show_lists(&self.context);
        }
        self.show_connection();
    }

    /// Shows on an empty overview why it is empty.
    fn show_note(&self) {
        let note = if !self.overview.is_empty() {
            String::new()
        } else if self.context.overview.total() > 0 {
            tr!("No patient is here. Choose another ward above.").to_owned()
        } else if self.has_snapshot {
            tr!("No patients yet. A patient appears here after the first upload.").to_owned()
        } else {
            tr!("Connecting to {}…", self.context.settings.gateway)
        };
        self.context.api().set_overview_note(note.into());
    }

    /// Shows the alarms of patients on their tiles, on the patient page and in the lists.
    fn show_alarms_of(&mut self, mrns: &BTreeSet<Mrn>) {
        for mrn in mrns {
            let severity = self.context.alarms.severity(*mrn);
            if let Some(change) = self.context.overview.set_severity(*mrn, severity) {
                self.overview.show_change(&self.context, change);
            }
            if self.patient.mrn() == Some(*mrn) {
                self.patient.show_vitals(&self.context);
            }
        }
        self.show_alarms();
    }

    pub(super) fn open_patient(&mut self, mrn: Mrn) {
        if self.context.is_limited && self.has_snapshot && self.context.overview.get(mrn).is_none() {
            return self.account.ask_access(&self.context, mrn);
        }
        self.patient.open(&mut self.context, mrn);
        self.live.show(&self.context, Visible::Patient(mrn));
        self.context.api().set_page(Page::Patient);
    }

    /// Shows the overview or the alarms page.
    pub(super) fn show_page(&mut self, page: Page) {
        if self.patient.close(&mut self.context) {
            self.show_damage();
        }
        self.context.api().set_page(page);
        let visible = if page == Page::Overview { Visible::Tiles } else { Visible::Nothing };
        self.live.show(&self.context, visible);
        if page == Page::Alarms {
            self.alarms.load_history(&self.context);
        }
        self.alarms.show_lists(&self.context);
    }

    /// Acknowledges the alarms of the open patient, which are all on the screen.
    pub(super) fn acknowledge(&self, mrn: Mrn) {
        let alarms = self.context.alarms.of(mrn);
        let ids: Vec<RecordId> =
            alarms.iter().filter(|alarm| needs_attention(alarm)).map(|alarm| alarm.id).collect();
        self.alarms.act(&self.context, ids, acknowledgement);
    }

    pub(super) fn acknowledge_alarm(&self, id: &str) {
        self.alarms.act(&self.context, id.parse::<RecordId>(), acknowledgement);
    }

    /// Acknowledges the alarms in the list.
    pub(super) fn acknowledge_all(&self) {
        self.alarms.act(&self.context, self.alarms.unacknowledged(&self.context), acknowledgement);
        self.context.show_dialog(Dialog::None);
    }

    /// Pauses the sound of the alarms of a patient.
    pub(super) fn pause_sound_of(&mut self, mrn: Mrn) {
        let ids = self.context.alarms.of(mrn).into_iter().filter(|alarm| needs_attention(alarm));
        let ids = ids.map(|alarm| alarm.id).collect();
        self.pause(ids, false);
    }

    pub(super) fn pause_alarm(&mut self, id: &str) {
        self.pause(id.parse::<RecordId>().into_iter().collect(), false);
    }

    /// Pauses everything that sounds.
    pub(super) fn pause_sound(&mut self) {
        self.pause(AlarmsController::audible(&self.context), true);
    }

    fn pause(&mut self, ids: Vec<RecordId>, with_station: bool) {
        self.alarms.pause_sound(&mut self.context, ids, with_station);
        self.update_sound();
        self.show_alarms();
    }

    fn logged_in(&mut self, result: Result<Login, String>) {
        match self.account.logged_in(&mut self.context, result) {
            AfterLogin::Nothing => {}
            AfterLogin::Connect => self.connect(),
            AfterLogin::Replace => {
                self.disconnect();
                self.connect();
            }
        }
    }

    /// Logs the person out. The access token of the station applies, if there is one.
    pub(super) fn log_out(&mut self) {
        self.account.log_out(&mut self.context);
        self.disconnect();
        self.connect();
    }

    fn accessed(&mut self, mrn: Mrn, result: Result<Box<PatientSummary>, String>) {
        let Some(patient) = self.account.accessed(&self.context, mrn, result) else { return };
        let changes = vec![Change { kind: ChangeKind::PatientCreated, id: None }];
        self.update_patient(&PatientUpdated { upload_id: None, changes, patient, sent_at: None });
        self.open_patient(mrn);
    }

    pub(super) fn save_settings(&mut self, form: &SettingsForm) {
        if self.dialogs.save_settings(&mut self.context, form) {
            if self.context.settings.session.is_none() {
                self.account.forget(&mut self.context);
            }
            self.disconnect();
            self.connect();
        }
    }

    /// Removes the data of the current gateway from the screen.
    fn disconnect(&mut self) {
        self.show_page(Page::Overview);
        self.has_snapshot = false;
        self.overview.clear();
        self.live.clear(&self.context);
        self.context.overview.replace(Vec::new(), |_| None);
        self.wards.clear(&mut self.context);
        self.context.alarms.clear();
        self.alarms.clear();
        self.show_overview();
        self.show_alarms();
    }

    /// Draws all pictures for another theme.
    pub(super) fn redraw(&mut self) {
        self.overview.redraw_sparklines(&self.context);
        self.live.redraw(&self.context);
        self.patient.show(&self.context, Changes::ALL);
    }

    fn save_log(&mut self) {
        let log = &self.context.log;
        if log.revision() != self.saved_log {
            self.saved_log = log.revision();
            self.context.persistence.save_log(log);
        }
    }

    /// Waits until settings and log are saved.
    pub(crate) fn save_all(&mut self) {
        self.save_log();
        self.context.persistence.flush();
    }

    pub(super) fn quit(&mut self) {
        self.save_all();
        self.has_quit = true;
        let _ = self.context.window.hide();
        // Fails in tests, which have no event loop.
        let _ = slint::quit_event_loop();
    }
}

/// The action that an acknowledgement of an alarm stands for: one whose condition is over is reset.
fn acknowledgement(alarm: &Alarm) -> AlarmAction {
    if alarm.state == AlarmState::Latched { AlarmAction::Reset } else { AlarmAction::Acknowledge }
}
