//! The files that will be sent, and the two of them that are on show.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use client::UploadFile;
use ecg::Quality;
use proto_json::{FileKind, Timestamp};
use slint::{Image, ModelRc, SharedString, VecModel};
use ui::{Picture, format};

use crate::ecg_file::{self, Reading, quality_word};
use crate::link::Link;
use crate::message::Message;
use crate::recording::{self, Suggestion};
use crate::window::{EcgView, ImageView, PaneState, StagedFile, Tone};

/// Longest side of an image kept in memory for show, in pixels: more than any screen has.
/// Characters of a file name that are shown.
const LONGEST_FILE_NAME: usize = 36;
const KEPT_SIDE: u32 = 4096;

/// Names a chosen file as long as it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) i32);

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    pub(crate) fn of(facts: &Metadata) -> Self {
        Stamp { bytes: facts.len(), changed: facts.modified().ok() }
    }
}

/// A chosen file.
struct Staged {
    id: FileId,
    path: PathBuf,
    is_ecg: bool,
    /// Known once it has been read.
    facts: Option<(Stamp, String)>,
    /// Heart rate of the preview.
    mean_bpm: Option<f64>,
    /// When it was chosen, by the clock of this computer.
    chosen_at: Timestamp,
    /// When it was recorded, if the file states it.
    recorded_at: Option<Timestamp>,
    cancelled: Arc<AtomicBool>,
}

impl Staged {
    fn name(&self) -> String {
        name_of(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What is drawn into a pane, and how large that is.
struct Pane<T> {
    shows: Option<FileId>,
    content: Option<T>,
    size: (u32, u32),
    /// Number of the latest drawing.
    number: u64,
    drawing: bool,
    /// It has changed since that began.
    again: bool,
}

impl<T> Default for Pane<T> {
    fn default() -> Self {
        Pane { shows: None, content: None, size: (0, 0), number: 0, drawing: false, again: false }
    }
}

impl<T: Clone> Pane<T> {
    /// What to draw now, if anything and if no drawing is under way.
    fn begin(&mut self) -> Option<(u64, T, (u32, u32))> {
        let content = self.content.clone().filter(|_| self.size.0 > 0 && self.size.1 > 0)?;
        if self.drawing {
            self.again = true;
            return None;
        }
        self.drawing = true;
        self.number += 1;
        Some((self.number, content, self.size))
    }

    /// Whether this drawing is of what is on show now.
    fn ended(&mut self, number: u64) -> bool {
        self.drawing = false;
        !std::mem::take(&mut self.again) && self.number == number && self.content.is_some()
    }

    /// Nothing of what was shown is shown any more.
    fn clear(&mut self, shows: Option<FileId>) {
        self.shows = shows;
        self.content = None;
        self.number += 1;
    }
}

/// A chosen ECG, for comparison with what the server will find.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preview {
    pub(crate) name: String,
    pub(crate) mean_bpm: Option<f64>,
}

/// The files that will be sent.
pub(crate) struct Staging {
    link: Link,
    files: Vec<Staged>,
    next: i32,
    ecg: Pane<Arc<Reading>>,
    image: Pane<Picture>,
    /// Why a file was not taken: shown in its pane until something else is.
    ecg_failed: Option<(String, String)>,
    image_failed: Option<(String, String)>,
}

impl Staging {
    pub(crate) fn new(link: Link) -> Self {
        Staging {
            link,
            files: Vec::new(),
            next: 0,
            ecg: Pane::default(),
            image: Pane::default(),
            ecg_failed: None,
            image_failed: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Name of a file that is not read yet.
    pub(crate) fn busy(&self) -> Option<String> {
        self.files.iter().find(|file| file.facts.is_none()).map(Staged::name)
    }

    /// Number of images and ECGs, and bytes of both.
    pub(crate) fn totals(&self) -> (usize, usize, u64) {
        let ecgs = self.files.iter().filter(|file| file.is_ecg).count();
        let bytes = self.files.iter().filter_map(|file| file.facts.as_ref()).map(|(stamp, _)| stamp.bytes);
        (self.files.len() - ecgs, ecgs, bytes.sum())
    }

    /// One line for each file.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |file: &Staged| {
            let kind = if file.is_ecg { "ECG" } else { "Medical image" };
            let detail = file.facts.as_ref().map_or(String::new(), |(_, detail)| format!(" ({detail})"));
            format!("{kind}: {}{detail}", file.name())
        };
        self.files.iter().map(line).collect()
    }

    /// The files as they go, with what tells whether they have changed since.
    pub(crate) fn uploads(&self) -> Vec<(UploadFile, Stamp)> {
        let upload = |file: &Staged| {
            let kind = if file.is_ecg { FileKind::Ecg } else { FileKind::MedicalImage };
            let (stamp, _) = file.facts.as_ref()?;
            Some((UploadFile::from_path(kind, &file.path), *stamp))
        };
        self.files.iter().filter_map(upload).collect()
    }

    /// What the chosen ECGs say of the time of their recording.
    pub(crate) fn recorded(&self) -> Suggestion {
        let ecgs = self.files.iter().filter(|file| file.is_ecg);
        recording::suggestion(ecgs.map(|file| (file.chosen_at, file.recorded_at)))
    }

    /// The chosen ECGs in their order.
    pub(crate) fn previews(&self) -> Vec<Preview> {
        let ecgs = self.files.iter().filter(|file| file.is_ecg);
        ecgs.map(|file| Preview { name: file.name(), mean_bpm: file.mean_bpm }).collect()
    }

    /// Chooses a file and reads it. Err: it is there already.
    pub(crate) fn add(&mut self, path: PathBuf, is_ecg: bool) -> Result<(), String> {
        if let Some(there) = self.files.iter().find(|file| file.path == path && file.is_ecg == is_ecg) {
            let (id, told) = (there.id, format!("{} is chosen already.", there.name()));
            self.show(id);
            return Err(told);
        }
        let id = FileId(self.next);
        self.next += 1;
        let cancelled = Arc::default();
        let chosen_at = Timestamp::now();
        self.files.push(Staged {
            id,
            path,
            is_ecg,
            facts: None,
            mean_bpm: None,
            chosen_at,
            recorded_at: None,
            cancelled,
        });
        self.put_on_show(id, is_ecg);
        self.read(id);
        self.refresh();
        Ok(())
    }

    /// Reads a file, for the first time or to show it again.
    fn read(&self, id: FileId) {
        let Some(file) = self.files.iter().find(|file| file.id == id) else { return };
        let (path, mail, cancelled) =
            (file.path.clone(), self.link.mail.clone(), Arc::clone(&file.cancelled));
        let is_ecg = file.is_ecg;
        self.link.network.spawn_blocking(move || {
            let message = if is_ecg {
                let progress = mail.clone();
                let tell = move |progress_, words| {
                    drop(progress.send(Message::EcgProgress { file: id, progress: progress_, words }));
                };
                let result = ecg_file::read(&path, &tell, &cancelled);
                Message::EcgRead {
                    file: id,
                    result: result.map(|(reading, stamp)| (Arc::new(reading), stamp)),
                }
            } else {
                Message::ImageRead { file: id, result: read_image(&path) }
            };
            let _ = mail.send(message);
        });
    }

    /// Takes a file out again.
    pub(crate) fn remove(&mut self, id: FileId) {
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return };
        let gone = self.files.remove(at);
        let on_show = if gone.is_ecg { self.ecg.shows } else { self.image.shows };
        if on_show == Some(id) {
            let next = self.files.iter().rev().find(|file| file.is_ecg == gone.is_ecg).map(|file| file.id);
            match next {
                Some(next) => self.show(next),
                None if gone.is_ecg => self.clear_ecg(),
                None => self.clear_image(),
            }
        }
        self.refresh();
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.files.clear();
        self.clear_ecg();
        self.clear_image();
        self.refresh();
    }

    fn clear_ecg(&mut self) {
        self.ecg.clear(None);
        self.ecg_failed = None;
        self.show_ecg();
    }

    fn clear_image(&mut self) {
        self.image.clear(None);
        self.image_failed = None;
        self.show_image();
    }

    /// Puts a chosen file on show.
    pub(crate) fn show(&mut self, id: FileId) {
        let Some(file) = self.files.iter().find(|file| file.id == id) else { return };
        let (is_ecg, is_read) = (file.is_ecg, file.facts.is_some());
        let already = if is_ecg { self.ecg.shows } else { self.image.shows } == Some(id);
        if !already {
            self.put_on_show(id, is_ecg);
            if is_read {
                self.read(id);
            }
        }
        self.refresh();
    }

    fn put_on_show(&mut self, id: FileId, is_ecg: bool) {
        if is_ecg {
            self.ecg.clear(Some(id));
            self.ecg_failed = None;
            self.show_ecg();
        } else {
            self.image.clear(Some(id));
            self.image_failed = None;
            self.show_image();
        }
    }

    pub(crate) fn ecg_progress(&mut self, id: FileId, progress: f32, words: String) {
        if self.ecg.shows != Some(id) || self.ecg.content.is_some() {
            return;
        }
        let view = EcgView { progress, progress_words: words.into(), ..self.ecg_view() };
        self.link.api(|api| api.set_ecg(view));
    }

    /// A raw ECG has been read. What is not on show is not kept.
    pub(crate) fn ecg_read(&mut self, id: FileId, result: Result<(Arc<Reading>, Stamp), String>) {
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return };
        match result {
            Ok((reading, stamp)) => {
                let file = &mut self.files[at];
                let rate = match reading.mean_bpm() {
                    Some(_) => format!("{} bpm", format::bpm(reading.mean_bpm())),
                    None => "no heart rate".to_owned(),
                };
                let detail = format!(
                    "{rate}, {} quality, {}",
                    quality_word(reading.quality()),
                    format::bytes(stamp.bytes)
                );
                file.facts = Some((stamp, detail));
                file.mean_bpm = reading.mean_bpm();
                // A file from the future was written by a wrong clock.
                let is_past = |at: &Timestamp| !at.is_in_future_of(file.chosen_at);
                file.recorded_at = reading.recorded_at().filter(is_past);
                if self.ecg.shows == Some(id) {
                    self.ecg.content = Some(reading);
                    self.show_ecg();
                    self.draw_ecg();
                }
            }
            Err(reason) => {
                let gone = self.files.remove(at);
                if self.ecg.shows == Some(id) {
                    self.ecg.clear(None);
                    self.ecg_failed = Some((gone.name(), reason));
                    self.show_ecg();
                }
            }
        }
        self.refresh();
    }

    pub(crate) fn image_read(&mut self, id: FileId, result: Result<(Picture, Stamp), String>) {
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return };
        match result {
            Ok((picture, stamp)) => {
                let (width, height) = picture.original_size();
                let detail = format!("{width} × {height}, {}", format::bytes(stamp.bytes));
                self.files[at].facts = Some((stamp, detail));
                if self.image.shows == Some(id) {
                    self.image.content = Some(picture);
                    self.show_image();
                    self.draw_image();
                }
            }
            Err(reason) => {
                let gone = self.files.remove(at);
                if self.image.shows == Some(id) {
                    self.image.clear(None);
                    self.image_failed = Some((gone.name(), format::sentence(&reason)));
                    self.show_image();
                }
            }
        }
        self.refresh();
    }

    /// The last file that was not taken, in one sentence.
    pub(crate) fn failure(&self) -> Option<String> {
        let failed = self.ecg_failed.as_ref().or(self.image_failed.as_ref());
        failed.map(|(name, reason)| format!("{name} was not taken. {reason}"))
    }

    pub(crate) fn ecg_resized(&mut self, size: (u32, u32)) {
        if self.ecg.size != size {
            self.ecg.size = size;
            self.draw_ecg();
        }
    }

    pub(crate) fn image_resized(&mut self, size: (u32, u32)) {
        if self.image.size != size {
            self.image.size = size;
            self.draw_image();
        }
    }

    fn draw_ecg(&mut self) {
        let Some((number, reading, size)) = self.ecg.begin() else { return };
        let mail = self.link.mail.clone();
        self.link.network.spawn_blocking(move || {
            drop(mail.send(Message::EcgDrawn { number, picture: reading.draw(size) }));
        });
    }

    fn draw_image(&mut self) {
        let Some((number, picture, size)) = self.image.begin() else { return };
        let mail = self.link.mail.clone();
        self.link.network.spawn_blocking(move || {
            drop(mail.send(Message::ImageFitted { number, picture: picture.fitted(size) }));
        });
    }

    pub(crate) fn ecg_drawn(&mut self, number: u64, picture: Option<Picture>) {
        if self.ecg.ended(number) {
            let image = picture.map(Picture::into_image).unwrap_or_default();
            self.link.api(|api| api.set_ecg_picture(image));
        } else {
            self.draw_ecg();
        }
    }

    pub(crate) fn image_fitted(&mut self, number: u64, picture: Picture) {
        if self.image.ended(number) {
            let image = picture.into_image();
            self.link.api(|api| api.set_image_picture(image));
        } else {
            self.draw_image();
        }
    }

    fn ecg_view(&self) -> EcgView {
        let name = |id: FileId| {
            let file = self.files.iter().find(|file| file.id == id);
            file.map(|file| shown_name(&file.name()))
        };
        let mut view = EcgView { heart_rate: format::bpm(None).into(), ..EcgView::default() };
        if let Some((name, reason)) = &self.ecg_failed {
            view.state = PaneState::Failed;
            view.file_name = shown_name(name).into();
            view.error = reason.into();
        } else if let Some(reading) = &self.ecg.content {
            view.state = PaneState::Shown;
            view.heart_rate = format::bpm(reading.mean_bpm()).into();
            view.heart_rate_range = reading.range().into();
            view.quality = format!("Signal quality {}", quality_word(reading.quality())).into();
            view.quality_tone = match reading.quality() {
                Quality::Good => Tone::Good,
                Quality::Poor => Tone::Warning,
                Quality::Unusable => Tone::Danger,
            };
            view.detail = reading.detail().into();
            let notes: Vec<SharedString> = reading.notes().iter().map(SharedString::from).collect();
            view.notes = ModelRc::from(Rc::new(VecModel::from(notes)));
        } else if self.ecg.shows.is_some() {
            view.state = PaneState::Busy;
            view.progress_words = "Reading…".into();
        }
        if let Some(name) = self.ecg.shows.and_then(name) {
            view.file_name = name.into();
        }
        view
    }

    fn show_ecg(&self) {
        let view = self.ecg_view();
        self.link.api(|api| {
            api.set_ecg_picture(Image::default());
            api.set_ecg(view);
        });
    }

    fn show_image(&self) {
        let mut view = ImageView::default();
        let file = self.image.shows.and_then(|id| self.files.iter().find(|file| file.id == id));
        if let Some(file) = file {
            view.file_name = shown_name(&file.name()).into();
            view.state = if self.image.content.is_some() { PaneState::Shown } else { PaneState::Busy };
            view.detail = file.facts.as_ref().map_or("", |(_, detail)| detail).into();
        } else if let Some((name, reason)) = &self.image_failed {
            view.file_name = shown_name(name).into();
            view.state = PaneState::Failed;
            view.error = reason.into();
        }
        self.link.api(|api| {
            api.set_image_picture(Image::default());
            api.set_image(view);
        });
    }

    /// Shows the list as it is.
    fn refresh(&self) {
        let row = |file: &Staged| StagedFile {
            id: file.id.0,
            is_ecg: file.is_ecg,
            name: shown_name(&file.name()).into(),
            detail: file.facts.as_ref().map_or("reading…", |(_, detail)| detail).into(),
            busy: file.facts.is_none(),
            shown: [self.ecg.shows, self.image.shows].contains(&Some(file.id)),
        };
        let rows: Vec<StagedFile> = self.files.iter().map(row).collect();
        self.link.api(|api| api.set_files(ModelRc::from(Rc::new(VecModel::from(rows)))));
    }
}

/// A file's name as the window shows it: the middle of a long one is left out.
fn shown_name(name: &str) -> String {
    format::elided(name, LONGEST_FILE_NAME)
}

fn read_image(path: &Path) -> Result<(Picture, Stamp), String> {
    let facts = std::fs::metadata(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let picture =
        Picture::from_file(path, Some((KEPT_SIDE, KEPT_SIDE))).map_err(|error| error.to_string())?;
    Ok((picture, Stamp::of(&facts)))
}
