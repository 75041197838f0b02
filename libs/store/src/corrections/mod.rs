//! Corrections of stored records: the port, and the rules that both adapters share.
//!
//! A correction is stored under an id that its user has chosen, so a repeated request changes nothing. What fits in one
//! transaction is done in one: marks, moved uploads, names. A merge, its undoing and an erasure have any size: their first
//! transaction stores the intent, changes the patients and redirects the number ([`Fate`]); [`Corrections::continue_correction`]
//! then moves or deletes the records in bounded transactions. The correction stays
//! [`Running`](proto_json::CorrectionState::Running) meanwhile, and anyone can continue it after a crash.
//!
//! Invariants:
//! - An upload belongs to one patient, and with it its records and files. What arrives later for a record, such as the result
//!   of an analysis, follows the record.
//! - What arrives for a number that was merged is stored with the surviving patient. What arrives for an erased number, upload or
//!   stream is not stored.
//! - One running correction at a time changes a patient; others are refused with [`Refusal::Busy`].

pub(crate) mod begin;
pub(crate) mod latest;
pub(crate) mod retention;
pub(crate) mod stays;
pub(crate) mod steps;
pub(crate) mod transaction;

use std::fmt::Debug;

use async_trait::async_trait;
use proto_json::{
    Correction, CorrectionAction, CorrectionId, CorrectionState, Fate, Mrn, PatientSummary, RecordId,
    RetentionBody, RetentionReport, StreamId, Timestamp, UploadId, WardId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;
use crate::wards::may_access_patient;

/// A correction to make.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCorrection {
    /// Its id.
    pub id: CorrectionId,
    /// What it does.
    pub action: CorrectionAction,
    /// The user.
    pub by: String,
    /// The reason that the user stated.
    pub reason: String,
    /// When it is made.
    pub at: Timestamp,
    /// The wards that the user may access; `None` for all. Patients of other wards do not exist for the user.
    pub wards: Option<Vec<WardId>>,
    /// Patients of other wards whom the user may access for now.
    pub granted: Vec<Mrn>,
}

impl NewCorrection {
    /// Whether the user may access a patient. A patient in no ward is accessible to everyone.
    pub(crate) fn may_access(&self, patient: &PatientSummary) -> bool {
        may_access_patient(self.wards.as_deref(), &self.granted, patient)
    }
}

/// Result of a correction.
#[derive(Debug, Clone, PartialEq)]
pub enum CorrectionOutcome {
    /// It is stored. It is complete if its state says so.
    Accepted {
        /// The correction.
        correction: Correction,
        /// The patients after the change, without those that do not exist any more.
        patients: Vec<PatientSummary>,
        /// It was stored before; nothing was changed.
        replayed: bool,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a correction was refused. The message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another correction has this id.
    #[error("another correction was made with this Idempotency-Key; use a new key")]
    IdReused,
    /// There is no such record.
    #[error("there is no heart rate, ECG or image with this id")]
    UnknownRecord,
    /// There is no such upload.
    #[error("there is no upload with this id")]
    UnknownUpload,
    /// There is no such merge.
    #[error("there is no merge with this id")]
    UnknownMerge,
    /// There is no such patient.
    #[error("there is no patient with the number {0}")]
    UnknownPatient(Mrn),
    /// The number leads to another patient.
    #[error("the patient {mrn} was merged into {into}; use that number")]
    Merged {
        /// The number.
        mrn: Mrn,
        /// The surviving patient.
        into: Mrn,
    },
    /// The patient was erased.
    #[error("the patient {0} was erased, and the number cannot be used again")]
    Erased(Mrn),
    /// Both numbers are the same.
    #[error("a patient cannot be merged with itself; name another patient")]
    SamePatient,
    /// The record is marked.
    #[error("the record is marked as entered in error already")]
    AlreadyMarked,
    /// The record is not marked.
    #[error("the record is not marked as entered in error")]
    NotMarked,
    /// The upload belongs to this patient.
    #[error("the upload belongs to the patient {0} already")]
    AlreadyThere(Mrn),
    /// The patient has this name.
    #[error("the patient has this name already")]
    SameName,
    /// The merge was undone.
    #[error("the merge was undone already")]
    AlreadyUndone,
    /// The surviving patient of the merge does not exist any more.
    #[error(
        "the surviving patient {0} does not exist any more; if it was merged later, undo that merge first"
    )]
    NotUndoable(Mrn),
    /// Another correction of the patient is running.
    #[error("another correction of the patient {0} is running; try again in a moment")]
    Busy(Mrn),
    /// A legal hold protects the patient.
    #[error("a legal hold protects the patient {0}; release it first")]
    OnHold(Mrn),
    /// The patient has a legal hold.
    #[error("the patient {0} has a legal hold already")]
    AlreadyHeld(Mrn),
    /// The patient has no legal hold.
    #[error("the patient {0} has no legal hold")]
    NotHeld(Mrn),
}

/// Progress of a running correction.
#[derive(Debug, Clone, PartialEq)]
pub enum CorrectionStep {
    /// More is to be done.
    More,
    /// Nothing of an erased patient is left in the store. Copies in the broker are to be removed, then
    /// [`Corrections::finish_erasure`] completes it.
    Erased(Mrn),
    /// It is complete. Contains the patients after the change.
    Done(Vec<PatientSummary>),
}

/// Reads corrections.
#[async_trait]
pub trait CorrectionReader: Debug + Send + Sync + 'static {
    /// What has become of a number: the surviving patient at the end of all merges, or the erasure. `None` if the number was
    /// neither merged nor erased.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn fate(&self, mrn: Mrn) -> Result<Option<Fate>, StoreError>;

    /// The corrections of a patient, newest first, at most `limit`; those of a merged or erased number as well.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn corrections(&self, mrn: Mrn, limit: usize) -> Result<Vec<Correction>, StoreError>;

    /// Whether an upload or a stream belonged to an erased patient.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn is_erased(&self, item: Uuid) -> Result<bool, StoreError>;
}

/// Makes corrections. Ingest is the only writer.
#[async_trait]
pub trait Corrections: CorrectionReader {
    /// Makes a correction, or begins one. Durable when it returns. The same correction again changes nothing.
    ///
    /// # Errors
    /// When the store cannot be reached; the correction may be stored then, and making it again is harmless.
    async fn correct(&self, correction: &NewCorrection) -> Result<CorrectionOutcome, StoreError>;

    /// The running corrections, oldest first.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn running_corrections(&self) -> Result<Vec<CorrectionId>, StoreError>;

    /// Does a part of a running correction, at the time `now`. Concurrent calls are harmless.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn continue_correction(
        &self,
        id: CorrectionId,
        now: Timestamp,
    ) -> Result<CorrectionStep, StoreError>;

    /// Completes an erasure after the copies in the broker were removed.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn finish_erasure(&self, id: CorrectionId) -> Result<(), StoreError>;

    /// Removes the files of an upload that was not stored, because its patient was erased meanwhile.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn discard_files(&self, upload: UploadId) -> Result<(), StoreError>;

    /// Applies a retention rule to some patients, at the time `now`; see [`RetentionReport::next`]. Patients with a legal hold
    /// are left out. Returns also the patients that changed.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn retain(
        &self,
        rule: RetentionBody,
        now: Timestamp,
    ) -> Result<(RetentionReport, Vec<PatientSummary>), StoreError>;
}

/// A correction as it is stored: with what undoing it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredCorrection {
    pub(crate) correction: Correction,
    /// The merged patient as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) former: Option<Box<PatientSummary>>,
    /// The surviving patient had no name and got that of the merged patient.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) took_name: bool,
}

impl StoredCorrection {
    pub(crate) fn is_running(&self) -> bool {
        self.correction.state == CorrectionState::Running
    }
}

/// What a merge has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergedItem {
    Upload(UploadId),
    Stream(StreamId),
    /// A stay in a bed.
    Stay(RecordId),
}

impl MergedItem {
    /// Its kind as a number, and its id.
    pub(crate) fn parts(self) -> (i32, Uuid) {
        match self {
            MergedItem::Upload(id) => (0, *id.as_uuid()),
            MergedItem::Stream(id) => (1, *id.as_uuid()),
            MergedItem::Stay(id) => (2, *id.as_uuid()),
        }
    }

    pub(crate) fn of(kind: i32, id: Uuid) -> Option<Self> {
        match kind {
            0 => Some(MergedItem::Upload(UploadId::from_uuid(id))),
            1 => Some(MergedItem::Stream(StreamId::from_uuid(id))),
            2 => Some(MergedItem::Stay(RecordId::from_uuid(id))),
            _ => None,
        }
    }
}

/// Longest chain of merges that is followed: a bound in case that stored data form a cycle.
pub(crate) const MAX_CHAIN: usize = 64;

/// Kinds of records that can be marked.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    HeartRate(proto_json::HeartRateRecord),
    Ecg(Box<proto_json::EcgRecord>),
    Image(proto_json::ImageRecord),
}

impl Record {
    pub(crate) fn mrn(&self) -> Mrn {
        match self {
            Record::HeartRate(rate) => rate.mrn,
            Record::Ecg(ecg) => ecg.mrn,
            Record::Image(image) => image.mrn,
        }
    }

    pub(crate) fn mark(&mut self) -> &mut Option<proto_json::ErrorMark> {
        match self {
            Record::HeartRate(rate) => &mut rate.entered_in_error,
            Record::Ecg(ecg) => &mut ecg.entered_in_error,
            Record::Image(image) => &mut image.entered_in_error,
        }
    }
}

/// Ids of the records that a receipt names, without repetitions.
pub(crate) fn records_of(receipt: &proto_json::UploadReceipt) -> Vec<(RecordId, proto_json::FileKind)> {
    let mut records: Vec<_> = receipt.files.iter().map(|file| (file.id, file.kind)).collect();
    records.sort_unstable_by_key(|(id, _)| *id);
    records.dedup_by_key(|(id, _)| *id);
    records
}
