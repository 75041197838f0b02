//! What the writer does between groups: deletes what large files leave behind, forgets old claims, gives space back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto_json::Timestamp;
use rusqlite::{Connection, params};

use super::blobs::{CHUNK_BITS, chunk_id};

/// Chunks deleted at a time: 4 MiB, some milliseconds.
const CHUNKS_AT_A_TIME: i64 = 16;
/// Chunks deleted along with a group. A group brings one chunk of a large file at most, so these do not gather.
const CHUNKS_ALONG: i64 = 2;

/// Claims are kept for a day at least.
const CLAIMS_KEPT: Duration = Duration::from_secs(26 * 3600);
const CLAIMS_LOOKED_AT_EVERY: Duration = Duration::from_secs(3600);
const CLAIMS_AT_A_TIME: i64 = 1_000;

/// Free pages that stay in the file for what comes next: 64 MiB.
const FREE_PAGES_KEPT: i64 = 16_384;
const FREE_PAGES_AT_A_TIME: i64 = 512;

/// Blobs whose chunks are to be deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct Garbage(Arc<Mutex<VecDeque<i64>>>);

impl Garbage {
    /// Has the chunks of a blob deleted after the next group.
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

/// The chores and how far they are.
#[derive(Debug)]
pub(super) struct Chores {
    garbage: Garbage,
    claims_looked_at: Option<Instant>,
}

impl Chores {
    pub(super) fn new(garbage: Garbage) -> Self {
        Chores { garbage, claims_looked_at: None }
    }

    /// A little of what cannot wait, within the transaction of a group: by itself it would cost a sync of the disk of its
    /// own, for which everybody waits.
    pub(super) fn tidy_along(&self, db: &Connection) {
        log_failure(self.collect_garbage(db, CHUNKS_ALONG));
    }

    /// One piece of what makes room.
    pub(super) fn make_room(&self, db: &Connection) {
        log_failure(self.collect_garbage(db, CHUNKS_AT_A_TIME));
    }

    /// One piece of anything. Returns whether there is more.
    pub(super) fn tidy_when_idle(&mut self, db: &Connection) -> bool {
        log_failure(self.collect_garbage(db, CHUNKS_AT_A_TIME))
            || log_failure(self.forget_claims(db))
            || log_failure(give_space_back(db))
    }

    fn collect_garbage(&self, db: &Connection, chunks: i64) -> rusqlite::Result<bool> {
        let Some(blob) = self.garbage.first() else { return Ok(false) };
        let deleted = db
            .prepare_cached(
                "DELETE FROM chunks WHERE id IN (SELECT id FROM chunks WHERE id >= ?1 AND id < ?2 LIMIT ?3)",
            )?
            .execute(params![chunk_id(blob, 0), chunk_id(blob + 1, 0), chunks])?;
        if deleted == 0 {
            self.garbage.remove_first();
        }
        Ok(true)
    }

    fn forget_claims(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        if self.claims_looked_at.is_some_and(|at| at.elapsed() < CLAIMS_LOOKED_AT_EVERY) {
            return Ok(false);
        }
        let before =
            Timestamp::now().as_millis() - i64::try_from(CLAIMS_KEPT.as_millis()).unwrap_or(i64::MAX);
        let forgotten = db
            .prepare_cached(
                "DELETE FROM claims WHERE upload IN (SELECT upload FROM claims WHERE claimed_at < ?1 LIMIT ?2)",
            )?
            .execute(params![before, CLAIMS_AT_A_TIME])?;
        if forgotten == 0 {
            self.claims_looked_at = Some(Instant::now());
        }
        Ok(forgotten > 0)
    }
}

/// Cuts free pages off the end of the file when there are more than the next files will need.
fn give_space_back(db: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free <= FREE_PAGES_KEPT {
        return Ok(false);
    }
    db.execute_batch(&format!("PRAGMA incremental_vacuum({FREE_PAGES_AT_A_TIME})"))?;
    Ok(true)
}

/// Every blob that has chunks but never came to its end.
pub(super) fn half_written(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut of_chunks = db.prepare("SELECT id FROM chunks WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let mut is_whole = db.prepare("SELECT count(*) FROM blobs WHERE id = ?1")?;
    let (mut found, mut next) = (Vec::new(), 0);
    // Jumps from blob to blob, whatever the number of chunks.
    while let Some(chunk) = rusqlite::OptionalExtension::optional(
        of_chunks.query_row([chunk_id(next, 0)], |row| row.get::<_, i64>(0)),
    )? {
        let blob = chunk >> CHUNK_BITS;
        if is_whole.query_row([blob], |row| row.get::<_, i64>(0))? == 0 {
            found.push(blob);
        }
        next = blob + 1;
    }
    Ok(found)
}

fn log_failure(outcome: rusqlite::Result<bool>) -> bool {
    outcome.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "tidying the queue file failed; it will be tried again");
        false
    })
}
