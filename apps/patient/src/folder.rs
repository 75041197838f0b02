//! Reads the content of a folder for the file browser. Runs on background threads.

use std::path::{Path, PathBuf};
use ui::tr;

/// A file or folder that the file browser shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderEntry {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) is_folder: bool,
    /// Size of a file in bytes.
    pub(crate) bytes: u64,
}

/// The content of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderListing {
    pub(crate) folder: PathBuf,
    /// Folders first, then files, both by name.
    pub(crate) entries: Vec<FolderEntry>,
}

/// Lists folders, and files with one of these extensions (in lower case). Hidden entries and entries that cannot be read are
/// left out.
///
/// # Errors
/// One sentence, if the folder cannot be read.
pub(crate) fn list(folder: &Path, extensions: &[&str]) -> Result<FolderListing, String> {
    let unreadable = |error: std::io::Error| tr!("{} cannot be read: {}.", folder.display(), error);
    let folder = folder.canonicalize().map_err(unreadable)?;
    let entry = |found: std::fs::DirEntry| {
        let path = found.path();
        let name = found.file_name().to_string_lossy().into_owned();
        // Follows symbolic links.
        let metadata = std::fs::metadata(&path).ok()?;
        let extension = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        let is_wanted = metadata.is_dir()
            || (metadata.is_file() && extension.is_some_and(|end| extensions.contains(&end.as_str())));
        (is_wanted && !name.starts_with('.')).then(|| FolderEntry {
            path,
            name,
            is_folder: metadata.is_dir(),
            bytes: metadata.len(),
        })
    };
    let found = std::fs::read_dir(&folder).map_err(unreadable)?;
    let mut entries: Vec<FolderEntry> = found.filter_map(|found| entry(found.ok()?)).collect();
    entries.sort_by_cached_key(|entry| (!entry.is_folder, entry.name.to_lowercase()));
    Ok(FolderListing { folder, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_files_of_other_types_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "A.CSV", "notes.md", ".hidden.csv"] {
            std::fs::write(folder.path().join(name), "1").unwrap();
        }
        std::fs::create_dir(folder.path().join("zoo")).unwrap();
        let listing = list(folder.path(), &["csv"]).unwrap();
        let names: Vec<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["zoo", "A.CSV", "b.csv"]);
        assert!(list(&folder.path().join("missing"), &["csv"]).unwrap_err().contains("cannot be read"));
    }
}
