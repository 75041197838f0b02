//! Progress of the scrub; see [`Maintenance`](crate::Maintenance).

use proto_json::Timestamp;
use serde::{Deserialize, Serialize};

/// The position of a scrub: a part of the store, and the last key that was checked in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPosition {
    /// Name of the part: a table or a collection.
    pub part: String,
    /// The last key that was checked, in the form of this store; `None` at the beginning of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Result of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Number of records and files that were checked.
    pub checked: u64,
    /// A message for each damaged record.
    pub damaged: Vec<String>,
    /// The position of the next step; `None` when everything was checked.
    pub next: Option<ScrubPosition>,
}

/// Progress of the background scrub. It is stored, so that the scrub continues after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// The position in this round; `None` between two rounds.
    pub position: Option<ScrubPosition>,
    /// When the last complete round ended.
    pub finished_at: Option<Timestamp>,
    /// Number of records checked in this round.
    pub checked: u64,
    /// Number of them that are damaged.
    pub damaged: u64,
    /// Number of damaged records in the last complete round.
    pub last_damaged: u64,
}
