//! The app controller: handles the actions of the user and the messages of background work. Runs on the thread of the window.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use client::{Gateway, NatsSettings, UploadAnswer};
use proto_json::{Mrn, Timestamp};
use slint::{ModelRc, PlatformError, SharedString, VecModel};
use tokio::sync::mpsc;
use ui::{
    BackgroundRuntime, ConnectionLevel, ConnectionStatus, FileChooser, FileFilter, OpenRequest, StartError,
    Task, format, tr, untranslated,
};

use crate::account::AccountController;
use crate::analysis::AnalysisController;
use crate::args::Args;
use crate::backend::{Backend, UiReceiver};
use crate::file_browser::{FileBrowserController, FileTypes};
use crate::message::Message;
use crate::model::PatientLookup;
use crate::patient_form::PatientController;
use crate::recording::RecordingController;
use crate::selected_files::FilesController;
use crate::settings::{AppSettings, ConnectOutcome, SettingsController};
use crate::uploads::{UploadContent, UploadController, UploadOutcome};
use crate::window::{DialogKind, Main, Tone, UploadConfirmation};
use crate::{connection, messages};

/// Index of ECGs in the choice of file types. Images have index 0.
const ECG_TYPE: i32 = 1;
const IMAGE_FILES: FileTypes =
    FileTypes { title: untranslated!("Select medical images"), extensions: &["png", "jpg", "jpeg"] };
const ECG_FILES: FileTypes =
    FileTypes { title: untranslated!("Select ECG files"), extensions: &["csv", "tsv", "txt", "edf", "bdf"] };

/// What the message banner is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Banner {
    None,
    /// A file that cannot be used. The banner closes when another file is shown.
    RejectedFile,
    Other,
}

/// Whether the gateway accepts uploads, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reachability {
    Unknown,
    Reachable,
    TokenRejected,
    Unreachable,
}

/// Handles the actions of the user and the messages of background work.
pub(crate) struct AppController {
    backend: Backend,
    pub(crate) patient: PatientController,
    pub(crate) files: FilesController,
    pub(crate) recording: RecordingController,
    pub(crate) uploads: UploadController,
    pub(crate) analysis: AnalysisController,
    pub(crate) settings: SettingsController,
    pub(crate) account: AccountController,
    pub(crate) browser: FileBrowserController,
    /// Whether the file browser selects ECGs.
    browses_ecgs: bool,
    chooser: Rc<dyn FileChooser>,
    quit: Box<dyn Fn()>,
    dialog: DialogKind,
    banner: Banner,
    /// The confirmation waits for the lookup of the record number.
    is_checking: bool,
    nats: Option<NatsSettings>,
    /// The patient whose changes are followed.
    followed: Option<Mrn>,
    following: Task,
    reachability: Reachability,
    /// Folder of the files that were selected last.
    folder: Option<PathBuf>,
}

impl AppController {
    pub(crate) fn new(
        window: &Main,
        args: &Args,
        settings: AppSettings,
        chooser: Rc<dyn FileChooser>,
        quit: Box<dyn Fn()>,
    ) -> Result<Rc<RefCell<Self>>, StartError> {
        let (wake, woken) = mpsc::channel(1);
        let (sender, receiver) = ui::channel(move || {
            // A full channel holds a wake that was not handled yet.
            let _ = wake.try_send(());
        });
        let backend = Backend::new(window, BackgroundRuntime::start()?, sender);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let controller = AppController {
            patient: PatientController::new(backend.clone(), text(&args.mrn), text(&args.name)),
            files: FilesController::new(backend.clone()),
            recording: RecordingController::new(backend.clone()),
            uploads: UploadController::new(backend.clone(), args.outbox_folder()),
            analysis: AnalysisController::new(backend.clone()),
            settings: SettingsController::new(backend.clone(), settings),
            account: AccountController::new(backend.clone()),
            browser: FileBrowserController::new(backend.clone()),
            browses_ecgs: false,
            chooser,
            quit,
            dialog: DialogKind::None,
            banner: Banner::None,
            is_checking: false,
            nats: None,
            followed: None,
            following: Task::default(),
            reachability: Reachability::Unknown,
            folder: None,
            backend,
        };
        let controller = Rc::new(RefCell::new(controller));
        let messages = handle_messages(Rc::downgrade(&controller), receiver, woken);
        slint::spawn_local(messages).map_err(|error| PlatformError::Other(error.to_string()))?;
        let mut app = controller.borrow_mut();
        app.backend.api(|api| api.set_version(env!("CARGO_PKG_VERSION").into()));
        app.connection_changed(ConnectionStatus::of(None), false);
        app.settings.connect();
        for path in &args.files {
            app.add_file(path.clone(), !looks_like_image(path));
        }
        app.refresh();
        drop(app);
        Ok(controller)
    }

    /// Ends all background work.
    pub(crate) fn stop(&mut self) {
        self.following = Task::default();
        self.uploads.stop();
        self.files.clear();
        self.analysis.clear();
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::EcgProgress { file, number, progress, text } => {
                self.files.ecg_progress(file, number, progress, text);
            }
            Message::EcgRead { file, number, result } => {
                self.files.ecg_read(file, number, result);
                self.show_rejection();
            }
            Message::EcgDrawn { number, picture } => self.files.ecg_drawn(number, picture),
            Message::ImageRead { file, number, result } => {
                self.files.image_read(file, number, result);
                self.show_rejection();
            }
            Message::ImageScaled { number, picture } => self.files.image_scaled(number, picture),
            Message::PatientLookedUp { number, mrn, result } => {
                if self.patient.looked_up(number, mrn, result) {
                    self.is_checking = false;
                    self.show_confirmation();
                }
            }
            Message::SignalOptionsSettled { number } => {
                if let Some(options) = self.recording.settled(number) {
                    self.files.set_signal_options(options);
                }
            }
            Message::ClientsCreated { number, result } => self.clients_created(number, result),
            Message::ConnectionChanged { status, token_rejected } => {
                self.connection_changed(status, token_rejected);
            }
            Message::SessionLoaded { number, session } => self.account.loaded(number, session),
            Message::LoggedIn(result) => {
                if let Some(secret) = self.account.logged_in(result) {
                    let before = self.settings.set_session(Some(secret));
                    if before.session.is_some() {
                        self.account.end(before);
                    }
                    if self.dialog == DialogKind::Account {
                        self.open_dialog(DialogKind::None);
                    }
                }
            }
            Message::PatientUpdated(update) => self.analysis.patient_changed(update.patient.mrn),
            Message::OutboxOpened(outbox) => self.uploads.opened(outbox),
            Message::OutboxChanged => self.uploads.refresh(),
            Message::Outbox(event) => {
                let outcome = self.uploads.outbox_event(event);
                self.show_outcome(outcome);
            }
            Message::Copying { number, progress } => self.uploads.copying(number, progress),
            Message::Queued { number, result } => {
                let outcome = self.uploads.queued(number, result);
                self.show_outcome(outcome);
            }
            Message::EcgAnalyzed { id, record } => self.analysis.analyzed(id, &record),
            Message::SettingsTested { number, result } => self.settings.tested(number, &result),
            Message::FilesSelected { files, is_ecg } => self.add_files(files, is_ecg),
            Message::NoFileDialog { is_ecg } => self.browse(is_ecg),
            Message::FolderRead { number, result } => self.browser.folder_read(number, result),
        }
        self.refresh();
    }

    fn clients_created(&mut self, number: u64, result: Result<(Gateway, Option<NatsSettings>), String>) {
        match self.settings.clients_created(number, result) {
            ConnectOutcome::Connected { gateway, nats, saved } => {
                self.nats = nats;
                self.account.load(gateway.clone());
                self.uploads.connect(gateway);
                self.follow(self.followed);
                self.patient.look_up(self.uploads.gateway(), Duration::ZERO);
                if saved {
                    self.open_dialog(DialogKind::None);
                    self.show_message(Tone::Good, tr!("Settings saved."));
                }
            }
            ConnectOutcome::Invalid(reason) => {
                let status = ConnectionStatus {
                    level: ConnectionLevel::Bad,
                    text: tr!("not set up").to_owned(),
                    detail: reason.clone(),
                };
                self.connection_changed(status, false);
                self.show_message(Tone::Danger, &reason);
            }
            ConnectOutcome::Ignored => {}
        }
    }

    /// Follows the changes of this patient from now on.
    fn follow(&mut self, mrn: Option<Mrn>) {
        let Some(gateway) = self.uploads.gateway().cloned() else { return };
        self.followed = mrn;
        let (nats, sender) = (self.nats.clone(), self.backend.sender.clone());
        self.following = self.backend.background.spawn(connection::follow(gateway, nats, mrn, sender));
    }

    fn connection_changed(&mut self, status: ConnectionStatus, token_rejected: bool) {
        let before = self.reachability;
        let reachability = match status.level {
            ConnectionLevel::Unknown => Reachability::Unknown,
            ConnectionLevel::Good | ConnectionLevel::Fair => Reachability::Reachable,
            ConnectionLevel::Bad if token_rejected => Reachability::TokenRejected,
            ConnectionLevel::Bad => Reachability::Unreachable,
        };
        self.reachability = reachability;
        if reachability == Reachability::TokenRejected {
            self.rejected();
        }
        self.backend.api(|api| {
            api.set_connection_level(status.level.into());
            api.set_connection_text(status.text.into());
            api.set_connection_detail(status.detail.into());
        });
        if before != Reachability::Reachable && reachability == Reachability::Reachable {
            self.uploads.retry_now();
            if matches!(self.patient.lookup(), PatientLookup::Unavailable(_)) {
                self.patient.look_up(self.uploads.gateway(), Duration::ZERO);
            }
        }
    }

    /// The gateway rejects this client: a session has ended, or nobody has logged in.
    fn rejected(&mut self) {
        let settings = self.settings.effective();
        let had_session = settings.session.is_some();
        if had_session {
            // The access token applies, if there is one.
            self.settings.set_session(None);
        }
        if had_session || settings.token.is_empty() {
            self.account.rejected(had_session);
        }
    }

    pub(crate) fn open_account(&mut self) {
        if self.dialog == DialogKind::None {
            self.open_dialog(DialogKind::Account);
        }
    }

    pub(crate) fn ask_login(&mut self) {
        self.open_dialog(DialogKind::None);
        self.account.ask(String::new(), "");
    }

    /// Ends the session of the person.
    pub(crate) fn log_out(&mut self) {
        self.open_dialog(DialogKind::None);
        let before = self.settings.set_session(None);
        self.account.log_out(before);
    }

    /// Shows the message about a rejected file, or closes it when another file is shown.
    fn show_rejection(&mut self) {
        match self.files.rejection() {
            Some(text) => {
                self.show_message(Tone::Danger, &text);
                self.banner = Banner::RejectedFile;
            }
            None if self.banner == Banner::RejectedFile => self.close_message(),
            None => {}
        }
    }

    fn show_message(&mut self, tone: Tone, text: &str) {
        self.show_receipt(tone, text, Vec::new());
    }

    /// Shows a message with a list below it.
    fn show_receipt(&mut self, tone: Tone, text: &str, lines: Vec<String>) {
        self.banner = if text.is_empty() { Banner::None } else { Banner::Other };
        let lines: Vec<SharedString> = lines.into_iter().map(Into::into).collect();
        self.backend.api(|api| {
            api.set_message_tone(tone);
            api.set_message(text.into());
            api.set_receipt(ModelRc::new(VecModel::from(lines)));
        });
    }

    /// Closes the message banner.
    pub(crate) fn close_message(&mut self) {
        self.show_message(Tone::Neutral, "");
    }

    fn open_dialog(&mut self, dialog: DialogKind) {
        self.dialog = dialog;
        self.backend.api(|api| api.set_dialog(dialog));
    }

    fn add_files(&mut self, files: Vec<PathBuf>, is_ecg: bool) {
        if let Some(folder) = files.first().and_then(|file| file.parent()) {
            self.folder = Some(folder.to_path_buf());
        }
        for file in files {
            self.add_file(file, is_ecg);
        }
    }

    fn add_file(&mut self, path: PathBuf, is_ecg: bool) {
        self.close_message();
        if let Err(message) = self.files.add(path, is_ecg) {
            self.show_message(Tone::Neutral, &message);
        }
    }

    /// Selects files that were dropped on the window: PNG and JPEG files as medical images, all others as ECGs.
    pub(crate) fn files_dropped(&mut self, files: Vec<PathBuf>) {
        self.show_drop_hint(false);
        if self.uploads.is_busy() || self.dialog != DialogKind::None {
            return;
        }
        for file in files {
            let is_ecg = !looks_like_image(&file);
            self.add_file(file, is_ecg);
        }
        self.refresh();
    }

    /// Shows that files can be dropped on the window.
    pub(crate) fn show_drop_hint(&self, shown: bool) {
        let shown = shown && !self.uploads.is_busy() && self.dialog == DialogKind::None;
        self.backend.api(|api| api.set_drop_hint(shown));
    }

    /// Whether the selected file type is ECG. Shows a message and returns `None` if none is selected.
    fn selected_type(&mut self) -> Option<bool> {
        let mut selected = -1;
        self.backend.api(|api| {
            selected = api.get_file_type();
            api.set_file_type_missing(selected < 0);
        });
        if selected < 0 {
            self.show_message(Tone::Warning, tr!("Select the file type first: medical image or ECG."));
            return None;
        }
        self.close_message();
        Some(selected == ECG_TYPE)
    }

    /// Opens the file dialog of the desktop, or the file browser where there is none.
    pub(crate) fn select_files(&mut self) {
        let Some(is_ecg) = self.selected_type() else { return };
        let (types, name) = match is_ecg {
            true => (ECG_FILES, tr!("ECG (CSV, EDF)")),
            false => (IMAGE_FILES, tr!("Images (PNG, JPEG)")),
        };
        let request = OpenRequest {
            title: ui::text::translated(types.title).to_owned(),
            filters: vec![FileFilter::new(name, types.extensions)],
            folder: self.folder.clone(),
        };
        let (chooser, sender) = (Rc::clone(&self.chooser), self.backend.sender.clone());
        let selecting = slint::spawn_local(async move {
            let message = if chooser.is_available().await {
                Message::FilesSelected { files: chooser.open(request).await, is_ecg }
            } else {
                Message::NoFileDialog { is_ecg }
            };
            sender.send(message);
        });
        if selecting.is_err() {
            self.browse(is_ecg);
        }
    }

    /// Opens the file browser inside the window.
    fn browse(&mut self, is_ecg: bool) {
        if self.dialog != DialogKind::None {
            return;
        }
        self.browses_ecgs = is_ecg;
        self.browser.open(if is_ecg { ECG_FILES } else { IMAGE_FILES }, self.folder.as_deref());
        self.open_dialog(DialogKind::FileBrowser);
    }

    /// Selects the file with this path.
    pub(crate) fn add_path(&mut self, text: &str) {
        let text = text.trim().trim_matches('"');
        if text.is_empty() {
            return;
        }
        let Some(is_ecg) = self.selected_type() else { return };
        self.add_file(PathBuf::from(text), is_ecg);
        self.backend.api(|api| api.set_path("".into()));
    }

    /// Why nothing can be uploaded now.
    fn problem(&self) -> Option<String> {
        if let Some(problem) = self.uploads.problem() {
            return Some(problem.to_owned());
        }
        if let Some(problem) = self.patient.problem() {
            return Some(problem);
        }
        if self.patient.name().is_none() && self.files.is_empty() {
            return Some(
                tr!("Enter a name or select a file: an upload without content is not sent.").to_owned(),
            );
        }
        // An invalid field comes before the file that waits for it.
        self.recording.problem(self.now()).or_else(|| self.files.problem())
    }

    /// The time by the server's clock, or by the clock of this computer before the first answer of the server.
    fn now(&self) -> Timestamp {
        self.uploads.gateway().map_or_else(Timestamp::now, Gateway::now)
    }

    /// Number and size of the selected files.
    fn totals(&self) -> String {
        let (images, ecgs, bytes) = self.files.totals();
        let mut parts = Vec::new();
        if images > 0 {
            parts.push(format::count(images as u64, tr!("medical image"), tr!("medical images")));
        }
        if ecgs > 0 {
            parts.push(format::count(ecgs as u64, tr!("ECG"), tr!("ECGs")));
        }
        match parts.is_empty() {
            true => tr!("no files").to_owned(),
            false => format!("{}, {}", parts.join(tr!(" and ")), format::bytes(bytes)),
        }
    }

    /// Updates what depends on several parts of the form.
    pub(crate) fn refresh(&mut self) {
        let now = self.now();
        self.recording.show(self.files.suggested_time(), self.files.needs_options(), now);
        let problem = self.problem();
        let can_upload = problem.is_none() && !self.uploads.is_busy();
        let reason = problem.unwrap_or_else(|| {
            if self.patient.renames() {
                tr!("Check the name: this upload would rename the patient. You are asked before it is sent.")
                    .to_owned()
            } else {
                tr!("Ready to upload: {}.", self.totals())
            }
        });
        self.backend.api(|api| {
            api.set_can_upload(can_upload);
            api.set_upload_reason(reason.into());
        });
    }

    /// Asks the user to confirm the upload.
    pub(crate) fn ask_upload(&mut self) {
        if self.problem().is_some() || self.uploads.is_busy() || self.dialog != DialogKind::None {
            return;
        }
        // While the gateway is unreachable, the check would only delay the upload.
        let is_reachable = matches!(self.reachability, Reachability::Reachable | Reachability::Unknown);
        self.is_checking = is_reachable && self.uploads.gateway().is_some();
        if self.is_checking {
            self.patient.look_up(self.uploads.gateway(), Duration::ZERO);
        }
        self.open_dialog(DialogKind::Upload);
        self.show_confirmation();
    }

    fn show_confirmation(&self) {
        if self.dialog != DialogKind::Upload {
            return;
        }
        let mut text = self.patient.lines();
        if let Some(line) = self.recording.line(self.now()) {
            text.push_str(&format!("\n{line}"));
        }
        let note = match (self.reachability, self.patient.lookup()) {
            (Reachability::Unreachable, _) => Some(
                tr!("The gateway cannot be reached. The upload will be kept here and sent later.").to_owned(),
            ),
            (Reachability::TokenRejected, _) => {
                Some(tr!("The gateway rejects the access token. Check it in the settings.").to_owned())
            }
            (_, PatientLookup::Unavailable(reason)) if !self.is_checking => {
                Some(tr!("The record number cannot be checked: {}.", reason))
            }
            (_, PatientLookup::NotFound) => {
                Some(tr!("This is a new patient: no patient has this number yet.").to_owned())
            }
            _ => None,
        };
        if let Some(note) = note {
            text.push_str(&format!("\n\n{note}"));
        }
        let mut files: Vec<SharedString> = self.files.lines().into_iter().map(Into::into).collect();
        if files.is_empty() {
            files.push(tr!("No files: only the name is uploaded.").into());
        }
        let warning = if self.is_checking { None } else { self.patient.rename_warning() };
        let confirmation = UploadConfirmation {
            text: text.into(),
            files: ModelRc::new(VecModel::from(files)),
            accept: if warning.is_some() { tr!("Rename and upload") } else { tr!("Upload") }.into(),
            warning: warning.unwrap_or_default().into(),
            checking: self.is_checking,
        };
        self.backend.api(|api| api.set_confirmation(confirmation));
    }

    /// Does what the open dialog asks about.
    pub(crate) fn accept(&mut self) {
        let dialog = self.dialog;
        self.open_dialog(DialogKind::None);
        match dialog {
            DialogKind::Upload => self.start_upload(),
            DialogKind::Reset => self.reset(),
            DialogKind::Quit => (self.quit)(),
            DialogKind::FileBrowser => {
                let files = self.browser.take_selected();
                self.add_files(files, self.browses_ecgs);
            }
            DialogKind::None
            | DialogKind::Settings
            | DialogKind::About
            | DialogKind::Outbox
            | DialogKind::Account => {}
        }
        self.refresh();
    }

    fn start_upload(&mut self) {
        let Some(Ok(mrn)) = self.patient.mrn() else { return };
        if self.problem().is_some() || self.uploads.is_busy() {
            return;
        }
        let (Ok(recorded), Ok(signal_options)) =
            (self.recording.time(self.now()), self.recording.signal_options())
        else {
            return;
        };
        self.close_message();
        self.analysis.clear();
        let content = UploadContent {
            mrn,
            name: self.patient.name().map(str::to_owned),
            // The confirmation has shown the warning.
            rename: self.patient.renames(),
            recorded,
            signal_options,
            files: self.files.uploads(),
        };
        self.uploads.start(content, self.files.previews());
        if self.followed != Some(mrn) {
            self.follow(Some(mrn));
        }
    }

    pub(crate) fn cancel_upload(&mut self) {
        let outcome = self.uploads.cancel();
        self.show_outcome(outcome);
    }

    fn show_outcome(&mut self, outcome: Option<UploadOutcome>) {
        match outcome {
            None => {}
            Some(UploadOutcome::Delivered { answer, previews }) => {
                let name = self.patient.name().map(|name| tr!("Name: {}", name));
                self.clear_form();
                let mut lines: Vec<String> = name.into_iter().collect();
                if let UploadAnswer::Stored(receipt) = &answer {
                    lines.extend(messages::receipt_lines(receipt));
                    if let Some(gateway) = self.uploads.gateway() {
                        self.analysis.expect(gateway.clone(), receipt, previews);
                    }
                }
                self.show_receipt(Tone::Good, &messages::answer(&answer), lines);
            }
            Some(UploadOutcome::Queued { mrn, reason }) => {
                self.clear_form();
                self.show_message(Tone::Warning, &messages::queued(mrn, &reason));
            }
            Some(UploadOutcome::Failed(reason)) => self.show_message(Tone::Danger, &reason),
            Some(UploadOutcome::Cancelled) => {
                self.show_message(Tone::Neutral, tr!("Upload cancelled. Nothing was cleared."));
            }
            Some(UploadOutcome::BacklogDelivered(answer)) => {
                let lines = match &answer {
                    UploadAnswer::Stored(receipt) => messages::receipt_lines(receipt),
                    UploadAnswer::Accepted(_) => Vec::new(),
                };
                let text = tr!("A waiting upload was sent. {}", messages::answer(&answer));
                self.show_receipt(Tone::Neutral, &text, lines);
            }
            Some(UploadOutcome::BacklogRejected(error)) => {
                let text =
                    tr!("A waiting upload was rejected and needs attention. {}", messages::error(&error));
                self.show_message(Tone::Neutral, &text);
            }
        }
    }

    fn clear_form(&mut self) {
        self.patient.clear();
        self.files.clear();
        self.recording.clear();
        self.backend.api(|api| {
            api.set_path("".into());
            api.set_file_type(-1);
            api.set_file_type_missing(false);
        });
    }

    fn reset(&mut self) {
        self.clear_form();
        self.analysis.clear();
        self.close_message();
    }

    /// Whether the form holds anything.
    fn is_dirty(&self) -> bool {
        let mut has_path = false;
        self.backend.api(|api| has_path = !api.get_path().trim().is_empty());
        has_path || !self.patient.is_empty() || !self.files.is_empty()
    }

    /// Resets the form. Asks for confirmation if it holds anything.
    pub(crate) fn ask_reset(&mut self) {
        if self.uploads.is_busy() || self.dialog != DialogKind::None {
            return;
        }
        if !self.is_dirty() {
            self.reset();
            return;
        }
        let question = tr!(
            "This clears the patient and the selected files ({}). Nothing of it has been uploaded.",
            self.totals()
        );
        self.backend.api(|api| api.set_question(question.into()));
        self.open_dialog(DialogKind::Reset);
    }

    /// Asks for confirmation before the app quits.
    pub(crate) fn ask_quit(&mut self) {
        let mut text = String::new();
        if self.uploads.is_busy() {
            text.push_str(tr!("An upload is in progress. It continues when the app is started again. "));
        } else if self.is_dirty() {
            text.push_str(tr!("What you have entered has not been uploaded and will be lost. "));
        }
        match self.uploads.backlog_len() {
            0 => {}
            waiting => {
                let what = format::count(waiting as u64, tr!("upload waits"), tr!("uploads wait"));
                text.push_str(&tr!(
                    "{} on this computer and will be sent when the app is started again. ",
                    what
                ));
            }
        }
        text.push_str(tr!("Close the app?"));
        self.backend.api(|api| api.set_question(text.into()));
        self.open_dialog(DialogKind::Quit);
    }

    /// Closes the open dialog without doing what it asks about.
    pub(crate) fn dismiss_dialog(&mut self) {
        self.is_checking = false;
        self.settings.closed();
        self.open_dialog(DialogKind::None);
    }

    pub(crate) fn open_settings(&mut self) {
        if self.dialog == DialogKind::None {
            self.settings.fill();
            self.open_dialog(DialogKind::Settings);
        }
    }

    pub(crate) fn open_about(&mut self) {
        if self.dialog == DialogKind::None {
            self.open_dialog(DialogKind::About);
        }
    }

    pub(crate) fn open_outbox(&mut self) {
        self.uploads.refresh();
        if self.dialog == DialogKind::None {
            self.open_dialog(DialogKind::Outbox);
        }
    }

    /// Shows the error of an action on the outbox.
    pub(crate) fn show_error(&mut self, result: Result<(), String>) {
        if let Err(message) = result {
            self.show_message(Tone::Danger, &message);
        }
    }
}

fn looks_like_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    IMAGE_FILES.extensions.contains(&extension.as_str())
}

/// Handles the waiting messages whenever it is woken, until the controller or the last sender is dropped.
async fn handle_messages(
    controller: std::rc::Weak<RefCell<AppController>>,
    receiver: UiReceiver,
    mut woken: mpsc::Receiver<()>,
) {
    while woken.recv().await.is_some() {
        while let Some(message) = receiver.try_recv() {
            let Some(controller) = controller.upgrade() else { return };
            controller.borrow_mut().handle(message);
        }
    }
}
