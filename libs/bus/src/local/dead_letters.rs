//! Dead letters.

use std::sync::Arc;

use bytes::Bytes;
use proto_json::{Mrn, Queue, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use sqlite::Priority;

use super::LocalError;
use super::core::{Core, number_of, queue_of, time_of};
use super::file::{DEAD_LETTERS, MESSAGES};
use super::queue::delete_message;
use crate::{BusError, DeadLetter, EnqueueError};

/// The reason of a damaged dead letter.
const DAMAGED: &str =
    "the message is damaged on the disk and cannot be sent again; have its upload sent again";

/// Moves a message to the dead letters. A damaged message is marked as damaged and cannot be retried.
pub(super) fn insert(
    db: &Connection,
    message: i64,
    queue: Queue,
    reason: &str,
    attempts: u64,
) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(&format!("{} WHERE id = ?1", MESSAGES.select()))?;
    let mut rows = statement.query([message])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let damaged = !MESSAGES.verify(row)?.row;
    // Keeps what can be read of a damaged message.
    let (mrn, trace_parent) =
        (row.get::<_, u64>("mrn").ok(), row.get::<_, Option<String>>("trace_parent").ok());
    let payload = match row.get_ref("payload")? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.to_vec(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Vec::new(),
    };
    let reason = if damaged { format!("{DAMAGED} ({reason})") } else { reason.to_owned() };
    let id: i64 = db
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'dead_letters'")?
        .query_row([], |row| row.get(0))?;
    let values = params![
        id,
        number_of(queue),
        attempts,
        Timestamp::now().as_millis(),
        mrn.filter(|mrn| Mrn::new(*mrn).is_ok()).unwrap_or(0),
        reason,
        trace_parent.flatten(),
        payload,
        damaged.then_some(true),
    ];
    DEAD_LETTERS.insert(db, values)?;
    delete_message(db, message)
}

/// Lists dead letters. Damaged ones are included, with what can be read of them.
pub(super) async fn list(
    core: &Arc<Core>,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<DeadLetter>, LocalError> {
    core.read(move |db| {
        let sql = format!("{} WHERE id > ?1 ORDER BY id LIMIT ?2", DEAD_LETTERS.select());
        let mut statement = db.prepare_cached(&sql)?;
        let mut rows = statement.query(params![after.unwrap_or(0), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(parse(row)?);
        }
        Ok(found)
    })
    .await
}

fn parse(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let intact = DEAD_LETTERS.verify(row)?.row;
    let reason = row.get("reason").ok();
    let mrn = Mrn::new(row.get("mrn").unwrap_or(0)).or_else(|_| Mrn::new(0));
    let mrn = mrn.map_err(|_| rusqlite::Error::IntegralValueOutOfRange(4, 0))?;
    let payload = match row.get_ref("payload")? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Bytes::new(),
    };
    Ok(DeadLetter {
        id: row.get("id")?,
        queue: row.get("queue").ok().and_then(queue_of).unwrap_or(Queue::Uploads),
        mrn,
        payload,
        reason: reason.filter(|_| intact).unwrap_or_else(|| DAMAGED.to_owned()),
        attempts: row.get("attempts").unwrap_or(0),
        died_at: time_of(row.get("died_at").unwrap_or(0)),
        damaged: !intact || row.get::<_, Option<bool>>("damaged")?.unwrap_or(false),
    })
}

/// Moves a dead letter back to its queue, in one transaction.
pub(super) async fn retry(core: &Arc<Core>, dead: u64) -> Result<bool, EnqueueError> {
    let found = list(core, dead.checked_sub(1), 1).await.map_err(BusError::from)?;
    let Some(letter) = found.into_iter().find(|letter| letter.id == dead) else { return Ok(false) };
    if letter.damaged {
        return Err(BusError::refused(DAMAGED).into());
    }
    let queue = letter.queue;
    if !core.schedule(queue).reserve(core.limits.max_messages) {
        return Err(EnqueueError::Full);
    }
    let (id, enqueued_at, schedules) = (core.message_id(), Timestamp::now(), core.schedules());
    let moved = core.submit(
        Priority::Normal,
        letter.payload.len(),
        move |db| {
            let sql = format!("{} WHERE id = ?1", DEAD_LETTERS.select());
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query([dead])?;
            let Some(row) = rows.next()? else { return Ok(false) };
            if !DEAD_LETTERS.verify(row)?.row {
                return Ok(false);
            }
            let (mrn, trace_parent) =
                (row.get::<_, i64>("mrn")?, row.get::<_, Option<String>>("trace_parent")?);
            let payload = row.get::<_, Vec<u8>>("payload")?;
            let no_reply: Option<String> = None;
            let values =
                params![id, number_of(queue), enqueued_at.as_millis(), mrn, no_reply, trace_parent, payload];
            MESSAGES.insert(db, values)?;
            db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([dead])?;
            Ok(true)
        },
        move |outcome| match outcome {
            Ok(true) => schedules.of(queue).add(id, enqueued_at, None),
            Ok(false) | Err(_) => schedules.of(queue).release(),
        },
    );
    Ok(moved.await?)
}

pub(super) async fn delete(core: &Core, dead: u64) -> Result<bool, LocalError> {
    core.write(move |db| {
        db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([dead]).map(|found| found == 1)
    })
    .await
}
