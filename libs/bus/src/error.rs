//! What can go wrong with the broker.

/// The broker could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It cannot be reached, or did not answer in time.
    #[error("the message broker cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered that it cannot or may not.
    #[error("the message broker refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message could not be written as JSON or read from it.
    #[error("a message is not of the form it should have: {0}")]
    Encoding(#[source] serde_json::Error),
}

impl BusError {
    /// The broker cannot be reached.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Unavailable(cause.into())
    }

    /// The broker refused.
    pub fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Refused(cause.into())
    }

    /// A message is not of the right form.
    #[must_use]
    pub fn encoding(cause: serde_json::Error) -> Self {
        BusError::Encoding(cause)
    }
}

/// A message is not known to be queued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The queue, or the blob stage, takes no more for now.
    #[error("the queue is full; try again later")]
    Full,
    /// The broker failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}
