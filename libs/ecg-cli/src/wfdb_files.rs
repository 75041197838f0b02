//! Annotated WFDB records in a directory, for the programs that evaluate or fit the analysis. `ecg::wfdb` parses the bytes; this
//! module reads the files. Errors are sentences for the user.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ecg::Strip;
use ecg::wfdb::{self, Annotation, Header};

/// Paths of the headers in a directory for which `has_reference` is true, in order of name.
///
/// # Errors
/// Returns a sentence if the directory cannot be read.
pub fn headers(directory: &Path, has_reference: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
    let mut out = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "hea") && has_reference(&path) {
            out.insert(path);
        }
    }
    Ok(out.into_iter().collect())
}

/// Whether a header has reference beats in the usual file.
pub fn has_atr(header: &Path) -> bool {
    header.with_extension("atr").is_file()
}

/// A record whose header has been read.
#[derive(Debug)]
pub struct RecordFiles<'a> {
    path: &'a Path,
    /// The header.
    pub header: Header,
}

impl<'a> RecordFiles<'a> {
    /// Reads a header.
    ///
    /// # Errors
    /// Returns a sentence if the file cannot be read or is no header.
    pub fn open(path: &'a Path) -> Result<Self, String> {
        let header =
            Header::parse(&String::from_utf8_lossy(&read(path)?)).map_err(|error| error.to_string())?;
        Ok(RecordFiles { path, header })
    }

    /// Reads the file of a signal, which other signals can share.
    ///
    /// # Errors
    /// Returns a sentence if the file cannot be read, or if there is no such signal.
    pub fn signal_bytes(&self, index: usize) -> Result<Vec<u8>, String> {
        let count = self.header.signals.len();
        let spec = self
            .header
            .signals
            .get(index)
            .ok_or_else(|| format!("there is no signal {index}, the record has {count}"))?;
        read(&self.path.with_file_name(&spec.file))
    }

    /// Reads a signal as a strip.
    ///
    /// # Errors
    /// Returns a sentence if the file cannot be read or its format is not supported.
    pub fn strip(&self, index: usize) -> Result<Strip, String> {
        wfdb::strip(&self.header, index, &self.signal_bytes(index)?).map_err(|error| error.to_string())
    }

    /// Reads the annotations in the file with this extension.
    ///
    /// # Errors
    /// Returns a sentence if the file cannot be read or is damaged.
    pub fn annotations(&self, extension: &str) -> Result<Vec<Annotation>, String> {
        wfdb::annotations(&read(&self.path.with_extension(extension))?).map_err(|error| error.to_string())
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
