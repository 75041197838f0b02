//! Storing the result of an analysis: one transaction over its files, the ECG, its heart rate and its patient.
//!
//! The transaction reads the ECG first and ends if it has a result. Of several results at once, one is committed; the others
//! meet a write conflict, are repeated and find the ECG analysed.

use std::sync::Arc;

use futures::FutureExt;
use mongodb::ClientSession;
use mongodb::bson::doc;
use mongodb::error::Error;
use proto_json::{EcgRecord, EcgStatus, HashedBytes, PatientSummary, SignalOptions};

use crate::records::{self, StoredEcg};
use crate::{AnalysisResult, StoreError, StoredUpload};

use super::Db;
use super::blobs::Attached;
use super::calls;
use super::documents::{self, EcgDocument, HeartRateDocument, UploadDocument};
use super::failure::broken;
use super::patients;
use super::sealed::{self, seal};
use super::transaction::{self, Abort, abort};
use super::uploads::insert_all;

/// Stores a result with its files; `None` if the ECG is unknown or has a result.
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
    let is_expected = ecg.mrn == result.mrn && ecg.upload_id == result.upload_id;
    if !is_expected || ecg.status != EcgStatus::Pending {
        return Ok(None);
    }
    let patient = patients::find(db, session, ecg.mrn).await?;
    let mut patient = patient.ok_or_else(|| abort(broken("ECG", "it has no patient")))?;
    let upload = db.uploads.find_one(doc! { "_id": documents::upload(ecg.upload_id) });
    let upload =
        upload.session(&mut *session).await?.ok_or_else(|| abort(broken("ECG", "it has no upload")))?;
    let upload: StoredUpload =
        sealed::required::<UploadDocument>(&upload).and_then(TryInto::try_into).map_err(abort)?;

    let ecg = result.apply(ecg);
    result.apply_to_patient(&ecg, upload.receipt.version, &mut patient);
    files.write(db, session).await?;
    let rate = records::heart_rate_of(&ecg);
    let document = EcgDocument::from(&StoredEcg { record: ecg, options: SignalOptions::default() });
    db.ecgs.replace_one(id, seal(&document).map_err(abort)?).session(&mut *session).await?;
    insert_all(&db.heart_rates, session, rate.iter().map(HeartRateDocument::from)).await?;
    patients::write(db, session, &patient, false).await?;
    Ok(Some(patient))
}
