//! The one thread that writes, with group commit.
//!
//! A commit costs a sync of the disk, whatever is in it. So all writes that wait are done in one transaction, each in a
//! savepoint of its own (a failing one leaves the others alone), and answered after the commit: none is told "stored"
//! before it is durable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::StoreError;

use super::blobs;
use super::failure::{closed, explain};

/// Most writes in one transaction: bounds its time and its memory.
const GROUP: usize = 64;

/// `SQLITE_ABORT_ROLLBACK`: the transaction was undone underneath.
const ABORT_ROLLBACK: i32 = rusqlite::ffi::SQLITE_ABORT_ROLLBACK;

/// Most writes that wait; each holds at most one batch of a file's chunks, or the small files of one upload.
const WAITING: usize = 64;

/// A write of whatever result.
trait Work: Send {
    /// Does it; says whether to keep it.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller how it ended; given the error that undid the whole transaction, if one did.
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
        // The caller may be gone; the write stands nevertheless.
        let _ = self.caller.send(result);
    }
}

enum Command {
    Write(Box<dyn Work>),
    /// Remove a file that was never completed.
    Discard(blobs::BlobNumber),
}

/// Handle of the writing thread. Dropping the last one ends the thread after what waits is written.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Option<mpsc::UnboundedSender<Command>>,
    waiting: Semaphore,
    next_blob: AtomicI64,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on its connection.
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let cut_off = blobs::cut_off(&connection)?;
        let next_blob = blobs::next_number(&connection)?;
        let (sender, commands) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&connection, commands, cut_off))
            .map_err(StoreError::unavailable)?;
        Ok(Writer {
            commands: Some(sender),
            waiting: Semaphore::new(WAITING),
            next_blob: AtomicI64::new(next_blob),
            thread: Some(thread),
        })
    }

    /// Does `work` in a transaction and returns its result once that is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let _place = self.waiting.acquire().await.map_err(|_| closed())?;
        let (caller, answer) = oneshot::channel();
        self.send(Command::Write(Box::new(OneWrite { work: Some(work), result: None, caller })))?;
        answer.await.map_err(|_| closed())?
    }

    /// A number that no other file has.
    pub(super) fn next_blob(&self) -> blobs::BlobNumber {
        self.next_blob.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the chunks of a file removed that was never completed; in small steps, when there is nothing else to do.
    pub(super) fn discard(&self, blob: blobs::BlobNumber) {
        // If the writer is gone, the next opening of the store removes them.
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
            tracing::error!("the writing thread of the store ended in a panic");
        }
    }
}

fn run(
    connection: &Connection,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut discarded: VecDeque<blobs::BlobNumber>,
) {
    loop {
        // With something left to remove, do not wait for more work.
        let first = if discarded.is_empty() { commands.blocking_recv() } else { commands.try_recv().ok() };
        if first.is_none() && (discarded.is_empty() || commands.is_closed()) {
            break;
        }
        let mut group = Vec::new();
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Write(work) => group.push(work),
                Command::Discard(blob) => discarded.push_back(blob),
            }
            next = if group.len() < GROUP { commands.try_recv().ok() } else { None };
        }
        if !group.is_empty() {
            commit_group(connection, group);
        } else if let Err(error) = discard_step(connection, &mut discarded) {
            // Left for the next opening.
            tracing::warn!(%error, "could not remove a file that was cut off");
            discarded.pop_front();
        }
    }
    // Best effort: the log is read again at the next opening anyway.
    let _ = connection.execute_batch("PRAGMA optimize");
}

/// Writes a group in one transaction and answers each write.
fn commit_group(connection: &Connection, mut group: Vec<Box<dyn Work>>) {
    let outcome = in_transaction(connection, &mut group);
    if let Err(error) = &outcome {
        tracing::error!(%error, writes = group.len(), "a group of writes could not be committed");
        if !connection.is_autocommit() {
            // It failed already; what counts is that everybody is told so.
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
            // Some failures (full disk, I/O) make SQLite roll back everything on its own.
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

/// Removes a little of the first discarded file.
fn discard_step(
    connection: &Connection,
    discarded: &mut VecDeque<blobs::BlobNumber>,
) -> Result<(), rusqlite::Error> {
    let Some(blob) = discarded.front() else { return Ok(()) };
    let transaction = connection.unchecked_transaction()?;
    let gone = blobs::remove_some(&transaction, *blob)?;
    transaction.commit()?;
    if gone {
        discarded.pop_front();
    }
    Ok(())
}
