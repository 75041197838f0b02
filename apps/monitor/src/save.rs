//! Saves stored files.
//!
//! A saved signal or medical image is identical to the uploaded file. The picture of an ECG gets a caption with the patient and
//! the time zone. A file has the extension of its content and is readable by its owner only. A file is replaced only if the user
//! confirms it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use client::{ClientError, Download, Gateway};
use proto_json::{MediaType, Mrn, RecordId, Timestamp};
use ui::{Caption, PictureError, tr};

/// The maximum size of a picture that gets a caption.
const MAX_PICTURE_BYTES: usize = 64 << 20;

/// A stored file to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SaveItem {
    /// The picture of an ECG, with this caption.
    Plot(RecordId, Caption),
    /// The signal of an ECG.
    Signal(RecordId),
    /// A medical image.
    Image(RecordId),
}

/// The reason why a file was not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// A file with this name exists.
    #[error("{}", tr!("{} exists already", .0.display()))]
    Exists(PathBuf),
    /// The download failed.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The caption cannot be written into the picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The file cannot be written.
    #[error("{}", tr!("{} cannot be written: {}", .path.display(), .reason))]
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

/// The file name extensions of known formats.
const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "csv", "tsv", "txt", "edf", "bdf", "json"];

/// The file name with the extension of its content. Replaces the extension of another format, and keeps an equivalent one.
fn with_extension(name: &str, media_type: MediaType) -> String {
    let extension = Path::new(name).extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
    let known = extension.as_deref().filter(|end| EXTENSIONS.contains(end));
    let equivalent: &[&str] = match media_type {
        MediaType::Png => &["png"],
        MediaType::Jpeg => &["jpg", "jpeg"],
        MediaType::Csv => &["csv", "tsv", "txt"],
        MediaType::Edf => &["edf", "bdf"],
        MediaType::Json => &["json"],
    };
    match known {
        Some(known) if equivalent.contains(&known) => name.to_owned(),
        Some(known) => format!("{}.{}", &name[..name.len() - known.len() - 1], media_type.extension()),
        None => format!("{}.{}", name.trim_end_matches('.'), media_type.extension()),
    }
}

/// Joins the folder and the file name that the user typed. The file gets the extension of its content.
///
/// # Errors
/// [`SaveError::Name`] for an invalid name, [`SaveError::File`] if the folder does not exist.
pub(crate) fn path(folder: &str, name: &str, media_type: MediaType) -> Result<PathBuf, SaveError> {
    let name = name.trim();
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(SaveError::Name(tr!("enter a file name without slashes")));
    }
    let folder = PathBuf::from(folder.trim());
    if !folder.is_dir() {
        return Err(SaveError::File { path: folder, reason: tr!("there is no such folder").to_owned() });
    }
    Ok(folder.join(with_extension(name, media_type)))
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
    let content = match item {
        SaveItem::Plot(id, caption) => {
            let picture = gateway.plot(id).await?.bytes(MAX_PICTURE_BYTES).await?;
            let work = tokio::task::spawn_blocking(move || caption.write_above(&picture));
            Content::Bytes(work.await.map_err(|error| PictureError::Damaged(error.to_string()))??)
        }
        SaveItem::Signal(id) => Content::Download(gateway.signal(id).await?),
        SaveItem::Image(id) => Content::Download(gateway.image(id).await?),
    };
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let saved = write(content, &part, path, overwrite).await;
    if saved.is_err() {
        let _ = fs::remove_file(&part);
    }
    saved
}

/// The content of a file to save.
enum Content {
    Download(Download),
    Bytes(Vec<u8>),
}

/// Options for a new file that only its owner can read, because it belongs to a patient.
fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

async fn write(content: Content, part: &Path, path: &Path, overwrite: bool) -> Result<(), SaveError> {
    let write_error =
        |error: std::io::Error| SaveError::File { path: path.to_owned(), reason: error.to_string() };
    // An earlier process with the same id may have left a file. A symbolic link is never followed.
    match fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(write_error(error)),
        _ => {}
    }
    let mut file = private_file().open(part).map_err(write_error)?;
    match content {
        Content::Bytes(bytes) => file.write_all(&bytes).map_err(write_error)?,
        Content::Download(mut download) => {
            while let Some(chunk) = download.chunk().await? {
                file.write_all(&chunk).map_err(write_error)?;
            }
        }
    }
    file.sync_all().map_err(write_error)?;
    if !overwrite {
        // Creates the file atomically: if another program was faster, its file is not replaced.
        match private_file().open(path) {
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
            assert!(matches!(path(&here, wrong, MediaType::Png), Err(SaveError::Name(_))), "{wrong:?}");
        }
        assert_eq!(path(&here, " a.png ", MediaType::Png).unwrap(), folder.path().join("a.png"));
        let missing = path("/no/such/folder", "a.png", MediaType::Png).unwrap_err().to_string();
        assert!(missing.contains("no such folder"), "{missing}");
    }

    #[test]
    fn saved_file_has_the_extension_of_its_content() {
        for (name, media_type, expected) in [
            ("a.png", MediaType::Png, "a.png"),
            ("a", MediaType::Png, "a.png"),
            ("a.", MediaType::Png, "a.png"),
            ("a.csv", MediaType::Png, "a.png"),
            ("scan.JPEG", MediaType::Jpeg, "scan.JPEG"),
            ("scan.png", MediaType::Jpeg, "scan.jpg"),
            ("strip.txt", MediaType::Csv, "strip.txt"),
            ("strip.v2", MediaType::Csv, "strip.v2.csv"),
            ("28.11.2026", MediaType::Edf, "28.11.2026.edf"),
            ("ärzte.csv", MediaType::Edf, "ärzte.edf"),
        ] {
            assert_eq!(with_extension(name, media_type), expected, "{name:?}");
        }
    }
}
