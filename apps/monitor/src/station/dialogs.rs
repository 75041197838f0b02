//! Saving files, settings, and the end.

use std::path::Path;
use std::time::Duration;

use slint::ComponentHandle;
use ui::{FileChooser, NativeDialogs, SaveRequest, Settings, format};

use super::{Looked, Station};
use crate::link::Message;
use crate::patient::Side;
use crate::save::{self, SaveError, What};
use crate::window::{Api, SaveForm, SettingsForm, Sheet, Theme, ThemeChoice, Tone};

impl Station {
    /// Asks where to save an ECG: its picture, or its signal.
    pub(super) fn offer_ecg(&mut self, side: Side, is_picture: bool) {
        let Some(Looked { view }) = &self.looked else { return };
        let Some(shown) = view.ecg(side).get() else { return };
        let record = &shown.record;
        let (file, what, kind, title) = if is_picture {
            (&record.plot, What::Plot(record.id), "ecg", "Save the picture of the ECG")
        } else {
            (&record.signal, What::Signal(record.id), "ecg", "Save the signal of the ECG")
        };
        let Some(file) = file else { return };
        let name = save::suggested(record.mrn, kind, record.at, file.media_type);
        self.offer(what, title, name);
    }

    pub(super) fn offer_image(&mut self) {
        let Some(Looked { view }) = &self.looked else { return };
        let Some(record) = view.image_record() else { return };
        let name = save::suggested(record.mrn, "image", record.at, record.file.media_type);
        self.offer(What::Image(record.id), "Save the medical image", name);
    }

    fn offer(&mut self, what: What, title: &str, name: String) {
        self.saves = Some(what);
        let api = self.window.global::<Api>();
        api.set_save(SaveForm {
            title: title.into(),
            folder: self.kept.folder().display().to_string().into(),
            name: name.into(),
        });
        api.set_save_error("".into());
        api.set_saving(false);
        api.set_sheet(Sheet::Save);
    }

    /// Lets the dialog of the operating system choose the place.
    pub(super) fn browse(&self) {
        let form = self.window.global::<Api>().get_save();
        let request = SaveRequest {
            title: form.title.to_string(),
            file_name: form.name.to_string(),
            filters: Vec::new(),
            folder: Some(form.folder.to_string().into()),
        };
        let outbox = self.link.outbox();
        let chosen = slint::spawn_local(async move {
            if let Some(path) = NativeDialogs.save(request).await {
                outbox.post(Message::Place(path));
            }
        });
        if chosen.is_err() {
            self.window.global::<Api>().set_save_error("There is no dialog here: type the folder.".into());
        }
    }

    pub(super) fn take_place(&self, path: &Path) {
        let api = self.window.global::<Api>();
        let mut form = api.get_save();
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            form.folder = folder.display().to_string().into();
            form.name = name.to_string_lossy().as_ref().into();
            api.set_save(form);
        }
    }

    pub(super) fn save_file(&mut self, form: &SaveForm, overwrite: bool) {
        let Some(what) = self.saves else { return };
        let api = self.window.global::<Api>();
        api.set_save_error("".into());
        match save::path(&form.folder, &form.name) {
            Ok(path) => {
                if self.link.save(what, path, overwrite) {
                    api.set_saving(true);
                } else {
                    api.set_save_error("There is no connection.".into());
                }
            }
            Err(error) => api.set_save_error(format::sentence(&error.to_string()).into()),
        }
    }

    pub(super) fn take_saved(&mut self, path: &Path, saved: Result<(), SaveError>) {
        let api = self.window.global::<Api>();
        api.set_saving(false);
        match saved {
            Ok(()) => {
                self.saves = None;
                api.set_sheet(Sheet::None);
                self.say(Tone::Good, &format!("Saved as {}.", path.display()));
                self.kept.download_folder = path.parent().map(Path::to_path_buf);
                self.keeper.settings(&self.kept);
            }
            Err(SaveError::Exists(_)) => api.set_sheet(Sheet::Overwrite),
            Err(error) => {
                api.set_save_error(format::sentence(&error.to_string()).into());
                api.set_sheet(Sheet::Save);
            }
        }
    }

    pub(super) fn open_settings(&self) {
        let api = self.window.global::<Api>();
        api.set_settings(form_of(&self.settings));
        api.set_settings_message("".into());
        api.set_testing(false);
        api.set_sheet(Sheet::Settings);
    }

    pub(super) fn test_settings(&self, form: &SettingsForm) {
        let api = self.window.global::<Api>();
        api.set_testing(true);
        api.set_settings_message("".into());
        self.link.test(edited(&self.settings, form));
    }

    pub(super) fn take_tested(&self, tested: Result<Duration, String>) {
        let api = self.window.global::<Api>();
        api.set_testing(false);
        let (tone, text) = match tested {
            Ok(took) => (Tone::Good, format!("The gateway answers, in {} ms.", took.as_millis())),
            Err(reason) => (Tone::Danger, format::sentence(&reason)),
        };
        api.set_settings_tone(tone);
        api.set_settings_message(text.into());
    }

    pub(super) fn save_settings(&mut self, form: &SettingsForm) {
        let edited = edited(&self.settings, form).trimmed();
        self.kept.connection = self.kept.connection.with_edits(&self.settings, &edited);
        self.keeper.settings(&self.kept);
        let before = std::mem::replace(&mut self.settings, edited);
        self.window.global::<Api>().set_sheet(Sheet::None);
        self.show_theme();
        let reconnects = Settings { theme: before.theme, ..self.settings.clone() } != before;
        if reconnects {
            // What is on the screen is of the gateway before.
            self.forget();
            self.connect();
        }
    }

    /// Applies the theme that is set.
    pub(super) fn show_theme(&self) {
        self.window.global::<Theme>().invoke_choose(choice(self.settings.theme));
    }

    pub(super) fn quit(&mut self) {
        self.end();
        self.has_quit = true;
        let _ = self.window.hide();
        // Without an event loop, in tests, there is none to end.
        let _ = slint::quit_event_loop();
    }
}

fn choice(theme: ui::Theme) -> ThemeChoice {
    match theme {
        ui::Theme::System => ThemeChoice::System,
        ui::Theme::Light => ThemeChoice::Light,
        ui::Theme::Dark => ThemeChoice::Dark,
    }
}

fn form_of(settings: &Settings) -> SettingsForm {
    SettingsForm {
        gateway: settings.gateway.as_str().into(),
        token: settings.token.as_str().into(),
        ca: settings.ca.as_str().into(),
        nats: settings.nats.as_str().into(),
        nats_credentials: settings.nats_credentials.as_str().into(),
        theme: choice(settings.theme),
    }
}

fn edited(settings: &Settings, form: &SettingsForm) -> Settings {
    Settings {
        gateway: form.gateway.to_string(),
        token: form.token.to_string(),
        ca: form.ca.to_string(),
        nats: form.nats.to_string(),
        nats_credentials: form.nats_credentials.to_string(),
        nats_inbox: settings.nats_inbox.clone(),
        theme: match form.theme {
            ThemeChoice::System => ui::Theme::System,
            ThemeChoice::Light => ui::Theme::Light,
            ThemeChoice::Dark => ui::Theme::Dark,
        },
    }
}
