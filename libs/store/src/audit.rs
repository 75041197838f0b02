//! The audit: an append-only list of accesses and changes with a hash chain.
//!
//! Each entry is stored as the JSON text that its hash covers. A verification computes the chain again from the stored texts,
//! so an entry that was changed, removed, inserted or moved is found. Someone who can write the database could compute the
//! whole chain anew; for that case, the head of the chain is written to the log at intervals and can be compared.

use std::fmt::Debug;

use async_trait::async_trait;
use proto_json::audit::{
    AuditBatch, AuditEntry, AuditEvent, AuditHead, AuditPage, AuditVerdict, audit_hash, audit_start,
};
use proto_json::{BlobHash, Mrn, Timestamp};

use crate::StoreError;

/// Which entries a list contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only entries about this patient.
    pub mrn: Option<Mrn>,
    /// Only entries of this client.
    pub client: Option<String>,
    /// Only entries before this number.
    pub before: Option<u64>,
    /// Only entries from this time on.
    pub from: Option<Timestamp>,
    /// Only entries before this time.
    pub to: Option<Timestamp>,
    /// Maximum number of entries.
    pub limit: usize,
}

/// Reads the audit.
#[async_trait]
pub trait AuditReader: Debug + Send + Sync + 'static {
    /// Entries that match the filter, newest first.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Corrupt`] when an entry cannot be read.
    async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, StoreError>;

    /// The last entry; `None` if there is none.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError>;

    /// Verifies the whole chain, and that it contains `anchor` if it is given.
    ///
    /// # Errors
    /// When the store cannot be reached. A defect is not an error.
    async fn verify_audit(&self, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError>;
}

/// Appends to the audit.
#[async_trait]
pub trait AuditStore: AuditReader {
    /// Appends the events of a batch, unless this batch or a later one of the gateway is stored. The entries survive the end of
    /// this process when it returns.
    ///
    /// # Errors
    /// When the store cannot be written. The batch may be stored then, and appending it again is harmless.
    async fn append_audit(&self, batch: AuditBatch) -> Result<(), StoreError>;
}

/// An entry as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredEntry {
    pub(crate) number: u64,
    /// JSON of the event.
    pub(crate) event: String,
    pub(crate) hash: BlobHash,
}

impl StoredEntry {
    pub(crate) fn parse(&self) -> Result<AuditEntry, StoreError> {
        let event: AuditEvent = serde_json::from_str(&self.event)
            .map_err(|error| StoreError::Corrupt(format!("entry {} of the audit: {error}", self.number)))?;
        Ok(AuditEntry { number: self.number, event, hash: self.hash })
    }
}

/// An event that is ready to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) at: Timestamp,
    pub(crate) mrn: Option<Mrn>,
    pub(crate) client: String,
    /// JSON.
    pub(crate) event: String,
}

/// Serializes the events before the transaction.
pub(crate) fn serialized(events: Vec<AuditEvent>) -> Result<Vec<NewEvent>, StoreError> {
    let one = |event: AuditEvent| {
        let text = serde_json::to_string(&event).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(NewEvent { at: event.at, mrn: event.mrn, client: event.client, event: text })
    };
    events.into_iter().map(one).collect()
}

/// Computes the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) number: u64,
    pub(crate) hash: BlobHash,
}

impl Chain {
    pub(crate) fn after(head: Option<AuditHead>) -> Self {
        head.map_or(Chain { number: 0, hash: audit_start() }, |head| Chain {
            number: head.number,
            hash: head.hash,
        })
    }

    /// Appends an event and returns its entry.
    pub(crate) fn append(&mut self, event: &str) -> AuditHead {
        self.number += 1;
        self.hash = audit_hash(&self.hash, self.number, event);
        AuditHead { number: self.number, hash: self.hash }
    }
}

/// Verifies entries in their order.
#[derive(Debug)]
pub(crate) struct Verification {
    chain: Chain,
    anchor: Option<AuditHead>,
    defect: Option<String>,
}

impl Verification {
    pub(crate) fn new(anchor: Option<AuditHead>) -> Self {
        Verification { chain: Chain::after(None), anchor, defect: None }
    }

    /// Verifies the next entry. Returns whether to go on.
    pub(crate) fn check(&mut self, entry: &StoredEntry) -> bool {
        let expected = self.chain.number + 1;
        if entry.number != expected {
            self.defect = Some(if entry.number > expected {
                format!("entries {expected} to {} are missing", entry.number - 1)
            } else {
                format!("entry {} is not in its place", entry.number)
            });
            return false;
        }
        let computed = self.chain.append(&entry.event);
        if computed.hash != entry.hash {
            self.chain.number -= 1;
            self.defect =
                Some(format!("entry {expected} does not match its hash: it was changed or inserted"));
            return false;
        }
        if let Some(anchor) = self.anchor.filter(|anchor| anchor.number == expected)
            && anchor.hash != entry.hash
        {
            self.defect = Some(format!(
                "the hash of entry {expected} differs from the given one: the chain was written anew"
            ));
            return false;
        }
        true
    }

    /// Compares the end of the chain with the stored head.
    pub(crate) fn end(mut self, head: Option<AuditHead>) -> AuditVerdict {
        let last =
            (self.chain.number > 0).then_some(AuditHead { number: self.chain.number, hash: self.chain.hash });
        if self.defect.is_none() {
            let missing =
                |number: u64| format!("entries {} to {number} are missing at the end", self.chain.number + 1);
            self.defect = match (head, self.anchor) {
                (Some(head), _) if head.number > self.chain.number => Some(missing(head.number)),
                (_, Some(anchor)) if anchor.number > self.chain.number => Some(missing(anchor.number)),
                (head, _) if head != last => Some("the last entry differs from the stored head".to_owned()),
                _ => None,
            };
        }
        let head = if self.defect.is_none() { last } else { None };
        AuditVerdict { verified: self.chain.number, head, defect: self.defect }
    }
}
