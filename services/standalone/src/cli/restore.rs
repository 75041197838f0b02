//! `bedside restore`: puts a backup in the place of a data folder.
//!
//! Before anything is changed, the backup is compared with its hashes, copied into the data folder under other names, and
//! compared again. Then the folder is marked as incomplete, what is there is moved away, and the copies get their names.
//! Interrupted at any point, the folder is either as it was or refuses to start, and the restore can be run again.

use std::fs;
use std::path::{Path, PathBuf};

use checksum::{Sums, hash_file};
use proto_json::Timestamp;

use super::backup::{FILES, cannot, flush_folder, write_durably};
use super::{CliError, say};
use crate::folder;

/// Put a backup in the place of the data folder, while Bedside does not run on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is changed before every file of the backup has its hash.

Example:
  bedside restore --from /backups/2026-03-14 --data /srv/bedside")]
pub(crate) struct RestoreArgs {
    /// Folder of the backup; it stays as it is
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Replace the data that is there; it is kept in a folder `replaced-…` inside
    #[arg(long)]
    replace: bool,
}

/// Ending of the names under which files are copied.
const COPY: &str = ".restoring";

impl RestoreArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let data =
            self.data.map_or_else(folder::default, Ok).map_err(|error| CliError::told(error.to_string()))?;
        let sums = verified(&self.from)?;
        folder::make(&data).map_err(cannot(&data))?;
        let _lock = folder::lock(&data).map_err(|error| CliError::told(error.to_string()))?;
        if data.join(Sums::NAME).exists() {
            return Err(CliError::told(format!(
                "{} is a backup; name another folder with --data",
                data.display()
            )));
        }
        let interrupted = data.join(folder::INCOMPLETE).exists();
        let has_data = FILES.iter().any(|name| data.join(name).exists());
        if has_data && !interrupted && !self.replace {
            return Err(CliError::told(format!(
                "there is data in {}; add --replace to put the backup in its place",
                data.display()
            )));
        }
        let names = names(&sums);
        for name in &names {
            let copy = data.join(format!("{name}{COPY}"));
            fs::copy(self.from.join(name), &copy).map_err(cannot(&copy))?;
            private(&copy).map_err(cannot(&copy))?;
            fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(cannot(&copy))?;
            let hash = hash_file(&copy).map_err(cannot(&copy))?;
            sums.compare(name, hash).map_err(|reason| CliError::told(format!("the copy of {reason}")))?;
        }
        swap(&data, &names).map_err(cannot(&data))?;
        say(format!("{} is restored to {}.", self.from.display(), data.display()))
    }
}

/// The files of a backup: the key is in it if there was one.
fn names(sums: &Sums) -> Vec<&'static str> {
    let key = sums.names().any(|name| name == folder::KEY).then_some(folder::KEY);
    FILES.into_iter().chain(key).collect()
}

/// The hashes of a backup, each of which was found to be right.
fn verified(from: &Path) -> Result<Sums, CliError> {
    let refuse =
        |reason: String| CliError::told(format!("{}: {reason}; nothing was changed", from.display()));
    if from.join(folder::INCOMPLETE).exists() {
        return Err(refuse("this backup is incomplete".to_owned()));
    }
    let sums = Sums::read(from).map_err(refuse)?;
    let sums = sums.ok_or_else(|| refuse(format!("this is no backup: it has no {}", Sums::NAME)))?;
    for name in names(&sums) {
        let path = from.join(name);
        let hash = hash_file(&path).map_err(|error| refuse(format!("{name} cannot be read: {error}")))?;
        sums.compare(name, hash).map_err(refuse)?;
    }
    Ok(sums)
}

/// Moves the files that are there away and gives the copies their names.
fn swap(data: &Path, names: &[&str]) -> std::io::Result<()> {
    let marker = data.join(folder::INCOMPLETE);
    write_durably(
        &marker,
        b"A backup is being restored here, or that was interrupted. Run `bedside restore` again.\n",
    )?;
    flush_folder(data)?;
    let time: String = Timestamp::now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = data.join(format!("replaced-{time}"));
    for name in names {
        // The log of a file belongs to it: beside another file it would destroy that one.
        for ending in ["-wal", "-shm", ""] {
            let path = data.join(format!("{name}{ending}"));
            if path.exists() {
                folder::make(&aside)?;
                fs::rename(&path, aside.join(format!("{name}{ending}")))?;
            }
        }
    }
    if aside.exists() {
        flush_folder(&aside)?;
    }
    flush_folder(data)?;
    for name in names {
        fs::rename(data.join(format!("{name}{COPY}")), data.join(name))?;
    }
    flush_folder(data)?;
    fs::remove_file(marker)?;
    flush_folder(data)
}

#[cfg(unix)]
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn private(_path: &Path) -> std::io::Result<()> {
    Ok(())
}
