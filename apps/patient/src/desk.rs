//! The desk: answers what the person does, and takes in what the network's threads send. On the thread of the window.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use client::{Gateway, NatsSettings};
use proto_json::{Mrn, Timestamp};
use slint::{CloseRequestResponse, ComponentHandle as _, ModelRc, PlatformError, SharedString, VecModel};
use tokio::sync::mpsc;
use ui::{
    BackgroundRuntime, ConnectionLevel, ConnectionStatus, FileChooser, FileFilter, OpenRequest, StartError,
    Task, format,
};

use crate::analysis::Analyses;
use crate::args::Args;
use crate::dialogs::{Connected, Kept, SettingsDesk};
use crate::link::{Link, follow};
use crate::message::Message;
use crate::patient_form::{Known, PatientForm};
use crate::recording::Recording;
use crate::sending::{Named, Outcome, Sending};
use crate::staging::{FileId, Staging};
use crate::window::{Api, Asking, Confirmation, Main, Tone};

/// Place of ECGs in the chooser of file types; images come before.
const ECG_TYPE: i32 = 1;

/// Answers what the person does.
pub(crate) struct Desk {
    link: Link,
    form: PatientForm,
    staging: Staging,
    recording: Recording,
    sending: Sending,
    analyses: Analyses,
    settings: SettingsDesk,
    chooser: Rc<dyn FileChooser>,
    quit: Box<dyn Fn()>,
    asking: Asking,
    /// The dialog waits for the record number to be looked up.
    checking: bool,
    nats: Option<NatsSettings>,
    /// The patient whose changes are followed.
    followed: Option<Mrn>,
    follower: Task,
    level: ConnectionLevel,
    /// Where files were chosen last.
    folder: Option<PathBuf>,
}

/// A callback of the window that goes to the desk, as long as there is one.
macro_rules! on {
    ($api:expr, $desk:expr, $register:ident, |$it:ident $(, $arg:ident)*| $body:expr) => {{
        let desk = Rc::downgrade($desk);
        $api.$register(move |$($arg),*| {
            if let Some(desk) = desk.upgrade() {
                let $it = &mut *desk.borrow_mut();
                $body;
            }
        });
    }};
}

impl Desk {
    pub(crate) fn new(
        window: &Main,
        args: &Args,
        settings: Kept,
        chooser: Rc<dyn FileChooser>,
        quit: Box<dyn Fn()>,
    ) -> Result<Rc<RefCell<Self>>, StartError> {
        let (mail, letters) = mpsc::unbounded_channel();
        let link = Link::new(window, BackgroundRuntime::start()?, mail);
        let typed = |text: &Option<String>| text.clone().unwrap_or_default();
        let desk = Desk {
            form: PatientForm::new(link.clone(), typed(&args.mrn), typed(&args.name)),
            staging: Staging::new(link.clone()),
            recording: Recording::new(link.clone()),
            sending: Sending::new(link.clone(), args.outbox_folder()),
            analyses: Analyses::new(link.clone()),
            settings: SettingsDesk::new(link.clone(), settings),
            chooser,
            quit,
            asking: Asking::Nothing,
            checking: false,
            nats: None,
            followed: None,
            follower: Task::default(),
            level: ConnectionLevel::Unknown,
            folder: None,
            link,
        };
        let desk = Rc::new(RefCell::new(desk));
        register(window, &desk);
        let reader = read_letters(Rc::downgrade(&desk), letters);
        slint::spawn_local(reader).map_err(|error| PlatformError::Other(error.to_string()))?;
        let mut it = desk.borrow_mut();
        it.link.api(|api| api.set_version(env!("CARGO_PKG_VERSION").into()));
        it.stand(ConnectionStatus::of(None));
        it.settings.connect();
        for path in &args.files {
            it.add(path.clone(), !looks_like_image(path));
        }
        it.refresh();
        drop(it);
        Ok(desk)
    }

    /// Lets go of everything that runs.
    pub(crate) fn stop(&mut self) {
        self.follower = Task::default();
        self.sending.stop();
        self.staging.clear();
        self.analyses.clear();
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::EcgProgress { file, progress, words } => {
                self.staging.ecg_progress(file, progress, words)
            }
            Message::EcgRead { file, result } => {
                self.staging.ecg_read(file, result);
                self.file_was_read();
            }
            Message::EcgDrawn { number, picture } => self.staging.ecg_drawn(number, picture),
            Message::ImageRead { file, result } => {
                self.staging.image_read(file, result);
                self.file_was_read();
            }
            Message::ImageFitted { number, picture } => self.staging.image_fitted(number, picture),
            Message::Known { number, mrn, answer } => {
                if self.form.answered(number, mrn, answer) {
                    self.checking = false;
                    self.show_confirmation();
                }
            }
            Message::Connected { number, result } => match self.settings.connected(number, result) {
                Connected::Use { gateway, nats, saved } => self.connected(gateway, nats, saved),
                Connected::Wrong(reason) => {
                    let detail = reason.clone();
                    self.stand(ConnectionStatus {
                        level: ConnectionLevel::Bad,
                        text: "not set up".to_owned(),
                        detail,
                    });
                    self.say(Tone::Danger, &reason);
                }
                Connected::Nothing => {}
            },
            Message::Standing(light) => self.stand(light),
            Message::Updated(update) => self.analyses.patient_changed(update.patient.mrn),
            Message::OutboxOpened(outbox) => self.sending.opened(outbox),
            Message::OutboxChanged => self.sending.refresh(),
            Message::Outbox(event) => {
                let outcome = self.sending.told(event);
                self.act_on(outcome);
            }
            Message::Keeping { number, progress } => self.sending.keeping(number, progress),
            Message::Kept { number, result } => {
                let outcome = self.sending.kept(number, result);
                self.act_on(outcome);
            }
            Message::Analyzed { id, record } => self.analyses.arrived(id, &record),
            Message::Tested { number, good, words } => self.settings.tested(number, good, &words),
            Message::Chosen { files, is_ecg } => {
                self.folder = files.first().and_then(|file| file.parent()).map(Path::to_path_buf);
                for file in files {
                    self.add(file, is_ecg);
                }
            }
        }
        self.refresh();
    }

    fn connected(&mut self, gateway: Gateway, nats: Option<NatsSettings>, saved: bool) {
        self.nats = nats;
        self.sending.connect(gateway);
        self.follow(self.followed);
        self.form.look_up(self.sending.gateway(), std::time::Duration::ZERO);
        if saved {
            self.ask(Asking::Nothing);
            self.say(Tone::Good, "Settings saved.");
        }
    }

    fn follow(&mut self, mrn: Option<Mrn>) {
        let Some(gateway) = self.sending.gateway().cloned() else { return };
        self.followed = mrn;
        let (nats, mail) = (self.nats.clone(), self.link.mail.clone());
        self.follower = self.link.network.spawn(follow(gateway, nats, mrn, mail));
    }

    fn stand(&mut self, light: ConnectionStatus) {
        let back = self.level != ConnectionLevel::Good && light.level == ConnectionLevel::Good;
        self.level = light.level;
        let level = light.level.into();
        self.link.api(|api| {
            api.set_light(level);
            api.set_light_words(light.text.into());
            api.set_light_detail(light.detail.into());
        });
        if back {
            self.sending.poke();
            if matches!(self.form.known(), Known::Unclear(_)) {
                self.form.look_up(self.sending.gateway(), std::time::Duration::ZERO);
            }
        }
    }

    fn file_was_read(&mut self) {
        match self.staging.failure() {
            Some(told) => self.say(Tone::Danger, &told),
            None => self.dismiss_failure(),
        }
    }

    /// A message about a file that was not taken goes when that file does; others stay.
    fn dismiss_failure(&self) {
        self.link.api(|api| {
            if api.get_message().contains(" was not taken. ") {
                api.set_message("".into());
            }
        });
    }

    fn say(&self, tone: Tone, text: &str) {
        self.link.api(|api| {
            api.set_message_tone(tone);
            api.set_message(text.into());
        });
    }

    fn ask(&mut self, asking: Asking) {
        self.asking = asking;
        self.link.api(|api| api.set_asking(asking));
    }

    fn add(&mut self, path: PathBuf, is_ecg: bool) {
        self.say(Tone::Neutral, "");
        if let Err(told) = self.staging.add(path, is_ecg) {
            self.say(Tone::Neutral, &told);
        }
    }

    /// The chosen type of files; if there is none, says so.
    fn file_type(&self) -> Option<bool> {
        let mut chosen = -1;
        self.link.api(|api| {
            chosen = api.get_file_type();
            api.set_file_type_missing(chosen < 0);
        });
        if chosen < 0 {
            self.say(Tone::Warning, "Choose the file type first: medical image, or ECG.");
            return None;
        }
        self.dismiss();
        Some(chosen == ECG_TYPE)
    }

    fn dismiss(&self) {
        self.say(Tone::Neutral, "");
    }

    fn choose_files(&mut self) {
        let Some(is_ecg) = self.file_type() else { return };
        let (title, filter) = if is_ecg {
            ("Select ECG files", FileFilter::new("ECG (CSV, EDF)", &["csv", "tsv", "txt", "edf", "bdf"]))
        } else {
            ("Select medical images", FileFilter::new("Images (PNG, JPEG)", &["png", "jpg", "jpeg"]))
        };
        let request =
            OpenRequest { title: title.to_owned(), filters: vec![filter], folder: self.folder.clone() };
        let (chosen, mail) = (self.chooser.open(request), self.link.mail.clone());
        let waiting = slint::spawn_local(async move {
            drop(mail.send(Message::Chosen { files: chosen.await, is_ecg }));
        });
        if waiting.is_err() {
            self.say(Tone::Danger, "The file dialog cannot be opened: type the path of the file instead.");
        }
    }

    fn add_path(&mut self, text: &str) {
        let text = text.trim().trim_matches('"');
        if text.is_empty() {
            return;
        }
        let Some(is_ecg) = self.file_type() else { return };
        self.add(PathBuf::from(text), is_ecg);
        self.link.api(|api| api.set_path("".into()));
    }

    /// Why nothing can be uploaded now.
    fn problem(&self) -> Option<String> {
        if let Some(problem) = self.sending.problem() {
            return Some(problem.to_owned());
        }
        match self.form.mrn() {
            None => return Some("Enter the medical record number to upload.".to_owned()),
            Some(Err(error)) => return Some(format::sentence(&error.to_string())),
            Some(Ok(_)) => {}
        }
        if let Some(problem) = self.form.name_problem() {
            return Some(problem);
        }
        if let Some(name) = self.staging.busy() {
            return Some(format!("Still reading {name}…"));
        }
        self.recording.value(self.now()).err()
    }

    /// The time by the clock of the server; by that of this computer as long as the server has not told.
    fn now(&self) -> Timestamp {
        self.sending.gateway().map_or_else(Timestamp::now, Gateway::now)
    }

    fn totals(&self) -> String {
        let (images, ecgs, bytes) = self.staging.totals();
        let mut parts = Vec::new();
        if images > 0 {
            parts.push(format::count(images as u64, "medical image", "medical images"));
        }
        if ecgs > 0 {
            parts.push(format::count(ecgs as u64, "ECG", "ECGs"));
        }
        match parts.is_empty() {
            true => "no files".to_owned(),
            false => format!("{}, {}", parts.join(" and "), format::bytes(bytes)),
        }
    }

    fn refresh(&mut self) {
        self.recording.show(self.staging.recorded(), self.now());
        let problem = self.problem();
        let can = problem.is_none() && !self.sending.is_busy();
        let reason = problem.unwrap_or_else(|| format!("Ready to upload: {}.", self.totals()));
        self.link.api(|api| {
            api.set_can_upload(can);
            api.set_upload_reason(reason.into());
        });
    }

    fn ask_upload(&mut self) {
        if self.problem().is_some() || self.sending.is_busy() || self.asking != Asking::Nothing {
            return;
        }
        // Offline the question could only hold up what is kept here anyway.
        self.checking = self.level != ConnectionLevel::Bad && self.sending.gateway().is_some();
        if self.checking {
            self.form.look_up(self.sending.gateway(), std::time::Duration::ZERO);
        }
        self.ask(Asking::Upload);
        self.show_confirmation();
    }

    fn show_confirmation(&self) {
        if self.asking != Asking::Upload {
            return;
        }
        let mut text = self.form.spoken();
        if let Some(line) = self.recording.line(self.now()) {
            text.push_str(&format!("\n{line}"));
        }
        if self.level == ConnectionLevel::Bad {
            text.push_str("\n\nThe gateway cannot be reached: the upload will be kept here and sent later.");
        } else if let (Known::Unclear(reason), false) = (self.form.known(), self.checking) {
            text.push_str(&format!("\n\nWho has this number cannot be checked: {reason}."));
        } else if self.form.known() == &Known::Nobody {
            text.push_str("\n\nThis is a new patient: nobody has this number yet.");
        }
        let mut files: Vec<SharedString> = self.staging.lines().into_iter().map(Into::into).collect();
        if files.is_empty() {
            files.push("No files: only the patient goes.".into());
        }
        let warning = if self.checking { None } else { self.form.name_warning() };
        let confirmation = Confirmation {
            text: text.into(),
            files: ModelRc::new(VecModel::from(files)),
            accept: if warning.is_some() { "Rename and upload" } else { "Upload" }.into(),
            warning: warning.unwrap_or_default().into(),
            checking: self.checking,
        };
        self.link.api(|api| api.set_confirmation(confirmation));
    }

    fn accept(&mut self) {
        let asked = self.asking;
        self.ask(Asking::Nothing);
        match asked {
            Asking::Upload => self.upload(),
            Asking::Reset => self.clear(),
            Asking::Quit => (self.quit)(),
            _ => {}
        }
        self.refresh();
    }

    fn upload(&mut self) {
        let Some(Ok(mrn)) = self.form.mrn() else { return };
        if self.problem().is_some() || self.sending.is_busy() {
            return;
        }
        self.dismiss();
        self.analyses.clear();
        let name = self.form.name().map(str::to_owned);
        // The confirmation has shown the warning.
        let rename = self.form.name_warning().is_some();
        let Ok(recorded) = self.recording.value(self.now()) else { return };
        let patient = Named { mrn, name, rename };
        self.sending.begin(patient, recorded, self.staging.uploads(), self.staging.previews());
        if self.followed != Some(mrn) {
            self.follow(Some(mrn));
        }
    }

    fn act_on(&mut self, outcome: Option<Outcome>) {
        match outcome {
            None => {}
            Some(Outcome::Done { words, receipt }) => {
                self.clear_form();
                self.say(Tone::Good, &words);
                if let (Some((receipt, previews)), Some(gateway)) = (receipt, self.sending.gateway()) {
                    self.analyses.expect(gateway.clone(), &receipt, previews);
                }
            }
            Some(Outcome::Kept(words)) => {
                self.clear_form();
                self.say(Tone::Warning, &words);
            }
            Some(Outcome::Failed(words)) => {
                let cancelled = words.starts_with("Upload cancelled");
                self.say(if cancelled { Tone::Neutral } else { Tone::Danger }, &words);
            }
            Some(Outcome::Delivered(words)) => self.say(Tone::Neutral, &words),
        }
    }

    fn clear_form(&mut self) {
        self.form.clear();
        self.staging.clear();
        self.recording.clear();
        self.link.api(|api| {
            api.set_path("".into());
            api.set_file_type(-1);
            api.set_file_type_missing(false);
        });
    }

    fn clear(&mut self) {
        self.clear_form();
        self.analyses.clear();
        self.dismiss();
    }

    fn is_dirty(&self) -> bool {
        let mut path = false;
        self.link.api(|api| path = !api.get_path().trim().is_empty());
        path || !self.form.is_empty() || !self.staging.is_empty()
    }

    fn ask_reset(&mut self) {
        if self.sending.is_busy() || self.asking != Asking::Nothing {
            return;
        }
        if !self.is_dirty() {
            self.clear();
            return;
        }
        let what =
            format!("Patient and files ({}) are cleared. Nothing of it has been uploaded.", self.totals());
        self.link.api(|api| api.set_question(what.into()));
        self.ask(Asking::Reset);
    }

    fn ask_quit(&mut self) {
        let mut text = String::new();
        if self.sending.is_busy() {
            text.push_str("An upload is on its way: it goes on when the app is started again. ");
        } else if self.is_dirty() {
            text.push_str("What you have entered has not been uploaded and will be lost. ");
        }
        match self.sending.waiting() {
            0 => {}
            waiting => {
                let what = format::count(waiting as u64, "upload waits", "uploads wait");
                text.push_str(&format!(
                    "{what} on this computer, to be sent when the app is started again. "
                ));
            }
        }
        text.push_str("Close the app?");
        self.link.api(|api| api.set_question(text.into()));
        self.ask(Asking::Quit);
    }

    fn dismiss_dialog(&mut self) {
        self.checking = false;
        self.settings.closed();
        self.ask(Asking::Nothing);
    }

    fn open(&mut self, asking: Asking) {
        if self.asking == Asking::Nothing {
            if asking == Asking::Settings {
                self.settings.fill();
            }
            self.ask(asking);
        }
    }

    fn report(&self, done: Result<(), String>) {
        if let Err(told) = done {
            self.say(Tone::Danger, &told);
        }
    }
}

fn looks_like_image(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    ["png", "jpg", "jpeg"].contains(&end.as_str())
}

async fn read_letters(desk: std::rc::Weak<RefCell<Desk>>, mut letters: mpsc::UnboundedReceiver<Message>) {
    while let Some(letter) = letters.recv().await {
        let Some(desk) = desk.upgrade() else { return };
        desk.borrow_mut().handle(letter);
    }
}

fn register(window: &Main, desk: &Rc<RefCell<Desk>>) {
    let api = window.global::<Api<'_>>();
    on!(api, desk, on_mrn_edited, |it, text| {
        it.form.edit_mrn(&text, it.sending.gateway());
        it.refresh()
    });
    on!(api, desk, on_name_edited, |it, text| {
        it.form.edit_name(&text, it.sending.gateway());
        it.refresh()
    });
    on!(api, desk, on_recorded_edited, |it, text| {
        it.recording.edit(&text);
        it.refresh()
    });
    on!(api, desk, on_choose_files, |it| it.choose_files());
    on!(api, desk, on_add_path, |it, text| {
        it.add_path(&text);
        it.refresh()
    });
    on!(api, desk, on_show_file, |it, id| it.staging.show(FileId(id)));
    on!(api, desk, on_remove_file, |it, id| {
        it.staging.remove(FileId(id));
        it.refresh()
    });
    on!(api, desk, on_ecg_resized, |it, width, height| it.staging.ecg_resized(size(width, height)));
    on!(api, desk, on_image_resized, |it, width, height| it.staging.image_resized(size(width, height)));
    on!(api, desk, on_upload, |it| it.ask_upload());
    on!(api, desk, on_cancel_upload, |it| {
        let outcome = it.sending.cancel();
        it.act_on(outcome);
        it.refresh()
    });
    on!(api, desk, on_reset, |it| {
        it.ask_reset();
        it.refresh()
    });
    on!(api, desk, on_quit, |it| it.ask_quit());
    on!(api, desk, on_dismiss_message, |it| it.dismiss());
    on!(api, desk, on_dismiss_analysis, |it| it.analyses.clear());
    on!(api, desk, on_retry_waiting, |it, id| {
        let done = it.sending.retry(&id);
        it.report(done)
    });
    on!(api, desk, on_rename_waiting, |it, id| {
        let done = it.sending.rename(&id);
        it.report(done)
    });
    on!(api, desk, on_discard_waiting, |it, id| {
        let done = it.sending.discard(&id);
        it.report(done)
    });
    on!(api, desk, on_accept, |it| it.accept());
    on!(api, desk, on_dismiss, |it| it.dismiss_dialog());
    on!(api, desk, on_open_settings, |it| it.open(Asking::Settings));
    on!(api, desk, on_open_about, |it| it.open(Asking::About));
    on!(api, desk, on_open_outbox, |it| {
        it.sending.refresh();
        it.open(Asking::Outbox)
    });
    on!(api, desk, on_save_settings, |it, form| it.settings.save(&form));
    on!(api, desk, on_test_settings, |it, form| it.settings.test(&form));
    let weak = Rc::downgrade(desk);
    window.window().on_close_requested(move || match weak.upgrade() {
        Some(desk) => {
            desk.borrow_mut().ask_quit();
            CloseRequestResponse::KeepWindowShown
        }
        None => CloseRequestResponse::HideWindow,
    });
}

fn size(width: i32, height: i32) -> (u32, u32) {
    (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0))
}
