//! The files selected for the upload, and the two of them that are shown: one ECG and one medical image.
//!
//! Only the file in a pane is kept in memory. A file that is shown again is read again.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::{UploadFile, limits};
use ecg::Quality;
use proto_json::{FileKind, SignalOptions, Timestamp};
use slint::{Image, ModelRc, SharedString, VecModel};
use ui::{Picture, format, tr};

use crate::backend::Backend;
use crate::ecg_file::{self, EcgFileError, Reading, quality_name};
use crate::image_view::Viewport;
use crate::message::Message;
use crate::messages;
use crate::model::{FileId, FileStamp, Preview, file_name};
use crate::recording::{self, Suggestion};
use crate::window::{EcgView, ImageView, PaneState, SelectedFile, Tone};

/// Longest file name that is shown, in characters.
const MAX_NAME_CHARS: usize = 36;
/// Longest side of the image that is kept in memory, in pixels.
const KEPT_SIDE: u32 = 4096;

/// A selected file.
struct FileEntry {
    id: FileId,
    path: PathBuf,
    is_ecg: bool,
    state: FileState,
    /// Mean heart rate of the preview in beats per minute.
    mean_bpm: Option<f64>,
    /// When the file was selected, by the clock of this computer.
    selected_at: Timestamp,
    /// When it was recorded, if the file states it.
    recorded_at: Option<Timestamp>,
    /// Number of the latest attempt to read the file.
    number: u64,
    cancelled: Arc<AtomicBool>,
}

enum FileState {
    Loading,
    Ready {
        stamp: FileStamp,
        detail: String,
    },
    /// The sampling rate or the lead must be entered first, for this reason.
    NeedsOptions(String),
}

impl FileEntry {
    fn name(&self) -> String {
        file_name(&self.path)
    }

    fn stamp(&self) -> Option<FileStamp> {
        match &self.state {
            FileState::Ready { stamp, .. } => Some(*stamp),
            FileState::Loading | FileState::NeedsOptions(_) => None,
        }
    }

    fn detail(&self) -> &str {
        match &self.state {
            FileState::Loading => tr!("reading…"),
            FileState::Ready { detail, .. } => detail,
            FileState::NeedsOptions(_) => tr!("needs the sampling rate or the lead"),
        }
    }

    fn is_loading(&self) -> bool {
        matches!(self.state, FileState::Loading)
    }
}

impl Drop for FileEntry {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// The content of a pane, and its size in pixels.
struct Pane<T> {
    file: Option<FileId>,
    content: Option<T>,
    size: (u32, u32),
    /// Number of the latest drawing.
    number: u64,
    is_drawing: bool,
    /// The content or its size has changed since the drawing began.
    is_outdated: bool,
    /// Name of the file that was rejected, and the reason.
    rejected: Option<(String, String)>,
}

impl<T> Default for Pane<T> {
    fn default() -> Self {
        Pane {
            file: None,
            content: None,
            size: (0, 0),
            number: 0,
            is_drawing: false,
            is_outdated: false,
            rejected: None,
        }
    }
}

impl<T: Clone> Pane<T> {
    /// What to draw now. `None` if there is nothing to draw or a drawing is in progress.
    fn begin_drawing(&mut self) -> Option<(u64, T, (u32, u32))> {
        let content = self.content.clone().filter(|_| self.size.0 > 0 && self.size.1 > 0)?;
        if self.is_drawing {
            self.is_outdated = true;
            return None;
        }
        self.is_drawing = true;
        self.number += 1;
        Some((self.number, content, self.size))
    }

    /// Ends a drawing. Returns whether it shows the current content.
    fn end_drawing(&mut self, number: u64) -> bool {
        self.is_drawing = false;
        !std::mem::take(&mut self.is_outdated) && self.number == number && self.content.is_some()
    }

    fn set_file(&mut self, file: Option<FileId>) {
        self.file = file;
        self.content = None;
        self.rejected = None;
        // A drawing in progress is of other content.
        self.is_outdated = self.is_drawing;
    }

    fn reject(&mut self, name: String, reason: String) {
        self.set_file(None);
        self.rejected = Some((name, reason));
    }
}

/// The files selected for the upload, and the panes that show two of them.
pub(crate) struct FilesController {
    backend: Backend,
    files: Vec<FileEntry>,
    next_id: i32,
    /// Number of the latest attempt to read a file.
    number: u64,
    options: SignalOptions,
    ecg: Pane<Arc<Reading>>,
    image: Pane<Picture>,
    viewport: Viewport,
}

impl FilesController {
    pub(crate) fn new(backend: Backend) -> Self {
        FilesController {
            backend,
            files: Vec::new(),
            next_id: 0,
            number: 0,
            options: SignalOptions::default(),
            ecg: Pane::default(),
            image: Pane::default(),
            viewport: Viewport::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Why the selected files do not allow an upload.
    pub(crate) fn problem(&self) -> Option<String> {
        self.files.iter().find_map(|file| match &file.state {
            FileState::Loading => Some(tr!("Reading {}…", file.name())),
            FileState::NeedsOptions(reason) => Some(format!("{}: {reason}", file.name())),
            FileState::Ready { .. } => None,
        })
    }

    /// Why an ECG cannot be read with the entered sampling rate and lead.
    pub(crate) fn needs_options(&self) -> Option<&str> {
        self.files.iter().find_map(|file| match &file.state {
            FileState::NeedsOptions(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// Number of images, number of ECGs, and size of all files in bytes.
    pub(crate) fn totals(&self) -> (usize, usize, u64) {
        let ecgs = self.files.iter().filter(|file| file.is_ecg).count();
        let bytes = self.files.iter().filter_map(FileEntry::stamp).map(|stamp| stamp.bytes);
        (self.files.len() - ecgs, ecgs, bytes.sum())
    }

    /// One line for each file.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |file: &FileEntry| {
            let kind = messages::file_kind(kind_of(file));
            match &file.state {
                FileState::Ready { detail, .. } => format!("{kind}: {} ({detail})", file.name()),
                _ => format!("{kind}: {}", file.name()),
            }
        };
        self.files.iter().map(line).collect()
    }

    /// The files to upload, with the stamps of the files that were shown.
    pub(crate) fn uploads(&self) -> Vec<(UploadFile, FileStamp)> {
        let upload =
            |file: &FileEntry| Some((UploadFile::from_path(kind_of(file), &file.path), file.stamp()?));
        self.files.iter().filter_map(upload).collect()
    }

    /// The recording time that the selected ECGs suggest.
    pub(crate) fn suggested_time(&self) -> Suggestion {
        let ecgs = self.files.iter().filter(|file| file.is_ecg);
        recording::suggestion(ecgs.map(|file| (file.selected_at, file.recorded_at)))
    }

    /// The previews of the selected ECGs, in order.
    pub(crate) fn previews(&self) -> Vec<Preview> {
        let ecgs = self.files.iter().filter(|file| file.is_ecg);
        ecgs.map(|file| Preview { name: file.name(), mean_bpm: file.mean_bpm }).collect()
    }

    /// Selects a file and reads it.
    ///
    /// # Errors
    /// One sentence, if the file is selected already.
    pub(crate) fn add(&mut self, path: PathBuf, is_ecg: bool) -> Result<(), String> {
        if let Some(file) = self.files.iter().find(|file| file.path == path && file.is_ecg == is_ecg) {
            let (id, message) = (file.id, tr!("{} is already selected.", file.name()));
            self.show(id);
            return Err(message);
        }
        let id = FileId(self.next_id);
        self.next_id += 1;
        self.files.push(FileEntry {
            id,
            path,
            is_ecg,
            state: FileState::Loading,
            mean_bpm: None,
            selected_at: Timestamp::now(),
            recorded_at: None,
            number: 0,
            cancelled: Arc::default(),
        });
        self.put_into_pane(id, is_ecg);
        self.read(id);
        self.refresh();
        Ok(())
    }

    /// Reads a file in the background, to check it or to show it again.
    fn read(&mut self, id: FileId) {
        let Some(file) = self.files.iter_mut().find(|file| file.id == id) else { return };
        self.number += 1;
        let number = self.number;
        file.number = number;
        file.cancelled.store(true, Ordering::Relaxed);
        file.cancelled = Arc::default();
        let (path, cancelled) = (file.path.clone(), Arc::clone(&file.cancelled));
        let (is_ecg, options, sender) = (file.is_ecg, self.options.clone(), self.backend.sender.clone());
        self.backend.background.spawn_blocking(move || {
            let message = if is_ecg {
                let progress_sender = sender.clone();
                let report = move |progress, text| {
                    progress_sender.send(Message::EcgProgress { file: id, number, progress, text });
                };
                let result = ecg_file::read(&path, &options, &report, &cancelled);
                let result = result.map(|(reading, stamp)| (Arc::new(reading), stamp));
                Message::EcgRead { file: id, number, result }
            } else {
                Message::ImageRead { file: id, number, result: read_image(&path) }
            };
            sender.send(message);
        });
    }

    /// Reads all ECGs again with other options.
    pub(crate) fn set_signal_options(&mut self, options: SignalOptions) {
        if self.options == options {
            return;
        }
        self.options = options;
        let ecgs: Vec<FileId> = self.files.iter().filter(|file| file.is_ecg).map(|file| file.id).collect();
        for id in ecgs {
            if let Some(file) = self.files.iter_mut().find(|file| file.id == id) {
                file.state = FileState::Loading;
            }
            self.read(id);
        }
        if self.ecg.file.is_some() {
            self.ecg.set_file(self.ecg.file);
            self.show_ecg();
        }
        self.refresh();
    }

    /// Removes a file from the selection. The latest remaining file of its kind is shown.
    pub(crate) fn remove(&mut self, id: FileId) {
        let Some(index) = self.files.iter().position(|file| file.id == id) else { return };
        let removed = self.files.remove(index);
        let in_pane = if removed.is_ecg { self.ecg.file } else { self.image.file };
        if in_pane == Some(id) {
            let next = self.files.iter().rev().find(|file| file.is_ecg == removed.is_ecg);
            match next.map(|file| file.id) {
                Some(next) => self.show(next),
                None if removed.is_ecg => self.clear_ecg(),
                None => self.clear_image(),
            }
        }
        self.refresh();
    }

    /// Removes all files.
    pub(crate) fn clear(&mut self) {
        self.files.clear();
        self.options = SignalOptions::default();
        self.clear_ecg();
        self.clear_image();
        self.refresh();
    }

    fn clear_ecg(&mut self) {
        self.ecg.set_file(None);
        self.show_ecg();
    }

    fn clear_image(&mut self) {
        self.image.set_file(None);
        self.show_image();
    }

    /// Shows a selected file in its pane.
    pub(crate) fn show(&mut self, id: FileId) {
        let Some(file) = self.files.iter().find(|file| file.id == id) else { return };
        let (is_ecg, is_loading) = (file.is_ecg, file.is_loading());
        let in_pane = if is_ecg { self.ecg.file } else { self.image.file };
        if in_pane != Some(id) {
            self.put_into_pane(id, is_ecg);
            if !is_loading {
                self.read(id);
            }
        }
        self.refresh();
    }

    fn put_into_pane(&mut self, id: FileId, is_ecg: bool) {
        if is_ecg {
            self.ecg.set_file(Some(id));
            self.show_ecg();
        } else {
            self.image.set_file(Some(id));
            self.viewport = Viewport::default();
            self.show_image();
        }
    }

    pub(crate) fn ecg_progress(&mut self, id: FileId, number: u64, progress: f32, text: String) {
        let is_latest = self.files.iter().any(|file| file.id == id && file.number == number);
        if !is_latest || self.ecg.file != Some(id) || self.ecg.content.is_some() {
            return;
        }
        let view = EcgView { progress, progress_text: text.into(), ..self.ecg_view() };
        self.backend.api(|api| api.set_ecg(view));
    }

    /// Takes the result of reading an ECG.
    pub(crate) fn ecg_read(
        &mut self,
        id: FileId,
        number: u64,
        result: Result<(Arc<Reading>, FileStamp), EcgFileError>,
    ) {
        let Some(index) = self.files.iter().position(|file| file.id == id && file.number == number) else {
            return;
        };
        let in_pane = self.ecg.file == Some(id);
        match result {
            Ok((reading, stamp)) => {
                let file = &mut self.files[index];
                let rate = match reading.mean_bpm() {
                    Some(_) => tr!("{} bpm", format::bpm(reading.mean_bpm())),
                    None => tr!("no heart rate").to_owned(),
                };
                let quality = quality_name(reading.quality());
                let detail = tr!("{}, {} quality, {}", rate, quality, format::bytes(stamp.bytes));
                file.state = FileState::Ready { stamp, detail };
                file.mean_bpm = reading.mean_bpm();
                // A time in the future was written by a wrong clock.
                let is_past = |at: &Timestamp| !at.is_in_future_of(file.selected_at);
                file.recorded_at = reading.recorded_at().filter(is_past);
                if in_pane {
                    self.ecg.content = Some(reading);
                    self.show_ecg();
                    self.draw_ecg();
                }
            }
            Err(EcgFileError::Cancelled) => {}
            Err(EcgFileError::NeedsOptions(reason)) => {
                self.files[index].state = FileState::NeedsOptions(reason);
                if in_pane {
                    self.show_ecg();
                }
            }
            Err(EcgFileError::Rejected(reason)) => {
                let removed = self.files.remove(index);
                if in_pane {
                    self.ecg.reject(removed.name(), reason);
                    self.show_ecg();
                }
            }
        }
        self.refresh();
    }

    /// Takes the result of reading an image.
    pub(crate) fn image_read(
        &mut self,
        id: FileId,
        number: u64,
        result: Result<(Picture, FileStamp), String>,
    ) {
        let Some(index) = self.files.iter().position(|file| file.id == id && file.number == number) else {
            return;
        };
        match result {
            Ok((picture, stamp)) => {
                let (width, height) = picture.original_size();
                let detail = format!("{width} × {height}, {}", format::bytes(stamp.bytes));
                self.files[index].state = FileState::Ready { stamp, detail };
                if self.image.file == Some(id) {
                    self.image.content = Some(picture);
                    self.show_image();
                    self.draw_image();
                }
            }
            Err(reason) => {
                let removed = self.files.remove(index);
                if self.image.file == Some(id) {
                    self.image.reject(removed.name(), format::sentence(&reason));
                    self.show_image();
                }
            }
        }
        self.refresh();
    }

    /// The rejected file that a pane shows, in one sentence.
    pub(crate) fn rejection(&self) -> Option<String> {
        let rejected = self.ecg.rejected.as_ref().or(self.image.rejected.as_ref());
        rejected.map(|(name, reason)| tr!("{} was rejected. {}", name, reason))
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

    /// Zooms the image. The point `at`, as shares of the drawn picture, stays in its place.
    pub(crate) fn zoom_image(&mut self, factor: f64, at: (f64, f64)) {
        self.viewport.zoom_by(factor, at);
        self.viewport_changed();
    }

    /// Moves the image by shares of the drawn picture.
    pub(crate) fn pan_image(&mut self, by: (f64, f64)) {
        self.viewport.pan_by(by);
        self.viewport_changed();
    }

    /// Shows the whole image.
    pub(crate) fn reset_zoom(&mut self) {
        self.viewport = Viewport::default();
        self.viewport_changed();
    }

    fn viewport_changed(&mut self) {
        let zoom = self.viewport.zoom;
        self.backend.api(|api| api.set_image_zoom(zoom as f32));
        self.draw_image();
    }

    fn draw_ecg(&mut self) {
        let Some((number, reading, size)) = self.ecg.begin_drawing() else { return };
        let sender = self.backend.sender.clone();
        self.backend.background.spawn_blocking(move || {
            sender.send(Message::EcgDrawn { number, picture: reading.draw(size) });
        });
    }

    fn draw_image(&mut self) {
        let Some((number, picture, size)) = self.image.begin_drawing() else { return };
        let (sender, Viewport { zoom, center }) = (self.backend.sender.clone(), self.viewport);
        self.backend.background.spawn_blocking(move || {
            let picture = picture.magnified(size, zoom, center);
            sender.send(Message::ImageScaled { number, picture });
        });
    }

    pub(crate) fn ecg_drawn(&mut self, number: u64, picture: Option<Picture>) {
        if self.ecg.end_drawing(number) {
            let image = picture.map(Picture::into_image).unwrap_or_default();
            self.backend.api(|api| api.set_ecg_picture(image));
        } else {
            self.draw_ecg();
        }
    }

    pub(crate) fn image_scaled(&mut self, number: u64, picture: Picture) {
        if self.image.end_drawing(number) {
            let image = picture.into_image();
            self.backend.api(|api| api.set_image_picture(image));
        } else {
            self.draw_image();
        }
    }

    fn entry(&self, id: Option<FileId>) -> Option<&FileEntry> {
        self.files.iter().find(|file| Some(file.id) == id)
    }

    fn ecg_view(&self) -> EcgView {
        let mut view = EcgView { heart_rate: format::bpm(None).into(), ..EcgView::default() };
        let entry = self.entry(self.ecg.file);
        if let Some((name, reason)) = &self.ecg.rejected {
            view.state = PaneState::Failed;
            view.file_name = shown_name(name).into();
            view.error = reason.into();
        } else if let Some(FileState::NeedsOptions(reason)) = entry.map(|file| &file.state) {
            view.state = PaneState::Failed;
            view.error = reason.into();
        } else if let Some(reading) = &self.ecg.content {
            view.state = PaneState::Shown;
            view.heart_rate = format::bpm(reading.mean_bpm()).into();
            view.heart_rate_range = reading.range().into();
            view.quality = tr!("Signal quality {}", quality_name(reading.quality())).into();
            view.quality_tone = match reading.quality() {
                Quality::Good => Tone::Good,
                Quality::Poor => Tone::Warning,
                Quality::Unusable => Tone::Danger,
            };
            view.detail = reading.detail().into();
            let notes: Vec<SharedString> = reading.notes().iter().map(SharedString::from).collect();
            view.notes = ModelRc::from(Rc::new(VecModel::from(notes)));
        } else if entry.is_some() {
            view.state = PaneState::Loading;
            view.progress_text = tr!("Reading…").into();
        }
        if let Some(file) = entry {
            view.file_name = shown_name(&file.name()).into();
        }
        view
    }

    fn show_ecg(&self) {
        let view = self.ecg_view();
        self.backend.api(|api| {
            api.set_ecg_picture(Image::default());
            api.set_ecg(view);
        });
    }

    fn show_image(&self) {
        let mut view = ImageView::default();
        if let Some(file) = self.entry(self.image.file) {
            view.file_name = shown_name(&file.name()).into();
            if self.image.content.is_some() {
                view.state = PaneState::Shown;
                view.detail = file.detail().into();
            } else {
                view.state = PaneState::Loading;
            }
        } else if let Some((name, reason)) = &self.image.rejected {
            view.file_name = shown_name(name).into();
            view.state = PaneState::Failed;
            view.error = reason.into();
        }
        let zoom = self.viewport.zoom;
        self.backend.api(|api| {
            api.set_image_picture(Image::default());
            api.set_image(view);
            api.set_image_zoom(zoom as f32);
        });
    }

    /// Updates the list of selected files.
    fn refresh(&self) {
        let row = |file: &FileEntry| SelectedFile {
            id: file.id.0,
            is_ecg: file.is_ecg,
            name: shown_name(&file.name()).into(),
            detail: file.detail().into(),
            loading: file.is_loading(),
            shown: [self.ecg.file, self.image.file].contains(&Some(file.id)),
        };
        let rows: Vec<SelectedFile> = self.files.iter().map(row).collect();
        self.backend.api(|api| api.set_files(ModelRc::from(Rc::new(VecModel::from(rows)))));
    }
}

fn kind_of(file: &FileEntry) -> FileKind {
    if file.is_ecg { FileKind::Ecg } else { FileKind::MedicalImage }
}

/// The file name with the middle removed if it is too long.
fn shown_name(name: &str) -> String {
    format::elided(name, MAX_NAME_CHARS)
}

/// Reads an image that the gateway accepts with its default limits.
fn read_image(path: &Path) -> Result<(Picture, FileStamp), String> {
    let metadata = std::fs::metadata(path).map_err(|error| tr!("the file cannot be read: {}", error))?;
    if metadata.len() > limits::MAX_IMAGE_BYTES {
        return Err(tr!(
            "the file has {}, but an image may have at most {}",
            format::bytes(metadata.len()),
            format::bytes(limits::MAX_IMAGE_BYTES)
        ));
    }
    let (width, height) = Picture::dimensions(path).map_err(|error| error.to_string())?;
    if u64::from(width) * u64::from(height) > limits::MAX_IMAGE_PIXELS {
        return Err(tr!(
            "the image has {} × {} pixels, but an image may have at most {} million pixels",
            width,
            height,
            limits::MAX_IMAGE_PIXELS / 1_000_000
        ));
    }
    let picture =
        Picture::from_file(path, Some((KEPT_SIDE, KEPT_SIDE))).map_err(|error| error.to_string())?;
    Ok((picture, FileStamp::of(&metadata)))
}
