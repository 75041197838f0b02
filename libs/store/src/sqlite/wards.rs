//! Wards, beds, admissions and details in the SQLite file.

use async_trait::async_trait;
use proto_json::wards::{AdmissionRecord, Ward};
use proto_json::{BedId, Mrn, Page, PatientSummary, RecordId, WardId};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::wards::rules::{self, CareState, WardState, Write};
use crate::wards::{
    Author, CareChange, ChangedPatient, ChangedWard, PATIENTS_AT_ONCE, WardChange, WardError, WardReader,
    WardRefusal, WardStore,
};
use crate::{PageRequest, StoreError};

use super::rows::{self, Checked, checked};
use super::{SqliteStore, lists, uploads};

#[async_trait]
impl WardReader for SqliteStore {
    async fn wards(&self) -> Result<Page<Ward>, StoreError> {
        self.readers.read(wards).await
    }

    async fn admissions(&self, mrn: Mrn, page: PageRequest) -> Result<Page<AdmissionRecord>, StoreError> {
        let part = (mrn, page.after_record()?, page.size());
        self.readers.read(move |connection| lists::admissions(connection, part)).await
    }

    async fn patients_of(&self, mut numbers: Vec<Mrn>) -> Result<Page<PatientSummary>, StoreError> {
        numbers.sort_unstable();
        numbers.truncate(PATIENTS_AT_ONCE);
        self.readers
            .read(move |connection| {
                let mut page = Page { items: Vec::new(), next: None, damaged: Vec::new() };
                for mrn in numbers {
                    match lists::patient(connection, mrn) {
                        Ok(patient) => page.items.extend(patient),
                        Err(StoreError::Damaged(record)) => page.damaged.push(record),
                        Err(error) => return Err(error),
                    }
                }
                Ok(page)
            })
            .await
    }
}

#[async_trait]
impl WardStore for SqliteStore {
    async fn change_ward(&self, change: &WardChange, author: &Author) -> Result<ChangedWard, WardError> {
        let (change, author) = (change.clone(), author.clone());
        let changed = self.writer.write(move |connection| change_ward(connection, &change, &author)).await?;
        Ok(changed?)
    }

    async fn change_care(
        &self,
        mrn: Mrn,
        change: &CareChange,
        author: &Author,
    ) -> Result<ChangedPatient, WardError> {
        let (change, author) = (change.clone(), author.clone());
        let changed =
            self.writer.write(move |connection| change_care(connection, mrn, &change, &author)).await?;
        Ok(changed?)
    }
}

/// All wards, by their names. The table has at most 100 rows.
fn wards(connection: &Connection) -> Result<Page<Ward>, StoreError> {
    let mut statement = connection.prepare_cached(&rows::WARDS.select())?;
    let mut found = statement.query([])?;
    let mut page = Page { items: Vec::new(), next: None, damaged: Vec::new() };
    while let Some(row) = found.next()? {
        match checked(&rows::WARDS, row, rows::ward)? {
            Checked::Intact(ward) => page.items.push(ward),
            Checked::Damaged(record) => page.damaged.push(record),
        }
    }
    page.items.sort_by_cached_key(|ward: &Ward| ward.name.key());
    Ok(page)
}

pub(super) fn ward(connection: &Connection, id: WardId) -> Result<Option<Ward>, StoreError> {
    lists::one(connection, &rows::WARDS, "id", id.as_uuid().as_bytes(), rows::ward)
}

fn ward_of_bed(connection: &Connection, bed: BedId) -> Result<Option<WardId>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| Ok(WardId::from_uuid(Uuid::from_bytes(row.get("ward")?)));
    lists::one(connection, &rows::BEDS, "id", bed.as_uuid().as_bytes(), read)
}

pub(super) fn stay(connection: &Connection, id: RecordId) -> Result<Option<AdmissionRecord>, StoreError> {
    lists::one(connection, &rows::ADMISSIONS, "id", id.as_uuid().as_bytes(), rows::admission)
}

pub(super) fn put_ward(connection: &Connection, ward: &Ward) -> Result<(), StoreError> {
    let values = params![ward.id.as_uuid().as_bytes(), ward.name.key(), rows::json(ward)?];
    Ok(rows::WARDS.put(connection, values)?)
}

pub(super) fn put_stay(connection: &Connection, stay: &AdmissionRecord) -> Result<(), StoreError> {
    let values = params![
        rows::number(stay.mrn),
        stay.began.at.as_millis(),
        stay.id.as_uuid().as_bytes(),
        stay.ended.is_none().then_some(stay.bed.as_uuid().as_bytes()),
        rows::json(stay)?,
    ];
    Ok(rows::ADMISSIONS.put(connection, values)?)
}

/// A refusal is not an error of the writer: it has written nothing.
fn change_ward(
    connection: &Connection,
    change: &WardChange,
    author: &Author,
) -> Result<Result<ChangedWard, WardRefusal>, StoreError> {
    let mut state = WardState { ward: ward(connection, change.ward())?, ..WardState::default() };
    if rules::needs_names(change) {
        let all = wards(connection)?;
        if let Some(damaged) = all.damaged.into_iter().next() {
            return Err(StoreError::Damaged(damaged));
        }
        state.names = all.items.into_iter().map(|ward| (ward.id, ward.name)).collect();
    }
    if let WardChange::AddBed { ward, bed, .. } = change {
        state.is_bed_elsewhere = ward_of_bed(connection, *bed)?.is_some_and(|other| other != *ward);
    }
    let writes = match rules::change_ward(change, author, state) {
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let ward = writes.ward;
    match writes.kind {
        Write::Nothing => {}
        Write::Insert | Write::Replace => put_ward(connection, &ward)?,
        Write::Remove => {
            connection
                .prepare_cached("DELETE FROM wards WHERE id = ?1")?
                .execute([ward.id.as_uuid().as_bytes()])?;
        }
    }
    for bed in writes.removed {
        connection.prepare_cached("DELETE FROM beds WHERE id = ?1")?.execute([bed.as_uuid().as_bytes()])?;
    }
    if let Some(bed) = writes.added {
        rows::BEDS.insert(connection, params![bed.as_uuid().as_bytes(), ward.id.as_uuid().as_bytes()])?;
    }
    let mut patients = Vec::new();
    for mrn in writes.renamed {
        let Some(mut patient) = lists::patient(connection, mrn)? else { continue };
        if rules::rename_place(&mut patient, &ward, author) {
            uploads::write_patient(connection, &patient)?;
            patients.push(patient);
        }
    }
    let is_changed = writes.kind != Write::Nothing;
    Ok(Ok(ChangedWard { ward, bed: writes.bed, patients, is_changed }))
}

fn change_care(
    connection: &Connection,
    mrn: Mrn,
    change: &CareChange,
    author: &Author,
) -> Result<Result<ChangedPatient, WardRefusal>, StoreError> {
    let mut state = CareState { patient: lists::patient(connection, mrn)?, ..CareState::default() };
    if let Some(bed) = rules::target_bed(change)
        && let Some(id) = ward_of_bed(connection, bed)?
    {
        state.target = ward(connection, id)?;
    }
    if !matches!(change, CareChange::Details(_))
        && let Some(admission) = state.patient.as_ref().and_then(|patient| patient.admission.as_ref())
    {
        state.current = ward(connection, admission.ward)?;
        state.stay = stay(connection, admission.id)?;
    }
    if let Some(id) = rules::named_stay(change) {
        state.named = stay(connection, id)?;
    }
    let writes = match rules::change_care(mrn, change, author, state) {
        Ok(writes) => writes,
        Err(WardError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(WardError::Store(error)) => return Err(error),
    };
    let patient = writes.patient;
    if writes.is_changed {
        uploads::write_patient(connection, &patient)?;
        for ward in &writes.wards {
            put_ward(connection, ward)?;
        }
        for stay in writes.ended.iter().chain(&writes.began) {
            put_stay(connection, stay)?;
        }
    }
    Ok(Ok(ChangedPatient { patient, is_changed: writes.is_changed }))
}
