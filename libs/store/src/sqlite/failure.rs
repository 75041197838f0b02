//! Conversion of SQLite's errors to messages for operators.

use rusqlite::ErrorCode;
use sqlite::Error;

use crate::StoreError;

use super::schema::FORMER_APPLICATION_ID;

/// Converts an error to a message that says what is wrong and what to do.
pub(super) fn explain(error: &rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error_code() else {
        // Not from SQLite: a column does not have the expected type.
        return StoreError::Corrupt(format!("a record in the database file cannot be read ({error})"));
    };
    let message = match code {
        ErrorCode::DatabaseCorrupt => {
            return StoreError::Corrupt(format!(
                "the database file is damaged; restore it from a backup ({error})"
            ));
        }
        ErrorCode::NotADatabase => {
            return StoreError::Corrupt(format!(
                "the file is not a SQLite database; restore it from a backup ({error})"
            ));
        }
        ErrorCode::DiskFull => "the disk that holds the database file is full; nothing was stored",
        ErrorCode::ReadOnly => "the database file or its folder is read-only; nothing was stored",
        ErrorCode::CannotOpen => "the database file cannot be opened; check the folder and its permissions",
        ErrorCode::PermissionDenied => "access to the database file was denied; check its permissions",
        ErrorCode::SystemIoFailure => "the disk that holds the database file reports an error",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another program holds the database file",
        ErrorCode::OperationAborted => "another write failed and undid this one, too; nothing was stored",
        ErrorCode::OutOfMemory => "there is no memory left",
        // A constraint, a value that is too large, or a bug: disk and file are not the cause.
        _ => return StoreError::refused(format!("the database refused a statement ({error})")),
    };
    StoreError::unavailable(format!("{message} ({error})"))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        explain(&error)
    }
}

/// A stored value is not valid for its column.
pub(super) fn broken(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("a stored {what} cannot be read ({error})"))
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sqlite(error) => explain(&error),
            Error::OtherProgram(FORMER_APPLICATION_ID) => Error::TooOld.into(),
            Error::OtherProgram(_)
            | Error::Damaged(_)
            | Error::TooNew { .. }
            | Error::TooOld
            | Error::NotMigrated { .. } => StoreError::Corrupt(error.to_string()),
            error => StoreError::unavailable(error),
        }
    }
}
