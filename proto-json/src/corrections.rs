//! Corrections: records that were entered in error, moved uploads, corrected names, merges, erasures and legal holds.
//!
//! A correction never changes or deletes what it corrects silently: it is stored with user, time and reason, and everything
//! but an erasure can be undone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CorrectionId, Mrn, RecordId, UploadId};
use crate::schemas::TEXT;
use crate::time::Timestamp;

/// Largest number of characters of a reason.
pub const MAX_REASON_CHARS: usize = 500;

/// Why a record is hidden: a user has marked it as entered in error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorMark {
    /// The correction that marked it.
    pub correction: CorrectionId,
    /// The user.
    pub by: String,
    /// When it was marked.
    pub at: Timestamp,
    /// The reason that the user stated.
    pub reason: String,
}

/// What a correction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum CorrectionAction {
    /// Marks a heart rate, an ECG or an image as entered in error. An ECG includes its heart rate.
    EnteredInError {
        /// The record.
        record: RecordId,
    },
    /// Removes such a mark.
    ErrorUndone {
        /// The record.
        record: RecordId,
    },
    /// Moves an upload with all of its records and files to another patient.
    UploadMoved {
        /// The upload.
        upload_id: UploadId,
        /// The patient that it belonged to. The store sets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Mrn>,
        /// The patient that it belongs to now.
        to: Mrn,
        /// Creates the patient if none has this number.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        create: bool,
    },
    /// Corrects the name of a patient. The former name stays in the list of former names.
    NameCorrected {
        /// The patient.
        mrn: Mrn,
        /// The correct name.
        name: String,
    },
    /// Moves all records of a patient to another one. The number then leads to the other patient.
    Merged {
        /// The patient whose number is no longer used.
        from: Mrn,
        /// The surviving patient.
        into: Mrn,
    },
    /// Undoes a merge. Records that were uploaded after the merge stay with the surviving patient.
    MergeUndone {
        /// The merge.
        merge: CorrectionId,
    },
    /// Deletes everything about a patient. The number cannot be used again.
    Erased {
        /// The patient.
        mrn: Mrn,
    },
    /// Protects a patient from erasure and retention.
    HoldPlaced {
        /// The patient.
        mrn: Mrn,
    },
    /// Ends such a protection.
    HoldReleased {
        /// The patient.
        mrn: Mrn,
    },
}

/// Whether a correction is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionState {
    /// Some records are still to be moved or deleted. The server continues by itself, also after a restart.
    Running,
    /// It is complete.
    Done,
}

/// A stored correction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Correction {
    /// Its id, derived from the `Idempotency-Key` of the request.
    pub id: CorrectionId,
    /// What it does.
    #[serde(flatten)]
    pub action: CorrectionAction,
    /// The patients that it changes.
    pub patients: Vec<Mrn>,
    /// The user.
    pub by: String,
    /// When it was made.
    pub at: Timestamp,
    /// The reason that the user stated; absent if it was removed with an erased patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is complete.
    pub state: CorrectionState,
    /// The correction that has undone it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<CorrectionId>,
}

/// Body of a request that only needs a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Why, in one sentence; 1 to 500 characters. It is shown with the record.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// Body of the request that moves an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// The correct patient.
    pub mrn: Mrn,
    /// Creates the patient if none has this number.
    #[serde(default)]
    pub create: bool,
    /// Why, in one sentence; 1 to 500 characters.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// Body of the request that corrects a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameBody {
    /// The correct name.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub name: String,
    /// Why, in one sentence; 1 to 500 characters.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// Body of the request that merges a patient into another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeBody {
    /// The surviving patient.
    pub into: Mrn,
    /// Why, in one sentence; 1 to 500 characters.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// Body of the request that erases a patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseBody {
    /// The number of the patient again, as a confirmation. Another number is rejected with 409.
    pub confirm: Mrn,
    /// Why, in one sentence; 1 to 500 characters. It is kept: do not name the patient.
    #[schemars(length(min = 1, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// Kinds of data that a retention rule removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetentionKind {
    /// Heart rates in the history.
    HeartRates,
    /// ECGs with their files.
    Ecgs,
    /// Images with their files.
    Images,
    /// Waveforms.
    Waveforms,
    /// Alarms that have ended.
    Alarms,
    /// Stays in beds that have ended.
    Admissions,
}

/// Body of the request that applies a retention rule to some of the patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionBody {
    /// The kind of data.
    pub kind: RetentionKind,
    /// Data of an earlier time are removed; by time of recording, or of receipt if that is unknown. A time in the future is
    /// rejected with 409.
    pub before: Timestamp,
    /// Only counts what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// The `next` of the previous answer; absent in the first request.
    #[serde(default)]
    pub after: Option<Mrn>,
}

/// Result of one such request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionReport {
    /// Number of records, or of parts of waveforms of up to 60 s and one channel.
    pub records: u64,
    /// Number of patients that have such data.
    pub patients: u64,
    /// Number of patients that were left out because of a legal hold.
    pub held: u64,
    /// Send this as `after` to continue with further patients; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Mrn>,
}

/// What has become of a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// Its patient was merged into another one.
    Merged {
        /// The surviving patient.
        into: Mrn,
        /// The merge.
        merge: CorrectionId,
    },
    /// Its patient was erased.
    Erased {
        /// When.
        at: Timestamp,
        /// The erasure.
        erasure: CorrectionId,
    },
}
