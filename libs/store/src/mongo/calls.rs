//! Calls of the ports run in tasks of their own.
//!
//! The driver requires that every future of an operation is polled to its end: a dropped one can leave a connection, a
//! session or a cursor in an inconsistent state. A caller can disappear at any time, and it must not wait for a stalled
//! server. Therefore the call runs in a task, and only the wait for it ends early:
//!
//! * If the caller is dropped, the call goes on without it. A body that the caller provides ends early.
//! * If one operation takes longer than the limit, the caller gets [`StoreError::Unavailable`], and the call goes on. All
//!   writes can be repeated, so it is harmless if the operation succeeds later.
//!
//! The tasks end with the operation, or with the connection of the stalled server, or with the process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{ByteStream, StoreError};

use super::Db;

tokio::task_local! {
    static CALL: Call;
}

/// The call that a task runs.
#[derive(Clone)]
struct Call {
    /// Since when an operation of the driver runs, if one does.
    running_since: Arc<Mutex<Option<Instant>>>,
    /// Its sender is dropped with the caller.
    caller: watch::Receiver<()>,
}

/// Runs a call in a task of its own.
///
/// # Errors
/// Those of the call, and [`StoreError::Unavailable`] if one of its operations exceeds the limit of the store.
pub(super) async fn run<T, F>(db: &Arc<Db>, call: impl FnOnce(Arc<Db>) -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
    T: Send + 'static,
{
    let limit = db.limit;
    let (_caller, caller) = watch::channel(());
    let running_since = Arc::new(Mutex::new(None));
    let state = Call { running_since: Arc::clone(&running_since), caller };
    let mut task = tokio::spawn(CALL.scope(state, call(Arc::clone(db))).in_current_span());
    loop {
        let since = *running_since.lock();
        tokio::select! {
            ended = &mut task => return ended.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StoreError::unavailable(error)),
            }),
            () = tokio::time::sleep_until(since.unwrap_or_else(Instant::now) + limit) => {}
        }
        if running_since.lock().is_some_and(|since| since.elapsed() >= limit) {
            return Err(no_answer(limit));
        }
    }
}

pub(super) fn no_answer(limit: Duration) -> StoreError {
    StoreError::unavailable(format!("the database did not answer within {} s", limit.as_secs_f64()))
}

/// Waits for an operation, as long as it takes within a call, and at most `limit` elsewhere: in the programs for backup,
/// restore and provisioning, which end when an operation fails.
pub(super) async fn operation<T>(
    limit: Duration,
    operation: impl Future<Output = T>,
) -> Result<T, StoreError> {
    let Ok(call) = CALL.try_with(Clone::clone) else {
        return tokio::time::timeout(limit, operation).await.map_err(|_| no_answer(limit));
    };
    *call.running_since.lock() = Some(Instant::now());
    let answer = operation.await;
    *call.running_since.lock() = None;
    Ok(answer)
}

/// The body of a file that a call writes. It ends when the caller is dropped; the file is then shorter than announced and
/// not stored.
pub(super) fn of_caller(body: ByteStream) -> ByteStream {
    let Ok(mut call) = CALL.try_with(Clone::clone) else { return body };
    body.take_until(async move { while call.caller.changed().await.is_ok() {} }).boxed()
}

/// A stream that reads a cursor. A task drives it, because a reader can be dropped at any time; the task ends after the
/// operation in progress. The reader gets an error if an operation exceeds the limit.
pub(super) fn detached(
    limit: Duration,
    mut source: BoxStream<'static, io::Result<bytes::Bytes>>,
) -> ByteStream {
    let (parts, received) = mpsc::channel(1);
    let driver = async move {
        while let Some(part) = source.next().await {
            if parts.send(part).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(driver.in_current_span());
    stream::unfold(Some(received), move |received| async move {
        let mut received = received?;
        match tokio::time::timeout(limit, received.recv()).await {
            Ok(part) => part.map(|part| (part, Some(received))),
            Err(_) => Some((Err(io::Error::other(no_answer(limit))), None)),
        }
    })
    .boxed()
}
