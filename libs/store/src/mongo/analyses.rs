//! Storing the result of an analysis: ECG, history, patient, done. No transaction: each step can be done again.
//!
//! The ECG comes first, and only once: of two different results at the same time one is set there, and everything after
//! is made from what is set. The ECG stays `open` until the result has arrived in the history and in the patient. Whoever
//! finds it open, its own result or another's, does the rest; each step then changes nothing that is done already. The one
//! who closes it announces it. A result that comes later finds it closed.

use mongodb::bson::{self, Document, doc};
use mongodb::options::ReturnDocument;
use proto_json::{EcgRecord, EcgStatus, PatientSummary, Timestamp};

use crate::records::{self, Newest};
use crate::{AnalysisResult, StoreError};

use super::Db;
use super::documents::{self, HeartRateDocument};
use super::failure::{broken, within};
use super::patients;
use super::uploads::{self, insert_heart_rate};

pub(super) async fn store(db: &Db, result: &AnalysisResult) -> Result<Option<PatientSummary>, StoreError> {
    let Some(ecg) = set_result(db, result).await? else { return Ok(None) };
    insert_history(db, &ecg).await?;
    let patient = update_patient(db, &ecg, result.stored_at).await?;
    Ok(close(db, &ecg).await?.then_some(patient))
}

/// Sets the result unless there is one, and returns the ECG if it is still open.
pub(super) async fn set_result(db: &Db, result: &AnalysisResult) -> Result<Option<EcgRecord>, StoreError> {
    let ecg = doc! { "_id": documents::record(result.ecg_id), "mrn": documents::number(result.mrn) };
    let mut pending = ecg.clone();
    pending.insert("status", text(EcgStatus::Pending)?);
    let set = db
        .ecgs
        .find_one_and_update(pending, doc! { "$set": result_fields(result)? })
        .return_document(ReturnDocument::After);
    let found = match within(db.limit, set).await? {
        Some(found) => Some(found),
        None => within(db.limit, db.ecgs.find_one(ecg)).await?,
    };
    found.filter(|ecg| ecg.open).map(TryInto::try_into).transpose()
}

fn result_fields(result: &AnalysisResult) -> Result<Document, StoreError> {
    let mut fields = Document::new();
    match &result.outcome {
        Ok((analysis, plot, detail)) => {
            fields.insert("status", text(EcgStatus::Analyzed)?);
            fields.insert("analysis", value(analysis)?);
            fields.insert("plot", value(plot)?);
            fields.insert("detail", value(detail)?);
            if let Some(rate) = result.heart_rate() {
                fields.insert("heart_rate", value(&rate)?);
            }
        }
        Err(reason) => {
            fields.insert("status", text(EcgStatus::Failed)?);
            fields.insert("failure", reason);
        }
    }
    Ok(fields)
}

/// Its heart rate in the history.
pub(super) async fn insert_history(db: &Db, ecg: &EcgRecord) -> Result<(), StoreError> {
    match records::heart_rate_of(ecg) {
        Some(rate) => insert_heart_rate(db, &HeartRateDocument::from(&rate)).await,
        None => Ok(()),
    }
}

/// The patient with the result.
pub(super) async fn update_patient(
    db: &Db,
    ecg: &EcgRecord,
    stored_at: Timestamp,
) -> Result<PatientSummary, StoreError> {
    let upload_version = uploads::find(db, ecg.upload_id).await?.map_or(0, |upload| upload.receipt.version);
    let newest = Newest::of_analysis(ecg, upload_version, stored_at);
    let by = documents::record(ecg.id.derived("analysis"));
    let patient = patients::apply_analysis(db, ecg.mrn, by, newest, upload_version, stored_at).await?;
    // A job that was issued again before the upload was stored completely. It will be, and then this goes through.
    patient
        .ok_or_else(|| StoreError::refused("the upload of this ECG is still being stored; try again later"))
}

/// Closes the ECG; true for the one who did.
pub(super) async fn close(db: &Db, ecg: &EcgRecord) -> Result<bool, StoreError> {
    let open = doc! { "_id": documents::record(ecg.id), "mrn": documents::number(ecg.mrn), "open": true };
    let closing = db.ecgs.update_one(open, doc! { "$unset": { "open": "", "options": "" } });
    Ok(within(db.limit, closing).await?.modified_count > 0)
}

/// A status as it is stored.
fn text(status: EcgStatus) -> Result<bson::Bson, StoreError> {
    value(&status)
}

fn value<T: serde::Serialize>(value: &T) -> Result<bson::Bson, StoreError> {
    bson::serialize_to_bson(value).map_err(|error| broken("value", error))
}
