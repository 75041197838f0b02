//! Errors that end a service process.
//!
//! A process exits with 0 after a requested shutdown, with 64 if its configuration is invalid, and with 1 on
//! any other failure.

/// Why a service could not start or had to stop. The message is one sentence that tells an operator what to
/// change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid. Nothing was bound, opened or changed.
    #[error("{0}")]
    Config(String),
    /// A resource that the service needs is missing or failed.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    /// Returns a configuration error.
    pub fn config(message: impl std::fmt::Display) -> Self {
        StartError::Config(message.to_string())
    }

    /// Returns an error for a resource that is missing or failed.
    pub fn failed(message: impl std::fmt::Display) -> Self {
        StartError::Failed(message.to_string())
    }

    /// Returns 64 (`EX_USAGE` of sysexits.h) for an invalid configuration, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) => 64,
            StartError::Failed(_) => 1,
        }
    }
}
