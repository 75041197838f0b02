//! Settings, and what stands in the way until it is answered.

use client::{Gateway, NatsSettings};
use ui::{Settings, SettingsFile, Task, format};

use crate::link::Link;
use crate::message::Message;
use crate::window::{SettingsForm, Tone};

/// The settings in force, and where they come from.
pub(crate) struct Kept {
    pub(crate) file: SettingsFile,
    /// As the file has them.
    pub(crate) kept: Settings,
    /// With flags and environment laid over.
    pub(crate) shown: Settings,
}

/// What the settings have become.
pub(crate) enum Connected {
    /// To be used from now on.
    Use {
        /// The gateway.
        gateway: Gateway,
        /// The broker, if there is one.
        nats: Option<NatsSettings>,
        /// They came from the dialog, which is done.
        saved: bool,
    },
    /// Nothing can be made of what was there at the start, and why.
    Wrong(String),
    /// Nothing to do: it was given up, or the dialog tells.
    Nothing,
}

/// The settings and their dialog.
pub(crate) struct SettingsDesk {
    link: Link,
    pub(crate) settings: Kept,
    /// Number of the latest test or connection.
    number: u64,
    task: Task,
    /// What waits to be saved until it is known to work.
    pending: Option<Settings>,
}

impl SettingsDesk {
    pub(crate) fn new(link: Link, settings: Kept) -> Self {
        let desk = SettingsDesk { link, settings, number: 0, task: Task::default(), pending: None };
        desk.apply_theme();
        let file = desk.settings.file.path().display().to_string();
        desk.link.api(|api| api.set_settings_file(file.into()));
        desk
    }

    fn apply_theme(&self) {
        use slint::ComponentHandle as _;
        let choice = self.settings.shown.theme.into();
        self.link.window(|window| window.global::<crate::window::Theme<'_>>().invoke_choose(choice));
    }

    /// Fills the form with what is in force.
    pub(crate) fn fill(&self) {
        let form = SettingsForm::from(&self.settings.shown);
        self.link.api(|api| api.set_settings(form));
        self.say(Tone::Neutral, "", false);
    }

    fn say(&self, tone: Tone, text: &str, testing: bool) {
        self.link.api(|api| {
            api.set_settings_tone(tone);
            api.set_settings_message(text.into());
            api.set_settings_testing(testing);
        });
    }

    fn typed(&self, form: &SettingsForm) -> Settings {
        form.to_settings(&self.settings.shown)
    }

    /// Makes a client of what is in force; the answer comes as [`Message::Connected`].
    pub(crate) fn connect(&mut self) {
        let settings = self.settings.shown.clone();
        self.connect_with(settings);
    }

    fn connect_with(&mut self, settings: Settings) {
        self.number += 1;
        let (number, mail) = (self.number, self.link.mail.clone());
        self.link.network.spawn_blocking(move || {
            let result = settings.clients().map_err(|error| format::sentence(&error.to_string()));
            let _ = mail.send(Message::Connected { number, result });
        });
    }

    /// Saves the form once it is known that a client can be made of it.
    pub(crate) fn save(&mut self, form: &SettingsForm) {
        let settings = self.typed(form);
        self.pending = Some(settings.clone());
        self.connect_with(settings);
    }

    /// Settings have become a client, or not.
    pub(crate) fn connected(
        &mut self,
        number: u64,
        result: Result<(Gateway, Option<NatsSettings>), String>,
    ) -> Connected {
        if number != self.number {
            return Connected::Nothing;
        }
        let pending = self.pending.take();
        let (gateway, nats) = match result {
            Ok(clients) => clients,
            Err(reason) if pending.is_some() => {
                self.say(Tone::Danger, &reason, false);
                return Connected::Nothing;
            }
            Err(reason) => return Connected::Wrong(reason),
        };
        let saved = pending.is_some();
        if let Some(edited) = pending {
            let keep = self.settings.kept.with_edits(&self.settings.shown, &edited);
            if let Err(error) = self.settings.file.save(&keep) {
                self.say(Tone::Danger, &format::sentence(&error.to_string()), false);
                return Connected::Nothing;
            }
            self.settings.kept = keep;
            self.settings.shown = edited;
            self.apply_theme();
        }
        Connected::Use { gateway, nats, saved }
    }

    /// Tries the form out; the answer comes as [`Message::Tested`].
    pub(crate) fn test(&mut self, form: &SettingsForm) {
        let settings = self.typed(form);
        self.number += 1;
        let (number, mail) = (self.number, self.link.mail.clone());
        self.say(Tone::Neutral, "", true);
        self.task = self.link.network.spawn(async move {
            let tested = ui::test_connection(settings).await;
            let good = tested.is_ok();
            let words =
                tested.map_or_else(|error| format::sentence(&error.to_string()), |passed| passed.to_string());
            let _ = mail.send(Message::Tested { number, good, words });
        });
    }

    pub(crate) fn tested(&self, number: u64, good: bool, words: &str) {
        if number == self.number {
            self.say(if good { Tone::Good } else { Tone::Danger }, words, false);
        }
    }

    /// The dialog was closed.
    pub(crate) fn closed(&mut self) {
        self.task = Task::default();
        self.pending = None;
    }
}
