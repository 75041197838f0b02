//! The folder of all data.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use checksum::Sums;
use runtime::StartError;

/// Queues, dead letters and files that wait for work.
pub(crate) const QUEUES: &str = "queues.db";
/// Everything that is stored.
pub(crate) const PATIENTS: &str = "patients.db";

/// The secret from which upload ids and pseudonyms in the audit log are computed.
pub(crate) const KEY: &str = "key";
/// The audit log, unless another place is named.
pub(crate) const AUDIT_LOG: &str = "audit.log";
/// A file that marks a folder whose content is not complete yet: a backup that is being made, or a folder that is being
/// restored. It says so in a sentence.
pub(crate) const INCOMPLETE: &str = "INCOMPLETE";

/// `bedside` in the user's data folder.
pub(crate) fn default() -> Result<PathBuf, StartError> {
    dirs::data_dir().map(|folder| folder.join("bedside")).ok_or_else(|| {
        StartError::config("there is no folder for the user's data here; name one with --data")
    })
}

/// Makes the folder if need be, locks it and makes sure that it is whole.
pub(crate) fn open(data: &Path) -> Result<File, StartError> {
    let cannot = |error: std::io::Error| {
        StartError::failed(format!("the data folder {} cannot be used: {error}", data.display()))
    };
    make(data).map_err(cannot)?;
    let lock = lock(data)?;
    check(data)?;
    Ok(lock)
}

/// Refuses what is no whole data folder: it would start as a system that lacks data, or has none.
fn check(data: &Path) -> Result<(), StartError> {
    let refuse = |what: &str| Err(StartError::failed(format!("{} {what}", data.display())));
    if data.join(INCOMPLETE).exists() {
        return refuse(
            "is incomplete: a backup or restore was interrupted; run it again, or use another folder",
        );
    }
    if data.join(Sums::NAME).exists() {
        return refuse(
            "is a backup; restore it with `bedside restore --from` this folder `--data` another one",
        );
    }
    // The file of patients is made first.
    if data.join(QUEUES).exists() && !data.join(PATIENTS).exists() {
        return refuse("has queues, but no patients: it is not whole; restore it from a backup");
    }
    Ok(())
}

/// Locks the folder: two processes on the same data would deliver the same work twice.
pub(crate) fn lock(data: &Path) -> Result<File, StartError> {
    let cannot = |error: std::io::Error| {
        StartError::failed(format!("the data folder {} cannot be used: {error}", data.display()))
    };
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(data.join("lock")).map_err(cannot)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::failed(format!(
            "another Bedside uses the data folder {} already; end it or name another folder with --data",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// Makes a folder that only its owner can enter, if there is none. The mode of one that is there stays as it is: somebody
/// chose it, it may be shared, and the path may be a link to it. The files in it are private by their own modes.
pub(crate) fn make(folder: &Path) -> std::io::Result<()> {
    private_folder().recursive(true).create(folder)
}

/// Makes a folder that only its owner can enter. Fails if there is one.
pub(crate) fn make_new(folder: &Path) -> std::io::Result<()> {
    private_folder().create(folder)
}

fn private_folder() -> fs::DirBuilder {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}
