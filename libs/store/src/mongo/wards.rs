//! Wards, beds, admissions and details in MongoDB.
//!
//! A change is one transaction. Two transactions that change the same ward or patient meet a write conflict, and the later
//! one is repeated with what the earlier one has written.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use mongodb::bson::{self, DateTime, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::{ClientSession, Collection};
use proto_json::wards::{
    Admission, AdmissionRecord, Bed, BirthDate, Notes, PatientDetails, PlaceName, Sex, StayEvent,
    StayEventKind, Ward,
};
use proto_json::{BedId, Cursor, Mrn, Page, PatientSummary, RecordId, WardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wards::rules::{self, CareState, WardState, Write};
use crate::wards::{
    Author, CareChange, ChangedPatient, ChangedWard, PATIENTS_AT_ONCE, WardChange, WardError, WardReader,
    WardRefusal, WardStore,
};
use crate::{PageRequest, StoreError};

use super::documents::{self, PatientDocument, date, mrn, number, record, record_id, time, uuid, version};
use super::failure::{broken, is_duplicate};
use super::reading::{all, history, page_of};
use super::sealed::{self, Sealed, seal};
use super::transaction::{self, abort};
use super::{Db, MongoStore, calls, patients};

/// `wards`. The name without case is unique.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WardDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    name: PlaceName,
    name_key: String,
    version: i64,
    beds: Vec<BedField>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BedField {
    id: bson::Uuid,
    name: PlaceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    occupant: Option<i64>,
}

/// `beds`: the ward of each bed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BedDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    ward: bson::Uuid,
}

/// `admissions`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AdmissionDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    /// When it began.
    at: DateTime,
    ward: bson::Uuid,
    ward_name: PlaceName,
    bed: bson::Uuid,
    bed_name: PlaceName,
    began: EventField,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<EventField>,
    /// Present while it has not ended; both of its values are unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<OpenField>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenField {
    bed: bson::Uuid,
    patient: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct EventField {
    kind: StayEventKind,
    at: DateTime,
    by: String,
}

/// The current stay in the document of a patient.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AdmissionField {
    id: bson::Uuid,
    ward: bson::Uuid,
    ward_name: PlaceName,
    bed: bson::Uuid,
    bed_name: PlaceName,
    admitted_at: DateTime,
}

/// The details in the document of a patient.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DetailsField {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    birth_date: Option<BirthDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sex: Option<Sex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notes: Option<Notes>,
    version: i64,
}

fn ward_id(id: bson::Uuid) -> WardId {
    WardId::from_uuid(Uuid::from_bytes(id.bytes()))
}

fn bed_id(id: bson::Uuid) -> BedId {
    BedId::from_uuid(Uuid::from_bytes(id.bytes()))
}

impl From<&Ward> for WardDocument {
    fn from(ward: &Ward) -> Self {
        let bed = |bed: &Bed| BedField {
            id: uuid(bed.id.as_uuid()),
            name: bed.name.clone(),
            occupant: bed.occupant.map(number),
        };
        WardDocument {
            id: uuid(ward.id.as_uuid()),
            name: ward.name.clone(),
            name_key: ward.name.key(),
            version: ward.version as i64,
            beds: ward.beds.iter().map(bed).collect(),
        }
    }
}

impl TryFrom<WardDocument> for Ward {
    type Error = StoreError;
    fn try_from(ward: WardDocument) -> Result<Self, StoreError> {
        let bed = |bed: BedField| {
            let occupant = bed.occupant.map(mrn).transpose()?;
            Ok::<_, StoreError>(Bed { id: bed_id(bed.id), name: bed.name, occupant })
        };
        Ok(Ward {
            id: ward_id(ward.id),
            name: ward.name,
            version: version(ward.version)?,
            beds: ward.beds.into_iter().map(bed).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&AdmissionRecord> for AdmissionDocument {
    fn from(stay: &AdmissionRecord) -> Self {
        let event =
            |event: &StayEvent| EventField { kind: event.kind, at: date(event.at), by: event.by.clone() };
        let open = OpenField { bed: uuid(stay.bed.as_uuid()), patient: number(stay.mrn) };
        AdmissionDocument {
            id: record(stay.id),
            mrn: number(stay.mrn),
            at: date(stay.began.at),
            ward: uuid(stay.ward.as_uuid()),
            ward_name: stay.ward_name.clone(),
            bed: uuid(stay.bed.as_uuid()),
            bed_name: stay.bed_name.clone(),
            began: event(&stay.began),
            ended: stay.ended.as_ref().map(event),
            open: stay.ended.is_none().then_some(open),
        }
    }
}

impl TryFrom<AdmissionDocument> for AdmissionRecord {
    type Error = StoreError;
    fn try_from(stay: AdmissionDocument) -> Result<Self, StoreError> {
        let event = |event: EventField| {
            let at = time(event.at)?;
            Ok::<_, StoreError>(StayEvent { kind: event.kind, at, by: event.by })
        };
        Ok(AdmissionRecord {
            id: record_id(stay.id),
            mrn: mrn(stay.mrn)?,
            ward: ward_id(stay.ward),
            ward_name: stay.ward_name,
            bed: bed_id(stay.bed),
            bed_name: stay.bed_name,
            began: event(stay.began)?,
            ended: stay.ended.map(event).transpose()?,
        })
    }
}

impl From<&Admission> for AdmissionField {
    fn from(admission: &Admission) -> Self {
        AdmissionField {
            id: record(admission.id),
            ward: uuid(admission.ward.as_uuid()),
            ward_name: admission.ward_name.clone(),
            bed: uuid(admission.bed.as_uuid()),
            bed_name: admission.bed_name.clone(),
            admitted_at: date(admission.admitted_at),
        }
    }
}

impl TryFrom<AdmissionField> for Admission {
    type Error = StoreError;
    fn try_from(admission: AdmissionField) -> Result<Self, StoreError> {
        Ok(Admission {
            id: record_id(admission.id),
            ward: ward_id(admission.ward),
            ward_name: admission.ward_name,
            bed: bed_id(admission.bed),
            bed_name: admission.bed_name,
            admitted_at: time(admission.admitted_at)?,
        })
    }
}

impl From<&PatientDetails> for DetailsField {
    fn from(details: &PatientDetails) -> Self {
        DetailsField {
            birth_date: details.birth_date,
            sex: details.sex,
            notes: details.notes.clone(),
            version: details.version as i64,
        }
    }
}

impl TryFrom<DetailsField> for PatientDetails {
    type Error = StoreError;
    fn try_from(details: DetailsField) -> Result<Self, StoreError> {
        Ok(PatientDetails {
            birth_date: details.birth_date,
            sex: details.sex,
            notes: details.notes,
            version: version(details.version)?,
        })
    }
}

#[async_trait]
impl WardReader for MongoStore {
    async fn wards(&self) -> Result<Page<Ward>, StoreError> {
        calls::run(&self.db, |db| async move {
            // The index of the names gives their order; there are at most 100 wards.
            let found = all(&db, db.wards.find(doc! {}).sort(doc! { "name_key": 1 })).await?;
            let cursor = |ward: &Ward| {
                Cursor::Record(proto_json::Timestamp::now(), RecordId::from_uuid(*ward.id.as_uuid()))
            };
            page_of::<WardDocument, Ward>(found, usize::MAX, cursor)
        })
        .await
    }

    async fn admissions(&self, mrn: Mrn, page: PageRequest) -> Result<Page<AdmissionRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size(), true);
        calls::run(&self.db, move |db| async move {
            let place = |stay: &AdmissionRecord| (stay.began.at, stay.id);
            history::<AdmissionDocument, _>(&db, &db.admissions, part, place).await
        })
        .await
    }

    async fn patients_of(&self, mut numbers: Vec<Mrn>) -> Result<Page<PatientSummary>, StoreError> {
        numbers.sort_unstable();
        numbers.truncate(PATIENTS_AT_ONCE);
        calls::run(&self.db, move |db| async move {
            let ids: Vec<i64> = numbers.into_iter().map(number).collect();
            let action = db.patients.find(doc! { "_id": { "$in": ids } }).sort(doc! { "_id": 1 });
            let found = all(&db, action).await?;
            let cursor = |patient: &PatientSummary| Cursor::Patient(patient.mrn);
            page_of::<PatientDocument, _>(found, usize::MAX, cursor)
        })
        .await
    }
}

#[async_trait]
impl WardStore for MongoStore {
    async fn change_ward(&self, change: &WardChange, author: &Author) -> Result<ChangedWard, WardError> {
        let (change, author) = (change.clone(), author.clone());
        let changed = calls::run(&self.db, move |db| async move { change_ward(&db, &change, &author).await });
        Ok(changed.await??)
    }

    async fn change_care(
        &self,
        mrn: Mrn,
        change: &CareChange,
        author: &Author,
    ) -> Result<ChangedPatient, WardError> {
        let (change, author) = (change.clone(), author.clone());
        let changed =
            calls::run(&self.db, move |db| async move { change_care(&db, mrn, &change, &author).await });
        Ok(changed.await??)
    }
}

/// A refusal is not an error of the transaction, which has written nothing.
async fn change_ward(
    db: &Arc<Db>,
    change: &WardChange,
    author: &Author,
) -> Result<Result<ChangedWard, WardRefusal>, StoreError> {
    let _turn = calls::operation(db.limit, db.ward_turn.lock()).await?;
    let context = (&**db, change, author);
    let changed = transaction::run(db, context, |session, (db, change, author)| {
        write_ward(db, session, change, author).boxed()
    });
    Ok(changed.await?)
}

async fn change_care(
    db: &Arc<Db>,
    mrn: Mrn,
    change: &CareChange,
    author: &Author,
) -> Result<Result<ChangedPatient, WardRefusal>, StoreError> {
    let _turn = calls::operation(db.limit, db.ward_turn.lock()).await?;
    let _turn = calls::operation(db.limit, db.patient_turn(mrn).lock()).await?;
    let context = (&**db, mrn, change, author);
    let changed = transaction::run(db, context, |session, (db, mrn, change, author)| {
        write_care(db, session, *mrn, change, author).boxed()
    });
    Ok(changed.await?)
}

async fn write_ward(
    db: &Db,
    session: &mut ClientSession,
    change: &WardChange,
    author: &Author,
) -> Result<Result<ChangedWard, WardRefusal>, Error> {
    let mut state = WardState { ward: find_ward(db, session, change.ward()).await?, ..WardState::default() };
    if rules::needs_names(change) {
        let mut cursor = db.wards.find(doc! {}).session(&mut *session).await?;
        while let Some(raw) = cursor.next(&mut *session).await.transpose()? {
            let ward: Ward = read::<WardDocument, _>(&raw)?;
            state.names.push((ward.id, ward.name));
        }
    }
    if let WardChange::AddBed { ward, bed, .. } = change {
        state.is_bed_elsewhere = ward_of_bed(db, session, *bed).await?.is_some_and(|other| other != *ward);
    }
    let writes = match rules::change_ward(change, author, state) {
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let ward = writes.ward;
    let id = doc! { "_id": uuid(ward.id.as_uuid()) };
    match writes.kind {
        Write::Nothing => {}
        Write::Insert => insert(&db.wards, session, &WardDocument::from(&ward)).await?,
        Write::Replace => replace_ward(db, session, &ward).await?,
        Write::Remove => db.wards.delete_one(id).session(&mut *session).await.map(drop)?,
    }
    for bed in writes.removed {
        db.beds.delete_one(doc! { "_id": uuid(bed.as_uuid()) }).session(&mut *session).await?;
    }
    if let Some(bed) = writes.added {
        insert(&db.beds, session, &BedDocument { id: uuid(bed.as_uuid()), ward: uuid(ward.id.as_uuid()) })
            .await?;
    }
    let mut renamed = Vec::new();
    for mrn in writes.renamed {
        let Some(mut patient) = patients::find(db, session, mrn).await? else { continue };
        if rules::rename_place(&mut patient, &ward, author) {
            patients::write(db, session, &patient, false).await?;
            renamed.push(patient);
        }
    }
    let is_changed = writes.kind != Write::Nothing;
    Ok(Ok(ChangedWard { ward, bed: writes.bed, patients: renamed, is_changed }))
}

async fn write_care(
    db: &Db,
    session: &mut ClientSession,
    mrn: Mrn,
    change: &CareChange,
    author: &Author,
) -> Result<Result<ChangedPatient, WardRefusal>, Error> {
    let mut state = CareState { patient: patients::find(db, session, mrn).await?, ..CareState::default() };
    if let Some(bed) = rules::target_bed(change)
        && let Some(id) = ward_of_bed(db, session, bed).await?
    {
        state.target = find_ward(db, session, id).await?;
    }
    let admission = state.patient.as_ref().and_then(|patient| patient.admission.as_ref());
    if let Some((ward, stay)) = admission.map(|admission| (admission.ward, admission.id))
        && !matches!(change, CareChange::Details(_))
    {
        state.current = find_ward(db, session, ward).await?;
        state.stay = find_stay(db, session, stay).await?;
    }
    if let Some(id) = rules::named_stay(change) {
        state.named = find_stay(db, session, id).await?;
    }
    let writes = match rules::change_care(mrn, change, author, state) {
        Ok(writes) => writes,
        Err(WardError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(WardError::Store(error)) => return Err(abort(error)),
    };
    let patient = writes.patient;
    if writes.is_changed {
        patients::write(db, session, &patient, false).await?;
        for ward in &writes.wards {
            replace_ward(db, session, ward).await?;
        }
        if let Some(stay) = &writes.ended {
            let document = seal(&AdmissionDocument::from(stay)).map_err(abort)?;
            let id = doc! { "_id": record(stay.id) };
            let replaced = db.admissions.replace_one(id, document).session(&mut *session).await?;
            if replaced.matched_count == 0 {
                return Err(abort(broken("stay", "it is gone")));
            }
        }
        if let Some(stay) = &writes.began {
            insert(&db.admissions, session, &AdmissionDocument::from(stay)).await?;
        }
    }
    Ok(Ok(ChangedPatient { patient, is_changed: writes.is_changed }))
}

fn read<D, T>(raw: &RawDocumentBuf) -> Result<T, Error>
where
    D: Sealed,
    T: TryFrom<D, Error = StoreError>,
{
    sealed::required::<D>(raw).and_then(TryInto::try_into).map_err(abort)
}

async fn find_ward(db: &Db, session: &mut ClientSession, id: WardId) -> Result<Option<Ward>, Error> {
    let found = db.wards.find_one(doc! { "_id": uuid(id.as_uuid()) }).session(session).await?;
    found.map(|raw| read::<WardDocument, _>(&raw)).transpose()
}

async fn ward_of_bed(db: &Db, session: &mut ClientSession, bed: BedId) -> Result<Option<WardId>, Error> {
    let found = db.beds.find_one(doc! { "_id": uuid(bed.as_uuid()) }).session(session).await?;
    let bed = found.map(|raw| sealed::required::<BedDocument>(&raw)).transpose().map_err(abort)?;
    Ok(bed.map(|bed| ward_id(bed.ward)))
}

async fn find_stay(
    db: &Db,
    session: &mut ClientSession,
    id: RecordId,
) -> Result<Option<AdmissionRecord>, Error> {
    let found = db.admissions.find_one(doc! { "_id": documents::record(id) }).session(session).await?;
    found.map(|raw| read::<AdmissionDocument, _>(&raw)).transpose()
}

async fn replace_ward(db: &Db, session: &mut ClientSession, ward: &Ward) -> Result<(), Error> {
    let document = seal(&WardDocument::from(ward)).map_err(abort)?;
    let replaced =
        db.wards.replace_one(doc! { "_id": uuid(ward.id.as_uuid()) }, document).session(session).await;
    match unique(replaced)?.matched_count {
        0 => Err(abort(broken("ward", "it is gone"))),
        _ => Ok(()),
    }
}

async fn insert<D: Sealed>(
    collection: &Collection<RawDocumentBuf>,
    session: &mut ClientSession,
    document: &D,
) -> Result<(), Error> {
    let document = seal(document).map_err(abort)?;
    unique(collection.insert_one(document).session(session).await).map(drop)
}

/// The rules exclude duplicates in the snapshot of the transaction. Another process can commit one at the same time; the
/// change is refused by the rules when it is repeated.
fn unique<T>(written: Result<T, Error>) -> Result<T, Error> {
    match written {
        Err(error) if is_duplicate(&error) => {
            Err(abort(StoreError::unavailable("another process changes the same ward; try again")))
        }
        written => written,
    }
}
