//! What the driver's errors mean, and which of them mean "done already".

use std::future::IntoFuture;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::StoreError;

/// Server code of a key that exists already.
const DUPLICATE_KEY: i32 = 11_000;

/// Server codes of a server, or a cluster, that cannot do its work for now, or does not let us: no document is to blame.
/// From the server's `error_codes.yml`.
const OUTAGES: &[i32] = &[
    // No primary, recovering, shutting down.
    91, 189, 10_058, 10_107, 11_600, 11_602, 13_435, 13_436,
    // Network among the servers, time limits.
    6, 7, 24, 50, 89, 134, 202, 262, 9_001, 11_601, // Too few servers for the write concern.
    64, 79, 100, // Transactions that met others, or an election.
    112, 225, 246, 251,
    // No room on the disk or in memory; an error of the server's own, as where its storage engine has given up.
    1, 8, 146, 14_031,
    // Credentials, permissions, indexes: an operator has to act, and then everything goes on.
    13, 18, 85, 86, 391, 8_000,
];
/// Server codes of what the user may not do, or of a user that the server does not know.
const REFUSED: [i32; 2] = [13, 18];
/// Server codes of an index that exists with other options or keys.
const OTHER_INDEX: [i32; 2] = [85, 86];

/// Why the database cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The server refuses the user, the password, or the user's rights; trying again does not help.
    #[error("the database refuses this user: check the connection string and the user's rights ({0})")]
    Refused(String),
    /// An index of another version or by another hand is in the way; trying again does not help.
    #[error("an index differs from the one that this version needs: drop it, then start again ({0})")]
    Conflict(String),
    /// It failed for now, or something else is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
}

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

/// As [`within`], and tells failures apart that trying again cannot mend.
pub(super) async fn prepared<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, PrepareError> {
    answer(limit, action).await?.map_err(|error| match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => PrepareError::Refused(error.to_string()),
        ErrorKind::Command(refusal) if REFUSED.contains(&refusal.code) => {
            PrepareError::Refused(error.to_string())
        }
        ErrorKind::Command(refusal) if OTHER_INDEX.contains(&refusal.code) => {
            PrepareError::Conflict(error.to_string())
        }
        _ => PrepareError::Store(explain(&error)),
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
        _ if is_refusal(error) => {
            return StoreError::refused(format!("the database refused ({error})"));
        }
        _ => "the database cannot do its work",
    };
    StoreError::unavailable(format!("{sentence} ({error})"))
}

/// Whether the server is well and refuses just this command: its code is none of an outage, and neither it nor the driver
/// says that it can be repeated.
fn is_refusal(error: &Error) -> bool {
    const REPEATABLE: [&str; 4] =
        ["RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError"];
    let code = match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::InsertMany(errors) if errors.write_concern_error.is_none() => {
            errors.write_errors.iter().flatten().next().map(|error| error.code)
        }
        _ => None,
    };
    code.is_some_and(|code| !OUTAGES.contains(&code))
        && !REPEATABLE.iter().any(|label| error.contains_label(label))
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
