//! Settings, and what stands in the way until it is answered.

use std::time::Duration;

use client::{ClientError, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsSettings};
use proto_json::Mrn;
use ui::{Settings, SettingsFile, Task, words};

use crate::link::Link;
use crate::message::Message;
use crate::window::{SettingsForm, ThemeChoice, Tone};

/// How long a gateway, and a broker, have to answer a test.
const TEST_LIMIT: Duration = Duration::from_secs(4);

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
        let choice = theme_choice(self.settings.shown.theme);
        self.link.window(|window| window.global::<crate::window::Theme<'_>>().invoke_choose(choice));
    }

    /// Fills the form with what is in force.
    pub(crate) fn fill(&self) {
        let shown = &self.settings.shown;
        let form = SettingsForm {
            gateway: (&shown.gateway).into(),
            token: (&shown.token).into(),
            ca: (&shown.ca).into(),
            nats: (&shown.nats).into(),
            nats_credentials: (&shown.nats_credentials).into(),
            theme: theme_choice(shown.theme),
        };
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
        let settings = Settings {
            gateway: form.gateway.to_string(),
            token: form.token.to_string(),
            ca: form.ca.to_string(),
            nats: form.nats.to_string(),
            nats_credentials: form.nats_credentials.to_string(),
            theme: match form.theme {
                ThemeChoice::Light => ui::Theme::Light,
                ThemeChoice::Dark => ui::Theme::Dark,
                ThemeChoice::System => ui::Theme::System,
            },
            ..self.settings.shown.clone()
        };
        settings.trimmed()
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
            let result = clients(&settings);
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
                self.say(Tone::Danger, &words::sentence(&error.to_string()), false);
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
            let tried = tokio::task::spawn_blocking(move || clients(&settings)).await;
            let tested = match tried {
                Ok(Ok((gateway, nats))) => test(gateway, nats).await,
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err("The test could not be run.".to_owned()),
            };
            let good = tested.is_ok();
            let words = tested.unwrap_or_else(|reason| reason);
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

fn theme_choice(theme: ui::Theme) -> ThemeChoice {
    match theme {
        ui::Theme::Light => ThemeChoice::Light,
        ui::Theme::Dark => ThemeChoice::Dark,
        ui::Theme::System => ThemeChoice::System,
    }
}

fn clients(settings: &Settings) -> Result<(Gateway, Option<NatsSettings>), String> {
    let gateway = settings.connect().map_err(|error| words::sentence(&error.to_string()))?;
    let nats = settings.broker().map_err(|error| words::sentence(&error.to_string()))?;
    Ok((gateway, nats))
}

/// Whether gateway, token and broker work, in a sentence.
async fn test(gateway: Gateway, nats: Option<NatsSettings>) -> Result<String, String> {
    let fail = |error: ClientError| words::sentence(&error.to_string());
    gateway.check(TEST_LIMIT).await.map_err(fail)?;
    let Ok(nobody) = Mrn::new(0) else { return Err(String::new()) };
    match gateway.patient(nobody).await {
        Ok(_) => {}
        Err(ClientError::Forbidden(_)) => {
            return Ok("The gateway answers; the token allows uploads, and nothing else.".to_owned());
        }
        Err(error) => return Err(fail(error)),
    }
    let wanted = if nats.is_some() { FeedMode::Nats } else { FeedMode::ServerSentEvents };
    let mut feed = Feed::start(FeedSettings { nats, ..FeedSettings::new(gateway, Some(nobody)) });
    let reached = tokio::time::timeout(TEST_LIMIT, async {
        while let Some(event) = feed.next().await {
            if matches!(&event, FeedEvent::Connection(state) if state.mode == wanted) {
                return;
            }
        }
    });
    match (reached.await, wanted) {
        (Ok(()), FeedMode::Nats) => Ok("The gateway answers, and NATS pushes updates.".to_owned()),
        (Ok(()), _) => Ok("The gateway answers, and pushes updates.".to_owned()),
        (Err(_), FeedMode::Nats) => {
            Err("The gateway answers, but NATS does not: check its address and credentials.".to_owned())
        }
        (Err(_), _) => Err("The gateway answers, but does not push updates.".to_owned()),
    }
}
