//! Choosing files: a port, because nothing can press the buttons of a dialog that belongs to the operating system.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// What ends a choice.
type Chosen<T> = Pin<Box<dyn Future<Output = T>>>;

/// Files of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFilter {
    /// As shown to people.
    pub name: String,
    /// How names end, without the dot.
    pub extensions: Vec<String>,
}

impl FileFilter {
    /// Files whose names end in one of these.
    #[must_use]
    pub fn new(name: &str, extensions: &[&str]) -> Self {
        FileFilter {
            name: name.to_owned(),
            extensions: extensions.iter().map(|&end| end.to_owned()).collect(),
        }
    }
}

/// Which files to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Title of the dialog.
    pub title: String,
    /// Kinds, the first one preselected.
    pub filters: Vec<FileFilter>,
    /// Where to start.
    pub folder: Option<PathBuf>,
}

/// What to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveRequest {
    /// Title of the dialog.
    pub title: String,
    /// Suggested name.
    pub file_name: String,
    /// Kinds, the first one preselected.
    pub filters: Vec<FileFilter>,
    /// Where to start.
    pub folder: Option<PathBuf>,
}

/// Lets a person choose files. Called on the thread of the window; the future is awaited there, with `slint::spawn_local`.
pub trait FileChooser {
    /// Files to open; empty if the person thought better of it.
    fn open(&self, request: OpenRequest) -> Chosen<Vec<PathBuf>>;
    /// Where to save.
    fn save(&self, request: SaveRequest) -> Chosen<Option<PathBuf>>;
}

/// The dialogs of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct NativeDialogs;

fn dialog(title: &str, filters: &[FileFilter], folder: Option<&PathBuf>) -> rfd::AsyncFileDialog {
    let mut dialog = rfd::AsyncFileDialog::new().set_title(title);
    for filter in filters {
        dialog = dialog.add_filter(&filter.name, &filter.extensions);
    }
    if let Some(folder) = folder {
        dialog = dialog.set_directory(folder);
    }
    dialog
}

impl FileChooser for NativeDialogs {
    fn open(&self, request: OpenRequest) -> Chosen<Vec<PathBuf>> {
        let dialog = dialog(&request.title, &request.filters, request.folder.as_ref());
        Box::pin(async move {
            let chosen = dialog.pick_files().await.unwrap_or_default();
            chosen.into_iter().map(|file| file.path().to_path_buf()).collect()
        })
    }

    fn save(&self, request: SaveRequest) -> Chosen<Option<PathBuf>> {
        let dialog = dialog(&request.title, &request.filters, request.folder.as_ref())
            .set_file_name(&request.file_name);
        Box::pin(async move { dialog.save_file().await.map(|file| file.path().to_path_buf()) })
    }
}
