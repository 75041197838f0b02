//! The settings and their dialog.

use client::{Gateway, NatsSettings, Token};
use slint::ComponentHandle as _;
use ui::{Settings, SettingsFile, Task};

use crate::backend::Backend;
use crate::message::Message;
use crate::messages;
use crate::window::{SettingsForm, Theme, Tone};

/// The settings and the file that stores them.
pub(crate) struct AppSettings {
    pub(crate) file: SettingsFile,
    /// The content of the file.
    pub(crate) saved: Settings,
    /// The content of the file, overridden by environment variables and flags.
    pub(crate) effective: Settings,
}

/// What becomes of clients that were created from settings.
pub(crate) enum ConnectOutcome {
    /// They are used from now on.
    Connected {
        gateway: Gateway,
        nats: Option<NatsSettings>,
        /// The settings came from the dialog and are saved: the dialog can be closed.
        saved: bool,
    },
    /// The settings at start are wrong, for this reason.
    Invalid(String),
    /// Nothing to do: the attempt is outdated, or the dialog shows the error.
    Ignored,
}

/// The settings and their dialog.
pub(crate) struct SettingsController {
    backend: Backend,
    settings: AppSettings,
    /// Number of the latest test or connection.
    number: u64,
    test: Task,
    /// Settings of the dialog that are saved once clients were created from them.
    pending: Option<Settings>,
}

impl SettingsController {
    pub(crate) fn new(backend: Backend, settings: AppSettings) -> Self {
        let controller =
            SettingsController { backend, settings, number: 0, test: Task::default(), pending: None };
        controller.apply_theme();
        let file = controller.settings.file.path().display().to_string();
        controller.backend.api(|api| api.set_settings_file(file.into()));
        controller
    }

    fn apply_theme(&self) {
        let choice = self.settings.effective.theme.into();
        self.backend.window(|window| window.global::<Theme<'_>>().invoke_choose(choice));
    }

    /// Fills the dialog with the effective settings.
    pub(crate) fn fill(&self) {
        let form = SettingsForm::from(&self.settings.effective);
        self.backend.api(|api| api.set_settings(form));
        self.show_message(Tone::Neutral, "", false);
    }

    fn show_message(&self, tone: Tone, text: &str, testing: bool) {
        self.backend.api(|api| {
            api.set_settings_tone(tone);
            api.set_settings_message(text.into());
            api.set_settings_testing(testing);
        });
    }

    /// The settings in force.
    pub(crate) fn effective(&self) -> Settings {
        self.settings.effective.clone()
    }

    /// Sets or removes the session of a person, and connects again. Returns the settings before.
    pub(crate) fn set_session(&mut self, session: Option<Token>) -> Settings {
        let new = Settings { session, ..self.effective() };
        let before = std::mem::replace(&mut self.settings.effective, new);
        self.connect();
        before
    }

    /// Creates clients from the effective settings. The result arrives as [`Message::ClientsCreated`].
    pub(crate) fn connect(&mut self) {
        let settings = self.settings.effective.clone();
        self.connect_with(settings);
    }

    fn connect_with(&mut self, settings: Settings) {
        self.number += 1;
        let (number, sender) = (self.number, self.backend.sender.clone());
        self.backend.background.spawn_blocking(move || {
            let result = settings.clients().map_err(|error| messages::error(&error));
            sender.send(Message::ClientsCreated { number, result });
        });
    }

    /// Saves the form after clients were created from it.
    pub(crate) fn save(&mut self, form: &SettingsForm) {
        let settings = form.to_settings(&self.settings.effective);
        self.pending = Some(settings.clone());
        self.connect_with(settings);
    }

    /// Takes the result of [`SettingsController::connect`] or [`SettingsController::save`].
    pub(crate) fn clients_created(
        &mut self,
        number: u64,
        result: Result<(Gateway, Option<NatsSettings>), String>,
    ) -> ConnectOutcome {
        if number != self.number {
            return ConnectOutcome::Ignored;
        }
        let pending = self.pending.take();
        let (gateway, nats) = match result {
            Ok(clients) => clients,
            Err(reason) if pending.is_some() => {
                self.show_message(Tone::Danger, &reason, false);
                return ConnectOutcome::Ignored;
            }
            Err(reason) => return ConnectOutcome::Invalid(reason),
        };
        let saved = pending.is_some();
        if let Some(edited) = pending {
            let settings = self.settings.saved.with_edits(&self.settings.effective, &edited);
            if let Err(error) = self.settings.file.save(&settings) {
                self.show_message(Tone::Danger, &messages::error(&error), false);
                return ConnectOutcome::Ignored;
            }
            self.settings.saved = settings;
            self.settings.effective = edited;
            self.apply_theme();
        }
        ConnectOutcome::Connected { gateway, nats, saved }
    }

    /// Tests the connection with the form. The result arrives as [`Message::SettingsTested`].
    pub(crate) fn test(&mut self, form: &SettingsForm) {
        let settings = form.to_settings(&self.settings.effective);
        self.number += 1;
        let (number, sender) = (self.number, self.backend.sender.clone());
        self.show_message(Tone::Neutral, "", true);
        self.test = self.backend.background.spawn(async move {
            let result = match ui::test_connection(settings).await {
                Ok(outcome) => Ok(outcome.to_string()),
                Err(error) => Err(messages::error(&error)),
            };
            sender.send(Message::SettingsTested { number, result });
        });
    }

    pub(crate) fn tested(&self, number: u64, result: &Result<String, String>) {
        if number == self.number {
            match result {
                Ok(text) => self.show_message(Tone::Good, text, false),
                Err(text) => self.show_message(Tone::Danger, text, false),
            }
        }
    }

    /// The dialog was closed.
    pub(crate) fn closed(&mut self) {
        self.test = Task::default();
        self.pending = None;
    }
}
