//! Storing an upload: one transaction over its files, its history, its patient and the upload itself.
//!
//! Every id is derived from the upload. A redelivery, or a second process with the same upload, meets the upload's document
//! (a duplicate key) or its uncommitted insertion (a write conflict) and stores nothing. So it is harmless to repeat an
//! upload whose commit had an unknown result.

use std::sync::Arc;

use futures::FutureExt;
use mongodb::ClientSession;
use mongodb::Collection;
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::Error;
use proto_json::{HashedBytes, PatientSummary, UploadId, UploadReceipt};

use crate::{NewUpload, StoreError, StoredUpload, UploadOutcome};

use super::Db;
use super::blobs::Attached;
use super::corrections::MongoTransaction;
use super::documents::{
    self, EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, UploadDocument,
};
use super::failure::{is_duplicate, within};
use super::sealed::{self, Sealed, seal};
use super::transaction::{self, Abort, abort};
use super::{calls, patients, reading};

/// Stores an upload with its files.
pub(super) async fn store(
    db: &Arc<Db>,
    upload: &NewUpload,
    files: Vec<HashedBytes>,
) -> Result<UploadOutcome, StoreError> {
    let referenced = upload.files.iter().map(|file| file.sha256);
    let mut files = Attached::prepare(db, upload.id, files, referenced).await?;
    let _turn = calls::operation(db.limit, db.patient_turn(upload.mrn).lock()).await?;
    loop {
        let context = (&**db, upload, &files);
        let stored = transaction::run(db, context, |session, (db, upload, files)| {
            insert(db, session, upload, files).boxed()
        });
        match stored.await {
            Ok((receipt, patient)) => {
                return Ok(UploadOutcome::Stored { receipt, patient: Box::new(patient), replayed: false });
            }
            Err(Abort::Erased) => return Ok(UploadOutcome::Erased),
            Err(Abort::UploadExists) => return replay(db, upload).await,
            Err(Abort::FileExists) => files.leave_out_existing(db).await?,
            Err(Abort::Failed(error)) => return Err(error),
        }
    }
}

/// What is answered for an upload whose id is stored already.
async fn replay(db: &Db, upload: &NewUpload) -> Result<UploadOutcome, StoreError> {
    let missing = |what| StoreError::Corrupt(format!("upload {} has no {what}", upload.id));
    let stored = find(db, upload.id).await?.ok_or_else(|| missing("document"))?;
    if stored.fingerprint != upload.fingerprint || stored.addressed_to != upload.mrn {
        return Ok(UploadOutcome::Conflict);
    }
    let patient = reading::patient(db, stored.receipt.mrn).await?.ok_or_else(|| missing("patient"))?;
    Ok(UploadOutcome::Stored { receipt: stored.receipt, patient: Box::new(patient), replayed: true })
}

/// The writes of one transaction.
async fn insert(
    db: &Db,
    session: &mut ClientSession,
    upload: &NewUpload,
    files: &Attached,
) -> Result<(UploadReceipt, PatientSummary), Error> {
    let addressed_to = upload.mrn;
    let receiver = MongoTransaction::new(db, session).receiver(upload.id, addressed_to).await?;
    let mrn = receiver.ok_or_else(|| abort(Abort::Erased))?;
    let upload = &NewUpload { mrn, ..upload.clone() };
    let known = patients::find(db, session, mrn).await?;
    let is_new = known.is_none();
    let applied = upload.apply(known);
    // The upload comes first: if it exists, nothing else is sent.
    let document = seal(&UploadDocument::new(upload, &applied.receipt, addressed_to)).map_err(abort)?;
    match db.uploads.insert_one(document).session(&mut *session).await {
        Err(error) if is_duplicate(&error) => return Err(abort(Abort::UploadExists)),
        inserted => inserted?,
    };
    files.write(db, session).await?;
    let rates = upload.heart_rate_record();
    insert_all(&db.heart_rates, session, rates.iter().map(HeartRateDocument::from)).await?;
    let ecgs = upload.ecg_records();
    insert_all(&db.ecgs, session, ecgs.iter().map(EcgDocument::from)).await?;
    let images = upload.image_records();
    insert_all(&db.images, session, images.iter().map(ImageDocument::from)).await?;
    let former = applied.former_name.iter().map(|former| FormerNameDocument::new(upload.mrn, former));
    insert_all(&db.former_names, session, former).await?;
    // Also if nothing has changed: a merge or an erasure at the same time then meets a conflict.
    patients::write(db, session, &applied.patient, is_new).await?;
    Ok((applied.receipt, applied.patient))
}

/// Inserts documents within a transaction; sends nothing if there are none.
pub(super) async fn insert_all<D: Sealed>(
    collection: &Collection<RawDocumentBuf>,
    session: &mut ClientSession,
    documents: impl Iterator<Item = D>,
) -> Result<(), Error> {
    let documents =
        documents.map(|document| seal(&document)).collect::<Result<Vec<_>, _>>().map_err(abort)?;
    if documents.is_empty() {
        return Ok(());
    }
    collection.insert_many(documents).session(session).await.map(drop)
}

/// A stored upload.
pub(super) async fn find(db: &Db, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
    let action = db.uploads.find_one(doc! { "_id": documents::upload(id) }).max_time(db.limit);
    let found = within(db.limit, action).await?;
    found.map(|raw| sealed::required::<UploadDocument>(&raw)?.try_into()).transpose()
}
