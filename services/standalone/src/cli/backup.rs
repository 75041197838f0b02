//! `bedside backup`: a copy of the data folder, while Bedside runs on it.
//!
//! The copy is made under another name beside its own, marked as incomplete, and gets its name at the end: whatever
//! interrupts it, nothing that looks like a backup is left. `SHA256SUMS` holds the hashes of its files; `bedside restore`
//! compares them before it changes anything.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use checksum::{Sums, hash_file};
use store::sqlite::snapshot;

use super::{CliError, say};
use crate::folder;

/// Copy the data folder, while Bedside runs on it or not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The copy is complete when the command ends with 0; before, it has the name DIR.incomplete. `bedside restore` puts it back.

Example:
  bedside backup --to /backups/2026-03-14"
)]
pub(crate) struct BackupArgs {
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for the copy; it must not be there, or be empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// The order matters: an upload leaves the queues only when it is stored. So one that has left them in the copy is among the
/// patients in the copy; one that is in both is stored once all the same when the copy is restored.
pub(super) const FILES: [&str; 2] = [folder::QUEUES, folder::PATIENTS];

impl BackupArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let data =
            self.data.map_or_else(folder::default, Ok).map_err(|error| CliError::told(error.to_string()))?;
        if !data.join(folder::PATIENTS).is_file() {
            return Err(CliError::told(format!(
                "there is no data in {}; name its folder with --data",
                data.display()
            )));
        }
        let to = std::path::absolute(&self.to).map_err(cannot(&self.to))?;
        if !is_free(&to)? {
            return Err(CliError::told(format!("{} is not empty; choose another folder", self.to.display())));
        }
        let part = begin(&to)?;
        for name in FILES {
            snapshot(&data.join(name), &part.join(name))
                .map_err(|error| CliError::told(error.to_string()))?;
        }
        let key = data.join(folder::KEY);
        if key.is_file() {
            // With it, uploads that clients send again to the copy have the ids that they had.
            let copy = part.join(folder::KEY);
            fs::copy(&key, &copy).and_then(|_| File::open(&copy)?.sync_all()).map_err(cannot(&copy))?;
        }
        complete(&part, &to)?;
        say(format!("{} is copied to {}.", data.display(), self.to.display()))
    }
}

/// Whether nothing is there, or an empty folder.
fn is_free(to: &Path) -> Result<bool, CliError> {
    match fs::read_dir(to) {
        Ok(mut found) => Ok(found.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(cannot(to)(error)),
    }
}

/// Makes the folder in which the copy is made, and marks it. What an interrupted backup left of it is removed.
fn begin(to: &Path) -> Result<PathBuf, CliError> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    let part = to.with_file_name(name);
    if part.join(folder::INCOMPLETE).exists() {
        fs::remove_dir_all(&part).map_err(cannot(&part))?;
    }
    if let Some(parent) = part.parent() {
        fs::create_dir_all(parent).map_err(cannot(parent))?;
    }
    // A folder of this name that is not ours stays.
    folder::make_new(&part).map_err(cannot(&part))?;
    let text = "This backup is being made, or was interrupted. It is not complete.\n";
    write_durably(&part.join(folder::INCOMPLETE), text.as_bytes()).map_err(cannot(&part))?;
    flush_folder(&part).map_err(cannot(&part))?;
    Ok(part)
}

/// Writes the hashes, and gives the folder its name.
fn complete(part: &Path, to: &Path) -> Result<(), CliError> {
    let mut sums = Sums::default();
    for name in FILES.into_iter().chain([folder::KEY]) {
        let path = part.join(name);
        if path.is_file() {
            sums.add(name, hash_file(&path).map_err(cannot(&path))?);
        }
    }
    let mut text = Vec::new();
    let mut finish = || -> io::Result<()> {
        sums.write(&mut text)?;
        write_durably(&part.join(Sums::NAME), &text)?;
        flush_folder(part)?;
        fs::remove_file(part.join(folder::INCOMPLETE))?;
        flush_folder(part)?;
        if let Ok(there) = fs::metadata(to) {
            // Somebody chose the mode of a folder that is there.
            fs::set_permissions(part, there.permissions())?;
        }
        match fs::remove_dir(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(part, to)?;
        to.parent().map_or(Ok(()), flush_folder)
    };
    finish().map_err(cannot(to))
}

pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    File::open(path)?.sync_all()
}

/// Makes the names in a folder durable; where folders cannot be opened, the system does it by itself.
pub(super) fn flush_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

pub(super) fn cannot(path: &Path) -> impl Fn(io::Error) -> CliError + use<> {
    let path = path.to_owned();
    move |error| CliError::told(format!("{} cannot be used: {error}", path.display()))
}
