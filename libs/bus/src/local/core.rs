//! State shared by the adapter, its consumers and their deliveries.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use proto_json::{PatientUpdated, Queue, SystemEvent, Timestamp};
use rusqlite::Connection;
use sqlite::{DatabaseFile, Priority, Readers, Writer};
use tokio::sync::{broadcast, oneshot};

use super::LocalError;
use super::dead_letters;
use super::file::{BLOBS, CHUNKS, FORMAT};
use super::schedule::Schedule;
use super::waves::{self, Waves};
use super::write_behind::WriteBehindCache;
use crate::inboxes::Inboxes;
use crate::{QueueLimits, RetryPolicy};

/// Updates that are buffered for a slow subscriber before updates are dropped.
const SUBSCRIPTION_CAPACITY: usize = 1_024;

#[derive(Debug)]
pub(super) struct Core {
    path: Arc<Path>,
    pub(super) policy: RetryPolicy,
    pub(super) limits: QueueLimits,
    /// Declared before the writer, so that they are closed first: the writer checkpoints the log when it is
    /// closed as the last connection.
    pub(super) readers: Readers,
    pub(super) writer: Writer,
    schedules: Arc<[Schedule; Queue::ALL.len()]>,
    pub(super) updates: broadcast::Sender<Arc<PatientUpdated>>,
    pub(super) events: broadcast::Sender<Arc<SystemEvent>>,
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) waves: Arc<Waves>,
    pub(super) cache: Arc<WriteBehindCache>,
    /// Bytes that are staged or reserved for files being staged.
    pub(super) staged_bytes: Arc<AtomicU64>,
    next_message: AtomicI64,
}

impl Core {
    /// Opens the file and loads the index of its messages.
    pub(super) fn open(path: &Path, policy: RetryPolicy, limits: QueueLimits) -> Result<Self, LocalError> {
        let failed = |error: sqlite::Error| LocalError::of(path, error);
        let file = DatabaseFile::open(path, &FORMAT).map_err(failed)?;
        let schedules = Arc::new(Queue::ALL.map(Schedule::new));
        let load = || -> rusqlite::Result<_> {
            Ok((load_messages(&file.db, &*schedules)?, staged_files(&file.db)?, Waves::load(&file.db)?))
        };
        let (last_message, staged, waves) = load().map_err(|error| failed(error.into()))?;
        Ok(Core {
            path: path.into(),
            policy,
            limits,
            readers: Readers::new(path),
            writer: Writer::start(file, staged.last_blob + 1, staged.interrupted).map_err(failed)?,
            schedules,
            updates: broadcast::channel(SUBSCRIPTION_CAPACITY).0,
            events: broadcast::channel(SUBSCRIPTION_CAPACITY).0,
            inboxes: Arc::default(),
            waves: Arc::new(waves),
            cache: Arc::default(),
            staged_bytes: Arc::new(AtomicU64::new(staged.bytes)),
            next_message: AtomicI64::new(last_message + 1),
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

    /// Ends the streams of all consumers.
    pub(super) fn close(&self) {
        for schedule in &*self.schedules {
            schedule.close();
        }
        self.waves.close();
        waves::save_floors(self);
    }

    /// Reads concurrently with the writer, on a blocking thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LocalError> {
        let found = self.readers.read(move |db| read(db).map_err(sqlite::Error::from)).await;
        found.map_err(|error| self.failed(error))
    }

    /// Executes `work` in the next transaction and waits until it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LocalError> {
        self.submit(Priority::Normal, 0, work, |_| {}).await
    }

    /// Submits a write of about `bytes` bytes, even if the future that returns its outcome is dropped. `end`
    /// gets the outcome before, on the writer thread. It must not keep the adapter alive.
    pub(super) fn submit<T: Send + 'static, W, F>(
        &self,
        priority: Priority,
        bytes: usize,
        work: W,
        end: F,
    ) -> impl Future<Output = Result<T, LocalError>> + use<T, W, F>
    where
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        F: FnOnce(&Result<T, LocalError>) + Send + 'static,
    {
        let (path, (reply, outcome)) = (Arc::clone(&self.path), oneshot::channel());
        let work = move |db: &Connection| work(db).map_err(sqlite::Error::from);
        self.writer.submit(priority, bytes, work, move |outcome| {
            let outcome = outcome.map_err(|error| LocalError::of(&path, error));
            end(&outcome);
            // The send fails only if the caller was cancelled.
            let _ = reply.send(outcome);
        });
        async move { outcome.await.unwrap_or(Err(LocalError::Closed)) }
    }

    /// Removes what was deleted before from the file and its write-ahead log.
    pub(super) async fn clean_up(&self) -> Result<(), LocalError> {
        self.writer.clean_up().await.map_err(|error| self.failed(error))
    }

    /// Converts an error of the file.
    pub(super) fn failed(&self, error: sqlite::Error) -> LocalError {
        LocalError::of(&self.path, error)
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
#[derive(Default)]
struct StagedFiles {
    last_blob: i64,
    bytes: u64,
    /// Files with chunks but without a row: their put was interrupted.
    interrupted: Vec<i64>,
}

fn staged_files(db: &Connection) -> rusqlite::Result<StagedFiles> {
    let mut staged = StagedFiles { last_blob: CHUNKS.last_file(db)?, ..StagedFiles::default() };
    let mut damaged = 0;
    let mut statement = db.prepare(&BLOBS.select())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if BLOBS.verify(row)?.row {
            staged.last_blob = staged.last_blob.max(row.get(0)?);
            staged.bytes = staged.bytes.saturating_add(row.get(3)?);
        } else {
            damaged += 1;
        }
    }
    if damaged > 0 {
        // Chunks without a row may belong to a file whose row is damaged.
        tracing::error!(damaged, "rows of staged files are damaged; chunks of interrupted puts are kept");
        return Ok(staged);
    }
    for blob in CHUNKS.files(db)? {
        if !(CHUNKS.is_visible)(db, blob)? {
            staged.interrupted.push(blob);
        }
    }
    Ok(staged)
}

/// A stored time. Returns the present time for a value out of range, which is never written.
pub(super) fn time_of(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap_or_else(|_| Timestamp::now())
}
