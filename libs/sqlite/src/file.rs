//! Opening a file: its lock, its permissions, the settings of SQLite, and the check of its pages.
//!
//! A file that is refused is not changed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use crate::{ChunkTable, Error};

/// Files up to this size are checked page by page when they are opened; larger ones would delay the start. Their damage is
/// found on reading: pages by SQLite, rows by their checksum, chunked files by their hash.
const MAX_CHECKED_BYTES: u64 = 64 << 20;

/// Time to wait for SQLite's own locks, which other connections hold for a moment only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Time to wait for readers when the write-ahead log is emptied. Writes wait meanwhile.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Prepared statements that a connection caches.
const STATEMENTS: usize = 64;

/// A kind of file.
#[derive(Debug)]
pub struct Format {
    /// Names the file in logs and its thread.
    pub name: &'static str,
    /// Distinguishes these files from other SQLite files (`PRAGMA application_id`).
    pub application_id: i32,
    /// The version that the first migration creates.
    pub first_version: i32,
    /// One script per version; new ones are appended. Each converts a file of the previous version.
    pub migrations: &'static [&'static str],
    /// Whether every commit is synced to the disk. If not, a commit survives the end of the process, and a power failure may
    /// undo the last ones; the file stays consistent.
    pub syncs_commits: bool,
    /// The write-ahead log is checkpointed at this many pages.
    pub checkpoint_pages: u32,
    /// The log is truncated to this many bytes when SQLite restarts it.
    pub max_log_bytes: u64,
    /// Whether the log is also truncated if SQLite cannot restart it. This blocks readers for a moment and waits for them,
    /// so it is only for files whose reads take microseconds.
    pub truncates_log: bool,
    /// Whether pages that become free are overwritten. Deleted parts of pages always are: nothing deleted can be found in them.
    pub overwrites_free_pages: bool,
    /// Whether the file shrinks after a peak. Takes effect when the file is created.
    pub shrinks: bool,
    /// The chunked files.
    pub chunks: ChunkTable,
}

/// A file that this process alone has open for writing.
#[derive(Debug)]
pub struct DatabaseFile {
    /// The connection for writing.
    pub db: Connection,
    pub(crate) path: PathBuf,
    pub(crate) format: &'static Format,
    /// Declared after the connection, so that it is released when the file is closed.
    _lock: File,
}

impl DatabaseFile {
    /// Opens the file, creates it if it does not exist, and migrates it. Its folder must exist.
    ///
    /// # Errors
    /// When the file is in use, damaged, not writable, of another program, or of a version that cannot be migrated.
    pub fn open(path: &Path, format: &'static Format) -> Result<Self, Error> {
        let lock = lock(path)?;
        make_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        if db.is_readonly(c"main")? {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None).into());
        }
        let version = format.identify(&db)?;
        configure(&db, format, version.is_none())?;
        if version.is_some() && fs::metadata(path).is_ok_and(|file| file.len() <= MAX_CHECKED_BYTES) {
            let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(Error::Damaged(verdict));
            }
        }
        format.migrate(&mut db, version)?;
        Ok(DatabaseFile { db, path: path.to_owned(), format, _lock: lock })
    }

    /// A second connection, for checkpoints.
    pub(crate) fn connect_again(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")?;
        Ok(db)
    }

    /// Removes what was deleted before from the files: returns free pages to the file system, if the file can shrink, and
    /// empties the write-ahead log.
    ///
    /// # Errors
    /// Those of SQLite; `SQLITE_BUSY` if a reader uses the log.
    pub(crate) fn clean_up(&self) -> rusqlite::Result<()> {
        if self.format.shrinks {
            self.db.execute_batch("PRAGMA incremental_vacuum")?;
        }
        self.db.busy_timeout(CLEAN_UP_TIMEOUT)?;
        let busy = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        if busy? {
            let cause = Some("a reader uses the write-ahead log".to_owned());
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), cause));
        }
        Ok(())
    }

    /// Whether the write-ahead log is to be truncated. SQLite overwrites it from its start only when no reader uses it, which may never
    /// happen under constant load.
    pub(crate) fn has_long_log(&self) -> bool {
        self.format.truncates_log
            && fs::metadata(beside(&self.path, "-wal")).is_ok_and(|log| log.len() > self.format.max_log_bytes)
    }

    /// Truncates the write-ahead log.
    pub(crate) fn truncate_log(&self) {
        if let Err(error) = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, file = self.format.name, "the write-ahead log could not be truncated");
        }
    }
}

/// Opens a file for reading, concurrently with its writer.
///
/// # Errors
/// Those of SQLite. The version of the file is not checked: see [`Format::check`].
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(db)
}

fn configure(db: &Connection, format: &Format, is_new: bool) -> Result<(), Error> {
    if is_new && format.shrinks {
        // Can only be set on an empty file.
        db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    // The journal mode first, then its synchronization: FULL syncs the log at every commit, NORMAL at every checkpoint.
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::NoLog);
    }
    let (pages, bytes) = (format.checkpoint_pages, format.max_log_bytes);
    let synchronous = if format.syncs_commits { "FULL" } else { "NORMAL" };
    let secure = if format.overwrites_free_pages { "ON" } else { "FAST" };
    Ok(db.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous};
         PRAGMA fullfsync = ON;
         PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -2048;
         PRAGMA secure_delete = {secure};
         PRAGMA wal_autocheckpoint = {pages};
         PRAGMA journal_size_limit = {bytes};"
    ))?)
}

/// Excludes other processes. The system releases the lock however the process ends. The lock is a separate file: closing
/// any other handle of a database file would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, Error> {
    let name = beside(path, ".lock");
    let mut options = File::options();
    let locked = private(options.create(true).truncate(false).write(true))
        .open(&name)
        .map_err(TryLockError::Error)
        .and_then(|file| file.try_lock().map(|()| file));
    match locked {
        Ok(file) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(Error::Lock { file: name, cause: Arc::new(cause) }),
    }
}

/// Creates the file, if it is missing, with access for its owner only: it contains patient data. SQLite creates the files
/// beside it with the same mode. Files that others can access are made private.
fn make_private(path: &Path) -> Result<(), Error> {
    let cannot = |cause| Error::Private { file: path.to_owned(), cause: Arc::new(cause) };
    match create_private(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot(error)),
    }
    #[cfg(unix)]
    for ending in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let file = beside(path, ending);
        // Links are not followed: their targets may belong to others.
        let Ok(found) = fs::symlink_metadata(&file) else { continue };
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        }
    }
    Ok(())
}

/// Creates a file that only its owner can access.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    private(File::options().write(true).create_new(true)).open(path)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
