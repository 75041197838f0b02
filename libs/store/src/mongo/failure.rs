//! What the driver's errors mean, and which of them mean "done already".

use std::future::IntoFuture;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::StoreError;

/// Server code of a key that exists already.
const DUPLICATE_KEY: i32 = 11_000;

/// How often an update that inserts is tried.
const TRIES: u32 = 5;

/// Waits for an answer, but not longer than `limit`: the driver itself would wait for a paused server for ever.
pub(super) async fn within<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    answer(limit, action).await?.map_err(|error| explain(&error))
}

/// As [`within`], with the driver's own error for those who look at it.
pub(super) async fn answer<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, StoreError> {
    tokio::time::timeout(limit, action.into_future()).await.map_err(|_| {
        StoreError::unavailable(format!("the database did not answer within {} s", limit.as_secs_f64()))
    })
}

/// Says in one sentence what is wrong.
pub(super) fn explain(error: &Error) -> StoreError {
    let sentence = match error.kind.as_ref() {
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) | ErrorKind::InvalidResponse { .. } => {
            return StoreError::Corrupt(format!("a document in the database cannot be read ({error})"));
        }
        ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => {
            return StoreError::Corrupt(format!("the settings of the database are wrong ({error})"));
        }
        ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => "no database server was found",
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => "the connection to the database broke",
        ErrorKind::Authentication { .. } => "the database refused the credentials",
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => {
            "the database could not confirm that the write is durable"
        }
        _ => "the database refused",
    };
    StoreError::unavailable(format!("{sentence} ({error})"))
}

/// Whether all that failed is that a key exists already.
pub(super) fn is_duplicate(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        ErrorKind::Command(error) => error.code == DUPLICATE_KEY,
        ErrorKind::InsertMany(errors) => {
            errors.write_concern_error.is_none()
                && errors.write_errors.iter().flatten().all(|error| error.code == DUPLICATE_KEY)
        }
        _ => false,
    }
}

/// An insertion that may have happened before: the ids are derived, so what is there is what was to be inserted. True if
/// it was this one that inserted.
pub(super) async fn insert<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<bool, StoreError> {
    match answer(limit, action).await? {
        Ok(_) => Ok(true),
        Err(error) if is_duplicate(&error) => Ok(false),
        Err(error) => Err(explain(&error)),
    }
}

/// An update that inserts where there is nothing, and returns the document. Two of them at once can both find nothing, and
/// then one of them meets the other's document: that one looks again.
pub(super) async fn upserted<T, F>(action: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<Result<Option<T>, Error>, StoreError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match action().await? {
            Ok(Some(document)) => return Ok(document),
            Ok(None) if tries < TRIES => {}
            Ok(None) => return Err(broken("document", "it was not returned")),
            Err(error) if is_duplicate(&error) && tries < TRIES => {}
            Err(error) => return Err(explain(&error)),
        }
    }
}

/// A stored value is not what its field should hold.
pub(super) fn broken(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("a stored {what} cannot be read ({error})"))
}
