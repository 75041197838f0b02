//! File dialogs. The trait exists because tests cannot operate a dialog of the operating system.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// The future result of a dialog.
type Selection<T> = Pin<Box<dyn Future<Output = T>>>;

/// Files of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFilter {
    /// The name of the type in the dialog.
    pub name: String,
    /// File name extensions without the dot.
    pub extensions: Vec<String>,
}

impl FileFilter {
    /// A filter for files with one of these extensions.
    #[must_use]
    pub fn new(name: &str, extensions: &[&str]) -> Self {
        FileFilter {
            name: name.to_owned(),
            extensions: extensions.iter().map(|&end| end.to_owned()).collect(),
        }
    }
}

/// A request for a dialog that selects files to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Title of the dialog.
    pub title: String,
    /// File types. The first one is preselected.
    pub filters: Vec<FileFilter>,
    /// The folder that the dialog shows first.
    pub folder: Option<PathBuf>,
}

/// A request for a dialog that selects where to save a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveRequest {
    /// Title of the dialog.
    pub title: String,
    /// The suggested file name.
    pub file_name: String,
    /// File types. The first one is preselected.
    pub filters: Vec<FileFilter>,
    /// The folder that the dialog shows first.
    pub folder: Option<PathBuf>,
}

/// Selects files. Called on the UI thread, which awaits the future with `slint::spawn_local`.
pub trait FileChooser {
    /// Whether dialogs can be shown.
    fn is_available(&self) -> Selection<bool> {
        Box::pin(async { true })
    }
    /// The files to open. Empty if the dialog was cancelled.
    fn open(&self, request: OpenRequest) -> Selection<Vec<PathBuf>>;
    /// The file to save to. `None` if the dialog was cancelled.
    fn save(&self, request: SaveRequest) -> Selection<Option<PathBuf>>;
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
    fn open(&self, request: OpenRequest) -> Selection<Vec<PathBuf>> {
        let dialog = dialog(&request.title, &request.filters, request.folder.as_ref());
        Box::pin(async move {
            let files = dialog.pick_files().await.unwrap_or_default();
            files.into_iter().map(|file| file.path().to_path_buf()).collect()
        })
    }

    fn save(&self, request: SaveRequest) -> Selection<Option<PathBuf>> {
        let dialog = dialog(&request.title, &request.filters, request.folder.as_ref())
            .set_file_name(&request.file_name);
        Box::pin(async move { dialog.save_file().await.map(|file| file.path().to_path_buf()) })
    }
}
