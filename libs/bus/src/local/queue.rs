//! Messages of the work queues: enqueueing, delivery and acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto_json::{Queue, Timestamp};
use rusqlite::{Connection, params};
use sqlite::Priority;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::LocalError;
use super::core::{Core, number_of};
use super::dead_letters;
use super::file::MESSAGES;
use super::schedule::{Content, Taken};
use super::staging::{self, FileWrite};
use crate::{Acker, Attachment, BusError, Delivery, EnqueueError, Outgoing, StagedFile, StagingKey};

/// Writes a message and its attachments in one transaction, and schedules the message.
///
/// If the attachments fit into the write-behind cache, the message is delivered while its write is in
/// progress. Consumers do not need it to be durable; only its sender does. Everything that a consumer then
/// writes to this file comes after it. What a consumer does elsewhere may outlive the message if the write
/// fails, as with any message whose sender got no confirmation.
pub(super) async fn enqueue(core: &Core, message: Outgoing) -> Result<(), EnqueueError> {
    let Outgoing { queue, mrn, payload, reply_to, trace_parent, attachments } = message;
    let mrn = mrn.get();
    let keys: Vec<StagingKey> = attachments.iter().map(Attachment::key).collect();
    let files: Vec<FileWrite> =
        attachments.iter().map(|file| FileWrite::new(core, file)).collect::<Result<_, _>>()?;
    let schedule = core.schedule(queue);
    if !schedule.reserve(core.limits.max_messages) {
        return Err(EnqueueError::Full);
    }
    let (id, enqueued_at) = (core.message_id(), Timestamp::now());
    let content = Arc::new(Content { payload, reply_to, trace_parent });
    let is_cached = core.cache.insert(&attachments);
    let is_early = is_cached && schedule.reserve_memory(&content);
    let has_failed = Arc::new(AtomicBool::new(false));
    let (for_write, for_schedule, set_failed) =
        (Arc::clone(&content), Arc::clone(&content), Arc::clone(&has_failed));
    let (schedules, cache) = (core.schedules(), Arc::clone(&core.cache));
    let bytes = content.payload.len() + files.iter().map(FileWrite::len).sum::<usize>();
    let (reservations, rows): (Vec<_>, Vec<_>) = files.into_iter().map(FileWrite::split).unzip();
    let written = core.submit(
        Priority::Normal,
        bytes,
        move |db| {
            let staged = rows.iter().map(|row| row.insert(db, enqueued_at)).collect::<Result<Vec<_>, _>>()?;
            let values = params![
                id,
                number_of(queue),
                enqueued_at.as_millis(),
                mrn,
                for_write.reply_to,
                for_write.trace_parent,
                &for_write.payload[..]
            ];
            MESSAGES.insert(db, values)?;
            Ok(staged)
        },
        move |outcome| {
            if is_cached {
                cache.write_ended(&keys, outcome.is_ok());
            }
            let schedule = schedules.of(queue);
            match outcome {
                Ok(staged) => {
                    for (reservation, is_new) in reservations.into_iter().zip(staged) {
                        if *is_new {
                            reservation.keep();
                        }
                    }
                    if !is_early {
                        let in_memory = schedule.reserve_memory(&for_schedule);
                        schedule.add(id, enqueued_at, Some(for_schedule).filter(|_| in_memory));
                    }
                }
                Err(_) => {
                    // Released before the sender is notified: it may retry at once.
                    drop(reservations);
                    if is_early {
                        set_failed.store(true, Ordering::Release);
                        schedule.remove(id);
                    } else {
                        schedule.release();
                    }
                }
            }
        },
    );
    // After the submit, so that everything a consumer writes about the message comes after it.
    if is_early {
        schedule.add(id, enqueued_at, Some(content));
        if has_failed.load(Ordering::Acquire) {
            schedule.remove(id);
        }
    }
    written.await?;
    Ok(())
}

/// Waits for the next delivery of a queue. `None` if the adapter is closed.
pub(super) async fn next(core: &Arc<Core>, queue: Queue, permit: OwnedSemaphorePermit) -> Option<Delivery> {
    let permit = Arc::new(permit);
    loop {
        let taken = core.schedule(queue).take(core.policy.ack_wait).await?;
        let acker = LocalAcker {
            core: Arc::clone(core),
            queue,
            id: taken.id,
            delivery: taken.delivery,
            defers_count: taken.delivery == 1 && !taken.is_recovered,
            has_begun: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            _permit: Arc::clone(&permit),
        };
        match content(core, &acker, &taken).await {
            Ok(Some(content)) => {
                let mut delivery = Delivery::new(
                    queue,
                    content.payload.clone(),
                    taken.delivery,
                    taken.enqueued_at,
                    core.policy.clone(),
                    Box::new(acker),
                );
                delivery.reply_to.clone_from(&content.reply_to);
                delivery.trace_parent.clone_from(&content.trace_parent);
                return Some(delivery);
            }
            // The consumer of an earlier delivery has settled the message in the meantime.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%queue, message = taken.id, error = %error, "a message could not be read; it will be redelivered");
                acker.give_back(core.policy.deferral_after(taken.delivery).max(MIN_WAIT));
            }
        }
    }
}

/// Returns the content of a message; `None` if there is nothing to deliver.
async fn content(
    core: &Arc<Core>,
    acker: &LocalAcker,
    taken: &Taken,
) -> Result<Option<Arc<Content>>, LocalError> {
    let id = taken.id;
    if let Some(content) = &taken.content {
        return Ok(Some(Arc::clone(content)));
    }
    match core.read(move |db| content_of(db, id)).await? {
        Found::Intact(content) => Ok(Some(Arc::new(content))),
        Found::Damaged => {
            tracing::error!(queue = %acker.queue, message = id, "a message is damaged; message dead-lettered");
            acker.move_to_dead_letters("found on delivery".to_owned(), taken.delivery - 1).await?;
            Ok(None)
        }
        Found::Removed => {
            acker.settled.store(true, Ordering::Relaxed);
            core.schedule(acker.queue).remove(id);
            Ok(None)
        }
    }
}

/// A message in the file.
enum Found {
    Intact(Content),
    /// The checksum does not match.
    Damaged,
    Removed,
}

fn content_of(db: &Connection, id: i64) -> rusqlite::Result<Found> {
    let mut statement = db.prepare_cached(&format!("{} WHERE id = ?1", MESSAGES.select()))?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(Found::Removed) };
    if !MESSAGES.verify(row)?.row {
        return Ok(Found::Damaged);
    }
    Ok(Found::Intact(Content {
        payload: Bytes::from(row.get::<_, Vec<u8>>("payload")?),
        reply_to: row.get("reply_to")?,
        trace_parent: row.get("trace_parent")?,
    }))
}

/// Shortest wait after a failure of the disk.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// Settles one delivery. Dropping it unsettled gives the message back.
#[derive(Debug)]
struct LocalAcker {
    core: Arc<Core>,
    queue: Queue,
    id: i64,
    /// Number of the delivery.
    delivery: u64,
    /// The attempt count is written with a deferred write, for speed. A crash in that moment leaves the
    /// attempt uncounted; but after a restart the message counts as recovered, and its attempts are written
    /// before they start. A message can therefore not crash the process forever.
    defers_count: bool,
    /// An attempt has begun and counts.
    has_begun: AtomicBool,
    settled: AtomicBool,
    /// One of the deliveries that the consumer may hold.
    _permit: Arc<OwnedSemaphorePermit>,
}

impl LocalAcker {
    /// Gives the message back for redelivery after `wait`.
    fn give_back(&self, wait: Duration) {
        self.settled.store(true, Ordering::Relaxed);
        self.core.schedule(self.queue).give_back(self.id, self.delivery, wait);
    }

    /// Uncounts the attempt, if one has begun. Returns the new count.
    fn uncount(&self) -> Option<u64> {
        let had_begun = self.has_begun.swap(false, Ordering::Relaxed);
        had_begun.then(|| self.core.schedule(self.queue).uncount(self.id))
    }

    /// Executes a write that removes the message, and removes it from the schedule once the write is durable.
    /// If the write fails, the caller still holds the message; if the caller was cancelled, the message is
    /// given back.
    async fn remove_message(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), LocalError> {
        self.settled.store(true, Ordering::Relaxed);
        let (queue, id, delivery) = (self.queue, self.id, self.delivery);
        let schedules = self.core.schedules();
        let (caller, is_waiting) = oneshot::channel();
        let removed = self.core.submit(Priority::Normal, bytes, work, move |outcome| match outcome {
            Ok(()) => schedules.of(queue).remove(id),
            Err(_) if caller.send(()).is_err() => schedules.of(queue).give_back(id, delivery, MIN_WAIT),
            Err(_) => {}
        });
        let removed = removed.await;
        drop(is_waiting);
        if removed.is_err() {
            self.settled.store(false, Ordering::Relaxed);
        }
        removed
    }

    async fn move_to_dead_letters(&self, reason: String, attempts: u64) -> Result<(), LocalError> {
        let (id, queue) = (self.id, self.queue);
        let bytes = reason.len();
        self.remove_message(bytes, move |db| dead_letters::insert(db, id, queue, &reason, attempts)).await
    }
}

/// Writes the attempt count of a message.
fn write_count(id: i64, attempts: u64) -> impl Fn(&Connection) -> rusqlite::Result<()> + Send {
    move |db| {
        db.prepare_cached("UPDATE messages SET attempts = ?2 WHERE id = ?1")?
            .execute(params![id, attempts])
            .map(|_| ())
    }
}

/// Writes the attempt count of a message together with another write. This fails on a full disk.
fn write_count_later(core: &Core, id: i64, attempts: u64) {
    drop(core.submit(Priority::Deferred, 0, write_count(id, attempts), |outcome| {
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "an attempt count could not be written");
        }
    }));
}

pub(super) fn delete_message(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id]).map(|_| ())
}

#[async_trait]
impl Acker for LocalAcker {
    async fn begin(&self) -> Result<u64, BusError> {
        let attempt = self.core.schedule(self.queue).begin(self.id);
        self.has_begun.store(true, Ordering::Relaxed);
        if self.defers_count {
            write_count_later(&self.core, self.id, attempt);
        } else if let Err(error) = self.core.write(write_count(self.id, attempt)).await {
            self.uncount();
            return Err(error.into());
        }
        Ok(attempt)
    }

    async fn ack(&self) -> Result<(), BusError> {
        let id = self.id;
        Ok(self.remove_message(0, move |db| delete_message(db, id)).await?)
    }

    async fn retry_after(&self, wait: Duration) -> Result<(), BusError> {
        self.give_back(wait);
        Ok(())
    }

    async fn defer(&self, wait: Duration) -> Result<(), BusError> {
        if let Some(attempts) = self.uncount() {
            // If this fails, the attempt counts again after a restart.
            write_count_later(&self.core, self.id, attempts);
        }
        self.give_back(wait.max(MIN_WAIT));
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.core.schedule(self.queue).extend(self.id, self.delivery, self.core.policy.ack_wait);
        Ok(())
    }

    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        Ok(self.move_to_dead_letters(reason.to_owned(), attempts).await?)
    }

    async fn open(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        staging::get(&self.core, key).await
    }

    async fn remove(&self, key: StagingKey) -> Result<(), BusError> {
        staging::delete(&self.core, key).await
    }
}

impl Drop for LocalAcker {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.core.schedule(self.queue).give_back(self.id, self.delivery, Duration::ZERO);
        }
    }
}
