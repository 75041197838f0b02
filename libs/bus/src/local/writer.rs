//! The writer thread: group commit.
//!
//! A commit costs one disk sync, whatever its size. All writes that arrive during a commit go into the next
//! transaction, each in its own savepoint, so that a failed write does not affect the others. A write is
//! confirmed after its commit, never before.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::LocalError;
use super::file::{MAX_LOG_BYTES, QueueFile};
use super::maintenance::Maintenance;

/// Most writes and bytes of one transaction; bounds memory and latency.
const MAX_GROUP_WRITES: usize = 512;
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Longest time that a deferred write waits for another write.
const MAX_DEFERRAL: Duration = Duration::from_millis(20);

/// A submitted write.
trait Write: Send {
    /// Executes the write within a savepoint.
    fn run(&mut self, db: &Connection) -> rusqlite::Result<()>;
    /// Receives the outcome: `Ok` if the write is durable.
    fn end(self: Box<Self>, outcome: Result<(), LocalError>);
}

struct Task<T, W, E> {
    work: W,
    done: Option<T>,
    end: E,
}

impl<T, W, E> Write for Task<T, W, E>
where
    T: Send,
    W: FnMut(&Connection) -> rusqlite::Result<T> + Send,
    E: FnOnce(Result<T, LocalError>) + Send,
{
    fn run(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.done = Some((self.work)(db)?);
        Ok(())
    }

    fn end(self: Box<Self>, outcome: Result<(), LocalError>) {
        let Task { done, end, .. } = *self;
        end(outcome.and_then(|()| done.ok_or(LocalError::Closed)));
    }
}

struct Submitted {
    write: Box<dyn Write>,
    bytes: usize,
    urgent: bool,
}

/// Handle of the writer thread. Dropping it waits until the thread has finished all submitted writes.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Option<mpsc::Sender<Submitted>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(file: QueueFile, maintenance: Maintenance) -> Result<Self, LocalError> {
        let (sender, submitted) = mpsc::channel();
        let path = file.path.clone();
        let thread = std::thread::Builder::new()
            .name("bus-writer".to_owned())
            .spawn(move || run_thread(&file, maintenance, &submitted))
            .map_err(|error| LocalError::of_io(&path, &error))?;
        Ok(Writer { sender: Some(sender), thread: Mutex::new(Some(thread)) })
    }

    /// Executes `work` in the next transaction; `end` receives the outcome on the writer thread. `bytes` is
    /// the approximate size of the write. `work` runs at most once.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        end: impl FnOnce(Result<T, LocalError>) + Send + 'static,
    ) {
        self.send(Submitted { write: Box::new(Task { work, done: None, end }), bytes, urgent: true });
    }

    /// Executes `work` together with the next submitted write, or alone after a short time.
    pub(super) fn submit_deferred(
        &self,
        work: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let end = |outcome: Result<(), LocalError>| {
            if let Err(error) = outcome {
                tracing::warn!(error = %error, "an attempt count could not be written");
            }
        };
        self.send(Submitted { write: Box::new(Task { work, done: None, end }), bytes: 0, urgent: false });
    }

    /// Executes `work` in the next transaction and waits until it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LocalError> {
        let (reply, outcome) = oneshot::channel();
        self.submit(bytes, work, move |outcome| {
            // The send fails only if the caller was cancelled.
            let _ = reply.send(outcome);
        });
        outcome.await.unwrap_or(Err(LocalError::Closed))
    }

    fn send(&self, submitted: Submitted) {
        let refused = match &self.sender {
            Some(sender) => sender.send(submitted).err().map(|refused| refused.0),
            None => Some(submitted),
        };
        if let Some(submitted) = refused {
            submitted.write.end(Err(LocalError::Closed));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the local queues panicked");
        }
    }
}

/// Commits groups of writes and does maintenance while idle. Ends when the [`Writer`] is dropped.
fn run_thread(file: &QueueFile, maintenance: Maintenance, submitted: &mpsc::Receiver<Submitted>) {
    let mut maintenance_left = true;
    while let Some(group) = next_group(submitted, &mut maintenance_left, || maintenance.run_idle(&file.db)) {
        if commit(file, group, &maintenance).is_err() {
            // If the disk is full, deleting may free space.
            maintenance.free_space(&file.db);
        }
        maintenance_left = true;
        truncate_log(file);
    }
}

/// Returns the next group; `None` if the [`Writer`] is dropped. Calls `maintain` while nothing is submitted
/// and it has work left.
fn next_group(
    submitted: &mpsc::Receiver<Submitted>,
    maintenance_left: &mut bool,
    mut maintain: impl FnMut() -> bool,
) -> Option<Vec<Submitted>> {
    let mut group: Vec<Submitted> = Vec::new();
    let mut bytes = 0;
    // Since when the group consists of deferred writes only.
    let mut deferred_since: Option<Instant> = None;
    loop {
        let next = if !group.is_empty() && deferred_since.is_none() {
            submitted.try_recv().ok()
        } else if let Some(since) = deferred_since {
            submitted.recv_timeout(MAX_DEFERRAL.saturating_sub(since.elapsed())).ok()
        } else if *maintenance_left {
            match submitted.recv_timeout(Duration::ZERO) {
                Ok(next) => Some(next),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    *maintenance_left = maintain();
                    continue;
                }
            }
        } else {
            Some(submitted.recv().ok()?)
        };
        let Some(next) = next else { return Some(group) };
        bytes += next.bytes;
        if next.urgent {
            deferred_since = None;
        } else if group.is_empty() {
            deferred_since = Some(Instant::now());
        }
        group.push(next);
        if group.len() >= MAX_GROUP_WRITES || bytes >= MAX_GROUP_BYTES {
            return Some(group);
        }
    }
}

/// Executes a group in one transaction and reports the outcome of each write. Fails if the whole transaction
/// failed.
fn commit(file: &QueueFile, group: Vec<Submitted>, maintenance: &Maintenance) -> Result<(), LocalError> {
    let failed = |error: rusqlite::Error| LocalError::of(&file.path, &error);
    let mut whole = run(&file.db, "BEGIN IMMEDIATE").map_err(failed);
    let mut done: Vec<(Box<dyn Write>, Result<(), LocalError>)> = Vec::with_capacity(group.len());
    for mut submitted in group {
        let mut outcome = whole.clone();
        if outcome.is_ok() {
            outcome = in_savepoint(&file.db, submitted.write.as_mut()).map_err(failed);
            // On a full or failing disk, SQLite rolls back the whole transaction.
            if outcome.is_err() && file.db.is_autocommit() {
                whole.clone_from(&outcome);
            }
        }
        done.push((submitted.write, outcome));
    }
    if whole.is_ok() {
        // Pending deletes must also proceed if the thread is never idle.
        maintenance.run_in_transaction(&file.db);
        whole = run(&file.db, "COMMIT").map_err(failed);
    }
    if let Err(error) = &whole {
        tracing::error!(error = %error, writes = done.len(), "the local queues could not be written");
        if !file.db.is_autocommit()
            && let Err(error) = run(&file.db, "ROLLBACK").map_err(failed)
        {
            tracing::error!(error = %error, "a transaction could not be rolled back");
        }
    }
    for (write, outcome) in done {
        write.end(whole.clone().and(outcome));
    }
    whole
}

fn in_savepoint(db: &Connection, write: &mut dyn Write) -> rusqlite::Result<()> {
    run(db, "SAVEPOINT write")?;
    match write.run(db) {
        Ok(()) => run(db, "RELEASE write"),
        Err(error) => {
            if !db.is_autocommit() {
                run(db, "ROLLBACK TO write")?;
                run(db, "RELEASE write")?;
            }
            Err(error)
        }
    }
}

fn run(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(|_| ())
}

/// Truncates a long write-ahead log. SQLite checkpoints by itself, but restarts the log only when no reader
/// uses it, which may never happen under constant load. This blocks readers for a moment; each read takes
/// microseconds.
fn truncate_log(file: &QueueFile) {
    if file.log_bytes() > MAX_LOG_BYTES
        && let Err(error) = file.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    {
        tracing::warn!(error = %LocalError::of(&file.path, &error), "the write-ahead log could not be truncated");
    }
}
