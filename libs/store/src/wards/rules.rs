//! The rules of changes of wards, admissions and details. They decide on records that an adapter has read in a transaction,
//! and return the records that it writes in the same transaction.

use proto_json::wards::{
    Admission, AdmissionRecord, Bed, DetailsUpdate, MAX_BEDS, MAX_WARDS, PlaceName, StayEvent, StayEventKind,
    Ward,
};
use proto_json::{BedId, Mrn, PatientSummary, RecordId, WardId};

use super::{Author, CareChange, WardChange, WardError, WardRefusal};
use crate::StoreError;

/// What a change of a ward depends on.
#[derive(Debug, Default)]
pub(crate) struct WardState {
    /// The ward.
    pub(crate) ward: Option<Ward>,
    /// Names and ids of all wards; needed if the change has a name of a ward.
    pub(crate) names: Vec<(WardId, PlaceName)>,
    /// Whether the id of a new bed is that of a bed of another ward.
    pub(crate) is_bed_elsewhere: bool,
}

/// What a change of a ward writes.
#[derive(Debug)]
pub(crate) struct WardWrites {
    /// The ward after the change, or before its removal.
    pub(crate) ward: Ward,
    /// What happens to the ward.
    pub(crate) kind: Write,
    /// A bed whose record is added.
    pub(crate) added: Option<BedId>,
    /// Beds whose records are removed.
    pub(crate) removed: Vec<BedId>,
    /// Patients whose summaries get the new name.
    pub(crate) renamed: Vec<Mrn>,
    /// The bed that was added or renamed.
    pub(crate) bed: Option<BedId>,
}

/// What happens to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// It stays as it is: the change is repeated.
    Nothing,
    Insert,
    Replace,
    Remove,
}

impl WardWrites {
    fn of(ward: Ward, kind: Write) -> Self {
        WardWrites { ward, kind, added: None, removed: Vec::new(), renamed: Vec::new(), bed: None }
    }

    /// The change was made before.
    fn repeated(ward: Ward, bed: Option<BedId>) -> Self {
        WardWrites { bed, ..WardWrites::of(ward, Write::Nothing) }
    }

    fn replace(mut ward: Ward, bed: Option<BedId>) -> Self {
        ward.version += 1;
        WardWrites { bed, ..WardWrites::of(ward, Write::Replace) }
    }
}

/// Whether the adapter has to read the names of all wards.
pub(crate) fn needs_names(change: &WardChange) -> bool {
    matches!(change, WardChange::AddWard { .. } | WardChange::RenameWard { .. })
}

/// Decides a change of a ward.
pub(crate) fn change_ward(
    change: &WardChange,
    author: &Author,
    state: WardState,
) -> Result<WardWrites, WardRefusal> {
    let id = change.ward();
    let is_taken = |name: &PlaceName| {
        let key = name.key();
        state.names.iter().any(|(other, name)| *other != id && name.key() == key)
    };
    if let WardChange::AddWard { name, .. } = change {
        return match state.ward {
            Some(ward) if ward.name == *name => Ok(WardWrites::repeated(ward, None)),
            Some(_) => Err(WardRefusal::IdTaken("ward")),
            None if is_taken(name) => Err(WardRefusal::NameTaken("ward")),
            None if state.names.len() >= MAX_WARDS => Err(WardRefusal::TooMany("ward")),
            None => {
                let ward = Ward { id, name: name.clone(), version: 1, beds: Vec::new() };
                Ok(WardWrites::of(ward, Write::Insert))
            }
        };
    }
    let known = state.ward.filter(|ward| author.may_access(ward.id));
    let mut ward = known.ok_or(WardRefusal::UnknownWard)?;
    match change {
        WardChange::AddWard { .. } => Err(WardRefusal::UnknownWard),
        WardChange::RenameWard { name, version, .. } => {
            if ward.name == *name && follows(*version, &ward) {
                return Ok(WardWrites::repeated(ward, None));
            }
            check_version(*version, &ward)?;
            if is_taken(name) {
                return Err(WardRefusal::NameTaken("ward"));
            }
            ward.name = name.clone();
            let renamed = ward.beds.iter().filter_map(|bed| bed.occupant).collect();
            Ok(WardWrites { renamed, ..WardWrites::replace(ward, None) })
        }
        WardChange::RemoveWard { .. } => match ward.beds.iter().find_map(|bed| bed.occupant) {
            Some(occupant) => Err(WardRefusal::InUse { what: "ward", occupant }),
            None => {
                let removed = ward.beds.iter().map(|bed| bed.id).collect();
                Ok(WardWrites { removed, ..WardWrites::of(ward, Write::Remove) })
            }
        },
        WardChange::AddBed { bed, name, .. } => {
            if let Some(known) = ward.bed(*bed) {
                let is_same = known.name == *name;
                return if is_same {
                    Ok(WardWrites::repeated(ward, Some(*bed)))
                } else {
                    Err(WardRefusal::IdTaken("bed"))
                };
            }
            if state.is_bed_elsewhere {
                return Err(WardRefusal::IdTaken("bed"));
            }
            check_bed_name(&ward, *bed, name)?;
            if ward.beds.len() >= MAX_BEDS {
                return Err(WardRefusal::TooMany("bed"));
            }
            ward.beds.push(Bed { id: *bed, name: name.clone(), occupant: None });
            Ok(WardWrites { added: Some(*bed), ..WardWrites::replace(ward, Some(*bed)) })
        }
        WardChange::RenameBed { bed, name, version, .. } => {
            let known = ward.bed(*bed).ok_or(WardRefusal::UnknownBed)?;
            if known.name == *name && follows(*version, &ward) {
                return Ok(WardWrites::repeated(ward, Some(*bed)));
            }
            check_version(*version, &ward)?;
            check_bed_name(&ward, *bed, name)?;
            let mut renamed = Vec::new();
            for known in ward.beds.iter_mut().filter(|known| known.id == *bed) {
                known.name = name.clone();
                renamed.extend(known.occupant);
            }
            Ok(WardWrites { renamed, ..WardWrites::replace(ward, Some(*bed)) })
        }
        WardChange::RemoveBed { bed, .. } => {
            let known = ward.bed(*bed).ok_or(WardRefusal::UnknownBed)?;
            if let Some(occupant) = known.occupant {
                return Err(WardRefusal::InUse { what: "bed", occupant });
            }
            ward.beds.retain(|known| known.id != *bed);
            Ok(WardWrites { removed: vec![*bed], ..WardWrites::replace(ward, None) })
        }
    }
}

fn check_version(expected: Option<u64>, ward: &Ward) -> Result<(), WardRefusal> {
    match expected {
        Some(expected) if expected != ward.version => {
            Err(WardRefusal::VersionConflict { what: "beds of the ward", expected, found: ward.version })
        }
        _ => Ok(()),
    }
}

/// Whether the ward can be the result of a change that expected this version.
fn follows(expected: Option<u64>, ward: &Ward) -> bool {
    expected.is_none_or(|expected| expected == ward.version || expected.checked_add(1) == Some(ward.version))
}

fn check_bed_name(ward: &Ward, bed: BedId, name: &PlaceName) -> Result<(), WardRefusal> {
    let key = name.key();
    match ward.beds.iter().any(|other| other.id != bed && other.name.key() == key) {
        true => Err(WardRefusal::NameTaken("bed")),
        false => Ok(()),
    }
}

/// Gives a patient the current names of its ward and bed. Returns whether the patient has changed.
pub(crate) fn rename_place(patient: &mut PatientSummary, ward: &Ward, author: &Author) -> bool {
    let Some(admission) = &mut patient.admission else { return false };
    let Some(bed) = ward.bed(admission.bed) else { return false };
    if admission.ward_name == ward.name && admission.bed_name == bed.name {
        return false;
    }
    admission.ward_name = ward.name.clone();
    admission.bed_name = bed.name.clone();
    next_version(patient, author);
    true
}

fn next_version(patient: &mut PatientSummary, author: &Author) {
    patient.version += 1;
    patient.updated_at = patient.updated_at.max(author.at);
}

/// What a change of a patient depends on.
#[derive(Debug, Default)]
pub(crate) struct CareState {
    pub(crate) patient: Option<PatientSummary>,
    /// The ward of the bed in the change.
    pub(crate) target: Option<Ward>,
    /// The ward in which the patient is.
    pub(crate) current: Option<Ward>,
    /// The current stay of the patient.
    pub(crate) stay: Option<AdmissionRecord>,
    /// The stay whose id is in the change: the new one, or the expected one of a discharge.
    pub(crate) named: Option<AdmissionRecord>,
}

/// The bed that a change names.
pub(crate) fn target_bed(change: &CareChange) -> Option<BedId> {
    match change {
        CareChange::Admit { bed, .. } | CareChange::Transfer { bed, .. } => Some(*bed),
        CareChange::Discharge { .. } | CareChange::Details(_) => None,
    }
}

/// The stay of [`CareState::named`].
pub(crate) fn named_stay(change: &CareChange) -> Option<RecordId> {
    match change {
        CareChange::Admit { stay, .. } | CareChange::Transfer { stay, .. } => Some(*stay),
        CareChange::Discharge { from } => *from,
        CareChange::Details(_) => None,
    }
}

/// What a change of a patient writes.
#[derive(Debug)]
pub(crate) struct CareWrites {
    pub(crate) patient: PatientSummary,
    /// False if the change was made before: nothing is written.
    pub(crate) is_changed: bool,
    /// Wards to replace.
    pub(crate) wards: Vec<Ward>,
    /// The stay that ends; written before the one that begins.
    pub(crate) ended: Option<AdmissionRecord>,
    /// The stay that begins.
    pub(crate) began: Option<AdmissionRecord>,
}

impl CareWrites {
    fn repeated(patient: PatientSummary) -> Self {
        CareWrites { patient, is_changed: false, wards: Vec::new(), ended: None, began: None }
    }
}

/// Decides a change of a patient.
pub(crate) fn change_care(
    mrn: Mrn,
    change: &CareChange,
    author: &Author,
    state: CareState,
) -> Result<CareWrites, WardError> {
    let CareState { patient, target, current, stay, named } = state;
    let patient =
        patient.filter(|patient| author.may_access_patient(patient)).ok_or(WardRefusal::UnknownPatient)?;
    let target = target.filter(|ward| author.may_access(ward.id));
    match change {
        CareChange::Details(update) => Ok(change_details(patient, update, author)?),
        CareChange::Admit { bed, stay } => {
            if let Some(admission) = &patient.admission {
                if admission.id == *stay && admission.bed == *bed {
                    return Ok(CareWrites::repeated(patient));
                }
                let (ward, bed) = (admission.ward_name.clone(), admission.bed_name.clone());
                return Err(WardRefusal::AlreadyAdmitted { ward, bed }.into());
            }
            if named.is_some() {
                return Err(WardRefusal::IdTaken("stay").into());
            }
            let ward = target.ok_or(WardRefusal::UnknownBed)?;
            Ok(begin_stay(mrn, patient, ward, *bed, *stay, StayEventKind::Admitted, author)?)
        }
        CareChange::Transfer { bed, from, stay: new } => {
            let admission = patient.admission.clone().ok_or(WardRefusal::NotAdmitted)?;
            if admission.id == *new && admission.bed == *bed {
                return Ok(CareWrites::repeated(patient));
            }
            if from.is_some_and(|from| from != admission.id) {
                return Err(WardRefusal::OtherStay.into());
            }
            if named.is_some() {
                return Err(WardRefusal::IdTaken("stay").into());
            }
            let target = target.ok_or(WardRefusal::UnknownBed)?;
            if admission.bed == *bed {
                let (ward, bed) = (admission.ward_name, admission.bed_name);
                return Err(WardRefusal::SameBed { ward, bed }.into());
            }
            let is_same_ward = target.id == admission.ward;
            let (left, ended) = end_stay(mrn, current, stay, StayEventKind::Transferred, author)?;
            let into = if is_same_ward { left.clone() } else { target };
            let kind = StayEventKind::Transferred;
            let mut writes = begin_stay(mrn, patient, into, *bed, *new, kind, author)?;
            // The order of the history is that of the stays, also if the clock was set back.
            if let Some(began) = &mut writes.began {
                began.began.at = began.began.at.max(ended.began.at.plus_millis(1));
            }
            if let Some(now) = &mut writes.patient.admission {
                now.admitted_at = admission.admitted_at;
            }
            if !is_same_ward {
                writes.wards.push(left);
            }
            writes.ended = Some(ended);
            Ok(writes)
        }
        CareChange::Discharge { from } => {
            let is_done = |stay: &AdmissionRecord| {
                stay.mrn == mrn
                    && stay.ended.as_ref().is_some_and(|ended| ended.kind == StayEventKind::Discharged)
            };
            let admission = match &patient.admission {
                Some(admission) if from.is_none_or(|from| from == admission.id) => admission,
                _ if named.as_ref().is_some_and(is_done) => return Ok(CareWrites::repeated(patient)),
                Some(_) => return Err(WardRefusal::OtherStay.into()),
                None => return Err(WardRefusal::NotAdmitted.into()),
            };
            debug_assert!(stay.as_ref().is_none_or(|stay| stay.id == admission.id));
            let (left, ended) = end_stay(mrn, current, stay, StayEventKind::Discharged, author)?;
            let mut patient = patient;
            patient.admission = None;
            next_version(&mut patient, author);
            let (wards, ended) = (vec![left], Some(ended));
            Ok(CareWrites { patient, is_changed: true, wards, ended, began: None })
        }
    }
}

fn begin_stay(
    mrn: Mrn,
    mut patient: PatientSummary,
    mut ward: Ward,
    bed: BedId,
    stay: RecordId,
    kind: StayEventKind,
    author: &Author,
) -> Result<CareWrites, WardRefusal> {
    let place = ward.beds.iter_mut().find(|known| known.id == bed).ok_or(WardRefusal::UnknownBed)?;
    let bed_name = place.name.clone();
    if let Some(occupant) = place.occupant {
        return Err(WardRefusal::BedOccupied { ward: ward.name, bed: bed_name, occupant });
    }
    place.occupant = Some(mrn);
    ward.version += 1;
    let began = AdmissionRecord {
        id: stay,
        mrn,
        ward: ward.id,
        ward_name: ward.name.clone(),
        bed,
        bed_name: bed_name.clone(),
        began: StayEvent { kind, at: author.at, by: author.name.clone() },
        ended: None,
    };
    patient.admission = Some(Admission {
        id: stay,
        ward: ward.id,
        ward_name: ward.name.clone(),
        bed,
        bed_name,
        admitted_at: author.at,
    });
    next_version(&mut patient, author);
    Ok(CareWrites { patient, is_changed: true, wards: vec![ward], ended: None, began: Some(began) })
}

/// Empties the bed and ends the stay.
fn end_stay(
    mrn: Mrn,
    ward: Option<Ward>,
    stay: Option<AdmissionRecord>,
    kind: StayEventKind,
    author: &Author,
) -> Result<(Ward, AdmissionRecord), StoreError> {
    let missing = |what| StoreError::Corrupt(format!("the {what} of an admitted patient is missing"));
    let mut ward = ward.ok_or_else(|| missing("ward"))?;
    let mut stay = stay.ok_or_else(|| missing("stay"))?;
    let bed = ward.beds.iter_mut().find(|bed| bed.id == stay.bed && bed.occupant == Some(mrn));
    bed.ok_or_else(|| missing("bed"))?.occupant = None;
    ward.version += 1;
    let at = author.at.max(stay.began.at);
    stay.ended = Some(StayEvent { kind, at, by: author.name.clone() });
    Ok((ward, stay))
}

fn change_details(
    mut patient: PatientSummary,
    update: &DetailsUpdate,
    author: &Author,
) -> Result<CareWrites, WardRefusal> {
    let found = patient.details.as_ref().map_or(0, |details| details.version);
    let changed = update.apply(patient.details.as_ref());
    let is_repeated = update.version.checked_add(1) == Some(found)
        && patient.details.as_ref().is_some_and(|details| {
            // The same values once more make the same details, apart from the version.
            (details.birth_date, details.sex, &details.notes)
                == (changed.birth_date, changed.sex, &changed.notes)
        });
    if is_repeated {
        return Ok(CareWrites::repeated(patient));
    }
    if found != update.version {
        let expected = update.version;
        return Err(WardRefusal::VersionConflict { what: "details of the patient", expected, found });
    }
    if update.birth_date.flatten().is_some_and(|date| date.is_in_future_of(author.at)) {
        return Err(WardRefusal::BirthDateInFuture);
    }
    patient.details = Some(changed);
    next_version(&mut patient, author);
    Ok(CareWrites { patient, is_changed: true, wards: Vec::new(), ended: None, began: None })
}
