//! The schema, its version and migrations, and the setup of connections.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// `BED2`: marks the file as a database of this program (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x4245_4432;

/// `BEDS`: a database of a version whose data this program does not read.
const FORMER_APPLICATION_ID: i64 = 0x4245_4453;

/// One script for each version of the schema; new ones are appended. Script N converts version N-1 to N. The version of a
/// file is its `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// Files up to this size are checked page by page when they are opened; larger ones would delay the start. Their damage is
/// found on reading: pages by SQLite, records by their checksum, files by their hash.
const CHECK_WHOLE_UP_TO: u64 = 64 << 20;

/// Number of prepared statements that a connection caches.
const STATEMENTS: usize = 60;

/// Opens the connection for writing, and migrates the schema.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    make_private(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    check_application(&connection)?;
    // The order matters: the journal mode first, then its synchronization. FULL syncs the log at every commit.
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::unavailable(
            "the file system does not support SQLite's write-ahead log; use a local disk",
        ));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -2048;
         PRAGMA wal_autocheckpoint = 2000;
         PRAGMA journal_size_limit = 16777216;",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection)?;
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_WHOLE_UP_TO) {
        check_pages(&connection)?;
    }
    Ok(connection)
}

/// Creates the file, if it is missing, with access for its owner only: it contains patient data. SQLite creates the files
/// beside it with the same mode. Files that others can access are made private.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let cannot = |error: std::io::Error| {
        StoreError::unavailable(format!("the file {} cannot be made private: {error}", path.display()))
    };
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot(error)),
    }
    #[cfg(unix)]
    for beside in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let mut file = path.as_os_str().to_owned();
        file.push(beside);
        // Links are not followed: their targets may belong to others.
        let Ok(found) = std::fs::symlink_metadata(&file) else { continue };
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        }
    }
    Ok(())
}

/// Opens a connection for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Refuses a database of another program before it is changed.
fn check_application(connection: &Connection) -> Result<(), StoreError> {
    let id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let refuse = |reason: &str| Err(StoreError::Corrupt(reason.to_owned()));
    match id {
        APPLICATION_ID => Ok(()),
        0 if tables == 0 => Ok(()),
        FORMER_APPLICATION_ID => refuse(
            "the file was written by an earlier Bedside and cannot be converted; start with a new folder",
        ),
        _ => refuse("the file is a database of another program; choose another file"),
    }
}

/// Refuses a damaged file before it is changed.
fn check_pages(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("the database file is damaged; restore it from a backup ({verdict})")))
}

/// Refuses a file of another schema version, for connections that cannot migrate it.
pub(super) fn check_version(connection: &Connection) -> Result<(), StoreError> {
    check_application(connection)?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version as usize == MIGRATIONS.len() {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "the database file has schema {version}, and this Bedside reads {}; start it on the file once to convert it",
        MIGRATIONS.len()
    )))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version as usize > MIGRATIONS.len() {
        return Err(StoreError::Corrupt(format!(
            "the database file was written by a newer Bedside (schema {version}, this one knows {}); update Bedside",
            MIGRATIONS.len()
        )));
    }
    for (next, script) in (1_u32..).zip(MIGRATIONS).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
        tracing::info!(schema = next, "database schema brought up to date");
    }
    Ok(())
}
