//! The summary of a patient: read, changed here, and written if nobody else wrote meanwhile.
//!
//! The checksum of a document can only be computed by who knows all of it, so the server cannot change single fields.
//! Several writers may work on one patient: a write replaces exactly the document that was read, by its checksums, and the
//! one who comes too late reads again. Within this process, writers of one patient wait for each other.
//!
//! Each writer may be interrupted and start again. Latest records are replaced by newer ones only, in whatever order they
//! come, and the last writes are remembered, so that the same write again counts no version and finds its result.

use mongodb::bson::{self, Document, RawDocumentBuf, cstr, doc};
use proto_json::{Mrn, PatientSummary, Timestamp};
use tokio::time::Instant;

use crate::records::{self, NameEffect, Newest};
use crate::{NewUpload, StoreError};

use super::Db;
use super::documents::{self, AppliedField, PatientDocument, WritesField};
use super::failure::{broken, insert, within};
use super::sealed::{self, checksum_in, seal};

/// Marks latest records of a patient whose time is in the future. `None` if there are none that are not marked.
pub(super) async fn mark_clock_wrong(
    db: &Db,
    mrn: Mrn,
    now: Timestamp,
) -> Result<Option<PatientSummary>, StoreError> {
    let _turn = db.patient_turn(mrn).lock().await;
    let give_up = Instant::now() + db.limit;
    while Instant::now() < give_up {
        let Some(Found { mut patient, writes, unchanged }) = find(db, mrn).await? else { return Ok(None) };
        if !records::mark_clock_wrong(&mut patient, now) {
            return Ok(None);
        }
        patient.version += 1;
        let replaced = db.patients.replace_one(unchanged, document(&patient, &writes)?);
        if within(db.limit, replaced).await?.matched_count > 0 {
            return Ok(Some(patient));
        }
    }
    Err(contended())
}

fn contended() -> StoreError {
    StoreError::unavailable("too many others change this patient; try again")
}

/// Name of the field of a patient's document that holds a [`WritesField`].
pub(super) const WRITES: &str = "writes";

/// How many of the last writes a patient remembers. A write is in danger of being forgotten only while its upload is not
/// complete; an upload that is taken up again after so many others counts one version more, and changes nothing else.
const REMEMBERED: usize = 16;

/// What an upload did to its patient.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) patient: PatientSummary,
    pub(super) created: bool,
    pub(super) changed: bool,
    pub(super) name: NameEffect,
    pub(super) version: u64,
}

/// Applies an upload; makes the patient if it is the first.
pub(super) async fn apply_upload(db: &Db, upload: &NewUpload) -> Result<Applied, StoreError> {
    let change = Change {
        by: documents::upload(upload.id),
        upload: Some(upload),
        newest: upload.newest(),
        upload_version: None,
        brings_records: upload.brings_records(),
        stored_at: upload.stored_at,
    };
    let applied = change.apply(db, upload.mrn, true).await?;
    applied.ok_or_else(|| broken("patient", "it was not made"))
}

/// Applies an analysis; `None` if there is no such patient.
pub(super) async fn apply_analysis(
    db: &Db,
    mrn: Mrn,
    by: bson::Uuid,
    newest: Newest,
    upload_version: u64,
    stored_at: Timestamp,
) -> Result<Option<PatientSummary>, StoreError> {
    let upload_version = Some(upload_version);
    let change = Change { by, upload: None, newest, upload_version, brings_records: true, stored_at };
    Ok(change.apply(db, mrn, false).await?.map(|applied| applied.patient))
}

/// One write to a patient.
struct Change<'a> {
    by: bson::Uuid,
    /// The upload that makes the change; `None` for an analysis.
    upload: Option<&'a NewUpload>,
    newest: Newest,
    /// Version that the upload made which the records go back to; `None` if this is that upload.
    upload_version: Option<u64>,
    brings_records: bool,
    stored_at: Timestamp,
}

/// A patient's document as it was read.
struct Found {
    patient: PatientSummary,
    writes: WritesField,
    /// Matches this document and no later one.
    unchanged: Document,
}

impl Change<'_> {
    /// Applies the change to the patient as it is now. `None` if there is none, and it is not to be made.
    async fn apply(&self, db: &Db, mrn: Mrn, make: bool) -> Result<Option<Applied>, StoreError> {
        let _turn = db.patient_turn(mrn).lock().await;
        let give_up = Instant::now() + db.limit;
        while Instant::now() < give_up {
            let found = find(db, mrn).await?;
            let created = found.is_none();
            if created && !make {
                return Ok(None);
            }
            let (mut patient, mut writes, unchanged) = match found {
                Some(Found { patient, writes, unchanged }) => (patient, writes, Some(unchanged)),
                None => (self.new_patient(mrn), WritesField::default(), None),
            };
            if let Some(before) = writes.applied.iter().find(|applied| applied.by == self.by) {
                let version = u64::try_from(before.version).map_err(|error| broken("version", error))?;
                let created = writes.created_by == Some(self.by);
                let name = NameEffect {
                    changed: before.former_name.is_some(),
                    kept: before.name_kept,
                    former: before.former_name.clone(),
                };
                return Ok(Some(Applied { patient, created, changed: before.changed, name, version }));
            }
            let (changed, name) = self.change(&mut patient);
            if created {
                writes.created_by = Some(self.by);
            }
            if created || changed {
                patient.version += 1;
                patient.updated_at = patient.updated_at.max(self.stored_at);
            }
            let version = patient.version;
            let applied = AppliedField {
                by: self.by,
                version: version as i64,
                changed,
                name_kept: name.kept,
                former_name: name.former.clone(),
            };
            writes.applied.insert(0, applied);
            writes.applied.truncate(REMEMBERED);
            let document = document(&patient, &writes)?;
            let written = match unchanged {
                None => insert(db.limit, db.patients.insert_one(document)).await?,
                Some(unchanged) => {
                    let replaced = db.patients.replace_one(unchanged, document);
                    within(db.limit, replaced).await?.matched_count > 0
                }
            };
            if written {
                return Ok(Some(Applied { patient, created, changed, name, version }));
            }
        }
        Err(contended())
    }

    fn new_patient(&self, mrn: Mrn) -> PatientSummary {
        PatientSummary {
            mrn,
            name: None,
            version: 0,
            created_at: self.stored_at,
            updated_at: self.stored_at,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
            renamed: None,
        }
    }

    /// Changes the patient; whether anything is new, and what became of the name.
    fn change(&self, patient: &mut PatientSummary) -> (bool, NameEffect) {
        let name = self.upload.map(|upload| upload.apply_name(patient)).unwrap_or_default();
        // An upload that brings a record always counts a version.
        let upload_version = self.upload_version.unwrap_or(patient.version + 1);
        self.newest.clone().of_upload(upload_version).enter(patient, self.stored_at);
        (name.changed || self.brings_records, name)
    }
}

async fn find(db: &Db, mrn: Mrn) -> Result<Option<Found>, StoreError> {
    let id = documents::number(mrn);
    let found = within(db.limit, db.patients.find_one(doc! { "_id": id })).await?;
    let Some(found) = found else { return Ok(None) };
    let patient: PatientDocument = sealed::required(&found)?;
    let part = found.get_document(WRITES).map_err(|error| broken("patient", error))?;
    let unchanged = doc! {
        "_id": id,
        "checksum": checksum_in(&found),
        "writes.checksum": checksum_in(part),
    };
    Ok(Some(Found { patient: patient.try_into()?, writes: sealed::required(part)?, unchanged }))
}

fn document(patient: &PatientSummary, writes: &WritesField) -> Result<RawDocumentBuf, StoreError> {
    let mut document = seal(&PatientDocument::from(patient))?;
    document.append(cstr!("writes"), seal(writes)?);
    Ok(document)
}
