//! Verification of a whole queue file.

use std::path::Path;

use rusqlite::Connection;
use sqlite::Table;

use super::LocalError;
use super::file::{self, BLOBS, DEAD_LETTERS, MESSAGES};
use super::staging::{CHUNK_BITS, chunk_id};
use proto_json::{BlobHash, BlobHasher};

/// Most messages of SQLite's integrity check.
const MAX_MESSAGES: usize = 100;

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueCheck {
    /// Number of messages, dead letters and staged files that were checked.
    pub checked: u64,
    /// One sentence per damaged item.
    pub damaged: Vec<String>,
}

/// Verifies a queue file: every message and dead letter by its checksum, every staged file by its hash, and
/// all pages. Only reads; a running process may have the file open. Blocks.
///
/// # Errors
/// If the file cannot be read. Damage is no error.
pub fn verify(path: &Path) -> Result<QueueCheck, LocalError> {
    let failed = |error: rusqlite::Error| LocalError::of(path, &error);
    let db = file::open_reader(path).map_err(failed)?;
    file::check_version(&db, path)?;
    let mut check = QueueCheck::default();
    let pages = sqlite::check_pages(&db, None, MAX_MESSAGES).map_err(failed)?;
    check.damaged.extend(pages.into_iter().map(|message| format!("pages of the queues: {message}")));
    for (table, name) in [(MESSAGES, "message"), (DEAD_LETTERS, "dead letter")] {
        check.add(rows(&db, &table, name));
    }
    check.add(staged_files(&db));
    Ok(check)
}

impl QueueCheck {
    fn add(&mut self, found: rusqlite::Result<QueueCheck>) {
        match found {
            Ok(found) => {
                self.checked += found.checked;
                self.damaged.extend(found.damaged);
            }
            Err(error) => self.damaged.push(format!("a table of the queues cannot be read: {error}")),
        }
    }
}

fn rows(db: &Connection, table: &Table, name: &str) -> rusqlite::Result<QueueCheck> {
    let mut check = QueueCheck::default();
    let mut statement = db.prepare(&table.select())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        check.checked += 1;
        if !table.verify(row)?.row {
            check.damaged.push(format!("the queued {name} ({}) is damaged", table.name_of(row)?));
        } else if table.name == DEAD_LETTERS.name && row.get::<_, Option<bool>>("damaged")? == Some(true) {
            check.damaged.push(format!("the dead letter ({}) holds a damaged message", table.name_of(row)?));
        }
    }
    Ok(check)
}

fn staged_files(db: &Connection) -> rusqlite::Result<QueueCheck> {
    let mut check = QueueCheck::default();
    let mut statement = db.prepare(&BLOBS.select())?;
    let mut chunks = db.prepare("SELECT bytes FROM chunks WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        check.checked += 1;
        let name = BLOBS.name_of(row)?;
        if !BLOBS.verify(row)?.row {
            check.damaged.push(format!("the row of a staged file ({name}) is damaged"));
            continue;
        }
        let blob: i64 = row.get("id")?;
        let sha256 = BlobHash::from_bytes(row.get("sha256")?);
        let mut hash = BlobHasher::new();
        if blob >> (i64::BITS - 1 - CHUNK_BITS as u32) == 0 {
            let mut parts = chunks.query([chunk_id(blob, 0), chunk_id(blob + 1, 0)])?;
            while let Some(part) = parts.next()? {
                hash.update(part.get_ref(0)?.as_bytes().unwrap_or_default());
            }
        }
        // If the file was deleted concurrently, it is not damaged.
        if hash.finish() != sha256 && exists(db, blob)? {
            check.damaged.push(format!("the staged file ({name}) is damaged"));
        }
    }
    Ok(check)
}

fn exists(db: &Connection, blob: i64) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) FROM blobs WHERE id = ?1", [blob], |row| row.get::<_, i64>(0))
        .map(|count| count > 0)
}
