//! Errors of the engine.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// An operation on a file failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// SQLite failed, or a column does not have the expected type.
    #[error("{0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// Another process has the file open for writing.
    #[error("{} is in use by another process of Bedside; end that one first", .0.display())]
    InUse(PathBuf),
    /// The lock file cannot be created or locked.
    #[error("{} cannot be written, so the database file cannot be opened ({cause})", .file.display())]
    Lock {
        /// The lock file.
        file: PathBuf,
        /// The message of the operating system.
        cause: Arc<io::Error>,
    },
    /// The file cannot be created, or others have access to it and this cannot be changed.
    #[error("the file {} cannot be made private: {cause}", .file.display())]
    Private {
        /// The file.
        file: PathBuf,
        /// The message of the operating system.
        cause: Arc<io::Error>,
    },
    /// A copy cannot be made.
    #[error("{} cannot be copied to {}: {cause}", .from.display(), .to.display())]
    Copy {
        /// The file.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// The message of the operating system.
        cause: Arc<io::Error>,
    },
    /// The writer thread cannot be started.
    #[error("the writer thread cannot be started: {0}")]
    Thread(Arc<io::Error>),
    /// The file is on a file system without shared memory or locks.
    #[error("the file system does not support SQLite's write-ahead log; use a local disk")]
    NoLog,
    /// A database of another program, with its application id.
    #[error("the file is a database of another program; choose another file")]
    OtherProgram(i32),
    /// Written by a later version of this program.
    #[error(
        "the database file was written by a newer Bedside (schema {found}, this one knows {newest}); update Bedside"
    )]
    TooNew {
        /// The version of the file.
        found: i32,
        /// The newest known version.
        newest: i32,
    },
    /// Written by a version of this program that is too old to be migrated.
    #[error("the file was written by an earlier Bedside and cannot be converted; start with a new folder")]
    TooOld,
    /// Must be opened for writing once, to be migrated.
    #[error(
        "the database file has schema {found}, and this Bedside reads {newest}; start it on the file once to convert it"
    )]
    NotMigrated {
        /// The version of the file.
        found: i32,
        /// The current version.
        newest: i32,
    },
    /// Pages of the file are inconsistent. Contains the first message of SQLite.
    #[error("the database file is damaged; restore it from a backup ({0})")]
    Damaged(String),
    /// Another write failed in a way that made SQLite roll back the whole transaction. Contains the message of that write.
    #[error("another write failed and undid this one, too; nothing was stored ({0})")]
    RolledBack(String),
    /// The writer or the runtime has ended.
    #[error("the database file is closed")]
    Closed,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Sqlite(Arc::new(error))
    }
}
