//! `bedside restore`: replaces the data in a data directory by a backup.
//!
//! Compares the backup with its hashes, copies it into the data directory under other names and compares the
//! copies. Then it marks the directory as incomplete, moves the existing files away and renames the copies.
//! If it is interrupted, the directory is either unchanged or rejected at start, and the restore can be
//! repeated.

use std::fs;
use std::path::{Path, PathBuf};

use checksum::{Sums, hash_file};
use proto_json::Timestamp;
use serde_json::json;

use super::backup::{FILES, sync_directory, write_durably};
use super::error::{CliError, cannot_use};
use super::output::OutputArgs;
use crate::data_dir::{self, DataArgs};

/// Replace the data directory by a backup. Bedside must not be running on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Compares every file of the backup with its hash before it changes anything.

Example:
  bedside restore --from /backups/2026-03-14 --data /srv/bedside")]
pub(crate) struct RestoreArgs {
    /// Directory of the backup; it is not changed
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Replace existing data; the old files are moved to a directory `replaced-…` inside the data directory
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Suffix of the copies until they are renamed.
const COPY: &str = ".restoring";

impl RestoreArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let data = self.data.path()?;
        let sums = verified(&self.from)?;
        data_dir::create(&data).map_err(cannot_use(&data))?;
        let _lock = data_dir::lock(&data)?;
        let reject = |reason: &str| Err(CliError::failed(format!("{} {reason}", data.display())));
        if data.join(Sums::NAME).exists() {
            return reject("is a backup; set another directory with --data");
        }
        if data.join(data_dir::DEMO).exists() {
            return reject("belongs to a demo, which would clear it; set another directory with --data");
        }
        let interrupted = data.join(data_dir::INCOMPLETE).exists();
        let has_data = FILES.iter().any(|name| data.join(name).exists());
        if has_data && !interrupted && !self.replace {
            return reject("contains data; add --replace to replace it by the backup");
        }
        let names = names(&sums, &data);
        for name in &names {
            let copy = data.join(format!("{name}{COPY}"));
            fs::copy(self.from.join(name), &copy).map_err(cannot_use(&copy))?;
            make_private(&copy).map_err(cannot_use(&copy))?;
            fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(cannot_use(&copy))?;
            let hash = hash_file(&copy).map_err(cannot_use(&copy))?;
            sums.compare(name, hash).map_err(|reason| CliError::failed(format!("the copy of {reason}")))?;
        }
        let erased = carry_erasures(&data)?;
        swap(&data, &names).map_err(cannot_use(&data))?;
        self.output.print(
            match erased {
                0 => format!("{} is restored to {}.", self.from.display(), data.display()),
                erased => format!(
                    "{} is restored to {}. {erased} patients that were erased after the backup are erased again.",
                    self.from.display(),
                    data.display()
                ),
            },
            &json!({ "backup": self.from, "data": data, "erased": erased }),
        )
    }
}

/// Applies the erasures of the existing patients to the copy of the backup. Returns how many numbers are erased again.
fn carry_erasures(data: &Path) -> Result<usize, CliError> {
    let copy = data.join(format!("{}{COPY}", data_dir::PATIENTS));
    let present = data.join(data_dir::PATIENTS);
    let existing =
        if present.exists() { Some(present) } else { set_aside(data).map_err(cannot_use(data))? };
    let Some(existing) = existing else { return Ok(0) };
    let carried = store::sqlite::carry_erasures(&existing, &copy);
    // Left by the lock of the copy, and by SQLite if it was interrupted.
    for ending in [".lock", "-wal", "-shm"] {
        let file = data.join(format!("{}{COPY}{ending}", data_dir::PATIENTS));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot_use(&file)(error));
            }
            _ => {}
        }
    }
    fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(cannot_use(&copy))?;
    carried.map_err(|error| {
        CliError::failed(format!("the erasures in {} cannot be applied again: {error}", existing.display()))
    })
}

/// The patients that an interrupted restore has moved away last.
fn set_aside(data: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(data)? {
        let folder = entry?;
        let patients = folder.path().join(data_dir::PATIENTS);
        if folder.file_name().to_string_lossy().starts_with("replaced-") && patients.exists() {
            found.push(patients);
        }
    }
    found.sort();
    Ok(found.pop())
}

/// Returns the names of the files of a backup that are restored. The key and the audit are optional. An existing audit stays:
/// it contains what happened since the backup.
fn names(sums: &Sums, data: &Path) -> Vec<&'static str> {
    let optional = |name: &'static str| sums.names().any(|file| file == name).then_some(name);
    let audit = optional(data_dir::AUDIT).filter(|name| !data.join(name).exists());
    FILES.into_iter().chain(audit).chain(optional(data_dir::KEY)).collect()
}

/// Compares all files of a backup with their hashes. Returns the hashes.
fn verified(from: &Path) -> Result<Sums, CliError> {
    let reject =
        |reason: String| CliError::failed(format!("{}: {reason}; nothing was changed", from.display()));
    if from.join(data_dir::INCOMPLETE).exists() {
        return Err(reject("this backup is incomplete".to_owned()));
    }
    let sums = Sums::read(from).map_err(reject)?;
    let sums = sums.ok_or_else(|| reject(format!("this is not a backup: it has no {}", Sums::NAME)))?;
    // In the directory of the backup, an audit exists: it is not among the names.
    let audit = sums.names().any(|name| name == data_dir::AUDIT).then_some(data_dir::AUDIT);
    for name in names(&sums, from).into_iter().chain(audit) {
        let path = from.join(name);
        let hash = hash_file(&path).map_err(|error| reject(format!("{name} cannot be read: {error}")))?;
        sums.compare(name, hash).map_err(reject)?;
    }
    Ok(sums)
}

/// Moves existing files away and renames the copies.
fn swap(data: &Path, names: &[&str]) -> std::io::Result<()> {
    let marker = data.join(data_dir::INCOMPLETE);
    write_durably(&marker, b"A restore is in progress or was interrupted. Run `bedside restore` again.\n")?;
    sync_directory(data)?;
    let time: String = Timestamp::now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = data.join(format!("replaced-{time}"));
    for name in names {
        // SQLite would apply the old write-ahead log to the new file.
        for suffix in ["-wal", "-shm", ""] {
            let path = data.join(format!("{name}{suffix}"));
            if path.exists() {
                data_dir::create(&aside)?;
                fs::rename(&path, aside.join(format!("{name}{suffix}")))?;
            }
        }
    }
    if aside.exists() {
        sync_directory(&aside)?;
    }
    sync_directory(data)?;
    for name in names {
        fs::rename(data.join(format!("{name}{COPY}")), data.join(name))?;
    }
    sync_directory(data)?;
    fs::remove_file(marker)?;
    sync_directory(data)
}

#[cfg(unix)]
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn make_private(_path: &Path) -> std::io::Result<()> {
    Ok(())
}
