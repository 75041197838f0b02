//! The data directory.
//!
//! - One process uses a directory at a time: it holds the lock file.
//! - A directory that is incomplete, is a backup or has lost its patients is rejected. Started on it, Bedside
//!   would be a system without that data.
//! - Data of demos and of patients are never in one directory. A marker file identifies the directory of a
//!   demo.
//! - Created files and directories are private to their owner. The mode of an existing directory is not
//!   changed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use checksum::Sums;
use runtime::StartError;

/// File of queues, dead letters and staged files.
pub(crate) const QUEUES: &str = "queues.db";
/// File of all stored data.
pub(crate) const PATIENTS: &str = "patients.db";
/// File of the audit, beside the stored data.
pub(crate) const AUDIT: &str = "patients.audit.db";
/// File of the secret from which upload ids and the pseudonyms of the audit log are computed.
pub(crate) const KEY: &str = "key";
/// The audit log, unless another target is set.
pub(crate) const AUDIT_LOG: &str = "audit.log";
/// Marks a directory whose content is not complete: a backup or a restore is in progress or was interrupted.
pub(crate) const INCOMPLETE: &str = "INCOMPLETE";
/// Marks the directory of a demo.
pub(crate) const DEMO: &str = "DEMO";

/// The `--data` setting.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Data directory; default: `bedside` in the user's data directory
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Kind of data in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Patients,
    Demo {
        /// Keep the data of earlier demos.
        keep: bool,
    },
}

impl DataArgs {
    /// Returns the data directory.
    pub(crate) fn path(&self) -> Result<PathBuf, StartError> {
        self.path_for(Purpose::Patients)
    }

    /// Returns the directory for data of this kind.
    pub(crate) fn path_for(&self, purpose: Purpose) -> Result<PathBuf, StartError> {
        if let Some(path) = &self.data {
            return Ok(path.clone());
        }
        let name = if purpose == Purpose::Patients { "bedside" } else { "bedside-demo" };
        dirs::data_dir()
            .map(|parent| parent.join(name))
            .ok_or_else(|| StartError::config("this user has no data directory; set one with --data"))
    }
}

/// Creates the directory if it does not exist, locks it and checks its content. Clears the directory of a
/// demo.
pub(crate) fn open(data: &Path, purpose: Purpose) -> Result<File, StartError> {
    create(data).map_err(unusable(data))?;
    let lock = lock(data)?;
    check(data, purpose)?;
    if let Purpose::Demo { keep } = purpose {
        begin_demo(data, keep).map_err(unusable(data))?;
    }
    Ok(lock)
}

fn check(data: &Path, purpose: Purpose) -> Result<(), StartError> {
    let reject = |reason: &str| Err(StartError::failed(format!("{} {reason}", data.display())));
    if data.join(INCOMPLETE).exists() {
        return reject(
            "is incomplete: a backup or restore was interrupted; run it again, or use another directory",
        );
    }
    if data.join(Sums::NAME).exists() {
        return reject(
            "is a backup; restore it with `bedside restore --from` this directory `--data` another one",
        );
    }
    let has_patients = data.join(PATIENTS).exists();
    match (data.join(DEMO).exists(), purpose) {
        (true, Purpose::Patients) => {
            reject("contains the data of a demo; start it with --demo, or use another directory")
        }
        (false, Purpose::Demo { .. }) if has_patients => {
            reject("contains data that is not from a demo; use another directory for the demo")
        }
        (false, _) if data.join(QUEUES).exists() && !has_patients => {
            reject("has queues but no patients: it is incomplete; restore it from a backup")
        }
        _ => Ok(()),
    }
}

/// Marks the directory and removes the data of earlier demos. Removes only files that Bedside creates.
fn begin_demo(data: &Path, keep: bool) -> io::Result<()> {
    fs::write(
        data.join(DEMO),
        "Simulated patients. `bedside --demo` clears this directory at each start.\n",
    )?;
    if keep {
        return Ok(());
    }
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // SQLite adds `-wal` and `-shm`.
        let is_data = [QUEUES, PATIENTS, AUDIT, AUDIT_LOG].iter().any(|prefix| name.starts_with(prefix));
        if (is_data || name == KEY) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Locks the directory. Two processes on the same data would deliver the same work twice.
pub(crate) fn lock(data: &Path) -> Result<File, StartError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(data.join("lock")).map_err(unusable(data))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::failed(format!(
            "another Bedside uses the data directory {}; stop it, or set another directory with --data",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(data)(error)),
    }
}

fn unusable(data: &Path) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::failed(format!("the data directory {} cannot be used: {error}", data.display()))
}

/// Creates a directory with mode 0700 if it does not exist. The mode of an existing directory is not changed:
/// it was chosen by its owner, it may be shared, and the path may be a symbolic link. The files in it are
/// private by their own modes.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    private_dir().recursive(true).create(path)
}

/// Creates a directory with mode 0700. Fails if it exists.
pub(crate) fn create_new(path: &Path) -> io::Result<()> {
    private_dir().create(path)
}

fn private_dir() -> fs::DirBuilder {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO_START: Purpose = Purpose::Demo { keep: false };

    #[test]
    fn demo_clears_only_its_own_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (demo, real) = (parent.path().join("demo"), parent.path().join("real"));
        drop(open(&demo, DEMO_START).unwrap());
        for name in [PATIENTS, "patients.db-wal", QUEUES, KEY, AUDIT_LOG, "notes.txt"] {
            fs::write(demo.join(name), "").unwrap();
        }
        drop(open(&demo, Purpose::Demo { keep: true }).unwrap());
        assert!(demo.join(PATIENTS).exists());
        drop(open(&demo, DEMO_START).unwrap());
        let mut left: Vec<_> = fs::read_dir(&demo)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [DEMO, "lock", "notes.txt"]);
        assert!(open(&demo, Purpose::Patients).unwrap_err().to_string().contains("data of a demo"));

        drop(open(&real, Purpose::Patients).unwrap());
        fs::write(real.join(PATIENTS), "").unwrap();
        assert!(open(&real, DEMO_START).unwrap_err().to_string().contains("not from a demo"));
        assert!(real.join(PATIENTS).exists() && !real.join(DEMO).exists());
    }
}
