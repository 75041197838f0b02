//! A blocking pool for CPU-bound work: hashing large files, parsing large bodies, analysing ECGs.
//!
//! On the threads of the async runtime such work delays every other request. Here it runs on separate
//! threads. On Linux these threads have a lower scheduling priority, so short requests go first when
//! processors are scarce and the work still makes progress. On other systems the priority is unchanged.
//!
//! tokio's own blocking pool is not used directly because its threads cannot have a priority and a limit that
//! differ from those used for file I/O.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::thread;

use bytes::Bytes;
use proto_json::BlobHasher;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Nice value that is added for these threads. Each step changes the share of a contended processor by about
/// 1.25; with 10, a request thread gets nine times the processor time of a thread of this pool.
#[cfg(target_os = "linux")]
const NICE_INCREMENT: i32 = 10;

/// Largest number of threads of [`run_long`]. Its callers use fewer at a time.
const MAX_LONG: usize = 512;

/// Smallest input that is hashed in the pool. Hashing fewer bytes takes less than a tenth of a millisecond.
const MIN_POOLED_BYTES: usize = 32 * 1024;

/// Error of work in the pool.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// The work panicked. Contains the panic message.
    #[error("the work panicked: {0}")]
    Panicked(String),
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    NoThread(#[from] io::Error),
}

impl From<BackgroundError> for io::Error {
    fn from(error: BackgroundError) -> Self {
        io::Error::other(error)
    }
}

/// Runs work that takes a few milliseconds. The pool has one thread per processor and a FIFO queue, so
/// callers that split their work into pieces share the pool fairly.
///
/// # Errors
/// If the work panics or no thread can be started.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackgroundError> {
    let (reply, result) = oneshot::channel();
    spawn(pool()?, move || answer(work, reply))?;
    result.await.unwrap_or_else(|_| Err(BackgroundError::Panicked("its thread ended".to_owned())))
}

/// Runs work that can take seconds, on a thread that does nothing else at the same time. The caller limits how many run at the same time.
///
/// # Errors
/// If the work panics or no thread can be started.
pub async fn run_long<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackgroundError> {
    let (reply, result) = oneshot::channel();
    spawn(long_pool()?, move || answer(work, reply))?;
    result.await.unwrap_or_else(|_| Err(BackgroundError::Panicked("its thread ended".to_owned())))
}

/// Adds bytes to a hash. Small inputs are hashed on the current thread.
///
/// # Errors
/// As [`run`].
pub async fn hash(mut hasher: BlobHasher, bytes: &Bytes) -> Result<BlobHasher, BackgroundError> {
    if bytes.len() < MIN_POOLED_BYTES {
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

/// Passes work to a pool. tokio panics if the system starts no thread and the pool has none.
fn spawn(pool: &Runtime, work: impl FnOnce() + Send + 'static) -> Result<(), BackgroundError> {
    let spawned = catch_unwind(AssertUnwindSafe(|| drop(pool.spawn_blocking(work))));
    spawned.map_err(|panic| BackgroundError::NoThread(io::Error::other(panic_message(&*panic))))
}

fn answer<T>(work: impl FnOnce() -> T, reply: oneshot::Sender<Result<T, BackgroundError>>) {
    // The closure owns everything it touches, so no broken state is visible after a panic.
    let result = catch_unwind(AssertUnwindSafe(work));
    // The receiver is dropped when the caller no longer waits.
    let _ = reply.send(result.map_err(|panic| BackgroundError::Panicked(panic_message(&*panic))));
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no panic message").to_owned()
}

/// A pool: the blocking threads of a runtime that runs nothing else.
type Pool = LazyLock<io::Result<Runtime>>;

/// The pool of [`run`].
fn pool() -> Result<&'static Runtime, BackgroundError> {
    static POOL: Pool =
        LazyLock::new(|| start("background", thread::available_parallelism().map_or(1, usize::from)));
    get(&POOL)
}

/// The pool of [`run_long`]. Threads are used again: glibc gives a new thread another arena for its memory, and each arena keeps
/// tens of megabytes after a large body.
fn long_pool() -> Result<&'static Runtime, BackgroundError> {
    static POOL: Pool = LazyLock::new(|| start("background-long", MAX_LONG));
    get(&POOL)
}

fn start(name: &str, threads: usize) -> io::Result<Runtime> {
    Builder::new_current_thread()
        .thread_name(name)
        .max_blocking_threads(threads)
        .on_thread_start(lower_priority)
        .build()
}

fn get(pool: &'static Pool) -> Result<&'static Runtime, BackgroundError> {
    pool.as_ref().map_err(|error| BackgroundError::NoThread(io::Error::new(error.kind(), error.to_string())))
}

/// Lowers the priority of the current thread. Linux has a priority per thread; other systems have one per
/// process, which stays unchanged.
#[cfg(target_os = "linux")]
fn lower_priority() {
    // If the system refuses, the thread keeps the normal priority.
    let _ = rustix::process::nice(NICE_INCREMENT);
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn pool_has_at_most_one_thread_per_processor() {
        let pieces: Vec<_> = (0..200).map(|_| tokio::spawn(run(|| thread::current().id()))).collect();
        let mut threads = HashSet::new();
        for piece in pieces {
            threads.insert(piece.await.unwrap().unwrap());
        }
        assert!(threads.len() <= thread::available_parallelism().unwrap().get());
        assert!(!threads.contains(&thread::current().id()));
    }

    #[tokio::test]
    async fn threads_of_long_work_are_used_again() {
        let mut threads = HashSet::new();
        for _ in 0..50 {
            threads.insert(run_long(|| thread::current().id()).await.unwrap());
            // The thread becomes idle a moment after it has answered.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(threads.len() <= 5, "{} threads", threads.len());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_pool_threads_have_lower_priority() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let caller = nice();
        let expected = (caller + NICE_INCREMENT).min(19);
        assert_eq!(run(nice).await.unwrap(), expected);
        assert_eq!(run_long(nice).await.unwrap(), expected);
        assert_eq!(nice(), caller);
        assert_eq!(tokio::task::spawn_blocking(nice).await.unwrap(), caller);
    }

    #[tokio::test]
    async fn panic_is_reported_and_pool_stays_usable() {
        for _ in 0..20 {
            let error = run(|| -> u32 { panic!("no {}", 1) }).await.unwrap_err();
            assert_eq!(error.to_string(), "the work panicked: no 1");
        }
        assert!(run_long(|| -> u32 { panic!("no") }).await.is_err());
        assert_eq!(run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn hash_is_equal_in_pool_and_on_current_thread() {
        for length in [0, 1, MIN_POOLED_BYTES - 1, MIN_POOLED_BYTES, 3 * MIN_POOLED_BYTES] {
            let bytes = Bytes::from(vec![7; length]);
            let mut expected = BlobHasher::new();
            expected.update(&bytes);
            let hasher = hash(BlobHasher::new(), &bytes).await.unwrap();
            assert_eq!(hasher.finish(), expected.finish());
        }
    }
}
