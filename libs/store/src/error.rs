//! What can go wrong with the store.

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, did not answer in time, or cannot write: its disk is full, read-only or failing, or it refuses
    /// the credentials. Whatever was asked is not to blame, and succeeds once the store works again.
    #[error("the patient store cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered, and refused just this; trying again may help.
    #[error("the patient store refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it holds, or what it was given, is not what it should be; trying again will not help.
    #[error("the patient store holds or was given something broken: {0}")]
    Corrupt(String),
    /// A record is there, but it is not as it was written: its checksum does not match. Trying again will not help. The
    /// sentence does not name the record, as it goes into logs.
    #[error("a stored {} is damaged: its checksum does not match", .0.kind.name())]
    Damaged(proto_json::DamagedRecord),
    /// The cursor belongs to another list.
    #[error("the cursor belongs to another list")]
    WrongCursor,
}

impl StoreError {
    /// The store cannot be reached.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        StoreError::Unavailable(cause.into())
    }

    /// The store refused just this.
    pub fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        StoreError::Refused(cause.into())
    }

    /// Whether the store or its disk failed, whatever it was asked to do.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}
