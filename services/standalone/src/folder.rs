//! The folder of all data.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use runtime::StartError;

/// Queues, dead letters and files that wait for work.
pub(crate) const QUEUES: &str = "queues.db";
/// Everything that is stored.
pub(crate) const PATIENTS: &str = "patients.db";

/// The secret from which upload ids and pseudonyms in the audit log are computed.
pub(crate) const KEY: &str = "key";
/// The audit log, unless another place is named.
pub(crate) const AUDIT_LOG: &str = "audit.log";

/// `bedside` in the user's data folder.
pub(crate) fn default() -> Result<PathBuf, StartError> {
    dirs::data_dir().map(|folder| folder.join("bedside")).ok_or_else(|| {
        StartError::config("there is no folder for the user's data here; name one with --data")
    })
}

/// Makes the folder if need be, and locks it: two processes on the same data would deliver the same work twice.
pub(crate) fn open(data: &Path) -> Result<File, StartError> {
    let cannot = |error: std::io::Error| {
        StartError::failed(format!("the data folder {} cannot be used: {error}", data.display()))
    };
    make(data).map_err(cannot)?;
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
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
