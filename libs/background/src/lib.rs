//! Threads for work that keeps a processor busy: hashing large files, parsing large bodies, analysing ECGs.
//!
//! On the threads that answer requests such work makes everybody wait who comes next, and whoever uploads the largest
//! files makes the others wait most. Here it is done on threads of their own, which the system lets run at a lower
//! priority (Linux; elsewhere at the same): where processors are scarce, a short request goes first, and the work gets
//! what is left, but never nothing.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::thread;

use bytes::Bytes;
use proto_json::BlobHasher;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// By how much these threads are nicer than the others. A step is worth about a quarter more of a processor that two
/// compete for: at 10, a thread that answers gets nine times as much as one of these.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Bytes from which on it is worth while to have them hashed elsewhere: a tenth of a millisecond and more.
const WORTH_WHILE: usize = 32 * 1024;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// The work panicked; with what it said.
    #[error("the work broke off: {0}")]
    Panicked(String),
    /// There was no thread to be had.
    #[error("no thread could be started: {0}")]
    NoThread(#[from] io::Error),
}

impl From<BackgroundError> for io::Error {
    fn from(error: BackgroundError) -> Self {
        io::Error::other(error)
    }
}

/// Does a piece of work that takes some milliseconds at most. There are as many threads as processors; pieces wait for them
/// in the order in which they came. So whoever cuts his work into pieces takes turns with all others who do.
///
/// # Errors
/// When the work panics, or there is no thread.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackgroundError> {
    let (reply, outcome) = oneshot::channel();
    pool()?.spawn_blocking(move || answer(work, reply));
    outcome.await.unwrap_or_else(|_| Err(BackgroundError::Panicked("its thread is gone".to_owned())))
}

/// Does work that may take seconds, on a thread of its own: whoever begins it sees to it that it is not too much at a time.
///
/// # Errors
/// When the work panics, or there is no thread.
pub async fn run_long<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackgroundError> {
    let (reply, outcome) = oneshot::channel();
    thread::Builder::new().name("background-long".to_owned()).spawn(move || {
        give_way();
        answer(work, reply);
    })?;
    outcome.await.unwrap_or_else(|_| Err(BackgroundError::Panicked("its thread is gone".to_owned())))
}

/// Adds bytes to a hash; here if they are few.
///
/// # Errors
/// As [`run`].
pub async fn hash(mut hasher: BlobHasher, bytes: &Bytes) -> Result<BlobHasher, BackgroundError> {
    if bytes.len() < WORTH_WHILE {
        hasher.update(bytes);
        return Ok(hasher);
    }
    let bytes = bytes.clone();
    run(move || {
        hasher.update(&bytes);
        hasher
    })
    .await
}

fn answer<T>(work: impl FnOnce() -> T, reply: oneshot::Sender<Result<T, BackgroundError>>) {
    // What the work has touched is gone with it.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    // Who no longer waits is told nothing.
    let _ = reply.send(outcome.map_err(|panic| BackgroundError::Panicked(said(&*panic))));
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why").to_owned()
}

/// The threads of [`run`]: those that a runtime keeps for work that blocks, of which this one has nothing else.
fn pool() -> Result<&'static Runtime, BackgroundError> {
    static POOL: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        Builder::new_current_thread()
            .thread_name("background")
            .max_blocking_threads(thread::available_parallelism().map_or(1, usize::from))
            .on_thread_start(give_way)
            .build()
    });
    POOL.as_ref().map_err(|error| BackgroundError::NoThread(io::Error::new(error.kind(), error.to_string())))
}

/// The priority of a thread is its own on Linux. Elsewhere it is that of the whole process, which stays as it is.
#[cfg(target_os = "linux")]
fn give_way() {
    // Refused, the thread works as all others do.
    let _ = rustix::process::nice(NICER);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn there_are_no_more_threads_than_processors() {
        let pieces: Vec<_> = (0..200).map(|_| tokio::spawn(run(|| thread::current().id()))).collect();
        let mut threads = HashSet::new();
        for piece in pieces {
            threads.insert(piece.await.unwrap().unwrap());
        }
        assert!(threads.len() <= thread::available_parallelism().unwrap().get());
        assert!(!threads.contains(&thread::current().id()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_are_nicer_and_others_stay_as_they_are() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let mine = nice();
        let expected = (mine + NICER).min(19);
        assert_eq!(run(nice).await.unwrap(), expected);
        assert_eq!(run_long(nice).await.unwrap(), expected);
        assert_eq!(nice(), mine);
        assert_eq!(tokio::task::spawn_blocking(nice).await.unwrap(), mine);
    }

    #[tokio::test]
    async fn work_that_panics_says_so_and_the_next_is_done() {
        for _ in 0..20 {
            let error = run(|| -> u32 { panic!("no {}", 1) }).await.unwrap_err();
            assert_eq!(error.to_string(), "the work broke off: no 1");
        }
        assert!(run_long(|| -> u32 { panic!("no") }).await.is_err());
        assert_eq!(run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_hash_is_the_same_wherever_it_is_taken() {
        for length in [0, 1, WORTH_WHILE - 1, WORTH_WHILE, 3 * WORTH_WHILE] {
            let bytes = Bytes::from(vec![7; length]);
            let mut expected = BlobHasher::new();
            expected.update(&bytes);
            let hasher = hash(BlobHasher::new(), &bytes).await.unwrap();
            assert_eq!(hasher.finish(), expected.finish());
        }
    }
}
