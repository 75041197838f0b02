//! Maintenance of the file by the writer thread: pending deletes and freeing space.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::staging::{CHUNK_BITS, chunk_id};

/// Chunks deleted per step while idle: 4 MiB, a few milliseconds.
const IDLE_CHUNKS: i64 = 16;
/// Chunks deleted within the transaction of a group. A group adds at most one chunk of a large file, so
/// pending deletes do not accumulate.
const GROUP_CHUNKS: i64 = 2;

/// Free pages that stay in the file for later use: 64 MiB.
const MAX_FREE_PAGES: i64 = 16_384;
/// Free pages returned to the file system per step.
const VACUUM_PAGES: i64 = 512;

/// Blobs whose chunks are still to be deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingDeletes(Arc<Mutex<VecDeque<i64>>>);

impl PendingDeletes {
    /// Schedules the chunks of a blob for deletion.
    pub(super) fn add(&self, blob: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(blob);
    }

    fn first(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }

    fn remove_first(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

#[derive(Debug)]
pub(super) struct Maintenance {
    pending_deletes: PendingDeletes,
}

impl Maintenance {
    pub(super) fn new(pending_deletes: PendingDeletes) -> Self {
        Maintenance { pending_deletes }
    }

    /// Deletes a few chunks within the transaction of a group: a separate transaction would cost a disk sync.
    pub(super) fn run_in_transaction(&self, db: &Connection) {
        log_failure(self.delete_chunks(db, GROUP_CHUNKS));
    }

    /// Does one step that frees space.
    pub(super) fn free_space(&self, db: &Connection) {
        log_failure(self.delete_chunks(db, IDLE_CHUNKS));
    }

    /// Does one step of any kind. Returns whether work is left.
    pub(super) fn run_idle(&self, db: &Connection) -> bool {
        log_failure(self.delete_chunks(db, IDLE_CHUNKS)) || log_failure(vacuum(db))
    }

    fn delete_chunks(&self, db: &Connection, chunks: i64) -> rusqlite::Result<bool> {
        let Some(blob) = self.pending_deletes.first() else { return Ok(false) };
        let deleted = db
            .prepare_cached(
                "DELETE FROM chunks WHERE id IN (SELECT id FROM chunks WHERE id >= ?1 AND id < ?2 LIMIT ?3)",
            )?
            .execute(params![chunk_id(blob, 0), chunk_id(blob + 1, 0), chunks])?;
        if deleted == 0 {
            self.pending_deletes.remove_first();
        }
        Ok(true)
    }
}

/// Returns free pages to the file system if there are more than [`MAX_FREE_PAGES`].
fn vacuum(db: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free <= MAX_FREE_PAGES {
        return Ok(false);
    }
    db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    Ok(true)
}

/// Returns the blobs that have chunks but no row: their put was interrupted.
pub(super) fn interrupted_puts(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut next_chunk = db.prepare("SELECT id FROM chunks WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let mut has_row = db.prepare("SELECT count(*) FROM blobs WHERE id = ?1")?;
    let (mut found, mut next) = (Vec::new(), 0);
    // One query per blob, whatever the number of its chunks.
    while let Some(chunk) = rusqlite::OptionalExtension::optional(
        next_chunk.query_row([chunk_id(next, 0)], |row| row.get::<_, i64>(0)),
    )? {
        let blob = chunk >> CHUNK_BITS;
        if has_row.query_row([blob], |row| row.get::<_, i64>(0))? == 0 {
            found.push(blob);
        }
        next = blob + 1;
    }
    Ok(found)
}

fn log_failure(outcome: rusqlite::Result<bool>) -> bool {
    outcome.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "maintenance of the queue file failed; it will be retried");
        false
    })
}
