//! The summary of a patient: each change is one atomic update, computed by the server.
//!
//! Many writers may work on one patient, and each may be cut off and start again. So the update is a pipeline that looks at
//! the document as it is at that moment: latest records are replaced by newer ones only, in whatever order they come, and
//! the last writes are remembered, so that the same write again counts no version and finds its result.

use mongodb::bson::{self, Bson, Document, doc};
use mongodb::options::ReturnDocument;
use proto_json::{Mrn, PatientSummary, Timestamp};
use serde::Serialize;

use crate::records::Newest;
use crate::search::name_key;
use crate::{NewUpload, StoreError};

use super::documents::{
    self, AppliedField, LatestEcgField, LatestHeartRateField, LatestImageField, PatientDocument,
};
use super::failure::{answer, broken, upserted, within};
use super::{Db, documents::date};

/// How many of the last writes a patient remembers. A write is in danger of being forgotten only while its upload is not
/// complete; an upload that is taken up again after so many others counts one version more, and changes nothing else.
const REMEMBERED: i32 = 16;

/// What an upload did to its patient.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) patient: PatientSummary,
    pub(super) created: bool,
    pub(super) changed: bool,
    pub(super) version: u64,
}

/// Applies an upload; makes the patient if it is the first.
pub(super) async fn apply_upload(db: &Db, upload: &NewUpload) -> Result<Applied, StoreError> {
    let by = documents::upload(upload.id);
    let change = Change {
        by,
        name: upload.name.as_deref(),
        newest: upload.newest(),
        brings_records: upload.brings_records(),
        stored_at: upload.stored_at,
    };
    let pipeline = change.pipeline()?;
    let patient: PatientDocument = upserted(|| {
        let update = db.patients.find_one_and_update(of(upload.mrn), pipeline.clone());
        answer(db.limit, update.upsert(true).return_document(ReturnDocument::After))
    })
    .await?;
    let created = patient.created_by == Some(by);
    let AppliedField { version, changed, .. } = *patient
        .applied
        .iter()
        .find(|applied| applied.by == by)
        .ok_or_else(|| broken("patient", "it does not know its last upload"))?;
    Ok(Applied { patient: patient.try_into()?, created, changed, version: documents::version(version)? })
}

/// Applies an analysis; `None` if there is no such patient.
pub(super) async fn apply_analysis(
    db: &Db,
    mrn: Mrn,
    by: bson::Uuid,
    newest: Newest,
    stored_at: Timestamp,
) -> Result<Option<PatientSummary>, StoreError> {
    let change = Change { by, name: None, newest, brings_records: true, stored_at };
    let update = db.patients.find_one_and_update(of(mrn), change.pipeline()?);
    let patient = within(db.limit, update.return_document(ReturnDocument::After)).await?;
    patient.map(TryInto::try_into).transpose()
}

fn of(mrn: Mrn) -> Document {
    doc! { "_id": documents::number(mrn) }
}

/// One write to a patient.
struct Change<'a> {
    by: bson::Uuid,
    name: Option<&'a str>,
    newest: Newest,
    brings_records: bool,
    stored_at: Timestamp,
}

impl Change<'_> {
    /// The stages of the update. `$literal` wherever a client's text goes in: it may start with `$`.
    fn pipeline(&self) -> Result<Vec<Document>, StoreError> {
        let renamed = self.name.map_or_else(
            || Bson::Boolean(false),
            |name| Bson::Document(doc! { "$ne": ["$name", { "$literal": name }] }),
        );
        let known = doc! { "$ifNull": ["$applied", []] };
        let look = doc! {
            "seen": { "$in": [self.by, { "$map": { "input": known.clone(), "as": "one", "in": "$$one.by" } }] },
            "created": { "$eq": [{ "$type": "$version" }, "missing"] },
            "renamed": renamed,
        };
        let judge = doc! {
            "now.changed": { "$or": [self.brings_records, "$now.renamed"] },
            "now.counts": { "$and": [
                { "$not": ["$now.seen"] },
                { "$or": ["$now.created", self.brings_records, "$now.renamed"] },
            ] },
        };
        let stored_at = date(self.stored_at);
        let mut set = doc! {
            "version": { "$cond": ["$now.counts", { "$add": [{ "$ifNull": ["$version", 0_i64] }, 1_i64] }, "$version"] },
            "created_at": { "$ifNull": ["$created_at", stored_at] },
            "created_by": { "$ifNull": ["$created_by", self.by] },
            "updated_at": { "$cond": ["$now.counts", { "$max": ["$updated_at", stored_at] }, "$updated_at"] },
        };
        if let Some(name) = self.name {
            let rename = doc! { "$and": ["$now.renamed", { "$not": ["$now.seen"] }] };
            set.insert("name", doc! { "$cond": [rename.clone(), { "$literal": name }, "$name"] });
            set.insert("name_key", doc! { "$cond": [rename, { "$literal": name_key(name) }, "$name_key"] });
        }
        if let Some(rate) = &self.newest.heart_rate {
            let newer = newer("latest_heart_rate", rate.at, documents::record(rate.id), "$gt");
            set.insert(
                "latest_heart_rate",
                keep_newer("latest_heart_rate", newer, &LatestHeartRateField::from(rate))?,
            );
        }
        if let Some(ecg) = &self.newest.ecg {
            // An analysis also replaces the ECG itself, an upload never: the analysis may have come before it.
            let by_analysis = ecg.status != proto_json::EcgStatus::Pending;
            let order = if by_analysis { "$gte" } else { "$gt" };
            let newer = newer("latest_ecg", ecg.at, documents::record(ecg.id), order);
            set.insert("latest_ecg", keep_newer("latest_ecg", newer, &LatestEcgField::from(ecg))?);
        }
        if let Some(image) = &self.newest.image {
            let newer = newer("latest_image", image.at, documents::record(image.id), "$gt");
            set.insert("latest_image", keep_newer("latest_image", newer, &LatestImageField::from(image))?);
        }
        let entry = doc! { "by": self.by, "version": "$version", "changed": "$now.changed" };
        let remember = doc! { "applied": { "$cond": [
            "$now.seen",
            "$applied",
            { "$slice": [{ "$concatArrays": [[entry], known] }, REMEMBERED] },
        ] } };
        Ok(vec![
            doc! { "$set": { "now": look } },
            doc! { "$set": judge },
            doc! { "$set": set },
            doc! { "$set": remember },
            doc! { "$unset": "now" },
        ])
    }
}

/// Whether a record of this time and id comes after the one in `field`, or there is none. `order` decides between equal
/// ones.
fn newer(field: &str, at: Timestamp, id: bson::Uuid, order: &str) -> Document {
    let at = date(at);
    let there = format!("${field}");
    let (there_at, there_id) = (format!("{there}.at"), format!("{there}.id"));
    doc! { "$or": [
        { "$eq": [{ "$type": there }, "missing"] },
        { "$gt": [at, &there_at] },
        { "$and": [{ "$eq": [at, &there_at] }, { order: [id, there_id] }] },
    ] }
}

/// `value` if `newer`, else what `field` has.
fn keep_newer<T: Serialize>(field: &str, newer: Document, value: &T) -> Result<Document, StoreError> {
    let value = bson::serialize_to_bson(value).map_err(|error| broken("value", error))?;
    Ok(doc! { "$cond": [newer, { "$literal": value }, format!("${field}")] })
}
