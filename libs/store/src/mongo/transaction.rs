//! Multi-document transactions.
//!
//! A transaction reads one snapshot and commits with the majority, or leaves nothing. The driver's convenient API repeats it
//! as a whole after a write conflict (`TransientTransactionError`) and repeats the commit while its result is unknown
//! (`UnknownTransactionCommitResult`). No attempt starts after the operation timeout.
//!
//! A commit whose result stays unknown is reported as [`StoreError::Unavailable`]. The caller repeats the whole write later:
//! ids are derived from the upload, so the repetition meets the stored documents and changes nothing.
//!
//! A process that is killed within a transaction leaves it open on the server, which aborts it after
//! `transactionLifetimeLimitSeconds` (60 s by default). Until then, other writes to the same documents meet write conflicts
//! and are repeated.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::ClientSession;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ReadConcern;

use crate::StoreError;

use super::Db;
use super::calls::no_answer;
use super::failure::{answer, explain};

/// Why a transaction was aborted by its own code.
#[derive(Debug)]
pub(super) enum Abort {
    /// The store failed, or what was read cannot be used.
    Failed(StoreError),
    /// The upload is stored already.
    UploadExists,
    /// One of the files is stored already.
    FileExists,
    /// The patient or the upload was erased.
    Erased,
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Abort::Failed(error)
    }
}

impl From<Abort> for StoreError {
    fn from(abort: Abort) -> Self {
        match abort {
            Abort::Failed(error) => error,
            Abort::UploadExists | Abort::FileExists | Abort::Erased => {
                StoreError::unavailable("another process stores the same upload; try again")
            }
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        abort(error)
    }
}

/// Makes the driver abort the transaction and return this reason.
pub(super) fn abort(reason: impl Into<Abort>) -> Error {
    Error::custom(reason.into())
}

/// Runs `work` in a transaction, possibly several times, until it is committed.
///
/// # Errors
/// The reason that `work` gives through [`abort`], or [`Abort::Failed`].
pub(super) async fn run<T, C, F>(db: &Db, context: C, mut work: F) -> Result<T, Abort>
where
    F: for<'a> FnMut(&'a mut ClientSession, &'a mut C) -> BoxFuture<'a, Result<T, Error>>,
    T: Send + 'static,
{
    let started = Instant::now();
    let attempts = async {
        let mut session = db.database.client().start_session().await?;
        // The write concern is that of the client: majority and journal.
        let transaction = session.start_transaction().read_concern(ReadConcern::snapshot());
        transaction
            .and_run(context, |session, context| {
                // The caller gets an error after the limit; no further attempt is made then.
                if started.elapsed() < db.limit {
                    work(session, context)
                } else {
                    std::future::ready(Err(abort(no_answer(db.limit)))).boxed()
                }
            })
            .await
    };
    answer(db.limit, attempts).await?.map_err(reason)
}

fn reason(error: Error) -> Abort {
    let explained = explain(&error);
    let ErrorKind::Custom(custom) = *error.kind else { return Abort::Failed(explained) };
    let abort = custom.downcast::<Abort>().ok().and_then(Arc::into_inner);
    abort.unwrap_or(Abort::Failed(explained))
}
