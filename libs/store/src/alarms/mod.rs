//! Stored alarms: the port of the service `alarms`.
//!
//! - **Alarms.** A write states the version that it replaces, so of two writers with the same knowledge one succeeds, and the
//!   other receives the stored alarm. A patient has at most one open alarm of each rule: the store enforces it, so two
//!   evaluators cannot raise an alarm twice.
//! - **Limits** of a scope, with a version and the user who changed them.
//! - **States of the rules** of a patient: conditions whose delay runs, as JSON that only the service reads. With them, a
//!   restarted evaluator continues the delays of its predecessor.
//! - **States of receivers** of notifications: which states of alarms they have got, as JSON that only the service reads.
//! - **Lease.** Of several processes, one evaluates at a time.
//!
//! All records carry a checksum, which is verified on every read.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use proto_json::alarms::{Alarm, AlarmAction, AlarmLimits, AlarmPriority, LimitScope};
use proto_json::{Cursor, Mrn};
use uuid::Uuid;

use crate::{PageRequest, StoreError};

/// Largest number of open alarms that are read. A ward has far fewer: a patient has at most one of each rule.
pub const MAX_OPEN_ALARMS: usize = 20_000;

/// Selects alarms of the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlarmQuery {
    /// Only alarms of this patient.
    pub mrn: Option<Mrn>,
    /// Only alarms that are open (`true`) or have ended (`false`).
    pub is_open: Option<bool>,
    /// Only alarms with this priority.
    pub priority: Option<AlarmPriority>,
}

/// A page of alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmList {
    /// The alarms, newest first by the time when they were raised, then by id.
    pub items: Vec<Alarm>,
    /// The start of the next page, if there is one.
    pub next: Option<Cursor>,
}

/// Result of writing an alarm.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmWrite {
    /// The alarm is stored durably, or was stored by an earlier call with the same content.
    Stored,
    /// Nothing is changed: the stored alarm has another version, or another alarm of the same patient and rule is open.
    /// Contains the stored alarm.
    Conflict(Box<Alarm>),
    /// Nothing is changed: the alarm is new, and its patient is erased.
    Erased,
}

/// Limits of a scope as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeLimits {
    /// The scope.
    pub scope: LimitScope,
    /// What the scope sets.
    pub limits: AlarmLimits,
    /// Version, at least 1.
    pub version: u64,
    /// Who changed them, and when.
    pub changed: AlarmAction,
}

/// Result of writing limits.
#[derive(Debug, Clone, PartialEq)]
pub enum LimitsWrite {
    /// The limits are stored durably.
    Stored(ScopeLimits),
    /// Nothing is changed: the stored version is another one. 0 if nothing is stored.
    Conflict(u64),
}

/// State of the rules of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    /// The patient.
    pub mrn: Mrn,
    /// JSON.
    pub state: String,
}

/// What a receiver of notifications has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverState {
    /// Identifies the receiver; a digest, because the URL of a receiver can contain a secret.
    pub receiver: String,
    /// JSON.
    pub state: String,
}

/// Stores alarms, their limits and the state of their rules.
///
/// Every method fails with [`StoreError::Unavailable`] when the store cannot be reached.
#[async_trait]
pub trait AlarmStore: Debug + Send + Sync + 'static {
    /// One alarm.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`] when the record is damaged.
    async fn alarm(&self, id: proto_json::RecordId) -> Result<Option<Alarm>, StoreError>;

    /// All open alarms, by patient and rule; at most [`MAX_OPEN_ALARMS`]. Damaged records are logged and omitted.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn open_alarms(&self) -> Result<Vec<Alarm>, StoreError>;

    /// Alarms, newest first by the time when they were raised, then by id. Damaged records are logged and omitted.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn alarms(&self, query: AlarmQuery, page: PageRequest) -> Result<AlarmList, StoreError>;

    /// Stores an alarm in the place of its previous version: `alarm.version - 1`, which is 0 for a new alarm. Durable when it
    /// returns. Patient, rule and time of raising of an alarm never change. Repeating the call is harmless.
    ///
    /// # Errors
    /// When the store cannot be reached; the alarm may be stored then.
    async fn put_alarm(&self, alarm: &Alarm) -> Result<AlarmWrite, StoreError>;

    /// All stored limits, by scope.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::Damaged`] when a record is damaged.
    async fn limits(&self) -> Result<Vec<ScopeLimits>, StoreError>;

    /// Stores the limits of a scope if the stored version is `version`; 0 if nothing is stored. The new version is one
    /// higher. Durable when it returns.
    ///
    /// # Errors
    /// When the store cannot be reached; the limits may be stored then.
    async fn put_limits(
        &self,
        scope: LimitScope,
        limits: AlarmLimits,
        version: u64,
        changed: AlarmAction,
    ) -> Result<LimitsWrite, StoreError>;

    /// States of the rules of all patients. A damaged state is logged and omitted: its delays start again.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn rule_states(&self) -> Result<Vec<RuleState>, StoreError>;

    /// Replaces the states of these patients. An empty text removes a state from [`AlarmStore::rule_states`].
    ///
    /// # Errors
    /// When the store cannot be reached; some states may be stored then.
    async fn put_rule_states(&self, states: Vec<RuleState>) -> Result<(), StoreError>;

    /// States of the receivers of notifications. A damaged state is logged and omitted: its receiver gets open alarms again.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn receiver_states(&self) -> Result<Vec<ReceiverState>, StoreError>;

    /// Replaces the state of a receiver. Durable when it returns. Only the process with the lease calls it.
    ///
    /// # Errors
    /// When the store cannot be reached; the state may be stored then.
    async fn put_receiver_state(&self, state: ReceiverState) -> Result<(), StoreError>;

    /// Acquires or renews the lease of the evaluation for `lease`: one process evaluates at a time. False while another process
    /// holds it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn lease_alarms(&self, holder: Uuid, lease: Duration) -> Result<bool, StoreError>;

    /// Ends the lease if `holder` has it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn release_alarms(&self, holder: Uuid) -> Result<(), StoreError>;
}
