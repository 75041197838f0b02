//! Checking everything that is stored, whether anyone reads it or not.
//!
//! A scrub reads all records and files once, in steps: it can be slow, interrupted and continued. `ingest` runs one in the
//! background; `bedside verify` runs one at full speed.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use proto_json::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;

/// Where a scrub goes on: a part of the store, and the last key in it that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPosition {
    /// Name of the part: a table, a collection, or what else the store is made of.
    pub part: String,
    /// The last key that was checked, in the form of this store; `None` at the beginning of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What one step has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Records and files that were checked.
    pub checked: u64,
    /// What is damaged, a sentence for each.
    pub damaged: Vec<String>,
    /// Where to go on; `None` when everything was checked.
    pub next: Option<ScrubPosition>,
}

/// How far the background scrub has come. It is kept in the store, so that it goes on after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// Where this round goes on; `None` between two rounds.
    pub position: Option<ScrubPosition>,
    /// When the last complete round ended.
    pub finished_at: Option<Timestamp>,
    /// Records checked in this round.
    pub checked: u64,
    /// Of these, how many are damaged.
    pub damaged: u64,
    /// How many the last complete round found damaged.
    pub last_damaged: u64,
}

/// The check of all records of a store.
#[async_trait]
pub trait Scrub: Debug + Send + Sync + 'static {
    /// Checks about `records` records from `from` on; fewer where they are files.
    ///
    /// # Errors
    /// When the store cannot be reached. Damage is no error.
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError>;

    /// About how many records and files there are, for progress.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn scrub_total(&self) -> Result<u64, StoreError>;

    /// Takes the background scrub for `lease`, or renews it: one process scrubs at a time. `None` while another one
    /// holds it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn lease_scrub(&self, holder: Uuid, lease: Duration) -> Result<Option<ScrubState>, StoreError>;

    /// Keeps how far the scrub has come, if `holder` still holds it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn save_scrub(&self, holder: Uuid, state: &ScrubState) -> Result<(), StoreError>;
}
