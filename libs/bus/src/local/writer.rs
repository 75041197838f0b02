//! The one thread that writes the file, many writes to a transaction.
//!
//! A commit costs one sync of the disk, whatever is in it. So all writes that wait while the last commit is under way go
//! into the next one together, each in a savepoint of its own: one that fails does not take the others with it. A write
//! is answered after the commit that holds it, never before.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::LocalError;
use super::chores::Chores;
use super::file::{LOG_LIMIT, QueueFile};

/// Most writes of one transaction, and most bytes in it: bounds memory and the time the first one waits.
const GROUP_WRITES: usize = 512;
const GROUP_BYTES: usize = 4 << 20;

/// A write that nobody waits for rides along with the next one, but waits for it no longer than this.
const RIDE_ALONG: Duration = Duration::from_millis(20);

/// A write on its way to the thread.
trait Write: Send {
    /// Does it, within a savepoint.
    fn run(&mut self, db: &Connection) -> rusqlite::Result<()>;
    /// Hears how it ended: `Ok` when it is durable.
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

/// Sends writes to the thread. Dropping it lets the thread finish what was submitted, and waits for that.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<mpsc::Sender<Submitted>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(file: QueueFile, chores: Chores) -> Result<Self, LocalError> {
        let (to, submitted) = mpsc::channel();
        let path = file.path.clone();
        let thread = std::thread::Builder::new()
            .name("bus-writer".to_owned())
            .spawn(move || work(&file, chores, &submitted))
            .map_err(|error| LocalError::of_io(&path, &error))?;
        Ok(Writer { to: Some(to), thread: Mutex::new(Some(thread)) })
    }

    /// Does `work` in the next transaction; `end` hears, on the writer's thread, how it ended. `bytes` is about what it
    /// writes. `work` runs once, or not at all.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        end: impl FnOnce(Result<T, LocalError>) + Send + 'static,
    ) {
        self.send(Submitted { write: Box::new(Task { work, done: None, end }), bytes, urgent: true });
    }

    /// Does `work` along with the next write that somebody waits for, or soon without one.
    pub(super) fn submit_along(
        &self,
        work: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let end = |outcome: Result<(), LocalError>| {
            if let Err(error) = outcome {
                tracing::warn!(error = %error, "a note about a delivery could not be written");
            }
        };
        self.send(Submitted { write: Box::new(Task { work, done: None, end }), bytes: 0, urgent: false });
    }

    /// Does `work` in the next transaction and waits until it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LocalError> {
        let (reply, outcome) = oneshot::channel();
        self.submit(bytes, work, move |outcome| {
            // Who no longer waits is told nothing.
            let _ = reply.send(outcome);
        });
        outcome.await.unwrap_or(Err(LocalError::Closed))
    }

    fn send(&self, submitted: Submitted) {
        let refused = match &self.to {
            Some(to) => to.send(submitted).err().map(|refused| refused.0),
            None => Some(submitted),
        };
        if let Some(submitted) = refused {
            submitted.write.end(Err(LocalError::Closed));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.to = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer of the local queues has panicked");
        }
    }
}

/// The thread: collects a group, commits it, and uses quiet moments for chores. Ends when nobody can submit any more.
fn work(file: &QueueFile, mut chores: Chores, submitted: &mpsc::Receiver<Submitted>) {
    let mut chores_left = true;
    while let Some(group) = next_group(submitted, &mut chores_left, || chores.tidy_when_idle(&file.db)) {
        if commit(file, group, &chores).is_err() {
            // A disk that is full has room again only if some is made.
            chores.make_room(&file.db);
        }
        chores_left = true;
        cut_log(file);
    }
}

/// The next group; `None` when nobody can submit any more. Calls `chore` while nothing is submitted and it has work left.
fn next_group(
    submitted: &mpsc::Receiver<Submitted>,
    chores_left: &mut bool,
    mut chore: impl FnMut() -> bool,
) -> Option<Vec<Submitted>> {
    let mut group: Vec<Submitted> = Vec::new();
    let mut bytes = 0;
    // Since when a write rides along; the group is held back for it.
    let mut held_since: Option<Instant> = None;
    loop {
        let next = if !group.is_empty() && held_since.is_none() {
            submitted.try_recv().ok()
        } else if let Some(since) = held_since {
            submitted.recv_timeout(RIDE_ALONG.saturating_sub(since.elapsed())).ok()
        } else if *chores_left {
            match submitted.recv_timeout(Duration::ZERO) {
                Ok(next) => Some(next),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    *chores_left = chore();
                    continue;
                }
            }
        } else {
            Some(submitted.recv().ok()?)
        };
        let Some(next) = next else { return Some(group) };
        bytes += next.bytes;
        if next.urgent {
            held_since = None;
        } else if group.is_empty() {
            held_since = Some(Instant::now());
        }
        group.push(next);
        if group.len() >= GROUP_WRITES || bytes >= GROUP_BYTES {
            return Some(group);
        }
    }
}

/// Does a group in one transaction and tells each write how it ended. Fails if nothing of it could be written.
fn commit(file: &QueueFile, group: Vec<Submitted>, chores: &Chores) -> Result<(), LocalError> {
    let failed = |error: rusqlite::Error| LocalError::of(&file.path, &error);
    let mut whole = run(&file.db, "BEGIN IMMEDIATE").map_err(failed);
    let mut done: Vec<(Box<dyn Write>, Result<(), LocalError>)> = Vec::with_capacity(group.len());
    for mut submitted in group {
        let mut outcome = whole.clone();
        if outcome.is_ok() {
            outcome = in_savepoint(&file.db, submitted.write.as_mut()).map_err(failed);
            // A full or failing disk ends the whole transaction by itself; what came before is undone then, too.
            if outcome.is_err() && file.db.is_autocommit() {
                whole.clone_from(&outcome);
            }
        }
        done.push((submitted.write, outcome));
    }
    if whole.is_ok() {
        // Even when there is never a quiet moment, what was deleted must make room.
        chores.tidy_along(&file.db);
        whole = run(&file.db, "COMMIT").map_err(failed);
    }
    if let Err(error) = &whole {
        tracing::error!(error = %error, writes = done.len(), "the local queues could not be written");
        if !file.db.is_autocommit()
            && let Err(error) = run(&file.db, "ROLLBACK").map_err(failed)
        {
            tracing::error!(error = %error, "a transaction could not be undone");
        }
    }
    for (write, outcome) in done {
        write.end(whole.clone().and(outcome));
    }
    whole
}

fn in_savepoint(db: &Connection, write: &mut dyn Write) -> rusqlite::Result<()> {
    run(db, "SAVEPOINT one")?;
    match write.run(db) {
        Ok(()) => run(db, "RELEASE one"),
        Err(error) => {
            if !db.is_autocommit() {
                run(db, "ROLLBACK TO one")?;
                run(db, "RELEASE one")?;
            }
            Err(error)
        }
    }
}

fn run(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(|_| ())
}

/// SQLite writes the log back by itself, but starts it anew only when no reader is in it. Under steady load that moment may
/// never come: then readers, who take microseconds each, are made to wait.
fn cut_log(file: &QueueFile) {
    if file.log_bytes() > LOG_LIMIT
        && let Err(error) = file.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    {
        tracing::warn!(error = %LocalError::of(&file.path, &error), "the write-ahead log could not be cut");
    }
}
