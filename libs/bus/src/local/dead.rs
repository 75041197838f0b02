//! Messages that were given up, and claims.

use std::sync::Arc;

use bytes::Bytes;
use proto_json::{BlobHash, Mrn, Timestamp, UploadId};
use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::LocalError;
use super::core::{Core, queue_of, time_of};
use crate::{Claim, DeadLetter, EnqueueError};

/// A page of dead letters.
pub(super) async fn list(
    core: &Arc<Core>,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<DeadLetter>, LocalError> {
    core.read(move |db| {
        let mut statement = db.prepare_cached(
            "SELECT id, queue, mrn, payload, reason, attempts, died_at FROM dead_letters
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after.unwrap_or(0), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            // Nothing here writes another queue or number; what is there by other hands is left alone.
            let (Some(queue), Ok(mrn)) = (queue_of(row.get(1)?), Mrn::new(row.get(2)?)) else { continue };
            found.push(DeadLetter {
                id: row.get(0)?,
                queue,
                mrn,
                payload: Bytes::from(row.get::<_, Vec<u8>>(3)?),
                reason: row.get(4)?,
                attempts: row.get(5)?,
                died_at: time_of(row.get(6)?),
            });
        }
        Ok(found)
    })
    .await
}

/// Puts a dead letter back on its queue, in one transaction.
pub(super) async fn retry(core: &Arc<Core>, dead: u64) -> Result<bool, EnqueueError> {
    let found = core.read(move |db| {
        db.prepare_cached("SELECT queue, length(payload) FROM dead_letters WHERE id = ?1")?
            .query_row([dead], |row| Ok((queue_of(row.get(0)?), row.get(1)?)))
            .optional()
    });
    let Some((Some(queue), bytes)) = found.await? else { return Ok(false) };
    if !core.schedule(queue).reserve(core.limits.max_messages) {
        return Err(EnqueueError::Full);
    }
    let (id, enqueued_at, schedules) = (core.message_id(), Timestamp::now(), core.schedules());
    let (reply, outcome) = oneshot::channel();
    core.writer.submit(
        bytes,
        move |db| {
            let moved = db
                .prepare_cached(
                    "INSERT INTO messages (id, queue, attempts, enqueued_at, mrn, trace_parent, payload)
                     SELECT ?1, queue, 0, ?2, mrn, trace_parent, payload FROM dead_letters WHERE id = ?3",
                )?
                .execute(params![id, enqueued_at.as_millis(), dead])?;
            db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([dead])?;
            Ok(moved == 1)
        },
        move |outcome: Result<bool, LocalError>| {
            match &outcome {
                Ok(true) => schedules.of(queue).add(id, enqueued_at, None),
                Ok(false) | Err(_) => schedules.of(queue).release(),
            }
            let _ = reply.send(outcome);
        },
    );
    Ok(outcome.await.unwrap_or(Err(LocalError::Closed))?)
}

/// Forgets a dead letter.
pub(super) async fn forget(core: &Core, dead: u64) -> Result<bool, LocalError> {
    core.writer
        .write(0, move |db| {
            db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?
                .execute([dead])
                .map(|found| found == 1)
        })
        .await
}

/// Ties an upload to its content.
pub(super) async fn claim(core: &Core, upload: UploadId, fingerprint: BlobHash) -> Result<Claim, LocalError> {
    let now = Timestamp::now().as_millis();
    core.writer
        .write(0, move |db| {
            let upload = upload.as_uuid().as_bytes();
            let is_new = db
                .prepare_cached(
                    "INSERT OR IGNORE INTO claims (upload, fingerprint, claimed_at) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![upload, fingerprint.as_bytes(), now])?
                == 1;
            if is_new {
                return Ok(Claim::New);
            }
            let claimed: [u8; 32] = db
                .prepare_cached("SELECT fingerprint FROM claims WHERE upload = ?1")?
                .query_row([upload], |row| row.get(0))?;
            Ok(if &claimed == fingerprint.as_bytes() { Claim::Same } else { Claim::Other })
        })
        .await
}
