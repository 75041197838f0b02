//! What the local bus, its consumers and their deliveries share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto_json::{PatientUpdated, Queue, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, broadcast};

use super::LocalError;
use super::chores::{self, Chores, Garbage};
use super::file::{QueueFile, open_reader};
use super::fresh::Fresh;
use super::schedule::Schedule;
use super::writer::Writer;
use crate::receipts::Inboxes;
use crate::{QueueLimits, RetryPolicy};

/// Announcements a listener may be behind before it misses some.
const ANNOUNCEMENTS: usize = 1_024;

/// Connections for reading that are kept open.
const IDLE_READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) path: PathBuf,
    pub(super) policy: RetryPolicy,
    pub(super) limits: QueueLimits,
    pub(super) writer: Writer,
    /// A single turn at writing a chunk of a large file: with one of each file in a transaction, whoever writes a little
    /// would wait for all of them.
    pub(super) chunk_turn: Semaphore,
    schedules: Arc<[Schedule; Queue::ALL.len()]>,
    pub(super) announcements: broadcast::Sender<Arc<PatientUpdated>>,
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) garbage: Garbage,
    /// Staged files at hand.
    pub(super) fresh: Arc<Fresh>,
    /// Bytes staged and being staged.
    pub(super) staged: Arc<AtomicU64>,
    next_message: AtomicI64,
    next_blob: AtomicI64,
    readers: Mutex<Vec<Connection>>,
}

impl Core {
    /// Opens the file and loads the index over its messages.
    pub(super) fn open(path: &Path, policy: RetryPolicy, limits: QueueLimits) -> Result<Self, LocalError> {
        let file = QueueFile::open(path)?;
        let failed = |error: rusqlite::Error| LocalError::of(path, &error);
        let schedules = Arc::new(Queue::ALL.map(Schedule::new));
        let last_message = load_messages(&file.db, &*schedules).map_err(failed)?;
        let garbage = Garbage::default();
        for blob in chores::half_written(&file.db).map_err(failed)? {
            garbage.add(blob);
        }
        let (last_blob, staged): (i64, i64) = file
            .db
            .query_row(
                "SELECT max(coalesce((SELECT max(id) FROM blobs), 0), coalesce((SELECT max(id) FROM chunks), 0) >> ?1),
                        (SELECT coalesce(sum(bytes), 0) FROM blobs)",
                [super::blobs::CHUNK_BITS],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(failed)?;
        Ok(Core {
            path: path.to_owned(),
            policy,
            limits,
            writer: Writer::start(file, Chores::new(garbage.clone()))?,
            chunk_turn: Semaphore::new(1),
            schedules,
            announcements: broadcast::channel(ANNOUNCEMENTS).0,
            inboxes: Arc::default(),
            garbage,
            fresh: Arc::default(),
            staged: Arc::new(AtomicU64::new(u64::try_from(staged).unwrap_or(0))),
            next_message: AtomicI64::new(last_message + 1),
            next_blob: AtomicI64::new(last_blob + 1),
            readers: Mutex::default(),
        })
    }

    pub(super) fn schedule(&self, queue: Queue) -> &Schedule {
        &self.schedules[number_of(queue)]
    }

    /// The schedules, for the writer's thread, which must not keep the bus alive.
    pub(super) fn schedules(&self) -> Schedules {
        Schedules(Arc::clone(&self.schedules))
    }

    /// An id no other message had while the bus was open: a late settlement never hits another message.
    pub(super) fn message_id(&self) -> i64 {
        self.next_message.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn blob_id(&self) -> i64 {
        self.next_blob.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends the streams of all consumers.
    pub(super) fn close(&self) {
        for schedule in &*self.schedules {
            schedule.close();
        }
    }

    /// Reads beside the writer, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LocalError> {
        let core = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let idle = core.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let outcome = idle.map_or_else(|| open_reader(&core.path), Ok).and_then(|db| {
                let found = read(&db)?;
                let mut readers = core.readers.lock().unwrap_or_else(PoisonError::into_inner);
                if readers.len() < IDLE_READERS {
                    readers.push(db);
                }
                Ok(found)
            });
            outcome.map_err(|error| LocalError::of(&core.path, &error))
        });
        reading.await.unwrap_or(Err(LocalError::Closed))
    }
}

/// See [`Core::schedules`].
#[derive(Debug, Clone)]
pub(super) struct Schedules(Arc<[Schedule; Queue::ALL.len()]>);

impl Schedules {
    pub(super) fn of(&self, queue: Queue) -> &Schedule {
        &self.0[number_of(queue)]
    }
}

/// The number of a queue in the file. Never to be changed.
pub(super) fn number_of(queue: Queue) -> usize {
    match queue {
        Queue::Uploads => 0,
        Queue::EcgJobs => 1,
        Queue::EcgResults => 2,
    }
}

/// The queue of a number in the file.
pub(super) fn queue_of(number: usize) -> Option<Queue> {
    Queue::ALL.into_iter().find(|queue| number_of(*queue) == number)
}

/// Schedules every message of the file; returns the highest id.
fn load_messages(db: &Connection, schedules: &[Schedule]) -> rusqlite::Result<i64> {
    let mut statement = db.prepare("SELECT id, queue, attempts, enqueued_at FROM messages ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let (queue, attempts, enqueued_at) = (row.get::<_, usize>(1)?, row.get(2)?, row.get(3)?);
        match schedules.get(queue) {
            Some(schedule) => {
                schedule.add_from_before(last, attempts, time_of(enqueued_at));
            }
            None => tracing::error!(message = last, queue, "a message is on a queue that does not exist"),
        }
    }
    Ok(last)
}

/// A time of the file; the present for one out of range, which nothing here writes.
pub(super) fn time_of(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap_or_else(|_| Timestamp::now())
}
