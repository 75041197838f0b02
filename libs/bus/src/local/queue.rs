//! Messages of the work queues: into the file, out to consumers, and what consumers make of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto_json::{Queue, Timestamp};
use rusqlite::{Connection, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::LocalError;
use super::blobs::WholeFile;
use super::core::{Core, number_of};
use super::dead;
use super::file::MESSAGES;
use super::schedule::{Content, Taken};
use crate::{Acker, BusError, Delivery, EnqueueError, Outgoing, SmallFile, StagingKey};

/// Puts a message and the files that it needs into the file, in one write, and the message on the schedule.
///
/// Where the files can be kept at hand, the message is delivered while the write is under way: what is done with it does
/// not need it to be durable, only whoever sent it does. Everything a consumer then writes to this file comes after it.
/// What it does elsewhere may outlive the message, if the process dies in this moment or the write fails: just as with a
/// message whose sender was not told that it was queued.
pub(super) async fn enqueue(
    core: &Core,
    files: Vec<SmallFile>,
    message: Outgoing,
) -> Result<(), EnqueueError> {
    let keys: Vec<StagingKey> = files.iter().map(SmallFile::key).collect();
    let in_memory = files.clone();
    let files = files.into_iter().map(|file| WholeFile::new(core, file)).collect::<Result<Vec<_>, _>>()?;
    let queue = message.queue;
    if !core.schedule(queue).reserve(core.limits.max_messages) {
        return Err(EnqueueError::Full);
    }
    let (id, enqueued_at) = (core.message_id(), Timestamp::now());
    let mrn = message.mrn.get();
    let content = Arc::new(Content {
        payload: message.payload,
        reply_to: message.reply_to,
        trace_parent: message.trace_parent,
    });
    let schedule = core.schedule(queue);
    let held = core.fresh.hold(&in_memory);
    let early = held && schedule.remember(&content);
    let failed = Arc::new(AtomicBool::new(false));
    let (written, sent, has_failed) = (Arc::clone(&content), Arc::clone(&content), Arc::clone(&failed));
    let (schedules, fresh) = (core.schedules(), Arc::clone(&core.fresh));
    let (reply, outcome) = oneshot::channel();
    let bytes = content.payload.len() + files.iter().map(WholeFile::len).sum::<usize>();
    let (rooms, rows): (Vec<_>, Vec<_>) = files.into_iter().map(WholeFile::split).unzip();
    core.writer.submit(
        bytes,
        move |db| {
            let staged = rows.iter().map(|row| row.insert(db, enqueued_at)).collect::<Result<Vec<_>, _>>()?;
            let values = params![
                id,
                number_of(queue),
                enqueued_at.as_millis(),
                mrn,
                written.reply_to,
                written.trace_parent,
                &written.payload[..]
            ];
            MESSAGES.insert(db, values)?;
            Ok(staged)
        },
        move |outcome: Result<Vec<bool>, LocalError>| {
            if held {
                fresh.written(&keys, outcome.is_ok());
            }
            let schedule = schedules.of(queue);
            match &outcome {
                Ok(staged) => {
                    for (room, is_new) in rooms.into_iter().zip(staged) {
                        if *is_new {
                            room.keep();
                        }
                    }
                    if !early {
                        let remembered = schedule.remember(&sent);
                        schedule.add(id, enqueued_at, Some(sent).filter(|_| remembered));
                    }
                }
                Err(_) => {
                    // The room is free before anybody hears of it: who tries again at once must find it.
                    drop(rooms);
                    if early {
                        has_failed.store(true, Ordering::Release);
                        schedule.remove(id);
                    } else {
                        schedule.release();
                    }
                }
            }
            // Who no longer waits is told nothing.
            let _ = reply.send(outcome.map(drop));
        },
    );
    // Behind the write, so that whatever a consumer writes about the message comes after it.
    if early {
        schedule.add(id, enqueued_at, Some(content));
        if failed.load(Ordering::Acquire) {
            schedule.remove(id);
        }
    }
    Ok(outcome.await.unwrap_or(Err(LocalError::Closed))?)
}

/// Waits for the next delivery of a queue. `None` when the bus is closed.
pub(super) async fn next(core: &Arc<Core>, queue: Queue, permit: OwnedSemaphorePermit) -> Option<Delivery> {
    let permit = Arc::new(permit);
    loop {
        let taken = core.schedule(queue).take(core.policy.ack_wait).await?;
        let lease = Lease {
            core: Arc::clone(core),
            queue,
            id: taken.id,
            delivery: taken.delivery,
            counts_in_passing: taken.delivery == 1 && !taken.from_before,
            has_begun: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            _permit: Arc::clone(&permit),
        };
        match content(core, &lease, &taken).await {
            Ok(Some(content)) => {
                let mut delivery = Delivery::new(
                    queue,
                    content.payload.clone(),
                    taken.delivery,
                    taken.enqueued_at,
                    core.policy.clone(),
                    Box::new(lease),
                );
                delivery.reply_to.clone_from(&content.reply_to);
                delivery.trace_parent.clone_from(&content.trace_parent);
                return Some(delivery);
            }
            // A consumer of an earlier delivery has settled it in the meantime.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%queue, message = taken.id, error = %error, "a message could not be delivered; it waits");
                lease.give_back(core.policy.deferral_after(taken.delivery).max(LEAST_WAIT));
            }
        }
    }
}

/// What a message holds. `None` when there is nothing to deliver.
async fn content(core: &Arc<Core>, lease: &Lease, taken: &Taken) -> Result<Option<Arc<Content>>, LocalError> {
    let id = taken.id;
    if let Some(content) = &taken.content {
        return Ok(Some(Arc::clone(content)));
    }
    match core.read(move |db| content_of(db, id)).await? {
        Found::Intact(content) => Ok(Some(Arc::new(content))),
        Found::Damaged => {
            tracing::error!(queue = %lease.queue, message = id, "a message is damaged; it becomes a dead letter");
            lease.bury("it was found when it was to be delivered".to_owned(), taken.delivery - 1).await?;
            Ok(None)
        }
        Found::Gone => {
            lease.settled.store(true, Ordering::Relaxed);
            core.schedule(lease.queue).remove(id);
            Ok(None)
        }
    }
}

/// What is in the file of a message that is to be delivered.
enum Found {
    Intact(Content),
    /// Its checksum does not match.
    Damaged,
    Gone,
}

fn content_of(db: &Connection, id: i64) -> rusqlite::Result<Found> {
    let mut statement = db.prepare_cached(&format!("{} WHERE id = ?1", MESSAGES.select()))?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(Found::Gone) };
    if !MESSAGES.verify(row)?.row {
        return Ok(Found::Damaged);
    }
    Ok(Found::Intact(Content {
        payload: Bytes::from(row.get::<_, Vec<u8>>("payload")?),
        reply_to: row.get("reply_to")?,
        trace_parent: row.get("trace_parent")?,
    }))
}

/// A disk that fails is not tried again at once.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// The right to settle one delivery. Dropped unsettled, it gives the message back.
#[derive(Debug)]
struct Lease {
    core: Arc<Core>,
    queue: Queue,
    id: i64,
    /// Which delivery of the message this is.
    delivery: u64,
    /// The attempt is noted in passing, for speed. A crash within that moment leaves it uncounted; but from then on the
    /// message is one from before, whose attempts count before they begin: nothing can crash us for ever.
    counts_in_passing: bool,
    /// An attempt has begun, and counts.
    has_begun: AtomicBool,
    settled: AtomicBool,
    /// One of the deliveries a consumer may hold.
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Lease {
    /// Gives the message back, to be delivered again after `wait`.
    fn give_back(&self, wait: Duration) {
        self.settled.store(true, Ordering::Relaxed);
        self.core.schedule(self.queue).give_back(self.id, self.delivery, wait);
    }

    /// Takes back the attempt, if one has begun. Returns how many count then.
    fn uncount(&self) -> Option<u64> {
        let had_begun = self.has_begun.swap(false, Ordering::Relaxed);
        had_begun.then(|| self.core.schedule(self.queue).uncount(self.id))
    }

    /// Does a write that ends the message, and takes it off the schedule once that is durable. If it fails, the message is
    /// still with the caller; with nobody, if the caller was cancelled meanwhile: then it is given back.
    async fn end_message(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), LocalError> {
        self.settled.store(true, Ordering::Relaxed);
        let (queue, id, delivery) = (self.queue, self.id, self.delivery);
        let schedules = self.core.schedules();
        let (reply, outcome) = oneshot::channel();
        self.core.writer.submit(bytes, work, move |outcome: Result<(), LocalError>| {
            let failed = outcome.is_err();
            if !failed {
                schedules.of(queue).remove(id);
            }
            if reply.send(outcome).is_err() && failed {
                schedules.of(queue).give_back(id, delivery, LEAST_WAIT);
            }
        });
        let ended = outcome.await.unwrap_or(Err(LocalError::Closed));
        if ended.is_err() {
            self.settled.store(false, Ordering::Relaxed);
        }
        ended
    }

    /// Moves the message to the dead letters.
    async fn bury(&self, reason: String, attempts: u64) -> Result<(), LocalError> {
        let (id, queue) = (self.id, self.queue);
        self.end_message(reason.len(), move |db| dead::bury(db, id, queue, &reason, attempts)).await
    }
}

/// How many attempts of a message count.
fn note(id: i64, attempts: u64) -> impl Fn(&Connection) -> rusqlite::Result<()> + Send {
    move |db| {
        db.prepare_cached("UPDATE messages SET attempts = ?2 WHERE id = ?1")?
            .execute(params![id, attempts])
            .map(|_| ())
    }
}

pub(super) fn delete_message(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id]).map(|_| ())
}

#[async_trait]
impl Acker for Lease {
    async fn begin(&self) -> Result<u64, BusError> {
        let attempt = self.core.schedule(self.queue).begin(self.id);
        self.has_begun.store(true, Ordering::Relaxed);
        if self.counts_in_passing {
            self.core.writer.submit_along(note(self.id, attempt));
        } else if let Err(error) = self.core.writer.write(0, note(self.id, attempt)).await {
            self.uncount();
            return Err(error.into());
        }
        Ok(attempt)
    }

    async fn ack(&self) -> Result<(), BusError> {
        let id = self.id;
        Ok(self.end_message(0, move |db| delete_message(db, id)).await?)
    }

    async fn retry_after(&self, wait: Duration) -> Result<(), BusError> {
        self.give_back(wait);
        Ok(())
    }

    async fn defer(&self, wait: Duration) -> Result<(), BusError> {
        if let Some(attempts) = self.uncount() {
            // On a disk that is full this fails. Only a restart then finds the attempt counted.
            self.core.writer.submit_along(note(self.id, attempts));
        }
        self.give_back(wait.max(LEAST_WAIT));
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.core.schedule(self.queue).extend(self.id, self.delivery, self.core.policy.ack_wait);
        Ok(())
    }

    async fn dead_letter(&self, reason: &str, attempts: u64) -> Result<(), BusError> {
        Ok(self.bury(reason.to_owned(), attempts).await?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.core.schedule(self.queue).give_back(self.id, self.delivery, Duration::ZERO);
        }
    }
}
