//! The file browser inside the window, for desktops that offer no file dialog.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use slint::{ModelRc, VecModel};
use ui::{format, tr};

use crate::backend::Backend;
use crate::folder::{self, FolderEntry, FolderListing};
use crate::message::Message;
use crate::window::{BrowserEntry, FileBrowserView};

/// Which files the browser offers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileTypes {
    /// In English.
    pub(crate) title: &'static str,
    /// In lower case, without the dot.
    pub(crate) extensions: &'static [&'static str],
}

/// State of the file browser.
pub(crate) struct FileBrowserController {
    backend: Backend,
    types: FileTypes,
    folder: PathBuf,
    entries: Vec<FolderEntry>,
    selected: Vec<PathBuf>,
    error: String,
    /// Number of the latest attempt to read a folder.
    number: u64,
}

impl FileBrowserController {
    pub(crate) fn new(backend: Backend) -> Self {
        FileBrowserController {
            backend,
            types: FileTypes { title: "", extensions: &[] },
            folder: PathBuf::new(),
            entries: Vec::new(),
            selected: Vec::new(),
            error: String::new(),
            number: 0,
        }
    }

    /// Starts in `folder`, or in the home folder of the user. The content arrives as [`Message::FolderRead`].
    pub(crate) fn open(&mut self, types: FileTypes, folder: Option<&Path>) {
        self.types = types;
        self.entries.clear();
        self.selected.clear();
        let home = || dirs::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        self.read(folder.map_or_else(home, Path::to_path_buf));
    }

    fn read(&mut self, folder: PathBuf) {
        self.number += 1;
        self.error.clear();
        let (number, sender, types) = (self.number, self.backend.sender.clone(), self.types);
        self.backend.background.spawn_blocking(move || {
            let result = folder::list(&folder, types.extensions);
            sender.send(Message::FolderRead { number, result });
        });
        self.show();
    }

    pub(crate) fn folder_read(&mut self, number: u64, result: Result<FolderListing, String>) {
        if number != self.number {
            return;
        }
        match result {
            Ok(listing) => {
                self.folder = listing.folder;
                self.entries = listing.entries;
                self.selected.clear();
            }
            Err(reason) => self.error = reason,
        }
        self.show();
    }

    /// Opens a folder, or selects or deselects a file.
    pub(crate) fn activate(&mut self, index: i32) {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        let Some(FolderEntry { path, is_folder, .. }) = entry.cloned() else { return };
        if is_folder {
            self.read(path);
            return;
        }
        match self.selected.iter().position(|selected| *selected == path) {
            Some(index) => drop(self.selected.remove(index)),
            None => self.selected.push(path),
        }
        self.show();
    }

    pub(crate) fn open_parent(&mut self) {
        if let Some(parent) = self.folder.parent().map(Path::to_path_buf) {
            self.read(parent);
        }
    }

    /// Opens the folder with this path.
    pub(crate) fn open_path(&mut self, path: &str) {
        let path = path.trim();
        if !path.is_empty() {
            self.read(PathBuf::from(path));
        }
    }

    /// Ends the selection and returns the selected files in the order of selection.
    pub(crate) fn take_selected(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.selected)
    }

    fn show(&self) {
        let count = self.selected.len();
        let view = FileBrowserView {
            title: ui::text::translated(self.types.title).into(),
            folder: self.folder.display().to_string().into(),
            error: self.error.as_str().into(),
            accept: match count {
                0 => tr!("Select").to_owned(),
                _ => tr!("Select {}", format::count(count as u64, tr!("file"), tr!("files"))),
            }
            .into(),
            can_accept: count > 0,
        };
        let row = |entry: &FolderEntry| BrowserEntry {
            name: entry.name.as_str().into(),
            detail: if entry.is_folder { String::new() } else { format::bytes(entry.bytes) }.into(),
            is_folder: entry.is_folder,
            selected: self.selected.contains(&entry.path),
        };
        let rows: Vec<BrowserEntry> = self.entries.iter().map(row).collect();
        self.backend.api(|api| {
            api.set_browser(view);
            api.set_browser_entries(ModelRc::from(Rc::new(VecModel::from(rows))));
        });
    }
}
