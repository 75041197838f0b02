//! The writer thread: group commit.
//!
//! A commit costs one disk sync, whatever its size. So all writes that arrive during a commit share the next transaction. Each
//! has a savepoint of its own, so a failed write does not affect the others. They are confirmed after the commit.
//!
//! Some failures of the disk make SQLite roll back the whole transaction; all of its writes then fail. Between writes, the
//! thread removes chunks and returns free pages. It does so even under constant load, and after a failure: if the disk is
//! full, this may free space.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::checkpoints::Checkpoints;
use crate::{ChunkTable, DatabaseFile, Error, Removals};

/// Most writes and bytes of one transaction; bounds memory and latency.
const MAX_GROUP_WRITES: usize = 512;
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Maximum number of waiting calls of [`Writer::write`].
const MAX_WAITING: usize = 64;

/// While others write, the next part of a large file begins after a rest as long as the last part took, at most this. So at
/// least half of the time of the disk is left to others.
const MAX_REST: Duration = Duration::from_millis(100);

/// Others write if one of their writes was submitted at most this long before a part.
const OTHERS: Duration = Duration::from_secs(1);

/// Longest time that a deferred write waits for another write.
const MAX_DEFERRAL: Duration = Duration::from_millis(20);

/// Chunks removed together with a group. A large file adds one chunk with every second group, so removals do not
/// accumulate.
const GROUP_CHUNKS: usize = 2;
/// Chunks removed per transaction while idle: 8 MiB, a few milliseconds.
const IDLE_CHUNKS: usize = 32;

/// Free pages that stay in the file for later use: 64 MiB.
const MAX_FREE_PAGES: i64 = 16_384;
/// Free pages returned to the file system per step.
const VACUUM_PAGES: i64 = 512;

/// An error of a write: that of the adapter, or of the engine. Its message tells other writes why they were undone.
pub trait Failure: From<Error> + Display + Send + 'static {}

impl<E: From<Error> + Display + Send + 'static> Failure for E {}

/// When a write is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// In the next transaction.
    Normal,
    /// Together with the next write, or after a short time.
    Deferred,
    /// A part of a large file: after one group of other writes, so that these do not wait for large files.
    Part,
}

/// A submitted write with a result of any type.
trait Write: Send {
    /// Executes the write. Fails with its message.
    fn run(&mut self, db: &Connection) -> Result<(), String>;
    /// Reports the result, or the error that undid the whole transaction.
    fn end(self: Box<Self>, undone: Option<&Error>);
}

struct Task<T, E, W, F> {
    work: Option<W>,
    result: Option<Result<T, E>>,
    end: F,
}

impl<T, E, W, F> Write for Task<T, E, W, F>
where
    T: Send,
    E: Failure,
    W: FnOnce(&Connection) -> Result<T, E> + Send,
    F: FnOnce(Result<T, E>) + Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), String> {
        self.result = self.work.take().map(|work| work(db));
        match &self.result {
            Some(Err(own)) => Err(own.to_string()),
            _ => Ok(()),
        }
    }

    fn end(self: Box<Self>, undone: Option<&Error>) {
        (self.end)(match (self.result, undone) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(error)) => Err(error.clone().into()),
            (Some(result), None) => result,
            (None, None) => Err(Error::Closed.into()),
        });
    }
}

struct Submitted {
    write: Box<dyn Write>,
    priority: Priority,
    bytes: usize,
}

/// Callers that wait for [`Writer::clean_up`].
type CleanUps = Arc<Mutex<Vec<oneshot::Sender<Result<(), Error>>>>>;

/// Handle of the writer thread. Dropping it waits until the thread has finished all submitted writes and closed the file.
#[derive(Debug)]
pub struct Writer {
    sender: Option<mpsc::Sender<Submitted>>,
    waiting: Semaphore,
    /// Held while a part of a large file is written: one at a time. Contains when the next one may begin.
    parts: tokio::sync::Mutex<Instant>,
    /// When a write other than a part was last submitted.
    last_write: Mutex<Option<Instant>>,
    next_file: AtomicI64,
    removals: Removals,
    clean_ups: CleanUps,
    pub(crate) chunks: &'static ChunkTable,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `next_file` is the number of the next chunked file. Chunks of the files `unfinished` are removed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(mut file: DatabaseFile, next_file: i64, unfinished: Vec<i64>) -> Result<Self, Error> {
        let (sender, submitted) = mpsc::channel();
        let removals = Removals::default();
        unfinished.into_iter().for_each(|file| removals.add(file));
        let format = file.format;
        let clean_ups = CleanUps::default();
        let thread = Thread {
            checkpoints: Checkpoints::start(&mut file)?,
            file,
            submitted,
            removals: removals.clone(),
            clean_ups: clean_ups.clone(),
            part: None,
            has_maintenance: true,
        };
        let thread = std::thread::Builder::new()
            .name(format!("{}-writer", format.name))
            .spawn(move || thread.run())
            .map_err(|error| Error::Thread(error.into()))?;
        Ok(Writer {
            sender: Some(sender),
            waiting: Semaphore::new(MAX_WAITING),
            parts: tokio::sync::Mutex::new(Instant::now()),
            last_write: Mutex::new(None),
            next_file: AtomicI64::new(next_file),
            removals,
            clean_ups,
            chunks: &format.chunks,
            thread: Some(thread),
        })
    }

    /// Executes `work` in a transaction; `end` receives the outcome on the writer thread, `Ok` if the write is durable.
    /// `bytes` is the approximate size of the write. The caller bounds the number of submitted writes.
    pub fn submit<T: Send + 'static, E: Failure>(
        &self,
        priority: Priority,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        end: impl FnOnce(Result<T, E>) + Send + 'static,
    ) {
        if priority == Priority::Normal {
            *self.last_write.lock() = Some(Instant::now());
        }
        let write = Box::new(Task { work: Some(work), result: None, end });
        let submitted = Submitted { write, priority, bytes };
        let refused = match &self.sender {
            Some(sender) => sender.send(submitted).err().map(|refused| refused.0),
            None => Some(submitted),
        };
        if let Some(submitted) = refused {
            submitted.write.end(Some(&Error::Closed));
        }
    }

    /// Executes `work` in the next transaction and waits until it is durable. The write is executed even if the caller is
    /// cancelled.
    ///
    /// # Errors
    /// Those of `work` and of the engine.
    pub async fn write<T: Send + 'static, E: Failure>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let _permit = self.waiting.acquire().await.map_err(|_| Error::Closed)?;
        self.wait(Priority::Normal, 0, work).await
    }

    /// Executes a part of a large file when it is its turn, and waits until it is durable.
    pub(crate) async fn write_part<T: Send + 'static, E: Failure>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let mut next = self.parts.lock().await;
        let rest = next.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        let started = Instant::now();
        let outcome = self.wait(Priority::Part, bytes, work).await;
        if self.last_write.lock().is_some_and(|last| last + OTHERS > started) {
            *next = Instant::now() + started.elapsed().min(MAX_REST);
        }
        outcome
    }

    async fn wait<T: Send + 'static, E: Failure>(
        &self,
        priority: Priority,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (reply, outcome) = oneshot::channel();
        self.submit(priority, bytes, work, move |outcome| {
            // The send fails only if the caller was cancelled.
            let _ = reply.send(outcome);
        });
        outcome.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// A number for a new chunked file.
    pub fn next_file(&self) -> i64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes the chunks of a file unless it is visible, after all writes that were submitted for it.
    pub fn discard(&self, file: i64) {
        let removals = self.removals.clone();
        self.submit(Priority::Deferred, 0, |_| Ok::<_, Error>(()), move |_| removals.add(file));
    }

    /// Removes what was deleted before from the database file and its write-ahead log. Chunks that are to be removed are
    /// removed first.
    ///
    /// # Errors
    /// When the disk fails, or a reader has used the log for too long; try again then.
    pub async fn clean_up(&self) -> Result<(), Error> {
        let (reply, outcome) = oneshot::channel();
        self.clean_ups.lock().push(reply);
        // Wakes the thread.
        self.submit(Priority::Normal, 0, |_| Ok::<_, Error>(()), |_| {});
        outcome.await.unwrap_or(Err(Error::Closed))
    }

    /// The files whose chunks are to be removed.
    #[must_use]
    pub fn removals(&self) -> Removals {
        self.removals.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a writer thread panicked");
        }
    }
}

/// The state of the writer thread, which ends when the [`Writer`] is dropped.
struct Thread {
    /// Declared before the file, whose lock is released last.
    checkpoints: Checkpoints,
    file: DatabaseFile,
    submitted: mpsc::Receiver<Submitted>,
    removals: Removals,
    clean_ups: CleanUps,
    /// A part of a large file that has waited for one group.
    part: Option<Submitted>,
    has_maintenance: bool,
}

impl Thread {
    fn run(mut self) {
        while let Some(group) = self.next_group() {
            if self.commit(group, GROUP_CHUNKS).is_err() {
                self.maintain();
            }
            self.has_maintenance = true;
            self.clean_up();
            if self.file.has_long_log() {
                let _paused = self.checkpoints.pause();
                self.file.truncate_log();
            }
        }
        // Best effort: errors do not matter here.
        let _ = self.file.db.execute_batch("PRAGMA optimize");
    }

    /// Waits for the next group; `None` if the [`Writer`] is dropped. Does maintenance while nothing is submitted.
    fn next_group(&mut self) -> Option<Vec<Submitted>> {
        let mut group: Vec<Submitted> = Vec::new();
        let mut bytes = 0;
        let mut new_part: Option<Submitted> = None;
        // Since when the group consists of deferred writes only.
        let mut deferred_since: Option<Instant> = None;
        while group.len() < MAX_GROUP_WRITES && bytes < MAX_GROUP_BYTES {
            let is_idle = group.is_empty() && new_part.is_none() && self.part.is_none();
            let next = if is_idle && self.has_maintenance {
                match self.submitted.try_recv() {
                    Err(TryRecvError::Disconnected) => return None,
                    Err(TryRecvError::Empty) => {
                        self.has_maintenance = self.maintain();
                        continue;
                    }
                    Ok(next) => Some(next),
                }
            } else if is_idle {
                Some(self.submitted.recv().ok()?)
            } else if let Some(since) = deferred_since.filter(|_| new_part.is_none() && self.part.is_none()) {
                self.submitted.recv_timeout(MAX_DEFERRAL.saturating_sub(since.elapsed())).ok()
            } else {
                self.submitted.try_recv().ok()
            };
            let Some(next) = next else { break };
            bytes += next.bytes;
            match next.priority {
                Priority::Part => {
                    // The caller of the previous one was cancelled.
                    group.extend(new_part.replace(next));
                    continue;
                }
                Priority::Normal => deferred_since = None,
                Priority::Deferred if group.is_empty() => deferred_since = Some(Instant::now()),
                Priority::Deferred => {}
            }
            group.push(next);
        }
        group.extend(self.part.take());
        if group.is_empty() || deferred_since.is_some() {
            group.extend(new_part);
        } else {
            self.part = new_part;
        }
        Some(group)
    }

    /// Executes a group in one transaction, and reports the outcome of each write. Returns whether chunks could be removed.
    fn commit(&self, mut group: Vec<Submitted>, chunks: usize) -> Result<bool, Error> {
        let db = &self.file.db;
        let outcome = self.in_transaction(&mut group, chunks);
        if let Err(error) = &outcome {
            let file = self.file.format.name;
            tracing::error!(%error, file, writes = group.len(), "a group of writes could not be committed");
            if !db.is_autocommit()
                && let Err(error) = execute(db, "ROLLBACK")
            {
                tracing::error!(%error, file, "a transaction could not be rolled back");
            }
        }
        for submitted in group {
            submitted.write.end(outcome.as_ref().err());
        }
        self.checkpoints.step(db);
        outcome.map(|removed| removed.map(|files| self.removals.finish(files)).is_some())
    }

    /// Returns the number of files that were removed; `None` if removing failed.
    fn in_transaction(&self, group: &mut [Submitted], chunks: usize) -> Result<Option<usize>, Error> {
        let db = &self.file.db;
        execute(db, "BEGIN IMMEDIATE")?;
        for submitted in group {
            execute(db, "SAVEPOINT write")?;
            let outcome = submitted.write.run(db);
            if db.is_autocommit() {
                return Err(Error::RolledBack(outcome.err().unwrap_or_default()));
            }
            if outcome.is_err() {
                execute(db, "ROLLBACK TO write")?;
            }
            execute(db, "RELEASE write")?;
        }
        let removed = match self.removals.step(db, &self.file.format.chunks, chunks) {
            Err(error) if db.is_autocommit() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, file = self.file.format.name, "chunks could not be removed; this is repeated");
                self.removals.skip_first();
                None
            }
            Ok(removed) => Some(removed),
        };
        execute(db, "COMMIT")?;
        Ok(removed)
    }

    /// Serves the callers of [`Writer::clean_up`].
    fn clean_up(&self) {
        let waiting = std::mem::take(&mut *self.clean_ups.lock());
        if waiting.is_empty() {
            return;
        }
        let cleaned = loop {
            if self.part.is_some() || self.removals.is_empty() {
                let _paused = self.checkpoints.pause();
                break self.file.clean_up().map_err(Error::from);
            }
            if let Err(error) = self.commit(Vec::new(), IDLE_CHUNKS) {
                break Err(error);
            }
        };
        for caller in waiting {
            // The send fails only if the caller was cancelled.
            let _ = caller.send(cleaned.clone());
        }
    }

    /// Does one step of maintenance. Returns whether work is left.
    fn maintain(&self) -> bool {
        if self.part.is_some() {
            // It may belong to a file that is to be removed.
            return true;
        }
        if !self.removals.is_empty() {
            return self.commit(Vec::new(), IDLE_CHUNKS).unwrap_or(false);
        }
        self.vacuum().unwrap_or_else(|error| {
            tracing::warn!(%error, file = self.file.format.name, "free pages could not be returned; this is repeated");
            false
        })
    }

    /// Returns free pages to the file system if there are more than [`MAX_FREE_PAGES`].
    fn vacuum(&self) -> rusqlite::Result<bool> {
        let db = &self.file.db;
        let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if !self.file.format.shrinks || free <= MAX_FREE_PAGES {
            return Ok(false);
        }
        db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        self.checkpoints.step(db);
        // A file that was created without this does not shrink.
        Ok(db.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))? < free)
    }
}

fn execute(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(drop)
}
