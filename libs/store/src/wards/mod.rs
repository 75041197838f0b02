//! Wards, beds, admissions and details of patients: the ports, and the rules that both adapters share ([`rules`]).
//!
//! A ward is one record with its beds and their occupants. A further record per bed names its ward. A patient has its
//! current stay in its summary, and all of its stays in the history of admissions.
//!
//! Invariants:
//! - A change is one transaction over ward, patient and history. Two changes of one bed write the same ward, and two changes
//!   of one patient the same summary, so one of them sees the other.
//! - A bed has at most one patient and a patient at most one bed. Unique indexes on the open stays ensure it once more.
//! - A change that is repeated with the same ids, because its answer was lost, changes nothing and succeeds.

pub(crate) mod rules;

use std::fmt::Debug;

use async_trait::async_trait;
use proto_json::wards::{AdmissionRecord, DetailsUpdate, MAX_BEDS, MAX_WARDS, PlaceName, Ward};
use proto_json::{BedId, Cursor, Mrn, Page, PatientSummary, RecordId, Timestamp, WardId};

use crate::search::Search;
use crate::{PageRequest, StoreError};

/// Who changes something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Name of the user or of the client.
    pub name: String,
    /// The wards that the user may access; `None` for all. Wards and patients of other wards do not exist for this user.
    pub wards: Option<Vec<WardId>>,
    /// Patients of other wards whom the user may access for now. The wards in which they are stay unknown to the user.
    pub granted: Vec<Mrn>,
    /// The time of the server.
    pub at: Timestamp,
}

impl Author {
    pub(crate) fn may_access(&self, ward: WardId) -> bool {
        may_access_ward(self.wards.as_deref(), ward)
    }

    pub(crate) fn may_access_patient(&self, patient: &PatientSummary) -> bool {
        may_access_patient(self.wards.as_deref(), &self.granted, patient)
    }
}

fn may_access_ward(wards: Option<&[WardId]>, ward: WardId) -> bool {
    wards.is_none_or(|wards| wards.contains(&ward))
}

/// Whether a user with access to these wards (`None`: all) and to these patients may access a patient. A patient in no ward is
/// accessible to everyone.
pub(crate) fn may_access_patient(
    wards: Option<&[WardId]>,
    granted: &[Mrn],
    patient: &PatientSummary,
) -> bool {
    let admission = patient.admission.as_ref();
    granted.contains(&patient.mrn) || admission.is_none_or(|admission| may_access_ward(wards, admission.ward))
}

/// A change of a ward or of its beds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WardChange {
    /// Adds a ward without beds.
    AddWard {
        /// Its id.
        ward: WardId,
        /// Its name.
        name: PlaceName,
    },
    /// Renames a ward.
    RenameWard {
        /// The ward.
        ward: WardId,
        /// The new name.
        name: PlaceName,
        /// The expected version of the ward.
        version: Option<u64>,
    },
    /// Removes a ward with its beds, all of which must be empty.
    RemoveWard {
        /// The ward.
        ward: WardId,
    },
    /// Adds an empty bed.
    AddBed {
        /// The ward.
        ward: WardId,
        /// Id of the bed.
        bed: BedId,
        /// Its name.
        name: PlaceName,
    },
    /// Renames a bed.
    RenameBed {
        /// The ward.
        ward: WardId,
        /// The bed.
        bed: BedId,
        /// The new name.
        name: PlaceName,
        /// The expected version of the ward.
        version: Option<u64>,
    },
    /// Removes an empty bed.
    RemoveBed {
        /// The ward.
        ward: WardId,
        /// The bed.
        bed: BedId,
    },
}

impl WardChange {
    /// The ward that changes.
    #[must_use]
    pub fn ward(&self) -> WardId {
        match self {
            WardChange::AddWard { ward, .. }
            | WardChange::RenameWard { ward, .. }
            | WardChange::RemoveWard { ward }
            | WardChange::AddBed { ward, .. }
            | WardChange::RenameBed { ward, .. }
            | WardChange::RemoveBed { ward, .. } => *ward,
        }
    }
}

/// A change of where a patient is, or of the details of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CareChange {
    /// Admits a patient to an empty bed.
    Admit {
        /// The bed.
        bed: BedId,
        /// Id of the new stay.
        stay: RecordId,
    },
    /// Moves an admitted patient to an empty bed.
    Transfer {
        /// The bed.
        bed: BedId,
        /// The expected current stay.
        from: Option<RecordId>,
        /// Id of the new stay.
        stay: RecordId,
    },
    /// Discharges an admitted patient.
    Discharge {
        /// The expected current stay.
        from: Option<RecordId>,
    },
    /// Changes the details.
    Details(DetailsUpdate),
}

/// A ward after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedWard {
    /// The ward, or the ward as it was before it was removed.
    pub ward: Ward,
    /// The bed that was added or renamed.
    pub bed: Option<BedId>,
    /// The patients that are in the ward, if their summaries have changed.
    pub patients: Vec<PatientSummary>,
    /// Whether anything has changed; false for a repeated change.
    pub is_changed: bool,
}

/// A patient after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedPatient {
    /// The patient.
    pub patient: PatientSummary,
    /// Whether anything has changed; false for a repeated change.
    pub is_changed: bool,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WardRefusal {
    /// No ward has this id.
    #[error("there is no ward with this id")]
    UnknownWard,
    /// No bed has this id.
    #[error("there is no bed with this id")]
    UnknownBed,
    /// No patient has this number.
    #[error("there is no patient with this medical record number")]
    UnknownPatient,
    /// Another ward, or another bed of the ward, has this name.
    #[error("another {0} has this name; choose another name")]
    NameTaken(&'static str),
    /// Another ward, bed or stay has the id that the client chose.
    #[error("the id of the new {0} is in use; send another one, or none")]
    IdTaken(&'static str),
    /// There are as many wards or beds as possible.
    #[error("{}", too_many(.0))]
    TooMany(&'static str),
    /// The version differs from the expected one.
    #[error("the {what} have version {found}, not {expected}: someone else changed them; load them again")]
    VersionConflict {
        /// What has the version, in the plural.
        what: &'static str,
        /// The version in the request.
        expected: u64,
        /// The current version.
        found: u64,
    },
    /// The ward or bed has a patient.
    #[error(
        "the {what} cannot be removed, because patient {occupant} is in it; discharge or transfer the patient first"
    )]
    InUse {
        /// `ward` or `bed`.
        what: &'static str,
        /// A patient in it.
        occupant: Mrn,
    },
    /// The bed has another patient.
    #[error("bed {bed} of {ward} is occupied by patient {occupant}; choose another bed")]
    BedOccupied {
        /// Name of the ward.
        ward: PlaceName,
        /// Name of the bed.
        bed: PlaceName,
        /// The patient in the bed.
        occupant: Mrn,
    },
    /// The patient is admitted.
    #[error("the patient is already in bed {bed} of {ward}; transfer or discharge the patient instead")]
    AlreadyAdmitted {
        /// Name of the ward.
        ward: PlaceName,
        /// Name of the bed.
        bed: PlaceName,
    },
    /// The patient is in the bed to which it should be moved.
    #[error("the patient is already in bed {bed} of {ward}")]
    SameBed {
        /// Name of the ward.
        ward: PlaceName,
        /// Name of the bed.
        bed: PlaceName,
    },
    /// The patient is not admitted.
    #[error("the patient is not admitted")]
    NotAdmitted,
    /// The patient has another stay than the expected one.
    #[error("the patient was moved or discharged meanwhile; load the patient again")]
    OtherStay,
    /// The date of birth is in the future.
    #[error("the date of birth is in the future")]
    BirthDateInFuture,
}

fn too_many(what: &str) -> String {
    match what {
        "ward" => format!("there are {MAX_WARDS} wards, which is the maximum"),
        _ => format!("the ward has {MAX_BEDS} beds, which is the maximum"),
    }
}

/// A change of wards or admissions failed. Nothing was changed, except after [`StoreError::Unavailable`], when it is unknown.
#[derive(Debug, thiserror::Error)]
pub enum WardError {
    /// The change is not possible.
    #[error(transparent)]
    Refused(#[from] WardRefusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads wards, admissions and the patients of wards.
#[async_trait]
pub trait WardReader: Debug + Send + Sync + 'static {
    /// All wards, ascending by name without case.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn wards(&self) -> Result<Page<Ward>, StoreError>;

    /// Stays of a patient, newest first by their beginning, then by id.
    ///
    /// # Errors
    /// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list.
    async fn admissions(&self, mrn: Mrn, page: PageRequest) -> Result<Page<AdmissionRecord>, StoreError>;

    /// The patients with these numbers that exist, ascending. At most [`PATIENTS_AT_ONCE`] numbers.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn patients_of(&self, numbers: Vec<Mrn>) -> Result<Page<PatientSummary>, StoreError>;
}

/// Changes wards, admissions and details. Ingest is the only writer.
#[async_trait]
pub trait WardStore: WardReader {
    /// Changes a ward or its beds in one transaction. Durable when it returns.
    ///
    /// # Errors
    /// [`WardError`].
    async fn change_ward(&self, change: &WardChange, author: &Author) -> Result<ChangedWard, WardError>;

    /// Changes the place or the details of a patient in one transaction. Durable when it returns.
    ///
    /// # Errors
    /// [`WardError`].
    async fn change_care(
        &self,
        mrn: Mrn,
        change: &CareChange,
        author: &Author,
    ) -> Result<ChangedPatient, WardError>;
}

/// Maximum number of patients that [`WardReader::patients_of`] reads.
pub const PATIENTS_AT_ONCE: usize = 1_000;

/// Admitted patients after the cursor, ascending by number; with `ward`, those of one ward. `query` selects as in
/// [`PatientReader::patients`](crate::PatientReader::patients). The wards are the index of this list: only admitted patients
/// are read.
///
/// # Errors
/// When the store cannot be reached; [`StoreError::WrongCursor`] for a cursor of another list; [`StoreError::Damaged`] if a
/// ward is damaged, because its patients are unknown then.
pub async fn admitted_patients(
    store: &(impl WardReader + ?Sized),
    ward: Option<WardId>,
    query: Option<&str>,
    page: PageRequest,
) -> Result<Page<PatientSummary>, StoreError> {
    let (search, after, limit) = (Search::parse(query), page.after_patient()?, page.size());
    let wards = store.wards().await?;
    if let Some(damaged) = wards.damaged.into_iter().next() {
        return Err(StoreError::Damaged(damaged));
    }
    let of_ward = |known: &&Ward| ward.is_none_or(|ward| known.id == ward);
    let beds = wards.items.iter().filter(of_ward).flat_map(|ward| &ward.beds);
    let mut numbers: Vec<Mrn> =
        beds.filter_map(|bed| bed.occupant).filter(|mrn| after.is_none_or(|after| *mrn > after)).collect();
    numbers.sort_unstable();
    let mut found = Page { items: Vec::new(), next: None, damaged: Vec::new() };
    for some in numbers.chunks(limit.clamp(1, PATIENTS_AT_ONCE)) {
        let page = store.patients_of(some.to_vec()).await?;
        found.damaged.extend(page.damaged);
        // A patient can be moved between the two reads.
        let is_there = |patient: &PatientSummary| {
            patient.admission.as_ref().is_some_and(|at| ward.is_none_or(|ward| at.ward == ward))
        };
        let matches = |patient: &PatientSummary| search.as_ref().is_none_or(|search| search.matches(patient));
        found.items.extend(page.items.into_iter().filter(|patient| is_there(patient) && matches(patient)));
        if found.items.len() > limit {
            break;
        }
    }
    let damaged = found.damaged;
    let page = crate::records::page(found.items, limit, |patient| Cursor::Patient(patient.mrn));
    Ok(Page { damaged, ..page })
}
