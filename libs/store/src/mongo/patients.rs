//! The summary of a patient: each change is one atomic update, computed by the server.
//!
//! Many writers may work on one patient, and each may be cut off and start again. So the update is a pipeline that looks at
//! the document as it is at that moment: latest records are replaced by those that come after them (see [`crate::records`]),
//! and the last writes are remembered, so that the same write again counts no version, changes nothing and finds its result.

use mongodb::bson::{self, Bson, Document, doc};
use mongodb::options::ReturnDocument;
use proto_json::{CLOCK_TOLERANCE_MS, Mrn, PatientSummary, Timestamp};
use serde::Serialize;

use crate::records::{Latest, Newest};
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
        upload_version: None,
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
    upload_version: u64,
    stored_at: Timestamp,
) -> Result<Option<PatientSummary>, StoreError> {
    let upload_version = Some(upload_version);
    let change = Change { by, name: None, newest, upload_version, brings_records: true, stored_at };
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
    /// Version that the upload made which the records go back to; `None` if this is that upload.
    upload_version: Option<u64>,
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
        let next_version = doc! { "$add": [{ "$ifNull": ["$version", 0_i64] }, 1_i64] };
        let upload_version = match self.upload_version {
            // An upload that brings a record always counts a version, unless it was applied before: then nothing changes.
            None => Bson::Document(next_version.clone()),
            Some(version) => Bson::Int64(version as i64),
        };
        let look = doc! {
            "upload_version": upload_version,
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
            "version": { "$cond": ["$now.counts", next_version, "$version"] },
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
            let value = LatestHeartRateField::from(rate);
            set.insert("latest_heart_rate", self.keep_newer("latest_heart_rate", rate, "$gt", &value)?);
        }
        if let Some(ecg) = &self.newest.ecg {
            // An analysis also replaces the ECG itself, an upload never: the analysis may have come before it.
            let by_analysis = ecg.status != proto_json::EcgStatus::Pending;
            let order = if by_analysis { "$gte" } else { "$gt" };
            let value = LatestEcgField::from(ecg);
            set.insert("latest_ecg", self.keep_newer("latest_ecg", ecg, order, &value)?);
        }
        if let Some(image) = &self.newest.image {
            let value = LatestImageField::from(image);
            set.insert("latest_image", self.keep_newer("latest_image", image, "$gt", &value)?);
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

    /// `new` if it comes after what `field` has, or that is missing; else what `field` has. `order` decides between records
    /// of the same place.
    fn keep_newer<T: Serialize>(
        &self,
        field: &str,
        new: &impl Latest,
        order: &str,
        value: &T,
    ) -> Result<Document, StoreError> {
        let rank = new.rank();
        let (at, id) = (date(rank.at), documents::record(rank.id));
        let old = format!("${field}");
        let part = |name: &str| format!("{old}.{name}");
        let after = |new: Bson, old: Bson| {
            doc! { "$or": [
                { "$gt": [new.clone(), old.clone()] },
                { "$and": [{ "$eq": [new, old] }, { order: [id, part("id")] }] },
            ] }
        };
        let by_time = after(at.into(), part("at").into());
        let old_version = doc! { "$ifNull": [part("upload_version"), 0_i64] };
        let by_upload = after("$now.upload_version".into(), old_version.into());
        let in_future = date(self.stored_at.plus_millis(CLOCK_TOLERANCE_MS));
        let distrusted = doc! { "$or": [
            rank.clock_wrong,
            { "$eq": [part("clock_wrong"), true] },
            { "$gt": [part("at"), in_future] },
        ] };
        let newer = doc! { "$and": [
            { "$not": ["$now.seen"] },
            { "$or": [
                { "$eq": [{ "$type": &old }, "missing"] },
                { "$cond": [distrusted, by_upload, by_time] },
            ] },
        ] };
        let value = bson::serialize_to_bson(value).map_err(|error| broken("value", error))?;
        let value = doc! { "$mergeObjects": [
            { "$literal": value },
            { "upload_version": "$now.upload_version" },
        ] };
        Ok(doc! { "$cond": [newer, value, old] })
    }
}
