//! Checkpoints: committed pages are copied from the write-ahead log to the database file.
//!
//! SQLite checkpoints in the commit that reaches a number of pages. All writes of that commit, and those behind it, then wait
//! until several megabytes are synced to the disk. Here a thread with its own connection checkpoints while the writer goes
//! on. SQLite overwrites the log from its start only when all of it is copied. So after each checkpoint of the thread, the writer
//! copies the few pages that it has appended since, after it has confirmed its writes.
//!
//! A commit is durable in the log, so a failed checkpoint loses nothing; it is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::{DatabaseFile, Error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The thread waits.
    Idle,
    /// The thread is to checkpoint, or does.
    Running,
    /// The thread has copied the log as it was when it began.
    Copied,
}

/// Handle of the thread. Dropping it waits until the thread has ended.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    name: &'static str,
    /// Pages of the log after the last commit.
    pages: Arc<AtomicU32>,
    /// Pages from which on the log is checkpointed.
    most: u32,
    state: Arc<Mutex<State>>,
    /// Held during a checkpoint of the thread: SQLite refuses a second one at the same time.
    running: Arc<Mutex<()>>,
    start: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread, which takes over the checkpoints of this file from SQLite.
    pub(crate) fn start(file: &mut DatabaseFile) -> Result<Self, Error> {
        let (name, most) = (file.format.name, file.format.checkpoint_pages);
        let db = file.connect_again()?;
        let pages = Arc::new(AtomicU32::new(0));
        let last = Arc::clone(&pages);
        // Replaces the hook with which SQLite checkpoints.
        file.db.wal_hook(Some(move |_: &mut Wal, pages| {
            last.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let (start, started) = mpsc::channel();
        let (state, running) = (Arc::new(Mutex::new(State::Idle)), Arc::<Mutex<()>>::default());
        let (of_thread, runs) = (Arc::clone(&state), Arc::clone(&running));
        let work = move || {
            while started.recv().is_ok() {
                let running = runs.lock();
                checkpoint(&db, name);
                drop(running);
                *of_thread.lock() = State::Copied;
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("{name}-log"))
            .spawn(work)
            .map_err(|error| Error::Thread(error.into()))?;
        Ok(Checkpoints { name, pages, most, state, running, start: Some(start), thread: Some(thread) })
    }

    /// Continues with the checkpoint of a long log. The writer calls this after it has confirmed a transaction.
    pub(crate) fn step(&self, db: &Connection) {
        let is_long = self.pages.load(Ordering::Relaxed) >= self.most;
        let mut state = self.state.lock();
        match *state {
            State::Idle if is_long => {
                if self.start.as_ref().is_some_and(|start| start.send(()).is_ok()) {
                    *state = State::Running;
                }
            }
            State::Copied => {
                // A short log was overwritten from its start already: nothing was left to copy.
                if is_long {
                    checkpoint(db, self.name);
                    // The next commit counts again.
                    self.pages.store(0, Ordering::Relaxed);
                }
                *state = State::Idle;
            }
            State::Idle | State::Running => {}
        }
    }

    /// Waits until the thread does not checkpoint. It does not begin until the result is dropped.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.running.lock()
    }
}

/// Copies what can be copied without waiting for readers.
fn checkpoint(db: &Connection, name: &'static str) {
    if let Err(error) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(%error, file = name, "the write-ahead log could not be checkpointed; this is repeated");
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.start.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread for checkpoints panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{ChunkTable, Format, Table};

    static FORMAT: Format = Format {
        name: "test",
        application_id: 77,
        first_version: 1,
        migrations: &["CREATE TABLE notes (text BLOB NOT NULL)"],
        syncs_commits: true,
        checkpoint_pages: 50,
        max_log_bytes: 1 << 20,
        truncates_log: false,
        overwrites_free_pages: false,
        shrinks: false,
        chunks: ChunkTable {
            table: Table { name: "chunks", columns: &["id", "bytes"], key: 1, unique: "id" },
            has_checksums: false,
            is_visible: |_, _| Ok(true),
            forget: |_, _| Ok(()),
        },
    };

    #[test]
    fn commits_do_not_wait_for_a_checkpoint_and_the_log_is_overwritten_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        let mut file = DatabaseFile::open(&path, &FORMAT).unwrap();
        let checkpoints = Checkpoints::start(&mut file).unwrap();
        let pages = || checkpoints.pages.load(Ordering::Relaxed);
        let length = || fs::metadata(&path).unwrap().len();
        let commit = || {
            file.db.execute("INSERT INTO notes VALUES (zeroblob(40000))", []).unwrap();
            checkpoints.step(&file.db);
        };
        let before = length();
        let paused = checkpoints.pause();
        while pages() < 4 * FORMAT.checkpoint_pages {
            commit();
        }
        assert_eq!(length(), before, "a commit has copied pages to the file");
        assert_eq!(*checkpoints.state.lock(), State::Running);

        drop(paused);
        let started = Instant::now();
        while *checkpoints.state.lock() != State::Copied {
            assert!(started.elapsed() < Duration::from_secs(60), "the thread does not checkpoint");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(length() > before);
        commit();
        assert_eq!(*checkpoints.state.lock(), State::Idle);
        commit();
        assert!(pages() < FORMAT.checkpoint_pages, "the log is not overwritten: {} pages", pages());
    }
}
