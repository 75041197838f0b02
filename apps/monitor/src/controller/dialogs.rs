//! The dialogs: saving a file and the settings.

use std::path::Path;

use proto_json::MediaType;
use slint::ComponentHandle;
use ui::{FileChooser, NativeDialogs, SaveRequest, Settings, TestError, TestOutcome, format, tr};

use super::context::Context;
use super::patient::SaveOffer;
use crate::backend::BackendEvent;
use crate::save::{self, SaveError, SaveItem};
use crate::window::{Dialog, SaveForm, SettingsForm, Theme, Tone};

/// The controller of the dialogs.
#[derive(Default)]
pub(super) struct DialogsController {
    /// The file to save, and its format.
    save_item: Option<(SaveItem, MediaType)>,
}

impl DialogsController {
    /// Opens the save dialog.
    pub(super) fn offer(&mut self, context: &Context, offer: SaveOffer) {
        self.save_item = Some((offer.item, offer.media_type));
        let api = context.api();
        api.set_save(SaveForm {
            title: offer.title.into(),
            folder: context.saved.folder().display().to_string().into(),
            name: offer.file_name.into(),
        });
        api.set_save_error("".into());
        api.set_saving(false);
        context.show_dialog(Dialog::Save);
    }

    /// Opens the file dialog of the operating system.
    pub(super) fn browse(&self, context: &Context) {
        let form = context.api().get_save();
        let request = SaveRequest {
            title: form.title.to_string(),
            file_name: form.name.to_string(),
            filters: Vec::new(),
            folder: Some(form.folder.to_string().into()),
        };
        let events = context.backend.events();
        let task = slint::spawn_local(async move {
            if let Some(path) = NativeDialogs.save(request).await {
                events.send(BackendEvent::PathSelected(path));
            }
        });
        if task.is_err() {
            context
                .api()
                .set_save_error(tr!("The file dialog cannot be opened. Enter the folder instead.").into());
        }
    }

    /// The user has selected a path in the file dialog.
    pub(super) fn path_selected(&self, context: &Context, path: &Path) {
        let api = context.api();
        let mut form = api.get_save();
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            form.folder = folder.display().to_string().into();
            form.name = name.to_string_lossy().as_ref().into();
            api.set_save(form);
        }
    }

    /// Saves the file to the path in the form.
    pub(super) fn save(&self, context: &Context, form: &SaveForm, overwrite: bool) {
        let Some((item, media_type)) = self.save_item.clone() else { return };
        let api = context.api();
        api.set_save_error("".into());
        match save::path(&form.folder, &form.name, media_type) {
            Ok(path) => {
                if context.backend.save(item, path, overwrite) {
                    api.set_saving(true);
                } else {
                    api.set_save_error(tr!("There is no connection to the gateway.").into());
                }
            }
            Err(error) => api.set_save_error(format::sentence(&error.to_string()).into()),
        }
    }

    /// A file was saved, or could not be.
    pub(super) fn saved(&mut self, context: &mut Context, path: &Path, result: Result<(), SaveError>) {
        context.api().set_saving(false);
        match result {
            Ok(()) => {
                self.save_item = None;
                context.show_dialog(Dialog::None);
                context.show_message(Tone::Good, &tr!("Saved as {}.", path.display()));
                context.saved.download_folder = path.parent().map(Path::to_path_buf);
                context.save_settings();
            }
            Err(SaveError::Exists(path)) => {
                // The name with the extension that the file gets.
                self.path_selected(context, &path);
                context.show_dialog(Dialog::Overwrite);
            }
            Err(error) => {
                context.api().set_save_error(format::sentence(&error.to_string()).into());
                context.show_dialog(Dialog::Save);
            }
        }
    }

    pub(super) fn open_settings(&self, context: &Context) {
        let api = context.api();
        api.set_settings(SettingsForm::from(&context.settings));
        api.set_settings_message("".into());
        api.set_testing(false);
        context.show_dialog(Dialog::Settings);
    }

    pub(super) fn test_settings(&self, context: &Context, form: &SettingsForm) {
        let api = context.api();
        api.set_testing(true);
        api.set_settings_message("".into());
        context.backend.test(form.to_settings(&context.settings));
    }

    /// Shows the result of a test of settings.
    pub(super) fn tested(&self, context: &Context, result: Result<TestOutcome, TestError>) {
        let (tone, text) = match result {
            // A monitor has to read patients.
            Ok(outcome @ TestOutcome::UploadsOnly) => (Tone::Danger, outcome.to_string()),
            Ok(outcome) => (Tone::Good, outcome.to_string()),
            Err(error) => (Tone::Danger, format::sentence(&error.to_string())),
        };
        let api = context.api();
        api.set_testing(false);
        api.set_settings_tone(tone);
        api.set_settings_message(text.into());
    }

    /// Saves and applies the settings. Returns whether the app has to connect again.
    pub(super) fn save_settings(&self, context: &mut Context, form: &SettingsForm) -> bool {
        let edited = form.to_settings(&context.settings);
        context.saved.connection = context.saved.connection.with_edits(&context.settings, &edited);
        context.save_settings();
        let before = std::mem::replace(&mut context.settings, edited);
        context.show_dialog(Dialog::None);
        self.apply_theme(context);
        Settings { theme: before.theme, ..context.settings.clone() } != before
    }

    pub(super) fn apply_theme(&self, context: &Context) {
        context.window.global::<Theme>().invoke_choose(context.settings.theme.into());
    }
}
