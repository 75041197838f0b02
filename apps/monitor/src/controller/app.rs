//! The app controller: handles backend events and user actions that concern several pages.

use std::path::Path;
use std::time::Duration;

use client::{FeedEvent, Gateway};
use proto_json::{ChangeKind, Mrn, PatientSummary, PatientUpdated};
use slint::ComponentHandle;
use ui::{SettingsError, SettingsFile, UiReceiver, format, tr};

use super::alarms::AlarmsController;
use super::connection::ConnectionController;
use super::context::Context;
use super::dialogs::DialogsController;
use super::live::{LiveController, Visible};
use super::overview::OverviewController;
use super::patient::PatientController;
use crate::Args;
use crate::alarms::Alarms;
use crate::app_settings::AppSettings;
use crate::backend::{Backend, BackendEvent};
use crate::overview::Overview;
use crate::patient::Changes;
use crate::persistence::Persistence;
use crate::window::{Dialog, LimitsForm, Live, Main, Page, SettingsForm, Tone};

/// The controller of the whole app. It owns the state and the controllers of the pages.
pub(crate) struct AppController {
    pub(super) context: Context,
    pub(super) overview: OverviewController,
    pub(super) patient: PatientController,
    pub(super) live: LiveController,
    pub(super) alarms: AlarmsController,
    pub(super) dialogs: DialogsController,
    connection: ConnectionController,
    receiver: UiReceiver<BackendEvent>,
    settings_file: SettingsFile,
    /// The error of a file that could not be read at start.
    start_error: Option<String>,
    /// The patient to open once all patients are loaded.
    open_at_start: Option<Mrn>,
    has_snapshot: bool,
    /// The revision of the alarms that was saved last.
    saved_alarms: u64,
    has_quit: bool,
    timer: slint::Timer,
}

impl AppController {
    /// Reads the files and creates the controllers. If a file cannot be read, the defaults apply and the window shows the error.
    pub(crate) fn new(
        args: Args,
        settings_file: SettingsFile,
        alarms_file: &Path,
        backend: Backend,
        persistence: Persistence,
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
        let alarms = crate::alarms::load(alarms_file).unwrap_or_else(|error| {
            start_error = Some(error.to_string());
            Alarms::default()
        });
        AppController {
            overview: OverviewController::default(),
            patient: PatientController::new(saved.range),
            live: LiveController::default(),
            alarms: AlarmsController::default(),
            dialogs: DialogsController::default(),
            connection: ConnectionController::default(),
            receiver,
            settings_file,
            start_error,
            open_at_start: args.patient,
            has_snapshot: false,
            saved_alarms: alarms.revision(),
            has_quit: false,
            timer: slint::Timer::default(),
            context: Context {
                window,
                backend,
                persistence,
                settings,
                stale_after: args.stale_after.unwrap_or_else(|| saved.stale_after()),
                alarms,
                overview: Overview::new(saved.order),
                saved,
                server_time: None,
                advanced_ms: 0,
            },
        }
    }

    /// Shows the initial state and connects.
    pub(super) fn start(&mut self) {
        let context = &self.context;
        self.overview.bind(context);
        self.patient.bind(context);
        self.live.bind(context);
        self.alarms.bind(context);
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
            BackendEvent::Kept(result) => self.strip_kept(result),
            BackendEvent::Connected(..)
            | BackendEvent::Feed(..)
            | BackendEvent::LiveStarted(..)
            | BackendEvent::Live(..) => {}
            BackendEvent::Sparkline(mrn, id, result) => {
                self.overview.sparkline_loaded(context, mrn, id, result);
            }
            BackendEvent::Response(id, response) => {
                self.patient.apply(context, id, response);
                self.show_damage();
            }
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
        let paused = self.context.alarms.iter().filter(|(_, alarm)| alarm.paused_until.is_some());
        let paused: Vec<Mrn> = paused.map(|(mrn, _)| mrn).collect();
        for mrn in &paused {
            self.show_alarm(*mrn);
        }
        if !paused.is_empty() {
            self.show_alarms();
        }
        self.save_alarms();
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
            }
            Err(error) => self.connection.settings_rejected(&self.context, &error),
        }
    }

    fn feed_event(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connection(state) => {
                self.connection.set_state(&mut self.context, state);
                self.show_connection();
                self.alarms.show_lists(&self.context);
            }
            FeedEvent::Snapshot(patients) => self.replace_patients(patients),
            FeedEvent::Damaged(records) => {
                self.connection.set_damaged(records);
                self.show_damage();
            }
            FeedEvent::Updated(update) => self.update_patient(&update),
        }
    }

    fn replace_patients(&mut self, patients: Vec<PatientSummary>) {
        let context = &mut self.context;
        let now = context.now();
        for patient in &patients {
            context.alarms.evaluate(patient, now);
        }
        let alarms = &context.alarms;
        context.overview.replace(patients, |mrn| alarms.severity(mrn));
        let mrns = context.overview.mrns();
        context.alarms.retain(|mrn| mrns.contains(&mrn));
        self.has_snapshot = true;
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
        let now = context.now();
        let alarm_changed = context.alarms.evaluate(&update.patient, now);
        let severity = context.alarms.severity(mrn);
        let change = context.overview.update(update.patient.clone(), severity);
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
        if alarm_changed || is_notice {
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
        let now = self.context.now();
        self.context.alarms.record_notice(patient.mrn, text, now);
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
        } else if self.has_snapshot {
            tr!("No patients yet. A patient appears here after the first upload.").to_owned()
        } else {
            tr!("Connecting to {}…", self.context.settings.gateway)
        };
        self.context.api().set_overview_note(note.into());
    }

    /// Shows the alarm of a patient on the tile and on the patient page.
    fn show_alarm(&mut self, mrn: Mrn) {
        let severity = self.context.alarms.severity(mrn);
        if let Some(change) = self.context.overview.set_severity(mrn, severity) {
            self.overview.show_change(&self.context, change);
        }
        if self.patient.mrn() == Some(mrn) {
            self.patient.show_vitals(&self.context);
        }
    }

    pub(super) fn open_patient(&mut self, mrn: Mrn) {
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
        self.alarms.show_lists(&self.context);
    }

    pub(super) fn acknowledge(&mut self, mrn: Mrn) {
        let now = self.context.now();
        if self.context.alarms.acknowledge(mrn, now) {
            self.show_alarm(mrn);
            self.show_alarms();
        }
    }

    pub(super) fn acknowledge_all(&mut self) {
        let now = self.context.now();
        let active: Vec<Mrn> = self.context.alarms.iter().map(|(mrn, _)| mrn).collect();
        for mrn in active {
            if self.context.alarms.acknowledge(mrn, now) {
                self.show_alarm(mrn);
            }
        }
        self.context.show_dialog(Dialog::None);
        self.show_alarms();
    }

    pub(super) fn pause_flashing(&mut self, mrn: Mrn) {
        let (length, now) = (self.context.saved.pause(), self.context.now());
        if self.context.alarms.pause(mrn, length, now) {
            self.show_alarm(mrn);
            self.show_alarms();
        }
    }

    pub(super) fn save_limits(&mut self, form: &LimitsForm) {
        match self.alarms.apply_limits(&mut self.context, form) {
            Ok(()) => {
                self.context.show_dialog(Dialog::None);
                self.evaluate_all();
                self.context.show_message(Tone::Good, tr!("The limits are saved."));
            }
            Err(error) => {
                self.context.api().set_limits_error(format::sentence(&error.to_string()).into());
            }
        }
    }

    /// Removes the limits of the patient in the form, so that the default limits apply.
    pub(super) fn reset_limits(&mut self) {
        let form = self.context.api().get_limits();
        self.context.show_dialog(Dialog::None);
        if let Ok(mrn) = form.mrn.parse() {
            self.context.alarms.set_limits(Some(mrn), None);
            self.evaluate_all();
        }
    }

    /// Evaluates all patients again because limits have changed.
    fn evaluate_all(&mut self) {
        let now = self.context.now();
        let patients: Vec<PatientSummary> =
            self.context.overview.iter().map(|tile| tile.patient.clone()).collect();
        for patient in &patients {
            self.context.alarms.evaluate(patient, now);
        }
        for patient in &patients {
            self.show_alarm(patient.mrn);
        }
        self.show_alarms();
        self.tick();
        self.patient.show(&self.context, Changes::ALL);
    }

    pub(super) fn save_settings(&mut self, form: &SettingsForm) {
        if self.dialogs.save_settings(&mut self.context, form) {
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
        self.show_overview();
    }

    /// Draws all pictures for another theme.
    pub(super) fn redraw(&mut self) {
        self.overview.redraw_sparklines(&self.context);
        self.live.redraw(&self.context);
        self.patient.show(&self.context, Changes::ALL);
    }

    fn save_alarms(&mut self) {
        let alarms = &self.context.alarms;
        if alarms.revision() != self.saved_alarms {
            self.saved_alarms = alarms.revision();
            self.context.persistence.save_alarms(alarms);
        }
    }

    /// Waits until settings and alarms are saved.
    pub(crate) fn save_all(&mut self) {
        self.save_alarms();
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
