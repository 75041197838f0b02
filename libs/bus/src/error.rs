//! Errors of the ports.

/// The broker could not complete a call.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The broker cannot be reached, or did not answer in time.
    #[error("the message broker cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The broker cannot store anything: its disk is full, read-only or failing, or a limit is reached.
    #[error("the message broker cannot store anything: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The broker rejected the call.
    #[error("the message broker refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message could not be serialized or parsed.
    #[error("a message has an unexpected format: {0}")]
    Encoding(#[source] serde_json::Error),
}

impl BusError {
    /// The broker cannot be reached.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Unavailable(cause.into())
    }

    /// The broker cannot store anything.
    pub fn storage(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Storage(cause.into())
    }

    /// Whether the broker or its disk failed. The message is then not the cause, and the same call succeeds
    /// once the broker has recovered.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, BusError::Unavailable(_) | BusError::Storage(_))
    }

    /// The broker rejected the call.
    pub fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BusError::Refused(cause.into())
    }

    /// A message has an unexpected format.
    #[must_use]
    pub fn encoding(cause: serde_json::Error) -> Self {
        BusError::Encoding(cause)
    }
}

/// Whether reading the body of a staged file failed because the broker or its disk failed.
#[must_use]
pub fn is_outage_of_body(error: &std::io::Error) -> bool {
    error.get_ref().and_then(|cause| cause.downcast_ref::<BusError>()).is_some_and(BusError::is_outage)
}

/// A message or file was not confirmed by the broker.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The queue or the staging store is full.
    #[error("the queue is full; try again later")]
    Full,
    /// The broker failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl EnqueueError {
    /// Whether the message is not the cause: the queue is full, or the broker or its disk failed.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            EnqueueError::Full => true,
            EnqueueError::Bus(error) => error.is_outage(),
        }
    }
}
