//! State shared by the adapter, its consumers and their deliveries.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto_json::{PatientUpdated, Queue, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, broadcast};

use super::LocalError;
use super::dead_letters;
use super::file::{BLOBS, QueueFile, open_reader};
use super::maintenance::{self, Maintenance, PendingDeletes};
use super::schedule::Schedule;
use super::write_behind::WriteBehindCache;
use super::writer::Writer;
use crate::inboxes::Inboxes;
use crate::{QueueLimits, RetryPolicy};

/// Updates that are buffered for a slow subscriber before updates are dropped.
const SUBSCRIPTION_CAPACITY: usize = 1_024;

/// Read connections that are kept open.
const MAX_IDLE_READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) path: PathBuf,
    pub(super) policy: RetryPolicy,
    pub(super) limits: QueueLimits,
    /// Declared before the writer, so that they are closed first: the writer checkpoints the log when it is
    /// closed as the last connection.
    readers: Mutex<Vec<Connection>>,
    pub(super) writer: Writer,
    /// Limits a transaction to one chunk of a large file, so that small writes do not wait for chunks of many
    /// files.
    pub(super) chunk_permit: Semaphore,
    schedules: Arc<[Schedule; Queue::ALL.len()]>,
    pub(super) updates: broadcast::Sender<Arc<PatientUpdated>>,
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) pending_deletes: PendingDeletes,
    pub(super) cache: Arc<WriteBehindCache>,
    /// Bytes that are staged or reserved for files being staged.
    pub(super) staged_bytes: Arc<AtomicU64>,
    next_message: AtomicI64,
    next_blob: AtomicI64,
}

impl Core {
    /// Opens the file and loads the index of its messages.
    pub(super) fn open(path: &Path, policy: RetryPolicy, limits: QueueLimits) -> Result<Self, LocalError> {
        let file = QueueFile::open(path)?;
        let failed = |error: rusqlite::Error| LocalError::of(path, &error);
        let schedules = Arc::new(Queue::ALL.map(Schedule::new));
        let last_message = load_messages(&file.db, &*schedules).map_err(failed)?;
        let pending_deletes = PendingDeletes::default();
        let StagedFiles { last_blob, bytes: staged_bytes, damaged } =
            staged_files(&file.db).map_err(failed)?;
        if damaged == 0 {
            for blob in maintenance::interrupted_puts(&file.db).map_err(failed)? {
                pending_deletes.add(blob);
            }
        } else {
            // Chunks without a row may belong to a file whose row is damaged.
            tracing::error!(damaged, "rows of staged files are damaged; chunks of interrupted puts are kept");
        }
        Ok(Core {
            path: path.to_owned(),
            policy,
            limits,
            writer: Writer::start(file, Maintenance::new(pending_deletes.clone()))?,
            chunk_permit: Semaphore::new(1),
            schedules,
            updates: broadcast::channel(SUBSCRIPTION_CAPACITY).0,
            inboxes: Arc::default(),
            pending_deletes,
            cache: Arc::default(),
            staged_bytes: Arc::new(AtomicU64::new(staged_bytes)),
            next_message: AtomicI64::new(last_message + 1),
            next_blob: AtomicI64::new(last_blob + 1),
            readers: Mutex::default(),
        })
    }

    pub(super) fn schedule(&self, queue: Queue) -> &Schedule {
        &self.schedules[number_of(queue)]
    }

    /// The schedules, for the writer thread, which must not keep the adapter alive.
    pub(super) fn schedules(&self) -> Schedules {
        Schedules(Arc::clone(&self.schedules))
    }

    /// Returns an id that no other message had since the file was opened: a late acknowledgement never
    /// affects another message.
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

    /// Reads concurrently with the writer, on a blocking thread.
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
                if readers.len() < MAX_IDLE_READERS {
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

/// The number of a queue in the file. Part of the file format.
pub(super) fn number_of(queue: Queue) -> usize {
    match queue {
        Queue::Uploads => 0,
        Queue::EcgJobs => 1,
        Queue::EcgResults => 2,
    }
}

/// The queue with a number in the file.
pub(super) fn queue_of(number: usize) -> Option<Queue> {
    Queue::ALL.into_iter().find(|queue| number_of(*queue) == number)
}

/// Schedules every message of the file and returns the highest id. A message with an unknown queue would
/// never be delivered, so it becomes a dead letter. Checksums are verified on delivery.
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
                schedule.add_stored(last, attempts, time_of(enqueued_at));
            }
            None => lost.push(last),
        }
    }
    for id in lost {
        tracing::error!(
            message = id,
            "a message is damaged: its queue does not exist; message dead-lettered"
        );
        dead_letters::insert(db, id, Queue::Uploads, "its queue does not exist", 0)?;
    }
    Ok(last)
}

/// The staged files at the time the file is opened.
struct StagedFiles {
    last_blob: i64,
    bytes: u64,
    damaged: u64,
}

fn staged_files(db: &Connection) -> rusqlite::Result<StagedFiles> {
    // A damaged row can have an id that no chunk has.
    let last_chunk: i64 =
        db.query_row("SELECT coalesce(max(id), 0) FROM chunks WHERE id < 1 << 60", [], |row| row.get(0))?;
    let mut staged =
        StagedFiles { last_blob: last_chunk >> super::staging::CHUNK_BITS, bytes: 0, damaged: 0 };
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

/// A stored time. Returns the present time for a value out of range, which is never written.
pub(super) fn time_of(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap_or_else(|_| Timestamp::now())
}
