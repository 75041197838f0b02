//! Storing an upload: claim, history, patient, receipt. No transaction: each step can be done again.
//!
//! | cut off after | what the next delivery finds |
//! |---|---|
//! | the claim | nothing but the claim, which is its own: it goes on |
//! | some history | documents of the same ids: inserting them again changes nothing |
//! | the patient | the patient remembers the write and its result |
//! | the receipt | everything: it answers with the receipt |
//!
//! In the place of a claim there may be the mark of an upload whose files were removed, see [`super::abandoned`].
//!
//! The claim keeps another content under the same id out from the start. Two deliveries of the same upload at once do the
//! same; one of them sets the receipt, and both answer with it.

use futures::future;
use mongodb::bson::{self, DateTime, doc};
use mongodb::options::ReturnDocument;
use proto_json::{UploadId, UploadReceipt};

use crate::{NewUpload, StoreError, StoredUpload, UploadOutcome};

use super::Db;
use super::documents::{self, EcgDocument, HeartRateDocument, ImageDocument, ReceiptField, date};
use super::failure::{answer, broken, explain, insert, is_duplicate, upserted, within};
use super::patients::{self, Applied};
use super::reading;

/// How often a claim is tried to be put in the place of a mark.
const TRIES: u32 = 3;

/// What a claim meets.
#[derive(Debug)]
pub(super) enum Claim {
    /// The upload is to be stored, or its storing to be taken up again.
    Ours,
    /// It is stored.
    Stored(UploadReceipt),
    /// The id belongs to another content or patient.
    Conflict,
}

/// Everything of an upload but its files.
pub(super) async fn store(db: &Db, upload: &NewUpload) -> Result<UploadOutcome, StoreError> {
    match claim(db, upload).await? {
        Claim::Conflict => Ok(UploadOutcome::Conflict),
        Claim::Stored(receipt) => {
            let patient = reading::patient(db, upload.mrn)
                .await?
                .ok_or_else(|| StoreError::Corrupt(format!("upload {} has no patient", upload.id)))?;
            Ok(UploadOutcome::Stored { receipt, patient: Box::new(patient), replayed: true })
        }
        Claim::Ours => {
            insert_history(db, upload).await?;
            let applied = patients::apply_upload(db, upload).await?;
            let receipt = complete(db, upload, &applied).await?;
            Ok(UploadOutcome::Stored { receipt, patient: Box::new(applied.patient), replayed: false })
        }
    }
}

/// Takes the id for this content and patient.
pub(super) async fn claim(db: &Db, upload: &NewUpload) -> Result<Claim, StoreError> {
    let id = documents::upload(upload.id);
    let mut fields = doc! {
        "mrn": documents::number(upload.mrn),
        "fingerprint": upload.fingerprint.to_string(),
        "claimed_at": date(upload.stored_at),
    };
    if let Some(client) = &upload.uploaded_by {
        fields.insert("uploaded_by", client);
    }
    let fresh = doc! { "$setOnInsert": fields };
    for _ in 0..TRIES {
        let found = upserted(|| {
            let claim = db.uploads.find_one_and_update(doc! { "_id": id }, fresh.clone());
            answer(db.limit, claim.upsert(true).return_document(ReturnDocument::After))
        })
        .await?;
        let Some(kept_out) = found.kept_out else {
            let same = found.mrn == Some(documents::number(upload.mrn))
                && found.fingerprint == Some(upload.fingerprint);
            if !same {
                return Ok(Claim::Conflict);
            }
            return Ok(found.into_receipt()?.map_or(Claim::Ours, Claim::Stored));
        };
        if date(upload.received_at) <= kept_out {
            break;
        }
        // Received again since: it has brought its files again.
        let claim = fresh.get_document("$setOnInsert").cloned().unwrap_or_default();
        let update = doc! { "$set": claim, "$unset": { "kept_out": "" } };
        let marked = db.uploads.update_one(doc! { "_id": id, "kept_out": kept_out }, update);
        if within(db.limit, marked).await?.matched_count > 0 {
            return Ok(Claim::Ours);
        }
    }
    Err(StoreError::refused("the files of this upload were removed as abandoned; it has to be sent again"))
}

/// Keeps an upload that is unknown from being stored as it was received until `received`, unless it is claimed now.
pub(super) async fn keep_out(db: &Db, id: UploadId, received: DateTime) -> Result<bool, StoreError> {
    let unclaimed = doc! { "_id": documents::upload(id), "mrn": { "$exists": false } };
    let mark = doc! { "$max": { "kept_out": received } };
    for _ in 0..TRIES {
        // A document that does not match is in the way of the one that would be inserted.
        match answer(db.limit, db.uploads.update_one(unclaimed.clone(), mark.clone()).upsert(true)).await? {
            Ok(_) => return Ok(true),
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(explain(&error)),
        }
    }
    Ok(false)
}

/// How far an upload has come.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing of it is stored.
    Unknown,
    /// Some of it may be.
    Half,
    /// All of it is.
    Stored(UploadReceipt),
}

/// How far an upload has come.
pub(super) async fn state(db: &Db, id: UploadId) -> Result<State, StoreError> {
    let found = within(db.limit, db.uploads.find_one(doc! { "_id": documents::upload(id) })).await?;
    let Some(found) = found.filter(|found| found.kept_out.is_none()) else { return Ok(State::Unknown) };
    Ok(found.into_receipt()?.map_or(State::Half, State::Stored))
}

/// Inserts the records of the history that are not there yet.
pub(super) async fn insert_history(db: &Db, upload: &NewUpload) -> Result<(), StoreError> {
    let rate = upload.heart_rate_record();
    let ecgs: Vec<_> = upload.ecg_records().iter().map(EcgDocument::from).collect();
    let images: Vec<_> = upload.image_records().iter().map(ImageDocument::from).collect();
    let heart_rate = async {
        match &rate {
            Some(rate) => insert_heart_rate(db, &HeartRateDocument::from(rate)).await,
            None => Ok(()),
        }
    };
    let ecgs = async {
        if ecgs.is_empty() {
            return Ok(());
        }
        insert(db.limit, db.ecgs.insert_many(&ecgs).ordered(false)).await.map(drop)
    };
    let images = async {
        if images.is_empty() {
            return Ok(());
        }
        insert(db.limit, db.images.insert_many(&images).ordered(false)).await.map(drop)
    };
    future::try_join3(heart_rate, ecgs, images).await.map(drop)
}

pub(super) async fn insert_heart_rate(db: &Db, rate: &HeartRateDocument) -> Result<(), StoreError> {
    insert(db.limit, db.heart_rates.insert_one(rate)).await.map(drop)
}

/// Sets the receipt: now the upload is stored. Returns the one that was set first.
pub(super) async fn complete(
    db: &Db,
    upload: &NewUpload,
    applied: &Applied,
) -> Result<UploadReceipt, StoreError> {
    let receipt = upload.receipt(applied.created, applied.changed, applied.version);
    let field =
        bson::serialize_to_bson(&ReceiptField::from(&receipt)).map_err(|error| broken("receipt", error))?;
    let open = doc! { "_id": documents::upload(upload.id), "receipt": { "$exists": false } };
    let update = db.uploads.update_one(open, doc! { "$set": { "receipt": field } });
    if within(db.limit, update).await?.matched_count > 0 {
        return Ok(receipt);
    }
    let first = find(db, upload.id).await?;
    first.map(|stored| stored.receipt).ok_or_else(|| broken("upload", "its claim is gone"))
}

/// What became of an upload.
pub(super) async fn find(db: &Db, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
    let found = within(db.limit, db.uploads.find_one(doc! { "_id": documents::upload(id) })).await?;
    let Some(found) = found else { return Ok(None) };
    let (fingerprint, uploaded_by) = (found.fingerprint, found.uploaded_by.clone());
    Ok(found.into_receipt()?.zip(fingerprint).map(|(receipt, fingerprint)| StoredUpload {
        receipt,
        fingerprint,
        uploaded_by,
    }))
}
