//! Storing the result of an analysis: ECG, history, patient, done. No transaction: each step can be done again.
//!
//! The ECG comes first, and only once: of two different results at the same time one is set there, and everything after
//! is made from what is set. The ECG stays `open` until the result has arrived in the history and in the patient. Whoever
//! finds it open, its own result or another's, does the rest; each step then changes nothing that is done already. The one
//! who closes it announces it. A result that comes later finds it closed.

use mongodb::bson::doc;
use proto_json::{EcgRecord, EcgStatus, PatientSummary, SignalOptions, Timestamp};

use crate::records::{self, Newest, StoredEcg};
use crate::{AnalysisResult, StoreError};

use super::Db;
use super::documents::{self, EcgDocument, HeartRateDocument};
use super::failure::within;
use super::patients;
use super::sealed::{self, CHECKSUM, checksum_in, seal};
use super::uploads::{self, insert_heart_rate};

/// How often a result is tried to be set, while others set theirs.
const TRIES: u32 = 3;

pub(super) async fn store(db: &Db, result: &AnalysisResult) -> Result<Option<PatientSummary>, StoreError> {
    let Some(ecg) = set_result(db, result).await? else { return Ok(None) };
    insert_history(db, &ecg).await?;
    let patient = update_patient(db, &ecg, result.stored_at).await?;
    Ok(close(db, &ecg).await?.then_some(patient))
}

/// Sets the result unless there is one, and returns the ECG if it is still open.
pub(super) async fn set_result(db: &Db, result: &AnalysisResult) -> Result<Option<EcgRecord>, StoreError> {
    let id = doc! { "_id": documents::record(result.ecg_id) };
    for _ in 0..TRIES {
        let found = within(db.limit, db.ecgs.find_one(id.clone())).await?;
        let Some(found) = found else { return Ok(None) };
        let document: EcgDocument = sealed::required(&found)?;
        let (open, options) = (document.open, document.options.clone());
        let ecg = EcgRecord::try_from(document)?;
        if ecg.mrn != result.mrn {
            return Ok(None);
        }
        if ecg.status != EcgStatus::Pending {
            return Ok(open.then_some(ecg));
        }
        let ecg = result.apply(ecg);
        let mut document = EcgDocument::from(&stored(&ecg));
        (document.open, document.options) = (true, options);
        let mut unchanged = id.clone();
        unchanged.insert(CHECKSUM, checksum_in(&found));
        let set = db.ecgs.replace_one(unchanged, seal(&document)?);
        if within(db.limit, set).await?.matched_count > 0 {
            return Ok(Some(ecg));
        }
    }
    Err(StoreError::unavailable("too many others store the result of this ECG; try again"))
}

fn stored(ecg: &EcgRecord) -> StoredEcg {
    StoredEcg { record: ecg.clone(), options: SignalOptions::default() }
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
    // An ECG that has its result changes only here.
    let closing = db.ecgs.replace_one(open, seal(&EcgDocument::from(&stored(ecg)))?);
    Ok(within(db.limit, closing).await?.modified_count > 0)
}
