//! Saving what was uploaded, byte for byte, and never over another file unasked.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use client::{ClientError, Download, Gateway};
use proto_json::{MediaType, Mrn, RecordId, Timestamp};

/// What to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The picture of an ECG.
    Plot(RecordId),
    /// The signal of an ECG.
    Signal(RecordId),
    /// A medical image.
    Image(RecordId),
}

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// There is a file of this name.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// It did not come whole.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// It cannot be written.
    #[error("{} cannot be written: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was typed is no name.
    #[error("{0}")]
    Name(&'static str),
}

/// Number, kind and time: what a file of a patient is called unless somebody has a better idea.
#[must_use]
pub(crate) fn suggested(mrn: Mrn, kind: &str, at: Timestamp, media_type: MediaType) -> String {
    let time = at.local_seconds().replace(' ', "_").replace(':', "-");
    format!("{mrn}-{kind}-{time}.{}", media_type.extension())
}

/// The path of what was typed.
///
/// # Errors
/// [`SaveError::Name`], and [`SaveError::File`] where there is no such folder.
pub(crate) fn path(folder: &str, name: &str) -> Result<PathBuf, SaveError> {
    let name = name.trim();
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(SaveError::Name("a file name has no slashes, and there must be one"));
    }
    let folder = PathBuf::from(folder.trim());
    if !folder.is_dir() {
        return Err(SaveError::File { path: folder, reason: "there is no such folder".to_owned() });
    }
    Ok(folder.join(name))
}

/// Fetches and saves it. The file appears under its name only when it is whole.
///
/// # Errors
/// [`SaveError`].
pub(crate) async fn save(
    gateway: &Gateway,
    what: What,
    path: &Path,
    overwrite: bool,
) -> Result<(), SaveError> {
    if !overwrite && path.exists() {
        return Err(SaveError::Exists(path.to_owned()));
    }
    let download = match what {
        What::Plot(id) => gateway.plot(id).await?,
        What::Signal(id) => gateway.signal(id).await?,
        What::Image(id) => gateway.image(id).await?,
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
    let cannot = |error: std::io::Error| SaveError::File { path: path.to_owned(), reason: error.to_string() };
    let mut file = fs::File::create(part).map_err(cannot)?;
    while let Some(chunk) = download.chunk().await? {
        file.write_all(&chunk).map_err(cannot)?;
    }
    file.sync_all().map_err(cannot)?;
    if !overwrite {
        // Takes the name in one step, or not at all: whoever was faster keeps it.
        match fs::File::options().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(SaveError::Exists(path.to_owned()));
            }
            Err(error) => return Err(cannot(error)),
        }
    }
    fs::rename(part, path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_says_whose_what_and_when_and_is_one_name() {
        let name = suggested(Mrn::new(7).unwrap(), "ecg", Timestamp::from_millis(0).unwrap(), MediaType::Csv);
        assert!(name.starts_with("7-ecg-19") && name.ends_with(".csv"), "{name}");
        assert!(!name.contains(['/', ':', ' ']));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().to_string_lossy();
        for wrong in ["", "  ", "..", "a/b", "..\\x"] {
            assert!(matches!(path(&here, wrong), Err(SaveError::Name(_))), "{wrong:?}");
        }
        assert_eq!(path(&here, " a.png ").unwrap(), folder.path().join("a.png"));
        assert!(path("/no/such/folder", "a.png").unwrap_err().to_string().contains("no such folder"));
    }
}
