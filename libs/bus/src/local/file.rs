//! The SQLite file: schema, settings, migrations, and the lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlite::Table;

use super::LocalError;

/// Distinguishes queue files from other SQLite files: "BdsB".
const APPLICATION_ID: i32 = 0x4264_7342;
/// Version of [`SCHEMA`].
const VERSION: i32 = 3;
/// The oldest version that [`migrate`] accepts.
const OLDEST_VERSION: i32 = 2;

/// Files up to this size are checked page by page when they are opened; larger ones would delay the start.
const MAX_CHECKED_BYTES: u64 = 64 << 20;

/// The write-ahead log is checkpointed at this many pages of 4 KiB.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Above this size of the log, readers are blocked until it is checkpointed and truncated.
pub(super) const MAX_LOG_BYTES: u64 = 64 << 20;

/// Payloads are the last columns, so that the index of all messages is loaded without reading them. The id of
/// a chunk is the id of its blob, shifted by [`super::staging::CHUNK_BITS`], plus the number of the chunk: a
/// blob is one range of rows. Chunks without a row in `blobs` belong to an interrupted put. Chunks have no
/// checksum, because a file is verified against its hash when it is read.
const SCHEMA: &str = "
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        enqueued_at INTEGER NOT NULL,
        mrn INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        reply_to TEXT,
        trace_parent TEXT,
        payload BLOB NOT NULL
    );
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        died_at INTEGER NOT NULL,
        mrn INTEGER NOT NULL,
        damaged INTEGER,
        checksum INTEGER NOT NULL,
        reason TEXT NOT NULL,
        trace_parent TEXT,
        payload BLOB NOT NULL
    );
    CREATE TABLE blobs (
        id INTEGER PRIMARY KEY,
        upload BLOB NOT NULL,
        sha256 BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        staged_at INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (upload, sha256)
    );
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL
    );
";

/// Version 2 kept idempotency reservations.
const TO_VERSION_3: &str = "DROP TABLE claims; PRAGMA user_version = 3;";

/// The checksum does not cover `attempts`, which changes with each delivery. If it is damaged, a message may
/// be dead-lettered too early; it can then be retried.
pub(super) const MESSAGES: Table = Table {
    name: "messages",
    columns: &["id", "queue", "enqueued_at", "mrn", "reply_to", "trace_parent", "payload"],
    key: 1,
    unique: "id",
};

pub(super) const DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    columns: &["id", "queue", "attempts", "died_at", "mrn", "reason", "trace_parent", "payload", "damaged"],
    key: 1,
    unique: "id",
};

pub(super) const BLOBS: Table =
    Table { name: "blobs", columns: &["id", "upload", "sha256", "bytes", "staged_at"], key: 3, unique: "id" };

/// The file, open for writing by this process alone.
#[derive(Debug)]
pub(super) struct QueueFile {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    /// Held while the file is open: a second process would deliver the same messages.
    _lock: File,
}

impl QueueFile {
    /// Opens the file, and creates it if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Self, LocalError> {
        let lock = lock(path)?;
        create_private(path)?;
        let failed = |error: rusqlite::Error| LocalError::of(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        if db.is_readonly(c"main").map_err(failed)? {
            return Err(LocalError::ReadOnly(path.to_owned()));
        }
        prepare(&db, path)?;
        Ok(QueueFile { db, path: path.to_owned(), _lock: lock })
    }

    /// Size of the write-ahead log in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        fs::metadata(log).map_or(0, |file| file.len())
    }
}

/// Opens the file for reading, concurrently with its writer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "cache_size", -512)?;
    Ok(db)
}

/// For readers: refuses a file of another version.
pub(super) fn check_version(db: &Connection, path: &Path) -> Result<(), LocalError> {
    let pragma = |name: &str| {
        db.pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| LocalError::of(path, &error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(LocalError::Damaged(path.to_owned()));
    }
    match pragma("user_version")? {
        VERSION => Ok(()),
        version if version > VERSION => Err(LocalError::TooNew(path.to_owned())),
        _ => Err(LocalError::Failed {
            file: path.to_owned(),
            cause: "it is of an earlier version; start Bedside on it once to convert it".to_owned(),
        }),
    }
}

/// Locks a separate file: closing any other handle of a database file would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, LocalError> {
    let mut lock_path = path.to_owned().into_os_string();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    create_private(&lock_path)?;
    let lock = OpenOptions::new()
        .write(true)
        .open(&lock_path)
        .map_err(|error| LocalError::of_io(&lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LocalError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(LocalError::of_io(&lock_path, &error)),
    }
}

/// Creates an empty file that only its owner can read, because it will contain patient data. SQLite gives the
/// log the same permissions.
fn create_private(path: &Path) -> Result<(), LocalError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(LocalError::of_io(path, &error)),
    }
}

fn prepare(db: &Connection, path: &Path) -> Result<(), LocalError> {
    let failed = |error: rusqlite::Error| LocalError::of(path, &error);
    db.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    db.set_prepared_statement_cache_capacity(64);
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let is_empty: bool =
        db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if !is_empty && application != APPLICATION_ID {
        return Err(LocalError::Damaged(path.to_owned()));
    }
    if version > VERSION {
        return Err(LocalError::TooNew(path.to_owned()));
    }
    if !is_empty && version < OLDEST_VERSION {
        return Err(LocalError::TooOld(path.to_owned()));
    }
    if is_empty {
        // Can only be set on an empty file. It lets the file shrink after a peak.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    db.pragma_update(None, "cache_size", -2_000).map_err(failed)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    db.pragma_update(None, "journal_size_limit", i64::try_from(MAX_LOG_BYTES).unwrap_or(i64::MAX))
        .map_err(failed)?;
    if is_empty {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))
        .map_err(failed)?;
        return Ok(());
    }
    if fs::metadata(path).is_ok_and(|file| file.len() <= MAX_CHECKED_BYTES) {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            tracing::error!(file = %path.display(), verdict, "the queue file is damaged");
            return Err(LocalError::Damaged(path.to_owned()));
        }
    }
    if version < VERSION { migrate(db).map_err(failed) } else { Ok(()) }
}

fn migrate(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!("BEGIN IMMEDIATE; {TO_VERSION_3} COMMIT;"))
}
