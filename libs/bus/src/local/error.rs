//! Errors of the queue file.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::{BusError, EnqueueError};

/// The queue file could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LocalError {
    /// No space is left.
    #[error("the disk of {} is full", .0.display())]
    DiskFull(PathBuf),
    /// Not writable.
    #[error("{} cannot be written; check its permissions and that its disk is not mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    /// Not a queue file, or a file with broken pages.
    #[error("{} is damaged or no queue file; restore it from a backup, or move it away to start empty", .0.display())]
    Damaged(PathBuf),
    /// Written by a later version of this program.
    #[error("{} was written by a later version of this program", .0.display())]
    TooNew(PathBuf),
    /// Written by a version of this program that is too old to be migrated.
    #[error("{} was written by an earlier version of this program, which this version cannot read", .0.display())]
    TooOld(PathBuf),
    /// Two processes would deliver the same messages.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The disk fails, or the file cannot be opened any more.
    #[error("the disk of {} reports an error: {cause}", .file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// The message of SQLite or the operating system.
        cause: String,
    },
    /// The adapter was closed during the call.
    #[error("the local queues are closed")]
    Closed,
    /// Any other failure.
    #[error("{}: {cause}", .file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// The message of SQLite or the operating system.
        cause: String,
    },
}

impl LocalError {
    /// Classifies an error of the file.
    pub(super) fn of(file: &Path, error: impl Into<sqlite::Error>) -> Self {
        let path = file.to_owned();
        match error.into() {
            sqlite::Error::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => LocalError::DiskFull(path),
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => LocalError::ReadOnly(path),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LocalError::Damaged(path),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LocalError::InUse(path),
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
                    LocalError::Disk { file: path, cause: error.to_string() }
                }
                _ => LocalError::Failed { file: path, cause: error.to_string() },
            },
            sqlite::Error::Lock { file, cause } | sqlite::Error::Private { file, cause } => {
                match cause.kind() {
                    io::ErrorKind::StorageFull => LocalError::DiskFull(file),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                        LocalError::ReadOnly(file)
                    }
                    _ => LocalError::Failed { file, cause: cause.to_string() },
                }
            }
            sqlite::Error::InUse(path) => LocalError::InUse(path),
            sqlite::Error::OtherProgram(_) | sqlite::Error::Damaged(_) => LocalError::Damaged(path),
            sqlite::Error::TooNew { .. } => LocalError::TooNew(path),
            sqlite::Error::TooOld => LocalError::TooOld(path),
            sqlite::Error::NotMigrated { .. } => {
                let cause = "it is of an earlier version; start Bedside on it once to convert it".to_owned();
                LocalError::Failed { file: path, cause }
            }
            // Only failures of the disk do this.
            sqlite::Error::RolledBack(cause) => LocalError::Disk { file: path, cause },
            sqlite::Error::Closed => LocalError::Closed,
            error @ (sqlite::Error::Copy { .. } | sqlite::Error::Thread(_) | sqlite::Error::NoLog) => {
                LocalError::Failed { file: path, cause: error.to_string() }
            }
        }
    }
}

impl From<LocalError> for BusError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::InUse(_) => BusError::unavailable(error),
            LocalError::DiskFull(_)
            | LocalError::ReadOnly(_)
            | LocalError::Damaged(_)
            | LocalError::Disk { .. } => BusError::storage(error),
            LocalError::TooNew(_)
            | LocalError::TooOld(_)
            | LocalError::Closed
            | LocalError::Failed { .. } => BusError::refused(error),
        }
    }
}

impl From<LocalError> for EnqueueError {
    fn from(error: LocalError) -> Self {
        EnqueueError::Bus(error.into())
    }
}
