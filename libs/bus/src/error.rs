//! What can go wrong with the broker.

/// The broker could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It cannot be reached, or did not answer in time.
    #[error("the message broker cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It can be reached but stores nothing for now: its disk is full, read-only or failing, or a limit is used up.
    #[error("the message broker cannot store anything: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
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

    /// The broker stores nothing for now.
    pub fn storage(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Storage(cause.into())
    }

    /// Whether the broker or its disk failed, whatever it was asked to do: then no message is to blame, and the same call
    /// succeeds once the broker works again.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, BusError::Unavailable(_) | BusError::Storage(_))
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

/// Whether the body of a staged file broke off because the broker or its disk failed.
#[must_use]
pub fn is_outage_of_body(error: &std::io::Error) -> bool {
    error.get_ref().and_then(|cause| cause.downcast_ref::<BusError>()).is_some_and(BusError::is_outage)
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

impl EnqueueError {
    /// Whether the message is not to blame: the queue is full, or the broker or its disk failed.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            EnqueueError::Full => true,
            EnqueueError::Bus(error) => error.is_outage(),
        }
    }
}
