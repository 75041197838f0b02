//! Storing the result of an analysis: one transaction over its files, the ECG, its heart rate and its patient.
//!
//! The transaction reads the ECG first and ends if it has a result of the same or a later version of the analysis. Of several
//! results at once, one is committed; the others meet a write conflict, are repeated and find the ECG analysed. A result of
//! a later version replaces ECG, heart rate and files in the same transaction.

use std::sync::Arc;

use futures::FutureExt;
use mongodb::ClientSession;
use mongodb::bson::doc;
use mongodb::error::Error;
use mongodb::options::FindOptions;
use proto_json::{EcgRecord, EcgStatus, HashedBytes, HeartRateRecord, Mrn, PatientSummary, StoredFile};

use crate::records::{self, StoredEcg};
use crate::{AnalysisResult, StoreError, StoredUpload};

use super::Db;
use super::blobs::{self, Attached};
use super::calls;
use super::corrections::MongoTransaction;
use super::documents::{self, EcgDocument, HeartRateDocument, UploadDocument};
use super::failure::broken;
use super::patients;
use super::sealed::{self, seal};
use super::transaction::{self, Abort, abort};
use super::uploads::insert_all;

/// Stores a result with its files; `None` if the ECG is unknown or has a result of the same or a later version.
pub(super) async fn store(
    db: &Arc<Db>,
    result: &AnalysisResult,
    files: Vec<HashedBytes>,
) -> Result<Option<PatientSummary>, StoreError> {
    let referenced = result.outcome.iter().flat_map(|(_, plot, detail)| [plot.sha256, detail.sha256]);
    let mut files = Attached::prepare(db, result.upload_id, files, referenced).await?;
    let _turn = calls::operation(db.limit, db.patient_turn(result.mrn).lock()).await?;
    loop {
        let context = (&**db, result, &files);
        let stored = transaction::run(db, context, |session, (db, result, files)| {
            update(db, session, result, files).boxed()
        });
        match stored.await {
            Ok(patient) => return Ok(patient),
            Err(Abort::FileExists) => files.leave_out_existing(db).await?,
            Err(abort) => return Err(abort.into()),
        }
    }
}

/// The reads and writes of one transaction.
async fn update(
    db: &Db,
    session: &mut ClientSession,
    result: &AnalysisResult,
    files: &Attached,
) -> Result<Option<PatientSummary>, Error> {
    let id = doc! { "_id": documents::record(result.ecg_id) };
    let Some(found) = db.ecgs.find_one(id.clone()).session(&mut *session).await? else { return Ok(None) };
    let ecg: EcgRecord =
        sealed::required::<EcgDocument>(&found).and_then(TryInto::try_into).map_err(abort)?;
    // The ECG may have been moved to another patient meanwhile.
    if ecg.upload_id != result.upload_id || !result.replaces_result_of(&ecg) {
        return Ok(None);
    }
    let former = (ecg.status != EcgStatus::Pending).then(|| ecg.clone());
    // While a merge is running, the ECG may still have the number that was given up.
    let receiver = MongoTransaction::new(db, session).receiver(ecg.upload_id, ecg.mrn).await?;
    let Some(owner) = receiver else { return Ok(None) };
    let patient = patients::find(db, session, owner).await?;
    let mut patient = patient.ok_or_else(|| abort(broken("ECG", "it has no patient")))?;
    let upload = db.uploads.find_one(doc! { "_id": documents::upload(ecg.upload_id) });
    let upload =
        upload.session(&mut *session).await?.ok_or_else(|| abort(broken("ECG", "it has no upload")))?;
    let upload: StoredUpload =
        sealed::required::<UploadDocument>(&upload).and_then(TryInto::try_into).map_err(abort)?;

    let ecg = result.apply(ecg);
    files.write(db, session).await?;
    match &former {
        None => result.apply_to_patient(&ecg, upload.receipt.version, &mut patient),
        Some(former) => {
            let rate = documents::record(ecg.id.derived("heart_rate"));
            db.heart_rates.delete_one(doc! { "_id": rate }).session(&mut *session).await?;
            let others = newest_rates(db, session, owner).await?;
            let files = &upload.receipt.files;
            let siblings = siblings(db, session, &ecg, files).await?;
            let hashes = files.iter().map(|file| file.sha256);
            let released = records::released_files(former, &ecg, &siblings, hashes);
            blobs::release(db, session, ecg.upload_id, &released).await?;
            result.replace_in_patient(&ecg, upload.receipt.version, &others, &mut patient);
        }
    }
    let rate = records::heart_rate_of(&ecg);
    let options = ecg.signal_options.clone().unwrap_or_default();
    let document = EcgDocument::from(&StoredEcg { record: ecg, options });
    db.ecgs.replace_one(id, seal(&document).map_err(abort)?).session(&mut *session).await?;
    insert_all(&db.heart_rates, session, rate.iter().map(HeartRateDocument::from)).await?;
    patients::write(db, session, &patient, false).await?;
    Ok(Some(patient))
}

/// Newest heart rates that are read to find another latest one.
const NEWEST_RATES: i64 = 20;

/// The newest heart rates of a patient.
async fn newest_rates(db: &Db, session: &mut ClientSession, mrn: Mrn) -> Result<Vec<HeartRateRecord>, Error> {
    let newest = FindOptions::builder().sort(doc! { "at": -1, "_id": -1 }).limit(NEWEST_RATES).build();
    let of_patient = doc! { "mrn": documents::number(mrn), "error": { "$exists": false } };
    let mut found = db.heart_rates.find(of_patient).with_options(newest).session(&mut *session).await?;
    let mut rates = Vec::new();
    while let Some(raw) = found.next(session).await.transpose()? {
        let rate = sealed::required::<HeartRateDocument>(&raw).and_then(TryInto::try_into);
        rates.push(rate.map_err(abort)?);
    }
    Ok(rates)
}

/// The other ECGs of an upload.
async fn siblings(
    db: &Db,
    session: &mut ClientSession,
    ecg: &EcgRecord,
    files: &[StoredFile],
) -> Result<Vec<EcgRecord>, Error> {
    let others = files.iter().filter(|file| file.id != ecg.id).map(|file| documents::record(file.id));
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = db.ecgs.find(doc! { "_id": { "$in": others } }).session(&mut *session).await?;
    let mut ecgs = Vec::new();
    while let Some(raw) = found.next(session).await.transpose()? {
        let other = sealed::required::<EcgDocument>(&raw).and_then(TryInto::try_into);
        ecgs.push(other.map_err(abort)?);
    }
    Ok(ecgs)
}
