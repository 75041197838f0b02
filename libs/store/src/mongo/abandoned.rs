//! Removing files of uploads that never came to be.
//!
//! A file is stored before the record that refers to it. If the message of its upload is then lost with a broker, or given
//! up, or refused, nothing will ever refer to the file. Whoever knows that (the reconciler of ingest) has it removed. What
//! keeps the files of all others safe, step by step:
//!
//! 1. Only a file that still belongs to the upload is looked at, and only one that it did not bring lately: a retry of the
//!    client that arrives in this moment has brought it again, or will find it gone and write it.
//! 2. Nothing that the upload stored refers to it. An upload that is stored in part keeps all its files.
//! 3. An upload that is not stored is kept from it from now on, as it was received when it brought the file: a delivery of
//!    it that slept for a day, with a message that nobody else has, meets the mark in the place of its claim. Received
//!    later, it brings its files anew and takes the mark's place, see [`super::uploads::claim`].
//! 4. The files document goes, if it still is as in 1: now nobody finds the file. Its id was used once, or by deliveries
//!    of the message that step 3 keeps out, so
//! 5. its chunks go by that id.
//!
//! Ended anywhere, it can be done again.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use proto_json::{BlobHash, EcgRecord, EcgStatus, FileKind, StoredFile, Timestamp, UploadId};

use crate::{Origin, Removal, StoreError};

use super::Db;
use super::blobs::{self, OwnerField};
use super::documents::{self, EcgDocument, date};
use super::failure::{answer, broken, explain, within};
use super::reading;
use super::uploads::{self, State};

pub(super) async fn remove(
    db: &Db,
    upload: UploadId,
    sha256: BlobHash,
    before: Timestamp,
) -> Result<Removal, StoreError> {
    let name = doc! { "filename": sha256.to_string(), "metadata.upload": documents::upload(upload) };
    let file = within(db.limit, db.files.find_one(name)).await?;
    let owned = file.and_then(|file| Some((file.id, file.metadata?)));
    if owned.as_ref().is_some_and(|(_, owner)| owner.brought_at >= date(before)) {
        return Ok(Removal::NotYet);
    }
    let parts = parts(db, upload, sha256, before).await?;
    let received = owned.as_ref().map(|(_, owner)| owner.received_at);
    let Some(received) = parts.iter().map(|part| part.received_at).chain(received).max() else {
        return Ok(Removal::Kept);
    };
    let free = match uploads::state(db, upload).await? {
        State::Half => false,
        State::Stored(receipt) => !refers(db, &receipt.files, sha256).await?,
        State::Unknown => uploads::keep_out(db, upload, received).await?,
    };
    if !free {
        return Ok(Removal::Kept);
    }
    if let Some((id, owner)) = owned
        && !remove_file(db, &id, owner).await?
    {
        return Ok(Removal::NotYet);
    }
    for Part { file, .. } in parts {
        // A writer that slept may have come to its end meanwhile.
        if within(db.limit, db.files.find_one(doc! { "_id": &file })).await?.is_none() {
            within(db.limit, db.chunks.delete_many(doc! { "files_id": file })).await?;
        }
    }
    Ok(Removal::Removed)
}

/// Chunks of a small file that this upload brought, and when it had been received then.
struct Part {
    file: String,
    received_at: DateTime,
}

/// What there is of such chunks, with or without a file, of receipts before `before`.
async fn parts(
    db: &Db,
    upload: UploadId,
    sha256: BlobHash,
    before: Timestamp,
) -> Result<Vec<Part>, StoreError> {
    let first = blobs::ids_of(upload, sha256);
    let end = blobs::id_of(Origin { upload, received_at: before }, sha256);
    // Of a small file: a handful.
    let chunks = db.chunks.clone_with_type::<Document>();
    let range = doc! { "files_id": { "$gte": &first, "$lt": end } };
    let find = chunks.find(range).projection(doc! { "_id": 0, "files_id": 1 });
    let mut cursor = within(db.limit, find).await?;
    let mut files = BTreeSet::new();
    while let Some(found) = answer(db.limit, cursor.try_next()).await?.map_err(|error| explain(&error))? {
        files.insert(found.get_str("files_id").map_err(|error| broken("chunk", error))?.to_owned());
    }
    let part = |file: String| {
        let millis = file.get(first.len()..).unwrap_or_default().parse();
        let received_at = millis.map(DateTime::from_millis).map_err(|error| broken("chunk", error))?;
        Ok(Part { file, received_at })
    };
    files.into_iter().map(part).collect()
}

/// Whether a record of an upload refers to a file, or may come to.
async fn refers(db: &Db, files: &[StoredFile], sha256: BlobHash) -> Result<bool, StoreError> {
    for file in files {
        if file.sha256 == sha256 {
            return Ok(true);
        }
        if file.kind == FileKind::Ecg {
            let ecg: Option<EcgRecord> = reading::one::<EcgDocument, _>(db, &db.ecgs, file.id).await?;
            let drawn =
                |ecg: &EcgRecord| [&ecg.plot, &ecg.detail].map(|file| file.as_ref().map(|file| file.sha256));
            if ecg.is_none_or(|ecg| ecg.status == EcgStatus::Pending || drawn(&ecg).contains(&Some(sha256))) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Removes a file that is still as it was found; false if it is not.
async fn remove_file(db: &Db, id: &Bson, owner: OwnerField) -> Result<bool, StoreError> {
    let long = id.as_object_id();
    if let Some(id) = long {
        blobs::bury(db, id).await?;
    }
    let unchanged =
        doc! { "_id": id, "metadata.upload": owner.upload, "metadata.brought_at": owner.brought_at };
    let removed = within(db.limit, db.files.delete_one(unchanged)).await?.deleted_count > 0;
    if let Some(id) = long {
        blobs::clear(db, id).await?;
    } else if removed {
        within(db.limit, db.chunks.delete_many(doc! { "files_id": id })).await?;
    }
    Ok(removed)
}
