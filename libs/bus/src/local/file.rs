//! The SQLite file: its tables, its settings, and who may have it open.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlite::Table;

use super::LocalError;

/// Marks our files among other SQLite files: "BdsB".
const APPLICATION_ID: i32 = 0x4264_7342;
const VERSION: i32 = 2;

/// Files up to this size are checked page by page when they are opened; larger ones would delay the start.
const CHECK_WHOLE_UP_TO: u64 = 64 << 20;

/// The write-ahead log is written back to the file at this many pages of 4 KiB.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Above this size, readers are made to wait until the log is written back and cut off.
pub(super) const LOG_LIMIT: u64 = 64 << 20;

/// Payloads come last, so that the index over all messages is loaded without reading them. The id of a chunk is that of
/// its blob, shifted by [`super::blobs::CHUNK_BITS`], plus its number: one range of rows is one blob. Chunks without a
/// row in `blobs` belong to a file that never came to its end. Chunks have no checksums: a file is named by its hash, and
/// compared with it when it is read.
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
    CREATE TABLE claims (
        upload BLOB PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        claimed_at INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX claims_by_age ON claims (claimed_at);
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

/// Files of version 1 have no checksums.
const TO_VERSION_2: &str = "
    ALTER TABLE messages ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE dead_letters ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE dead_letters ADD COLUMN damaged INTEGER;
    ALTER TABLE claims ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE blobs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    PRAGMA user_version = 2;
";

/// Not covered is how often a message was delivered: that changes with each delivery. If it is damaged, a message may be
/// given up too early, and is then a dead letter that can be sent again.
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

pub(super) const CLAIMS: Table =
    Table { name: "claims", columns: &["upload", "fingerprint", "claimed_at"], key: 1, unique: "upload" };

pub(super) const BLOBS: Table =
    Table { name: "blobs", columns: &["id", "upload", "sha256", "bytes", "staged_at"], key: 3, unique: "id" };

/// The file, open for writing by this process alone.
#[derive(Debug)]
pub(super) struct QueueFile {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    /// Held as long as the file is open: a second process must not deliver the same messages.
    _lock: File,
}

impl QueueFile {
    /// Opens the file, and makes it when there is none.
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

/// Opens the file for reading beside its writer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "cache_size", -512)?;
    Ok(db)
}

/// Refuses a file of another version, for those who only read.
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

/// The lock is on a file of its own: closing any other handle of a database file would drop SQLite's locks on it.
fn lock(path: &Path) -> Result<File, LocalError> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    create_private(&beside)?;
    let lock =
        OpenOptions::new().write(true).open(&beside).map_err(|error| LocalError::of_io(&beside, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LocalError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(LocalError::of_io(&beside, &error)),
    }
}

/// Makes an empty file that only its owner may read, for it will hold data of patients. SQLite gives the log the same
/// permissions.
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
    if is_empty {
        // Only an empty file takes it; it lets the file shrink again after a flood.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    db.pragma_update(None, "cache_size", -2_000).map_err(failed)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    db.pragma_update(None, "journal_size_limit", i64::try_from(LOG_LIMIT).unwrap_or(i64::MAX))
        .map_err(failed)?;
    if is_empty {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))
        .map_err(failed)?;
        return Ok(());
    }
    if fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_WHOLE_UP_TO) {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            tracing::error!(file = %path.display(), verdict, "the queue file is damaged");
            return Err(LocalError::Damaged(path.to_owned()));
        }
    }
    if version < VERSION { seal(db).map_err(failed) } else { Ok(()) }
}

/// Adds checksums to a file that has none.
fn seal(db: &Connection) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(TO_VERSION_2)?;
    for table in [MESSAGES, DEAD_LETTERS, CLAIMS, BLOBS] {
        table.seal(&transaction)?;
    }
    transaction.commit()
}
