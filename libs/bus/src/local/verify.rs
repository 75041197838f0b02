//! Verification of a whole queue file.

use std::path::Path;

use rusqlite::Connection;
use sqlite::{Chunk, Table};

use super::LocalError;
use super::file::{BLOBS, CHUNKS, DEAD_LETTERS, FORMAT, MESSAGES, WAVES};
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

/// Verifies a queue file: every message, dead letter and waveform message by its checksum, every staged file by its hash, and
/// all pages. Only reads; a running process may have the file open. Blocks.
///
/// # Errors
/// If the file cannot be read. Damage is no error.
pub fn verify(path: &Path) -> Result<QueueCheck, LocalError> {
    let failed = |error: rusqlite::Error| LocalError::of(path, error);
    let db = sqlite::open_reader(path).map_err(failed)?;
    FORMAT.check(&db).map_err(|error| LocalError::of(path, error))?;
    let mut check = QueueCheck::default();
    let pages = sqlite::check_pages(&db, None, MAX_MESSAGES).map_err(failed)?;
    check.damaged.extend(pages.into_iter().map(|message| format!("pages of the queues: {message}")));
    let tables = [(MESSAGES, "message"), (DEAD_LETTERS, "dead letter"), (WAVES, "waveform message")];
    for (table, name) in tables {
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
        let (mut hash, mut number) = (BlobHasher::new(), 0);
        while let Chunk::Intact(chunk) = CHUNKS.read(db, blob, number)? {
            hash.update(&chunk);
            number += 1;
        }
        // If the file was deleted concurrently, it is not damaged.
        if hash.finish() != sha256 && (CHUNKS.is_visible)(db, blob)? {
            check.damaged.push(format!("the staged file ({name}) is damaged"));
        }
    }
    Ok(check)
}
