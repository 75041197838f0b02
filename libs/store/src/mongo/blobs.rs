//! Files, laid out as GridFS in the bucket `blobs`, so that any driver or tool reads them: `filename` is the SHA-256.
//!
//! A reader looks for a document in `blobs.files`; it is written last, after the bytes were checked. What lies in
//! `blobs.chunks` without one is invisible. The two ways there:
//!
//! * A small file is checked in memory before anything is written. Its ids come from its hash and its [`Origin`], so that
//!   two deliveries of the same message, or one that was cut off and the next, write the very same documents; and so that
//!   the chunks of an upload that never came to be can be found and removed, while nobody else writes under these ids.
//! * A longer file is written while it is read, and its hash is known only at the end. Under ids from the hash, a body
//!   with wrong bytes would spoil the chunks of a right one. So each such writing has an id of its own, and takes its
//!   chunks away when it fails. An entry in `blobs.writing` says that it goes on; if it is cut off, [`sweep`] finds the
//!   entry and removes what is left.
//!
//! The unique index on `filename` decides between several writers of a file; the others take their chunks away. `metadata`
//! says which upload brought a file and when it did so last, until another upload brings it, too: from then on the file is
//! nobody's, and stays. See [`super::abandoned`] for what that is good for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, Bson, DateTime, doc};
use mongodb::options::ReturnDocument;
use proto_json::{BlobHash, DamagedRecord, HashedBytes, RecordKind, Timestamp, UploadId};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::body::{Check, next_batch, unreadable, verified};
use crate::{ByteStream, Origin, StoreError, StoredBlob};

use super::Db;
use super::documents::{self, date};
use super::failure::{answer, broken, explain, insert, within};

/// Length of a chunk: what GridFS has by default.
const CHUNK: usize = 255 * 1024;

/// Length of what is sent in one message.
const BATCH: usize = 16 * CHUNK;

/// Batches after which a writing shows that it goes on.
const SIGN_OF_LIFE: u32 = 8;

/// Small files that are written at the same time.
const AT_ONCE: usize = 4;

/// How often a small file is tried to be written, while others write or remove it.
const TRIES: u32 = 3;

/// A writing without a sign of life for so long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(60 * 60);

/// `blobs.files`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileDocument {
    #[serde(rename = "_id")]
    pub(super) id: Bson,
    pub(super) length: i64,
    #[serde(rename = "chunkSize")]
    chunk_size: i32,
    #[serde(rename = "uploadDate")]
    upload_date: DateTime,
    pub(super) filename: String,
    /// Whose it is. Absent if it is nobody's: brought by several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<OwnerField>,
}

/// The upload that brought a file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OwnerField {
    pub(super) upload: bson::Uuid,
    /// When the upload was received; if several times, the last that brought the file.
    pub(super) received_at: DateTime,
    /// When it brought the file last.
    pub(super) brought_at: DateTime,
}

impl OwnerField {
    fn now(from: Origin) -> Self {
        OwnerField {
            upload: documents::upload(from.upload),
            received_at: date(from.received_at),
            brought_at: DateTime::now(),
        }
    }
}

/// `blobs.chunks`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChunkDocument {
    #[serde(rename = "_id")]
    id: Bson,
    files_id: Bson,
    n: i32,
    data: Binary,
    /// CRC-32 of the data, beyond what GridFS has: a part of a file is compared before it is given, the whole file after.
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

/// `blobs.writing`: the writing of a long file that goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WritingDocument {
    #[serde(rename = "_id")]
    id: ObjectId,
    state: WritingState,
    alive_at: DateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WritingState {
    /// Chunks are being written.
    Chunks,
    /// All chunks are there and right; the files document comes next.
    Finishing,
    /// Given up: the chunks are being removed.
    Dead,
}

impl From<WritingState> for Bson {
    fn from(state: WritingState) -> Bson {
        let word = match state {
            WritingState::Chunks => "chunks",
            WritingState::Finishing => "finishing",
            WritingState::Dead => "dead",
        };
        Bson::from(word)
    }
}

/// Writes a file unless it is there.
pub(super) async fn put(
    db: &Arc<Db>,
    from: Origin,
    sha256: BlobHash,
    bytes: u64,
    body: ByteStream,
) -> Result<(), StoreError> {
    if is_there(db, from, sha256).await? {
        return Ok(());
    }
    let mut check = Check::new(sha256, bytes);
    let mut body = body.fuse();
    let mut rest = BytesMut::new();
    let first = next_batch(BATCH, &mut body, &mut rest, &mut check).await?;
    if first.len() < BATCH {
        check.finish()?;
        return put_whole(db, from, sha256, &first).await;
    }
    sweep(db, DEAD_AFTER).await?;
    let mut writing = Writing::begin(db).await?;
    let mut batch = first;
    loop {
        writing.add(&batch).await?;
        batch = next_batch(BATCH, &mut body, &mut rest, &mut check).await?;
        if batch.is_empty() {
            break;
        }
    }
    check.finish()?;
    writing.finish(from, sha256, bytes).await
}

/// Writes small files unless they are there.
pub(super) async fn put_files(db: &Arc<Db>, from: Origin, files: Vec<HashedBytes>) -> Result<(), StoreError> {
    stream::iter(files)
        .map(|file| async move {
            // Mostly it is new, and writing finds out all the same: only a longer one is worth a look before.
            if file.len() > CHUNK && is_there(db, from, file.sha256()).await? {
                return Ok(());
            }
            put_whole(db, from, file.sha256(), file.bytes()).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Ids of small files with this hash that this upload brings begin so.
pub(super) fn ids_of(upload: UploadId, sha256: BlobHash) -> String {
    format!("{sha256}/{upload}/")
}

/// The id of a small file: ascending by the time of receipt.
pub(super) fn id_of(from: Origin, sha256: BlobHash) -> String {
    // As many digits as times of the next centuries have.
    format!("{}{:014}", ids_of(from.upload, sha256), from.received_at.as_millis().max(0))
}

/// A small file, the hash of which is right.
async fn put_whole(db: &Db, from: Origin, sha256: BlobHash, bytes: &[u8]) -> Result<(), StoreError> {
    let id = Bson::from(id_of(from, sha256));
    for _ in 0..TRIES {
        let mut begun = Timestamp::now();
        for (n, batch) in (0_u32..).zip(bytes.chunks(BATCH)) {
            begun = Timestamp::now();
            insert_chunks(db, &id, n * (BATCH / CHUNK) as u32, batch).await?;
        }
        // After a long sleep of this process the chunks may have been taken for abandoned.
        if Timestamp::now().millis_since(begun) > 2 * i64::try_from(db.limit.as_millis()).unwrap_or(i64::MAX)
        {
            return Err(StoreError::unavailable("the writing of a file took too long; try again"));
        }
        if insert_file(db, id.clone(), from, sha256, bytes.len() as u64).await? {
            return Ok(());
        }
        if let Some(there) = bring_again(db, from, sha256).await? {
            if there != id {
                within(db.limit, db.chunks.delete_many(doc! { "files_id": id })).await?;
            }
            return Ok(());
        }
    }
    Err(StoreError::unavailable("a file was removed and brought again several times; try again"))
}

/// Whether a file is there, to be counted on by this upload.
async fn is_there(db: &Db, from: Origin, sha256: BlobHash) -> Result<bool, StoreError> {
    match find(db, sha256).await? {
        None => Ok(false),
        Some(FileDocument { metadata: None, .. }) => Ok(true),
        Some(_) => Ok(bring_again(db, from, sha256).await?.is_some()),
    }
}

/// A file is brought that may be there. If it is, it belongs to its upload from now on, or, brought by two, to nobody.
/// Returns its id.
async fn bring_again(db: &Db, from: Origin, sha256: BlobHash) -> Result<Option<Bson>, StoreError> {
    let named = doc! { "filename": sha256.to_string() };
    let owner = OwnerField::now(from);
    let mut own = named.clone();
    own.insert("metadata.upload", owner.upload);
    let again = doc! { "$max": {
        "metadata.received_at": owner.received_at,
        "metadata.brought_at": owner.brought_at,
    } };
    let shared = doc! { "$unset": { "metadata": "" } };
    for (which, update) in [(own, again), (named, shared)] {
        let update = db.files.find_one_and_update(which, update).return_document(ReturnDocument::After);
        if let Some(there) = within(db.limit, update).await? {
            return Ok(Some(there.id));
        }
    }
    Ok(None)
}

/// Opens a file for reading.
pub(super) async fn open(db: &Arc<Db>, sha256: BlobHash) -> Result<Option<StoredBlob>, StoreError> {
    let Some(file) = find(db, sha256).await? else { return Ok(None) };
    let bytes = u64::try_from(file.length).map_err(|error| broken("length of a file", error))?;
    let chunk_size =
        u64::try_from(file.chunk_size).map_err(|error| broken("length of a chunk", error))?.max(1);
    let action = db.chunks.find(doc! { "files_id": file.id }).sort(doc! { "n": 1 }).batch_size(4);
    let cursor = within(db.limit, action).await?;
    let limit = db.limit;
    // Dropped on the way, the stream drops the cursor, and the driver closes it on the server.
    let body = stream::try_unfold((cursor, 0_u64), move |(mut cursor, n)| async move {
        let left = bytes.saturating_sub(n * chunk_size);
        if left == 0 {
            return Ok(None);
        }
        let next = answer(limit, cursor.try_next()).await.map_err(io::Error::other)?;
        let chunk = next.map_err(|error| io::Error::other(explain(&error)))?;
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
    Ok(Some(StoredBlob { bytes, body: verified(sha256, bytes, body.boxed()) }))
}

/// Removes what is left of writings without a sign of life for `silence`. Returns how many there were.
pub(super) async fn sweep(db: &Db, silence: Duration) -> Result<u64, StoreError> {
    let silence = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
    let before = DateTime::from_millis(Timestamp::now().as_millis().saturating_sub(silence));
    let action = db.writing.find(doc! { "alive_at": { "$lte": before } });
    let mut cursor = within(db.limit, action).await?;
    let mut swept = 0;
    while let Some(found) = answer(db.limit, cursor.try_next()).await?.map_err(|error| explain(&error))? {
        // It may show a sign of life in this moment. From here on it cannot: its next step looks at the state.
        let dead = db.writing.update_one(
            doc! { "_id": found.id, "alive_at": { "$lte": before } },
            doc! { "$set": { "state": WritingState::Dead } },
        );
        if within(db.limit, dead).await?.matched_count > 0 {
            clear(db, found.id).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Has a long file removed that was complete, even if this ends before it: an entry says that its writing is dead, and
/// [`clear`] or [`sweep`] does the rest.
pub(super) async fn bury(db: &Db, id: ObjectId) -> Result<(), StoreError> {
    let entry = WritingDocument { id, state: WritingState::Dead, alive_at: DateTime::now() };
    insert(db.limit, db.writing.insert_one(entry)).await.map(drop)
}

/// Removes the chunks of a writing, unless it became a file, and then its entry.
pub(super) async fn clear(db: &Db, id: ObjectId) -> Result<(), StoreError> {
    if within(db.limit, db.files.find_one(doc! { "_id": id })).await?.is_none() {
        within(db.limit, db.chunks.delete_many(doc! { "files_id": id })).await?;
    }
    within(db.limit, db.writing.delete_one(doc! { "_id": id })).await.map(drop)
}

/// The writing of a long file. Dropped before its end, it takes its chunks away.
pub(super) struct Writing {
    db: Arc<Db>,
    id: ObjectId,
    batches: u32,
    ended: bool,
}

impl Writing {
    pub(super) async fn begin(db: &Arc<Db>) -> Result<Self, StoreError> {
        let writing = Writing { db: Arc::clone(db), id: ObjectId::new(), batches: 0, ended: false };
        let entry =
            WritingDocument { id: writing.id, state: WritingState::Chunks, alive_at: DateTime::now() };
        insert(db.limit, db.writing.insert_one(entry)).await?;
        Ok(writing)
    }

    pub(super) async fn add(&mut self, batch: &[u8]) -> Result<(), StoreError> {
        if self.batches > 0 && self.batches.is_multiple_of(SIGN_OF_LIFE) {
            self.step(WritingState::Chunks).await?;
        }
        let first = self.batches * (BATCH / CHUNK) as u32;
        insert_chunks(&self.db, &Bson::from(self.id), first, batch).await?;
        self.batches += 1;
        Ok(())
    }

    pub(super) async fn finish(
        mut self,
        from: Origin,
        sha256: BlobHash,
        bytes: u64,
    ) -> Result<(), StoreError> {
        self.step(WritingState::Finishing).await?;
        if !insert_file(&self.db, Bson::from(self.id), from, sha256, bytes).await? {
            // Another writer was first; ours is taken away: the bytes are the same.
            let there = bring_again(&self.db, from, sha256).await?;
            return there.map(drop).ok_or_else(|| {
                StoreError::unavailable("a file was removed while it was brought; try again")
            });
        }
        self.ended = true;
        within(self.db.limit, self.db.writing.delete_one(doc! { "_id": self.id })).await.map(drop)
    }

    /// A sign of life, if nobody gave it up meanwhile.
    async fn step(&self, state: WritingState) -> Result<(), StoreError> {
        let action = self.db.writing.update_one(
            doc! { "_id": self.id, "state": WritingState::Chunks },
            doc! { "$set": { "state": state, "alive_at": DateTime::now() } },
        );
        if within(self.db.limit, action).await?.matched_count > 0 {
            Ok(())
        } else {
            Err(StoreError::unavailable("the writing of a file took too long and was given up; try again"))
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (db, id) = (Arc::clone(&self.db), self.id);
        let clearing = async move {
            if let Err(error) = clear(&db, id).await {
                tracing::warn!(%error, "what was written of a file is left for the next sweep");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(clearing.in_current_span());
        }
    }
}

async fn find(db: &Db, sha256: BlobHash) -> Result<Option<FileDocument>, StoreError> {
    within(db.limit, db.files.find_one(doc! { "filename": sha256.to_string() })).await
}

pub(super) async fn insert_chunks(db: &Db, id: &Bson, first: u32, batch: &[u8]) -> Result<(), StoreError> {
    let mut chunks = Vec::with_capacity(batch.len().div_ceil(CHUNK));
    for (n, bytes) in (first..).zip(batch.chunks(CHUNK)) {
        let n = i32::try_from(n).map_err(|_| StoreError::Corrupt("a file is too long".to_owned()))?;
        let data = Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
        let own = match id {
            Bson::String(file) => Bson::from(format!("{file}/{n}")),
            _ => Bson::from(ObjectId::new()),
        };
        chunks.push(ChunkDocument { id: own, files_id: id.clone(), n, data, checksum: checksum_of(bytes) });
    }
    if chunks.is_empty() {
        return Ok(());
    }
    insert(db.limit, db.chunks.insert_many(&chunks).ordered(false)).await.map(drop)
}

/// Makes a file visible; false if the same file is visible already.
async fn insert_file(
    db: &Db,
    id: Bson,
    from: Origin,
    sha256: BlobHash,
    bytes: u64,
) -> Result<bool, StoreError> {
    let file = FileDocument {
        id,
        length: i64::try_from(bytes).map_err(|_| StoreError::Corrupt("a file is too long".to_owned()))?,
        chunk_size: CHUNK as i32,
        upload_date: DateTime::now(),
        filename: sha256.to_string(),
        metadata: Some(OwnerField::now(from)),
    };
    insert(db.limit, db.files.insert_one(file)).await
}
