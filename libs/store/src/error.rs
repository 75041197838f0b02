//! Errors of the store.

/// An operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, did not answer in time, or cannot write: its disk is full, read-only or failing, or it
    /// refuses the credentials. The operation itself is not the cause, and succeeds once the store works again.
    #[error("the patient store cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered and refused this operation. A retry may succeed.
    #[error("the patient store refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Stored data or the input are invalid. A retry does not help.
    #[error("the patient store holds or was given something broken: {0}")]
    Corrupt(String),
    /// A stored record does not match its checksum. A retry does not help. The message does not name the record, because it
    /// is logged.
    #[error("a stored {} is damaged: its checksum does not match", .0.kind.name())]
    Damaged(proto_json::DamagedRecord),
    /// The cursor belongs to another list.
    #[error("the cursor belongs to another list")]
    WrongCursor,
}

impl StoreError {
    /// A [`StoreError::Unavailable`].
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        StoreError::Unavailable(cause.into())
    }

    /// A [`StoreError::Refused`].
    pub fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        StoreError::Refused(cause.into())
    }

    /// Whether the store or its disk failed, independent of the operation.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}
