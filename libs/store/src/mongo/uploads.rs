//! Storing an upload: claim, history, patient, receipt. No transaction: each step can be done again.
//!
//! | cut off after | what the next delivery finds |
//! |---|---|
//! | the claim | nothing but the claim, which is its own: it goes on |
//! | some history | documents of the same ids: inserting them again changes nothing |
//! | the patient | the patient remembers the write and its result, with the name that it replaced |
//! | the receipt | everything: it answers with the receipt |
//!
//! In the place of a claim there may be the mark of an upload whose files were removed, see [`super::abandoned`].
//!
//! The claim keeps another content under the same id out from the start. Two deliveries of the same upload at once do the
//! same; one of them sets the receipt, and both answer with it.

use futures::future;
use mongodb::bson::{DateTime, RawDocument, doc};
use proto_json::{UploadId, UploadReceipt};

use crate::{NewUpload, StoreError, StoredUpload, UploadOutcome};

use super::Db;
use super::documents::{
    self, EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, ReceiptField, UploadDocument,
    date,
};
use super::failure::{broken, insert, within};
use super::patients::{self, Applied};
use super::reading;
use super::sealed::{self, CHECKSUM, checksum_in, seal};

/// How often a claim is tried to be put in the place of a mark.
const TRIES: u32 = 3;

/// What a claim meets.
#[derive(Debug)]
pub(super) enum Claim {
    /// The upload is to be stored, or its storing to be taken up again, under this claim.
    Ours(UploadDocument),
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
        Claim::Ours(claim) => {
            insert_history(db, upload).await?;
            let applied = patients::apply_upload(db, upload).await?;
            if let Some(former) = upload.former_name(&applied.name) {
                let document = FormerNameDocument::new(upload.mrn, &former);
                insert(db.limit, db.former_names.insert_one(seal(&document)?)).await?;
            }
            let receipt = complete(db, upload, claim, &applied).await?;
            Ok(UploadOutcome::Stored { receipt, patient: Box::new(applied.patient), replayed: false })
        }
    }
}

/// Takes the id for this content and patient.
pub(super) async fn claim(db: &Db, upload: &NewUpload) -> Result<Claim, StoreError> {
    let id = doc! { "_id": documents::upload(upload.id) };
    let claim = UploadDocument {
        id: documents::upload(upload.id),
        mrn: Some(documents::number(upload.mrn)),
        fingerprint: Some(upload.fingerprint),
        claimed_at: Some(date(upload.stored_at)),
        uploaded_by: upload.uploaded_by.clone(),
        kept_out: None,
        receipt: None,
    };
    for _ in 0..TRIES {
        // Mostly it is new.
        if insert(db.limit, db.uploads.insert_one(seal(&claim)?)).await? {
            return Ok(Claim::Ours(claim));
        }
        let Some(raw) = within(db.limit, db.uploads.find_one(id.clone())).await? else { continue };
        let found: UploadDocument = sealed::required(&raw)?;
        let Some(kept_out) = found.kept_out else {
            if found.mrn != claim.mrn || found.fingerprint != claim.fingerprint {
                return Ok(Claim::Conflict);
            }
            return Ok(match found.clone().into_receipt()? {
                Some(receipt) => Claim::Stored(receipt),
                None => Claim::Ours(found),
            });
        };
        if date(upload.received_at) <= kept_out {
            break;
        }
        // Received again since: it has brought its files again.
        if replace(db, &raw, &claim).await? {
            return Ok(Claim::Ours(claim));
        }
    }
    Err(StoreError::refused("the files of this upload were removed as abandoned; it has to be sent again"))
}

/// Puts `document` in the place of the one that was read; false if that has changed.
async fn replace(db: &Db, read: &RawDocument, document: &UploadDocument) -> Result<bool, StoreError> {
    let unchanged = doc! { "_id": document.id, CHECKSUM: checksum_in(read) };
    let replaced = db.uploads.replace_one(unchanged, seal(document)?);
    Ok(within(db.limit, replaced).await?.matched_count > 0)
}

/// Keeps an upload that is unknown from being stored as it was received until `received`, unless it is claimed now.
pub(super) async fn keep_out(db: &Db, id: UploadId, received: DateTime) -> Result<bool, StoreError> {
    let mark = UploadDocument {
        id: documents::upload(id),
        mrn: None,
        fingerprint: None,
        claimed_at: None,
        uploaded_by: None,
        kept_out: Some(received),
        receipt: None,
    };
    for _ in 0..TRIES {
        if insert(db.limit, db.uploads.insert_one(seal(&mark)?)).await? {
            return Ok(true);
        }
        let found = within(db.limit, db.uploads.find_one(doc! { "_id": mark.id })).await?;
        let Some(raw) = found else { continue };
        match sealed::required::<UploadDocument>(&raw)?.kept_out {
            None => return Ok(false),
            Some(kept_out) if kept_out >= received => return Ok(true),
            Some(_) if replace(db, &raw, &mark).await? => return Ok(true),
            Some(_) => {}
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
    let found = document(db, id).await?;
    let Some(found) = found.filter(|found| found.kept_out.is_none()) else { return Ok(State::Unknown) };
    Ok(found.into_receipt()?.map_or(State::Half, State::Stored))
}

/// Inserts the records of the history that are not there yet.
pub(super) async fn insert_history(db: &Db, upload: &NewUpload) -> Result<(), StoreError> {
    let rate = upload.heart_rate_record();
    let ecgs = upload.ecg_records();
    let ecgs = ecgs.iter().map(|ecg| seal(&EcgDocument::from(ecg))).collect::<Result<Vec<_>, _>>()?;
    let images = upload.image_records();
    let images =
        images.iter().map(|image| seal(&ImageDocument::from(image))).collect::<Result<Vec<_>, _>>()?;
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
    insert(db.limit, db.heart_rates.insert_one(seal(rate)?)).await.map(drop)
}

/// Sets the receipt: now the upload is stored. Returns the one that was set first.
pub(super) async fn complete(
    db: &Db,
    upload: &NewUpload,
    claim: UploadDocument,
    applied: &Applied,
) -> Result<UploadReceipt, StoreError> {
    let receipt = upload.receipt(applied.created, applied.changed, applied.name.kept, applied.version);
    // A claim changes only here.
    let open = doc! { "_id": claim.id, "mrn": { "$exists": true }, "receipt": { "$exists": false } };
    let document = UploadDocument { receipt: Some(ReceiptField::from(&receipt)), ..claim };
    let set = db.uploads.replace_one(open, seal(&document)?);
    if within(db.limit, set).await?.matched_count > 0 {
        return Ok(receipt);
    }
    let first = find(db, upload.id).await?;
    first.map(|stored| stored.receipt).ok_or_else(|| broken("upload", "its claim is gone"))
}

async fn document(db: &Db, id: UploadId) -> Result<Option<UploadDocument>, StoreError> {
    let found = within(db.limit, db.uploads.find_one(doc! { "_id": documents::upload(id) })).await?;
    found.map(|raw| sealed::required(&raw)).transpose()
}

/// What became of an upload.
pub(super) async fn find(db: &Db, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
    let Some(found) = document(db, id).await? else { return Ok(None) };
    let (fingerprint, uploaded_by) = (found.fingerprint, found.uploaded_by.clone());
    Ok(found.into_receipt()?.zip(fingerprint).map(|(receipt, fingerprint)| StoredUpload {
        receipt,
        fingerprint,
        uploaded_by,
    }))
}
