//! The writer thread, with group commit.
//!
//! A commit syncs the disk, whatever its size. So all waiting writes share one transaction. Each has a savepoint of its own,
//! so a failed write does not affect the others. They return after the commit, when they are durable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::StoreError;

use super::blobs;
use super::failure::{closed, explain};

/// Maximum number of writes in one transaction; bounds its duration and memory.
const GROUP: usize = 64;

/// `SQLITE_ABORT_ROLLBACK`: SQLite has rolled back the transaction.
const ABORT_ROLLBACK: i32 = rusqlite::ffi::SQLITE_ABORT_ROLLBACK;

/// Maximum number of waiting writes. Each holds at most one batch of a file's chunks, or the small files of one upload.
const WAITING: usize = 64;

/// A write with a result of any type.
trait Work: Send {
    /// Executes the write; true if it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Sends the result to the caller, or the error that rolled back the whole transaction.
    fn answer(self: Box<Self>, undone: Option<&rusqlite::Error>);
}

struct OneWrite<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for OneWrite<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, undone: Option<&rusqlite::Error>) {
        let result = match (self.result, undone) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(error)) => Err(explain(error)),
            (Some(result), None) => result,
            (None, None) => Err(closed()),
        };
        // The caller may have been dropped; the write is kept nevertheless.
        let _ = self.caller.send(result);
    }
}

enum Command {
    Write(Box<dyn Work>),
    /// A write of a part of a large file; one at a time.
    WritePart(Box<dyn Work>),
    /// Remove an incomplete file.
    Discard(blobs::BlobNumber),
}

/// Handle of the writer thread. Dropping it ends the thread after the waiting writes.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Option<mpsc::UnboundedSender<Command>>,
    waiting: Semaphore,
    /// One permit for the next part of a large file.
    parts: Semaphore,
    next_blob: AtomicI64,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread with its connection.
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let incomplete = blobs::incomplete(&connection)?;
        let next_blob = blobs::next_number(&connection)?;
        let (sender, commands) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&connection, commands, incomplete))
            .map_err(StoreError::unavailable)?;
        Ok(Writer {
            commands: Some(sender),
            waiting: Semaphore::new(WAITING),
            parts: Semaphore::new(1),
            next_blob: AtomicI64::new(next_blob),
            thread: Some(thread),
        })
    }

    /// Executes `work` in a transaction, and returns its result when the transaction is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let _permit = self.waiting.acquire().await.map_err(|_| closed())?;
        self.submit(Command::Write, work).await
    }

    /// As [`Writer::write`], for a part of a large file. One part is written at a time, after one group of small writes:
    /// otherwise each small write would wait for the parts of all files.
    pub(super) async fn write_part<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let _permit = self.parts.acquire().await.map_err(|_| closed())?;
        self.submit(Command::WritePart, work).await
    }

    async fn submit<T, F>(&self, as_what: fn(Box<dyn Work>) -> Command, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        self.send(as_what(Box::new(OneWrite { work: Some(work), result: None, caller })))?;
        answer.await.map_err(|_| closed())?
    }

    /// A number for a new file.
    pub(super) fn next_blob(&self) -> blobs::BlobNumber {
        self.next_blob.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes the chunks of an incomplete file, in small steps, when no write waits.
    pub(super) fn discard(&self, blob: blobs::BlobNumber) {
        // If the writer has ended, the next start removes them.
        let _ = self.send(Command::Discard(blob));
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        let commands = self.commands.as_ref().ok_or_else(closed)?;
        commands.send(command).map_err(|_| closed())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

/// A waiting part of a large file. One group of small writes goes first.
struct Part {
    work: Box<dyn Work>,
    has_waited: bool,
}

fn run(
    connection: &Connection,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut discarded: VecDeque<blobs::BlobNumber>,
) {
    let mut part: Option<Part> = None;
    loop {
        // Do not wait for commands while there is other work.
        let idle = discarded.is_empty() && part.is_none();
        let first = if idle { commands.blocking_recv() } else { commands.try_recv().ok() };
        if first.is_none() && part.is_none() && (discarded.is_empty() || commands.is_closed()) {
            break;
        }
        let mut group = Vec::new();
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Write(work) => group.push(work),
                Command::WritePart(work) => {
                    // The caller of the previous one was dropped.
                    let before = part.replace(Part { work, has_waited: false });
                    group.extend(before.map(|before| before.work));
                }
                Command::Discard(blob) => discarded.push_back(blob),
            }
            next = if group.len() < GROUP { commands.try_recv().ok() } else { None };
        }
        part = match part {
            Some(part) if part.has_waited || group.is_empty() => {
                group.push(part.work);
                None
            }
            part => part.map(|part| Part { has_waited: true, ..part }),
        };
        if !group.is_empty() {
            commit_group(connection, group);
        } else if let Err(error) = discard_step(connection, &mut discarded) {
            // The next start tries again.
            tracing::warn!(%error, "could not remove an incomplete file");
            discarded.pop_front();
        }
    }
    // Best effort: errors do not matter here.
    let _ = connection.execute_batch("PRAGMA optimize");
}

/// Executes a group of writes in one transaction and sends their results.
fn commit_group(connection: &Connection, mut group: Vec<Box<dyn Work>>) {
    let outcome = in_transaction(connection, &mut group);
    if let Err(error) = &outcome {
        tracing::error!(%error, writes = group.len(), "a group of writes could not be committed");
        if !connection.is_autocommit() {
            // The transaction has failed already, and its callers get that error.
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    for work in group {
        work.answer(outcome.as_ref().err());
    }
}

fn in_transaction(connection: &Connection, group: &mut [Box<dyn Work>]) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for work in group {
        connection.prepare_cached("SAVEPOINT one")?.execute([])?;
        let keep = work.run(connection);
        if connection.is_autocommit() {
            // After some errors (full disk, I/O), SQLite rolls back the whole transaction itself.
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(ABORT_ROLLBACK), None));
        }
        if !keep {
            connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
        }
        connection.prepare_cached("RELEASE one")?.execute([])?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// Removes some chunks of the first discarded file.
fn discard_step(
    connection: &Connection,
    discarded: &mut VecDeque<blobs::BlobNumber>,
) -> Result<(), StoreError> {
    let Some(blob) = discarded.front() else { return Ok(()) };
    let transaction = connection.unchecked_transaction()?;
    let gone = blobs::remove_some(&transaction, *blob)?;
    transaction.commit()?;
    if gone {
        discarded.pop_front();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::super::schema;
    use super::*;

    type Order = Arc<Mutex<Vec<&'static str>>>;

    fn note(order: &Order, what: &'static str) -> impl FnOnce(&Connection) -> Result<(), StoreError> + use<> {
        let order = order.clone();
        move |_| {
            order.lock().unwrap().push(what);
            Ok(())
        }
    }

    /// Two parts and a small write arrive while the thread is busy.
    #[tokio::test]
    async fn parts_of_large_files_are_written_one_by_one_after_small_writes() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(schema::open_writer(&folder.path().join("store.db")).unwrap()).unwrap();
        let order = Order::default();
        let (go_on, wait) = mpsc::channel::<()>();
        let busy = writer.write(move |_| wait.recv().map_err(StoreError::unavailable));
        let first = writer.write_part(note(&order, "first part"));
        let second = writer.write_part(note(&order, "second part"));
        let small = async {
            let mut written = std::pin::pin!(writer.write(note(&order, "small")));
            // Polled once, so that the write is queued.
            assert!(futures::poll!(&mut written).is_pending());
            go_on.send(()).unwrap();
            written.await
        };
        let (busy, first, second, small) = tokio::join!(busy, first, second, small);
        assert!(busy.and(first).and(second).and(small).is_ok());
        assert_eq!(*order.lock().unwrap(), ["small", "first part", "second part"]);
    }

    #[tokio::test]
    async fn part_of_a_large_file_waits_for_one_group_of_small_writes_only() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(schema::open_writer(&folder.path().join("store.db")).unwrap()).unwrap();
        let order = Order::default();
        // Each small write waits until the next one has been queued behind it.
        let (begun, begins) = mpsc::channel::<()>();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let small = |what| {
            let (note, begun, wait) = (note(&order, what), begun.clone(), wait.clone());
            writer.write(move |connection| {
                begun.send(()).map_err(StoreError::unavailable)?;
                wait.lock().unwrap().recv().map_err(StoreError::unavailable)?;
                note(connection)
            })
        };
        let part = writer.write_part(note(&order, "part"));
        let (mut writes, mut part) = (Vec::new(), std::pin::pin!(part));
        for what in ["busy", "first", "second", "third"] {
            let mut write = Box::pin(small(what));
            assert!(futures::poll!(&mut write).is_pending());
            writes.push(write);
            if what == "busy" {
                begins.recv().unwrap();
                assert!(futures::poll!(&mut part).is_pending());
            } else {
                go_on.send(()).unwrap();
                begins.recv().unwrap();
            }
        }
        go_on.send(()).unwrap();
        part.await.unwrap();
        for write in writes {
            write.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["busy", "first", "second", "part", "third"]);
    }
}
