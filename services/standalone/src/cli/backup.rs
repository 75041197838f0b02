//! `bedside backup`: copies the data directory. Bedside may be running.
//!
//! The copy is created as `DIR.incomplete` with a marker file and renamed when it is complete. An interrupted
//! backup therefore never looks like a backup. `SHA256SUMS` contains the hashes of the files; `bedside
//! restore` compares them before it changes anything.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use checksum::{Sums, hash_file};
use serde_json::json;
use store::sqlite::snapshot;

use super::error::{CliError, cannot_use};
use super::output::OutputArgs;
use crate::data_dir::{self, DataArgs};

/// Copy the data directory; Bedside may be running.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The backup is complete when the command ends with 0. Until then, it is named DIR.incomplete. `bedside restore` restores it.

Example:
  bedside backup --to /backups/2026-03-14"
)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Directory for the backup; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Copied in this order. An upload leaves the queues only after it is stored, so an upload that is missing in
/// the copied queues is in the copied patients. An upload that is in both is stored once when the restored
/// system processes it.
pub(super) const FILES: [&str; 2] = [data_dir::QUEUES, data_dir::PATIENTS];

impl BackupArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let data = self.data.path()?;
        if !data.join(data_dir::PATIENTS).is_file() {
            return Err(CliError::failed(format!(
                "there is no data in {}; set its directory with --data",
                data.display()
            )));
        }
        let to = std::path::absolute(&self.to).map_err(cannot_use(&self.to))?;
        if !is_free(&to)? {
            return Err(CliError::failed(format!(
                "{} is not empty; choose another directory",
                self.to.display()
            )));
        }
        let part = begin(&to)?;
        for name in FILES {
            snapshot(&data.join(name), &part.join(name)).map_err(CliError::failed)?;
        }
        // Read after the patients: it covers what is in the copy.
        let audit = data.join(data_dir::AUDIT);
        if audit.is_file() {
            snapshot(&audit, &part.join(data_dir::AUDIT)).map_err(CliError::failed)?;
        }
        let key = data.join(data_dir::KEY);
        if key.is_file() {
            // With the key, an upload that a client repeats after a restore has the same id as before.
            let copy = part.join(data_dir::KEY);
            fs::copy(&key, &copy).and_then(|_| File::open(&copy)?.sync_all()).map_err(cannot_use(&copy))?;
        }
        complete(&part, &to)?;
        self.output.print(
            format!("{} is copied to {}.", data.display(), self.to.display()),
            &json!({ "data": data, "backup": to }),
        )
    }
}

/// Returns whether the path does not exist or is an empty directory.
fn is_free(to: &Path) -> Result<bool, CliError> {
    match fs::read_dir(to) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(cannot_use(to)(error)),
    }
}

/// Creates and marks the directory of the unfinished copy. Removes the remains of an interrupted backup.
fn begin(to: &Path) -> Result<PathBuf, CliError> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    let part = to.with_file_name(name);
    if part.join(data_dir::INCOMPLETE).exists() {
        fs::remove_dir_all(&part).map_err(cannot_use(&part))?;
    }
    if let Some(parent) = part.parent() {
        fs::create_dir_all(parent).map_err(cannot_use(parent))?;
    }
    // Fails if a directory of this name exists that is not an interrupted backup.
    data_dir::create_new(&part).map_err(cannot_use(&part))?;
    let text = "This backup is in progress or was interrupted. It is not complete.\n";
    write_durably(&part.join(data_dir::INCOMPLETE), text.as_bytes()).map_err(cannot_use(&part))?;
    sync_directory(&part).map_err(cannot_use(&part))?;
    Ok(part)
}

/// Writes the hashes and renames the directory.
fn complete(part: &Path, to: &Path) -> Result<(), CliError> {
    let mut sums = Sums::default();
    for name in FILES.into_iter().chain([data_dir::AUDIT, data_dir::KEY]) {
        let path = part.join(name);
        if path.is_file() {
            sums.add(name, hash_file(&path).map_err(cannot_use(&path))?);
        }
    }
    let mut text = Vec::new();
    let mut finish = || -> io::Result<()> {
        sums.write(&mut text)?;
        write_durably(&part.join(Sums::NAME), &text)?;
        sync_directory(part)?;
        fs::remove_file(part.join(data_dir::INCOMPLETE))?;
        sync_directory(part)?;
        if let Ok(existing) = fs::metadata(to) {
            // The mode of an existing directory was chosen by its owner.
            fs::set_permissions(part, existing.permissions())?;
        }
        match fs::remove_dir(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(part, to)?;
        to.parent().map_or(Ok(()), sync_directory)
    };
    finish().map_err(cannot_use(to))
}

pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    File::open(path)?.sync_all()
}

/// Makes the entries of a directory durable. Systems on which a directory cannot be opened do not need this.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
