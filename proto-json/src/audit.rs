//! Entries of the audit.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hash::BlobHasher;
use crate::ids::{BlobHash, Mrn, UploadId, WardId};
use crate::time::Timestamp;

/// An access or a change: who did what to whom, from where, and with which outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEvent {
    /// When the gateway answered, in server time.
    pub at: Timestamp,
    /// Name of the user, or of the client of a token.
    pub client: String,
    /// Role of the client.
    pub role: String,
    /// The wards that the client was limited to; absent if it was not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wards: Option<Vec<WardId>>,
    /// Address of the client.
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// Method of the request.
    pub method: String,
    /// Route template of the request; a path could contain anything.
    pub route: String,
    /// The patient whose data was accessed, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mrn: Option<Mrn>,
    /// Id of the record, the upload or the dead letter in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The upload that the request submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// Id of the request, as in the header `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<Uuid>,
    /// Status of the response; 499 if the client disconnected before it.
    pub status: u16,
    /// Outcome in a word.
    pub outcome: String,
}

/// An entry of the audit. Entries form a chain: each hash covers the hash of the entry before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Number of the entry, from 1 without gaps.
    pub number: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// Hash of the chain up to this entry.
    pub hash: BlobHash,
}

/// Entries of the audit, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// Entries.
    pub items: Vec<AuditEntry>,
    /// The number to continue before, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The last entry of the chain. Kept elsewhere, it reveals that entries were removed at the end or that the whole chain was
/// written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditHead {
    /// Number of entries.
    pub number: u64,
    /// Hash of the chain up to the last entry.
    pub hash: BlobHash,
}

/// Events that a gateway sends together. A batch that is sent again is stored once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBatch {
    /// The gateway: a new id per process.
    pub gateway: Uuid,
    /// Number of the batch, from 1, increasing.
    pub batch: u64,
    /// The events in their order.
    pub events: Vec<AuditEvent>,
}

/// Result of a verification of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerdict {
    /// Number of verified entries.
    pub verified: u64,
    /// The last entry, if the chain is intact and not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<AuditHead>,
    /// The first defect, in one sentence; absent if the chain is intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
}

/// Returns the hash of the chain up to an entry: SHA-256 of the hash before, the number and the stored JSON of the event.
#[must_use]
pub fn audit_hash(before: &BlobHash, number: u64, event: &str) -> BlobHash {
    let mut hasher = BlobHasher::default();
    hasher.update(before.as_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.update(event.as_bytes());
    hasher.finish()
}

/// The hash before the first entry.
#[must_use]
pub fn audit_start() -> BlobHash {
    BlobHash::from_bytes([0; 32])
}

/// The text is not `NUMBER:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor of the audit is the number of an entry, a colon, and its hash of 64 hexadecimal digits")]
pub struct AnchorError;

impl std::str::FromStr for AuditHead {
    type Err = AnchorError;
    fn from_str(text: &str) -> Result<Self, AnchorError> {
        let (number, hash) = text.trim().split_once(':').ok_or(AnchorError)?;
        let number = number.parse().map_err(|_| AnchorError)?;
        Ok(AuditHead { number, hash: hash.parse().map_err(|_| AnchorError)? })
    }
}

impl std::fmt::Display for AuditHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}
