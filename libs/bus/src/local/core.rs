//! What the local bus, its consumers and their deliveries share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto_json::{PatientUpdated, Queue, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, broadcast};

use super::LocalError;
use super::chores::{self, Chores, Garbage};
use super::dead;
use super::file::{BLOBS, QueueFile, open_reader};
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
    /// Declared before the writer, so that they are closed first: only a writing connection that is the last one moves the
    /// write-ahead log into the file.
    readers: Mutex<Vec<Connection>>,
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
}

impl Core {
    /// Opens the file and loads the index over its messages.
    pub(super) fn open(path: &Path, policy: RetryPolicy, limits: QueueLimits) -> Result<Self, LocalError> {
        let file = QueueFile::open(path)?;
        let failed = |error: rusqlite::Error| LocalError::of(path, &error);
        let schedules = Arc::new(Queue::ALL.map(Schedule::new));
        let last_message = load_messages(&file.db, &*schedules).map_err(failed)?;
        let garbage = Garbage::default();
        let Staged { last_blob, bytes: staged, damaged } = staged_files(&file.db).map_err(failed)?;
        if damaged == 0 {
            for blob in chores::half_written(&file.db).map_err(failed)? {
                garbage.add(blob);
            }
        } else {
            // What looks like the rest of an interrupted file may be one whose row is damaged.
            tracing::error!(damaged, "rows of staged files are damaged; nothing is removed from the stage");
        }
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
            staged: Arc::new(AtomicU64::new(staged)),
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

/// Schedules every message of the file; returns the highest id. A message whose queue cannot be read becomes a dead letter:
/// it would never be delivered. All others are compared with their checksums when they are delivered.
fn load_messages(db: &Connection, schedules: &[Schedule]) -> rusqlite::Result<i64> {
    let mut statement = db.prepare("SELECT id, queue, attempts, enqueued_at FROM messages ORDER BY id")?;
    let mut rows = statement.query([])?;
    let (mut last, mut lost) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let schedule = row.get::<_, usize>(1).ok().and_then(|queue| schedules.get(queue));
        match schedule {
            Some(schedule) => {
                let (attempts, enqueued_at) = (row.get(2).unwrap_or(0), row.get(3).unwrap_or(0));
                schedule.add_from_before(last, attempts, time_of(enqueued_at));
            }
            None => lost.push(last),
        }
    }
    for id in lost {
        tracing::error!(
            message = id,
            "a message is damaged: its queue does not exist; it becomes a dead letter"
        );
        dead::bury(db, id, Queue::Uploads, "its queue does not exist", 0)?;
    }
    Ok(last)
}

/// What is on the stage when the file is opened.
struct Staged {
    last_blob: i64,
    bytes: u64,
    damaged: u64,
}

fn staged_files(db: &Connection) -> rusqlite::Result<Staged> {
    // A damaged id may be beyond all that a chunk can have.
    let last_chunk: i64 =
        db.query_row("SELECT coalesce(max(id), 0) FROM chunks WHERE id < 1 << 60", [], |row| row.get(0))?;
    let mut staged = Staged { last_blob: last_chunk >> super::blobs::CHUNK_BITS, bytes: 0, damaged: 0 };
    let mut statement = db.prepare(&BLOBS.select())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if BLOBS.verify(row)?.row {
            staged.last_blob = staged.last_blob.max(row.get(0)?);
            staged.bytes = staged.bytes.saturating_add(row.get(3)?);
        } else {
            staged.damaged += 1;
        }
    }
    Ok(staged)
}

/// A time of the file; the present for one out of range, which nothing here writes.
pub(super) fn time_of(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap_or_else(|_| Timestamp::now())
}
