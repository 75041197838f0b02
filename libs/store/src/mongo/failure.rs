//! Conversion of the driver's errors.

use std::future::IntoFuture;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::StoreError;

use super::calls::operation;

/// Server code of a duplicate key.
const DUPLICATE_KEY: i32 = 11_000;

/// Server codes of failures that do not depend on the document: the server or the cluster is not available, or it refuses
/// the user. From the server's `error_codes.yml`.
const OUTAGES: &[i32] = &[
    // No primary, recovering, shutting down.
    91, 189, 10_058, 10_107, 11_600, 11_602, 13_435, 13_436,
    // Network among the servers, time limits.
    6, 7, 24, 50, 89, 134, 202, 262, 9_001, 11_601, // The write concern cannot be satisfied.
    64, 79, 100, // Write conflicts, and transactions that an election or a timeout has ended.
    112, 225, 246, 251,
    // No space on the disk or in memory; internal errors, such as a failed storage engine.
    1, 8, 146, 14_031,
    // Credentials, permissions, indexes: an operator has to act, and then the operation succeeds.
    13, 18, 85, 86, 391, 8_000,
];
/// Server codes of an unauthorized or unknown user.
const REFUSED: [i32; 2] = [13, 18];
/// Server codes of an index that exists with other options or keys.
const OTHER_INDEX: [i32; 2] = [85, 86];

/// The database cannot be used with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The server refuses the user, the password, or the user's privileges. A retry does not help.
    #[error("the database refuses this user: check the connection string and the user's rights ({0})")]
    Refused(String),
    /// An index with the same name has other keys or options. A retry does not help.
    #[error("an index differs from the one that this version needs: drop it, then start again ({0})")]
    Conflict(String),
    /// The documents have another version. A retry does not help.
    #[error("{}", schema_error(*found, *needed))]
    Schema {
        /// The version of the database; 0 if it has data without a version.
        found: i32,
        /// The version that this program uses.
        needed: i32,
    },
    /// Another error, which may be temporary.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn schema_error(found: i32, needed: i32) -> String {
    if found > needed {
        format!(
            "the database has schema version {found}, and this program uses {needed}: use a newer version of this \
             program"
        )
    } else {
        "the database was created by a version that cannot be upgraded: use another name, for example \
         --database bedside2"
            .to_owned()
    }
}

/// Number of attempts of an upsert.
const TRIES: u32 = 5;

/// Waits for an answer; see [`operation`] for the limit. The driver has no such timeout: it waits for a stalled server
/// indefinitely.
pub(super) async fn within<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    answer(limit, action).await?.map_err(|error| explain(&error))
}

/// As [`within`], with the unconverted error of the driver.
pub(super) async fn answer<T>(
    limit: Duration,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, StoreError> {
    operation(limit, action.into_future()).await
}

/// As [`within`], and distinguishes failures that a retry cannot fix.
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

/// Converts an error to a message that says what is wrong.
pub(super) fn explain(error: &Error) -> StoreError {
    let message = match error.kind.as_ref() {
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
    StoreError::unavailable(format!("{message} ({error})"))
}

/// Whether the server refuses only this command: the code is not that of an outage, and no label says that the command can
/// be repeated.
fn is_refusal(error: &Error) -> bool {
    const REPEATABLE: [&str; 5] = [
        "RetryableWriteError",
        "TransientTransactionError",
        "UnknownTransactionCommitResult",
        "RetryableError",
        "SystemOverloadedError",
    ];
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

/// Whether a command failed with this code of the server.
pub(super) fn is_code(error: &Error, code: i32) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == code)
}

/// Whether the only failure is a duplicate key.
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

/// An insertion that may have succeeded before. Ids are derived, so a duplicate is the same document. True if this call has
/// inserted it.
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

/// An upsert that returns the document. Of two concurrent upserts, one may get a duplicate key; it is repeated.
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

/// A stored value is not valid for its field.
pub(super) fn broken(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("a stored {what} cannot be read ({error})"))
}
