//! Stored files, laid out as GridFS in the bucket `blobs`: any driver or tool can read them. `filename` is the SHA-256.
//!
//! A file belongs to one upload and is addressed by the upload and its hash. Two uploads with the same bytes store two
//! copies. A file is visible once its document in `blobs.files` is committed.
//!
//! * Files of up to [`IN_TRANSACTION`] bytes together are inserted in the transaction of their record ([`Attached`]).
//! * Longer files are written before it, in batches ([`ChunkedWrite`]). An entry in `blobs.incomplete` says that chunks
//!   without a file may exist. The entry is removed in the transaction that inserts the file.
//!
//! A file that is written before its record is orphaned until the transaction of the record sets `metadata.referenced`.
//! [`sweep`] removes orphaned files and incomplete writes from a certain age on. It and the record's transaction change the
//! same file document, so one of them meets a write conflict: a committed record never refers to a removed file.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use mongodb::ClientSession;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, DateTime, Document, doc};
use mongodb::error::Error;
use proto_json::{BlobHash, DamagedRecord, HashedBytes, RecordKind, Timestamp, UploadId};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::body::{Check, next_batch, unreadable, verified};
use crate::{BlobKey, ByteStream, StoreError, StoredBlob};

use super::Db;
use super::calls;
use super::documents::{self, date};
use super::failure::{broken, explain, insert, is_duplicate, within};
use super::reading::all;
use super::transaction::{self, Abort, abort};

/// Length of a chunk: the default of GridFS.
const CHUNK: usize = 255 * 1024;

/// Bytes sent in one message: 4 MB, less what does not fill a chunk.
const BATCH: usize = 16 * CHUNK;

/// Bytes of files that are written in the transaction of their record.
const IN_TRANSACTION: usize = 4 << 20;

/// Longest duration of a chunked write. [`sweep`] removes what is older.
const WRITE_LIMIT: Duration = Duration::from_secs(60 * 60);

/// `blobs.files`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileDocument {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) length: i64,
    #[serde(rename = "chunkSize")]
    chunk_size: i32,
    #[serde(rename = "uploadDate")]
    upload_date: DateTime,
    pub(super) filename: String,
    metadata: FileMetadata,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileMetadata {
    /// The upload that the file belongs to.
    upload: bson::Uuid,
    /// A record refers to it.
    referenced: bool,
}

impl FileDocument {
    fn new(id: String, key: BlobKey, bytes: u64, referenced: bool) -> Result<Self, StoreError> {
        let length =
            i64::try_from(bytes).map_err(|_| StoreError::Corrupt("a file is too long".to_owned()))?;
        Ok(FileDocument {
            id,
            length,
            chunk_size: CHUNK as i32,
            upload_date: DateTime::now(),
            filename: key.sha256.to_string(),
            metadata: FileMetadata { upload: documents::upload(key.upload), referenced },
        })
    }
}

/// `blobs.chunks`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChunkDocument {
    #[serde(rename = "_id")]
    id: ObjectId,
    files_id: String,
    n: i32,
    data: Binary,
    /// CRC-32 of the data, in addition to GridFS: each chunk is verified before it is returned.
    checksum: i64,
}

impl ChunkDocument {
    fn is_intact(&self) -> bool {
        self.checksum == checksum_of(&self.data.bytes)
    }
}

fn checksum_of(chunk: &[u8]) -> i64 {
    i64::from(checksum::of("blobs.chunks", chunk))
}

/// `blobs.incomplete`: chunks with this `files_id` may exist without a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IncompleteDocument {
    #[serde(rename = "_id")]
    id: String,
    since: DateTime,
    /// The chunks are being removed: the write can no longer be completed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
}

/// Selects the document of a file.
fn by_key(key: BlobKey) -> Document {
    doc! { "metadata.upload": documents::upload(key.upload), "filename": key.sha256.to_string() }
}

async fn find(db: &Db, key: BlobKey) -> Result<Option<FileDocument>, StoreError> {
    within(db.limit, db.files.find_one(by_key(key)).max_time(db.limit)).await
}

/// The id of a file that is written in one transaction.
pub(super) fn id_of(key: BlobKey) -> String {
    format!("{}/{}", key.upload, key.sha256)
}

/// Writes a file before its record, unless it exists.
pub(super) async fn put(db: &Arc<Db>, key: BlobKey, bytes: u64, body: ByteStream) -> Result<(), StoreError> {
    if find(db, key).await?.is_some() {
        return Ok(());
    }
    let mut check = Check::new(key.sha256, bytes);
    let mut body = body.fuse();
    let mut rest = BytesMut::new();
    let first = next_batch(BATCH, &mut body, &mut rest, &mut check).await?;
    if first.len() < BATCH {
        check.finish()?;
        return put_whole(db, key, &first).await;
    }
    let mut write = ChunkedWrite::begin(db, key).await?;
    let mut batch = first;
    loop {
        write.add(&batch).await?;
        batch = next_batch(BATCH, &mut body, &mut rest, &mut check).await?;
        if batch.is_empty() {
            break;
        }
    }
    check.finish()?;
    write.finish(bytes).await
}

/// Writes a short file, whose hash was verified, before its record.
async fn put_whole(db: &Db, key: BlobKey, content: &[u8]) -> Result<(), StoreError> {
    let written = transaction::run(db, (db, content), |session, (db, content)| {
        async move {
            let file = FileDocument::new(id_of(key), key, content.len() as u64, false).map_err(abort)?;
            insert_files(db, session, &[file]).await?;
            let chunks = chunks(&id_of(key), 0, content).map_err(abort)?;
            insert_chunks(db, session, chunks).await
        }
        .boxed()
    });
    match written.await {
        // Another writer of the same file was first.
        Ok(()) | Err(Abort::FileExists) => Ok(()),
        Err(abort) => Err(abort.into()),
    }
}

/// The files of one record: those that its transaction inserts, and those that exist and that it marks as referenced.
#[derive(Debug)]
pub(super) struct Attached {
    upload: UploadId,
    inserted: Vec<HashedBytes>,
    existing: Vec<BlobHash>,
}

impl Attached {
    /// Takes the given files and the hashes that the record refers to. Writes those files that do not fit in the
    /// transaction.
    pub(super) async fn prepare(
        db: &Arc<Db>,
        upload: UploadId,
        files: Vec<HashedBytes>,
        referenced: impl Iterator<Item = BlobHash>,
    ) -> Result<Self, StoreError> {
        let mut attached = Attached { upload, inserted: Vec::new(), existing: referenced.collect() };
        let mut capacity = IN_TRANSACTION;
        for file in files {
            let sha256 = file.sha256();
            if attached.inserted.iter().any(|other| other.sha256() == sha256) {
                continue;
            }
            if let Some(left) = capacity.checked_sub(file.len()) {
                capacity = left;
                attached.inserted.push(file);
            } else {
                let body = stream::iter([Ok(file.bytes().clone())]).boxed();
                put(db, BlobKey { upload, sha256 }, file.len() as u64, body).await?;
                attached.existing.push(sha256);
            }
        }
        let inserted = &attached.inserted;
        attached.existing.retain(|sha256| !inserted.iter().any(|file| file.sha256() == *sha256));
        attached.existing.sort_unstable();
        attached.existing.dedup();
        Ok(attached)
    }

    /// Leaves out what exists, after the transaction has met [`Abort::FileExists`].
    pub(super) async fn leave_out_existing(&mut self, db: &Db) -> Result<(), StoreError> {
        let mut inserted = Vec::new();
        for file in std::mem::take(&mut self.inserted) {
            let sha256 = file.sha256();
            if find(db, BlobKey { upload: self.upload, sha256 }).await?.is_some() {
                self.existing.push(sha256);
            } else {
                inserted.push(file);
            }
        }
        self.inserted = inserted;
        Ok(())
    }

    /// Inserts and marks the files within the transaction of their record.
    pub(super) async fn write(&self, db: &Db, session: &mut ClientSession) -> Result<(), Error> {
        if !self.existing.is_empty() {
            let names: Vec<String> = self.existing.iter().map(BlobHash::to_string).collect();
            let which = doc! {
                "metadata.upload": documents::upload(self.upload),
                "filename": { "$in": names },
            };
            let mark = doc! { "$set": { "metadata.referenced": true } };
            let marked = db.files.update_many(which, mark).session(&mut *session).await?;
            if marked.matched_count != self.existing.len() as u64 {
                return Err(abort(StoreError::refused(
                    "a file that a record refers to is not stored; store it again",
                )));
            }
        }
        let (mut files, mut all_chunks) = (Vec::new(), Vec::new());
        for file in &self.inserted {
            let key = BlobKey { upload: self.upload, sha256: file.sha256() };
            let id = id_of(key);
            all_chunks.extend(chunks(&id, 0, file.bytes()).map_err(abort)?);
            files.push(FileDocument::new(id, key, file.len() as u64, true).map_err(abort)?);
        }
        insert_files(db, session, &files).await?;
        insert_chunks(db, session, all_chunks).await
    }
}

/// Marks files as orphaned from now on, within the transaction that removes the last reference to them. Readers that opened
/// them can finish, because the sweep leaves them for its time. A transaction of another record of the same upload changes
/// the same patient, so it cannot refer to such a file at the same time.
pub(super) async fn release(
    db: &Db,
    session: &mut ClientSession,
    upload: UploadId,
    files: &[BlobHash],
) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = files.iter().map(BlobHash::to_string).collect();
    let which = doc! { "metadata.upload": documents::upload(upload), "filename": { "$in": names } };
    let mark = doc! { "$set": { "metadata.referenced": false, "uploadDate": DateTime::now() } };
    db.files.update_many(which, mark).session(session).await.map(drop)
}

/// Removes the documents of the files of an upload, at most about `budget` chunks, which it decreases, within a transaction.
/// Adds the entries whose chunks are to be removed after the commit; see [`discard`]. Returns whether no file is left.
pub(super) async fn delete_all(
    db: &Db,
    session: &mut ClientSession,
    upload: UploadId,
    budget: &mut usize,
    discarded: &mut Vec<String>,
) -> Result<bool, Error> {
    let of_upload = doc! { "metadata.upload": documents::upload(upload) };
    let mut found = db.files.find(of_upload).sort(doc! { "filename": 1 }).session(&mut *session).await?;
    let mut files = Vec::new();
    while let Some(file) = found.next(&mut *session).await.transpose()? {
        files.push(file);
    }
    for file in files {
        if *budget == 0 {
            return Ok(false);
        }
        let chunks = usize::try_from(file.length).unwrap_or(0).div_ceil(CHUNK).max(1);
        *budget = budget.saturating_sub(chunks);
        db.files.delete_one(doc! { "_id": &file.id }).session(&mut *session).await?;
        // If this process ends before it has removed the chunks, the next sweep does it.
        let since = DateTime::from_millis(0);
        let entry = IncompleteDocument { id: file.id.clone(), since, removing: true };
        db.incomplete
            .replace_one(doc! { "_id": &file.id }, entry)
            .upsert(true)
            .session(&mut *session)
            .await?;
        discarded.push(file.id);
    }
    Ok(true)
}

async fn insert_files(db: &Db, session: &mut ClientSession, files: &[FileDocument]) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    match db.files.insert_many(files).session(session).await {
        Err(error) if is_duplicate(&error) => Err(abort(Abort::FileExists)),
        inserted => inserted.map(drop),
    }
}

async fn insert_chunks(
    db: &Db,
    session: &mut ClientSession,
    chunks: Vec<ChunkDocument>,
) -> Result<(), Error> {
    if chunks.is_empty() {
        return Ok(());
    }
    db.chunks.insert_many(chunks).session(session).await.map(drop)
}

/// Cuts bytes into chunks, from number `first` on.
fn chunks(file: &str, first: usize, bytes: &[u8]) -> Result<Vec<ChunkDocument>, StoreError> {
    let chunk = |(n, bytes): (usize, &[u8])| {
        Ok(ChunkDocument {
            id: ObjectId::new(),
            files_id: file.to_owned(),
            n: i32::try_from(n).map_err(|_| StoreError::Corrupt("a file is too long".to_owned()))?,
            data: Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() },
            checksum: checksum_of(bytes),
        })
    };
    (first..).zip(bytes.chunks(CHUNK)).map(chunk).collect()
}

/// Opens a file for reading.
pub(super) async fn open(db: &Arc<Db>, key: BlobKey) -> Result<Option<StoredBlob>, StoreError> {
    match find(db, key).await? {
        Some(file) => read(db, key.sha256, file).await.map(Some),
        None => Ok(None),
    }
}

/// Reads a file: each chunk is compared with its checksum, and the whole with its hash.
pub(super) async fn read(
    db: &Arc<Db>,
    sha256: BlobHash,
    file: FileDocument,
) -> Result<StoredBlob, StoreError> {
    let bytes = u64::try_from(file.length).map_err(|error| broken("length of a file", error))?;
    let chunk_size =
        u64::try_from(file.chunk_size).map_err(|error| broken("length of a chunk", error))?.max(1);
    let action = db.chunks.find(doc! { "files_id": file.id }).sort(doc! { "n": 1 }).batch_size(4);
    let cursor = within(db.limit, action.max_time(db.limit)).await?;
    let body = stream::try_unfold((cursor, 0_u64), move |(mut cursor, n)| async move {
        let left = bytes.saturating_sub(n * chunk_size);
        if left == 0 {
            return Ok(None);
        }
        let chunk = cursor.try_next().await.map_err(|error| io::Error::other(explain(&error)))?;
        let chunk = chunk.filter(|chunk| {
            u64::try_from(chunk.n) == Ok(n) && chunk.data.bytes.len() as u64 == left.min(chunk_size)
        });
        match chunk {
            Some(chunk) if chunk.is_intact() => Ok(Some((Bytes::from(chunk.data.bytes), (cursor, n + 1)))),
            Some(_) => {
                let key = format!("{n} of sha256 {sha256}");
                Err(unreadable(StoreError::Damaged(DamagedRecord { kind: RecordKind::FilePart, key })))
            }
            None => Err(unreadable(broken("file", "a part of it is missing"))),
        }
    });
    let body = calls::detached(db.limit, body.boxed());
    Ok(StoredBlob { bytes, body: verified(sha256, bytes, body) })
}

/// Removes files without a record that were stored before `before`, and chunks of writes that began before it; at most
/// `limit` of each. Returns how many.
pub(super) async fn sweep(db: &Db, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let orphaned = doc! { "metadata.referenced": false, "uploadDate": { "$lt": date(before) } };
    for file in all(db, db.files.find(orphaned).limit(limit)).await? {
        orphan(db, file).await?;
    }
    let incomplete = doc! { "since": { "$lt": date(before) } };
    let mut removed = 0;
    for entry in all(db, db.incomplete.find(incomplete).limit(limit)).await? {
        removed += u64::from(discard(db, &entry.id).await?);
    }
    Ok(removed)
}

/// Replaces the document of a file that no record refers to by an incomplete write of the same age.
async fn orphan(db: &Db, file: FileDocument) -> Result<(), StoreError> {
    let orphaned = transaction::run(db, (db, &file), |session, (db, file)| {
        async move {
            let unreferenced = doc! { "_id": &file.id, "metadata.referenced": false };
            let deleted = db.files.delete_one(unreferenced).session(&mut *session).await?;
            if deleted.deleted_count > 0 {
                let entry =
                    IncompleteDocument { id: file.id.clone(), since: file.upload_date, removing: true };
                db.incomplete.insert_one(entry).session(session).await?;
            }
            Ok(())
        }
        .boxed()
    });
    Ok(orphaned.await?)
}

/// Removes an incomplete write: its chunks, and then its entry. False if it has become a file or was removed: a commit with
/// an unknown result may have succeeded.
pub(super) async fn discard(db: &Db, id: &str) -> Result<bool, StoreError> {
    let entry = doc! { "_id": id };
    let mark = db.incomplete.update_one(entry.clone(), doc! { "$set": { "removing": true } });
    if within(db.limit, mark).await?.matched_count == 0 {
        return Ok(false);
    }
    within(db.limit, db.chunks.delete_many(doc! { "files_id": id })).await?;
    within(db.limit, db.incomplete.delete_one(entry)).await?;
    Ok(true)
}

/// The write of a long file in batches. Its hash is known only at the end, so each write has its own id. Dropped before
/// [`ChunkedWrite::finish`] has succeeded, it removes its chunks.
pub(super) struct ChunkedWrite {
    db: Arc<Db>,
    key: BlobKey,
    id: String,
    chunks: usize,
    begun: Instant,
    is_finished: bool,
}

impl ChunkedWrite {
    pub(super) async fn begin(db: &Arc<Db>, key: BlobKey) -> Result<Self, StoreError> {
        let id = format!("{}/{}", id_of(key), ObjectId::new());
        let entry = IncompleteDocument { id: id.clone(), since: DateTime::now(), removing: false };
        let write = ChunkedWrite {
            db: Arc::clone(db),
            key,
            id,
            chunks: 0,
            begun: Instant::now(),
            is_finished: false,
        };
        insert(db.limit, db.incomplete.insert_one(entry)).await?;
        Ok(write)
    }

    pub(super) async fn add(&mut self, batch: &[u8]) -> Result<(), StoreError> {
        if self.begun.elapsed() > WRITE_LIMIT {
            return Err(StoreError::unavailable("the writing of a file took too long; try again"));
        }
        let chunks = chunks(&self.id, self.chunks, batch)?;
        self.chunks += chunks.len();
        insert(self.db.limit, self.db.chunks.insert_many(chunks).ordered(false)).await.map(drop)
    }

    /// Makes the file visible.
    pub(super) async fn finish(mut self, bytes: u64) -> Result<(), StoreError> {
        let file = FileDocument::new(self.id.clone(), self.key, bytes, false)?;
        let finished = transaction::run(&self.db, (&*self.db, &file), |session, (db, file)| {
            async move {
                let entry = doc! { "_id": &file.id, "removing": { "$ne": true } };
                let deleted = db.incomplete.delete_one(entry).session(&mut *session).await?;
                if deleted.deleted_count == 0 {
                    let reason = "the writing of a file took too long and was swept; try again";
                    return Err(abort(StoreError::unavailable(reason)));
                }
                insert_files(db, session, std::slice::from_ref(*file)).await
            }
            .boxed()
        });
        match finished.await {
            Ok(()) => {
                self.is_finished = true;
                Ok(())
            }
            // Another writer of the same file was first: the copy of this one is removed.
            Err(Abort::FileExists) => Ok(()),
            Err(abort) => Err(abort.into()),
        }
    }
}

impl Drop for ChunkedWrite {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let (db, id) = (Arc::clone(&self.db), self.id.clone());
        let clearing = async move {
            if let Err(error) = discard(&db, &id).await {
                tracing::warn!(%error, "an incomplete file is left for the next sweep");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(clearing.in_current_span());
        }
    }
}
