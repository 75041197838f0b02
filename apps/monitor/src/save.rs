//! Saves stored files. The saved file is identical to the uploaded one. A file is replaced only if the user confirms it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use client::{ClientError, Download, Gateway};
use proto_json::{MediaType, Mrn, RecordId, Timestamp};

/// A stored file to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveItem {
    /// The picture of an ECG.
    Plot(RecordId),
    /// The signal of an ECG.
    Signal(RecordId),
    /// A medical image.
    Image(RecordId),
}

/// The reason why a file was not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// A file with this name exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The download failed.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The file cannot be written.
    #[error("{} cannot be written: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The user typed an invalid file name.
    #[error("{0}")]
    Name(&'static str),
}

/// The suggested file name: record number, kind and time.
#[must_use]
pub(crate) fn suggested_name(mrn: Mrn, kind: &str, at: Timestamp, media_type: MediaType) -> String {
    let time = at.local_seconds().replace(' ', "_").replace(':', "-");
    format!("{mrn}-{kind}-{time}.{}", media_type.extension())
}

/// Joins the folder and the file name that the user typed.
///
/// # Errors
/// [`SaveError::Name`] for an invalid name, [`SaveError::File`] if the folder does not exist.
pub(crate) fn path(folder: &str, name: &str) -> Result<PathBuf, SaveError> {
    let name = name.trim();
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(SaveError::Name("enter a file name without slashes"));
    }
    let folder = PathBuf::from(folder.trim());
    if !folder.is_dir() {
        return Err(SaveError::File { path: folder, reason: "there is no such folder".to_owned() });
    }
    Ok(folder.join(name))
}

/// Downloads and saves a file. The file has its name only once it is complete.
///
/// # Errors
/// [`SaveError`].
pub(crate) async fn save(
    gateway: &Gateway,
    item: SaveItem,
    path: &Path,
    overwrite: bool,
) -> Result<(), SaveError> {
    if !overwrite && path.exists() {
        return Err(SaveError::Exists(path.to_owned()));
    }
    let download = match item {
        SaveItem::Plot(id) => gateway.plot(id).await?,
        SaveItem::Signal(id) => gateway.signal(id).await?,
        SaveItem::Image(id) => gateway.image(id).await?,
    };
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let saved = write(download, &part, path, overwrite).await;
    if saved.is_err() {
        let _ = fs::remove_file(&part);
    }
    saved
}

async fn write(mut download: Download, part: &Path, path: &Path, overwrite: bool) -> Result<(), SaveError> {
    let write_error =
        |error: std::io::Error| SaveError::File { path: path.to_owned(), reason: error.to_string() };
    let mut file = fs::File::create(part).map_err(write_error)?;
    while let Some(chunk) = download.chunk().await? {
        file.write_all(&chunk).map_err(write_error)?;
    }
    file.sync_all().map_err(write_error)?;
    if !overwrite {
        // Creates the file atomically: if another program was faster, its file is not replaced.
        match fs::File::options().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(SaveError::Exists(path.to_owned()));
            }
            Err(error) => return Err(write_error(error)),
        }
    }
    fs::rename(part, path).map_err(write_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_name_has_number_kind_and_time_and_no_separators() {
        let name =
            suggested_name(Mrn::new(7).unwrap(), "ecg", Timestamp::from_millis(0).unwrap(), MediaType::Csv);
        assert!(name.starts_with("7-ecg-19") && name.ends_with(".csv"), "{name}");
        assert!(!name.contains(['/', ':', ' ']));
    }

    #[test]
    fn name_with_a_path_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().to_string_lossy();
        for wrong in ["", "  ", "..", "a/b", "..\\x"] {
            assert!(matches!(path(&here, wrong), Err(SaveError::Name(_))), "{wrong:?}");
        }
        assert_eq!(path(&here, " a.png ").unwrap(), folder.path().join("a.png"));
        assert!(path("/no/such/folder", "a.png").unwrap_err().to_string().contains("no such folder"));
    }
}
