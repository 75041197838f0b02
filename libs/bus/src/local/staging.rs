//! Staged files: rows of chunks in the queue file.
//!
//! A small file is one write. A large file is written chunk by chunk, and becomes visible with its last
//! chunk. At most a few chunks are in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use proto_json::{BlobHash, Timestamp, UploadId};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::core::{Core, time_of};
use super::file::BLOBS;
use super::{LocalBus, LocalError};
use crate::staging::{BodyCheck, Chunker};
use crate::{
    Attachment, BodyError, BusError, ByteStream, EnqueueError, StagedFile, StagingKey, StagingStore,
};

/// Bytes in a row of `chunks`.
const CHUNK: usize = 256 << 10;

/// A file has at most 2^20 chunks (256 GiB).
pub(super) const CHUNK_BITS: i64 = 20;

/// Files of up to this many chunks are deleted in one transaction; the chunks of larger files become pending
/// deletes.
const SMALL_CHUNKS: u64 = 8;

/// Id of a chunk.
pub(super) fn chunk_id(blob: i64, number: i64) -> i64 {
    (blob << CHUNK_BITS) + number
}

#[async_trait]
impl StagingStore for LocalBus {
    async fn put(&self, key: StagingKey, bytes: u64, mut body: ByteStream) -> Result<(), EnqueueError> {
        let reservation = Reservation::new(&self.core, bytes)?;
        let mut blob = UnfinishedPut { core: Arc::clone(&self.core), id: self.core.blob_id(), chunks: 0 };
        let mut check = BodyCheck::new(bytes, key.sha256);
        let mut chunker = Chunker::new(CHUNK);
        while let Some(part) = body.next().await {
            let mut part = part.map_err(BodyError::Broken)?;
            check.add(&part).await?;
            while let Some(full) = chunker.fill(&mut part) {
                blob.append(full).await?;
            }
        }
        check.finish()?;
        blob.finish(key, bytes, chunker.finish(), reservation).await
    }

    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        get(&self.core, key).await
    }

    async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
        delete(&self.core, key).await
    }

    async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
        let found = self.core.read(|db| {
            db.prepare_cached("SELECT upload, sha256, staged_at FROM blobs ORDER BY id")?
                .query_map([], |row| Ok((key_of(row.get(0)?, row.get(1)?), time_of(row.get(2)?))))?
                .collect()
        });
        Ok(found.await?)
    }
}

pub(super) async fn get(core: &Arc<Core>, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
    if let Some(content) = core.cache.get(key) {
        return Ok(Some(StagedFile::from_memory(content)));
    }
    let found = core
        .read(move |db| {
            let Some((blob, bytes)) = find(db, key)? else { return Ok(None) };
            Ok(Some((blob, bytes, chunk_of(db, blob, 0)?)))
        })
        .await?;
    let Some((blob, bytes, first)) = found else { return Ok(None) };
    let body = verified(key.sha256, bytes, stream_chunks(Arc::clone(core), blob, bytes, first));
    Ok(Some(StagedFile { bytes, body, in_memory: None }))
}

pub(super) async fn delete(core: &Core, key: StagingKey) -> Result<(), BusError> {
    core.cache.remove(key);
    let (reply, outcome) = oneshot::channel();
    let (staged_bytes, pending_deletes) = (Arc::clone(&core.staged_bytes), core.pending_deletes.clone());
    core.writer.submit(
        0,
        move |db| {
            let found = find(db, key)?;
            if let Some((blob, bytes)) = found {
                db.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([blob])?;
                if is_small(bytes) {
                    db.prepare_cached("DELETE FROM chunks WHERE id >= ?1 AND id < ?2")?
                        .execute([chunk_id(blob, 0), chunk_id(blob + 1, 0)])?;
                }
            }
            Ok(found)
        },
        move |outcome: Result<Option<(i64, u64)>, LocalError>| {
            if let Ok(Some((blob, bytes))) = &outcome {
                staged_bytes.fetch_sub(*bytes, Ordering::Relaxed);
                if !is_small(*bytes) {
                    pending_deletes.add(*blob);
                }
            }
            let _ = reply.send(outcome.map(|_| ()));
        },
    );
    Ok(outcome.await.unwrap_or(Err(LocalError::Closed))?)
}

fn is_small(bytes: u64) -> bool {
    bytes <= SMALL_CHUNKS * CHUNK as u64
}

fn key_of(upload: [u8; 16], sha256: [u8; 32]) -> StagingKey {
    StagingKey {
        upload: UploadId::from_uuid(uuid::Uuid::from_bytes(upload)),
        sha256: BlobHash::from_bytes(sha256),
    }
}

/// Returns id and length of a staged file.
fn find(db: &Connection, key: StagingKey) -> rusqlite::Result<Option<(i64, u64)>> {
    db.prepare_cached("SELECT id, bytes FROM blobs WHERE upload = ?1 AND sha256 = ?2")?
        .query_row(params![key.upload.as_uuid().as_bytes(), key.sha256.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

fn chunk_of(db: &Connection, blob: i64, number: i64) -> rusqlite::Result<Option<Bytes>> {
    db.prepare_cached("SELECT bytes FROM chunks WHERE id = ?1")?
        .query_row([chunk_id(blob, number)], |row| row.get::<_, Vec<u8>>(0))
        .optional()
        .map(|bytes| bytes.map(Bytes::from))
}

/// Streams the chunks of a file; the first chunk is already read.
fn stream_chunks(core: Arc<Core>, blob: i64, bytes: u64, first: Option<Bytes>) -> ByteStream {
    futures::stream::try_unfold(
        (core, bytes, 0_i64, first),
        move |(core, left, number, in_memory)| async move {
            if left == 0 {
                return Ok(None);
            }
            let chunk = match in_memory {
                Some(chunk) => Some(chunk),
                None => core
                    .read(move |db| chunk_of(db, blob, number))
                    .await
                    .map_err(|error| io::Error::other(BusError::from(error)))?,
            };
            let chunk =
                chunk.filter(|chunk| !chunk.is_empty() && chunk.len() as u64 <= left).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, "the staged file was deleted while it was read")
                })?;
            let left = left - chunk.len() as u64;
            Ok(Some((chunk, (core, left, number + 1, None))))
        },
    )
    .boxed()
}

/// Verifies a body while it is read: the last part is only returned if the hash of the whole body matches.
/// Disks can flip bits, and a damaged file must not be stored or analysed.
pub(super) fn verified(sha256: BlobHash, bytes: u64, body: ByteStream) -> ByteStream {
    let start = Some((body, BodyCheck::new(bytes, sha256), 0));
    futures::stream::unfold(start, move |state| async move {
        let (mut body, mut check, mut seen) = state?;
        let part = match body.next().await? {
            Ok(part) => part,
            Err(error) => return Some((Err(error), None)),
        };
        if let Err(error) = check.add(&part).await {
            return Some((Err(damaged(&error)), None));
        }
        seen += part.len() as u64;
        if seen < bytes {
            return Some((Ok(part), Some((body, check, seen))));
        }
        match check.finish() {
            Ok(()) => Some((Ok(part), None)),
            Err(error) => Some((Err(damaged(&error)), None)),
        }
    })
    .boxed()
}

fn damaged(error: &BodyError) -> io::Error {
    tracing::error!(%error, "a staged file is damaged");
    io::Error::new(io::ErrorKind::InvalidData, format!("a staged file is damaged: {error}"))
}

/// The write of a file in memory, as part of a larger write.
pub(super) struct FileWrite {
    reservation: Reservation,
    rows: Rows,
}

/// The rows of a file in memory.
pub(super) struct Rows {
    blob: i64,
    file: Attachment,
}

impl FileWrite {
    pub(super) fn new(core: &Core, file: &Attachment) -> Result<Self, EnqueueError> {
        let reservation = Reservation::new(core, file.content.len() as u64)?;
        Ok(FileWrite { reservation, rows: Rows { blob: core.blob_id(), file: file.clone() } })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.file.content.len()
    }

    /// Returns the reservation, to be kept once the rows are durable, and the rows.
    pub(super) fn split(self) -> (Reservation, Rows) {
        (self.reservation, self.rows)
    }
}

impl Rows {
    /// Writes the file. Returns `false` if it was staged before; its time is then updated.
    pub(super) fn insert(&self, db: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
        let bytes = self.file.content.bytes();
        let is_new = make_visible(db, self.blob, self.file.key(), bytes.len() as u64, now)?;
        if is_new {
            let mut insert = db.prepare_cached(INSERT_CHUNK)?;
            for (number, chunk) in (0..).zip(bytes.chunks(CHUNK)) {
                insert.execute(params![chunk_id(self.blob, number), chunk])?;
            }
        }
        Ok(is_new)
    }
}

const INSERT_CHUNK: &str = "INSERT INTO chunks (id, bytes) VALUES (?1, ?2)";

/// Writes the row that makes a file visible. Returns `false` if the file existed; its time is then updated.
fn make_visible(
    db: &Connection,
    blob: i64,
    key: StagingKey,
    bytes: u64,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (upload, sha256) = (key.upload.as_uuid().as_bytes(), key.sha256.as_bytes());
    let known: Option<i64> = db
        .prepare_cached("SELECT id FROM blobs WHERE upload = ?1 AND sha256 = ?2")?
        .query_row(params![upload, sha256], |row| row.get(0))
        .optional()?;
    let id = known.unwrap_or(blob);
    BLOBS.put(db, params![id, upload, sha256, bytes, now.as_millis()])?;
    Ok(known.is_none())
}

/// A reservation of space for one file. Dropping it releases the space.
pub(super) struct Reservation {
    staged_bytes: Arc<AtomicU64>,
    bytes: u64,
}

impl Reservation {
    fn new(core: &Core, bytes: u64) -> Result<Self, EnqueueError> {
        let most = core.limits.max_staged_bytes;
        core.staged_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |staged| {
                staged.checked_add(bytes).filter(|staged| *staged <= most)
            })
            .map_err(|_| EnqueueError::Full)?;
        Ok(Reservation { staged_bytes: Arc::clone(&core.staged_bytes), bytes })
    }

    /// The file is durable and keeps its space.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.staged_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An unfinished put. Dropping it deletes the chunks that were written.
struct UnfinishedPut {
    core: Arc<Core>,
    id: i64,
    chunks: i64,
}

impl UnfinishedPut {
    async fn append(&mut self, bytes: Bytes) -> Result<(), LocalError> {
        let _permit = self.core.chunk_permit.acquire().await.map_err(|_| LocalError::Closed)?;
        let id = chunk_id(self.id, self.chunks);
        self.chunks += 1;
        self.core
            .writer
            .write(bytes.len(), move |db| {
                db.prepare_cached(INSERT_CHUNK)?.execute(params![id, &bytes[..]]).map(|_| ())
            })
            .await
    }

    /// Writes the last chunk and makes the file visible. Completes even if the caller is cancelled.
    async fn finish(
        mut self,
        key: StagingKey,
        bytes: u64,
        last: Bytes,
        reservation: Reservation,
    ) -> Result<(), EnqueueError> {
        let (blob, chunks, now) = (self.id, self.chunks, Timestamp::now());
        let pending_deletes = self.core.pending_deletes.clone();
        let (reply, outcome) = oneshot::channel();
        self.core.writer.submit(
            last.len(),
            move |db| {
                let is_new = make_visible(db, blob, key, bytes, now)?;
                if is_new {
                    db.prepare_cached(INSERT_CHUNK)?.execute(params![chunk_id(blob, chunks), &last[..]])?;
                }
                Ok(is_new)
            },
            move |outcome: Result<bool, LocalError>| {
                if let Ok(true) = outcome {
                    reservation.keep();
                } else {
                    // Released before the caller is notified: it may retry at once.
                    drop(reservation);
                    if chunks > 0 {
                        pending_deletes.add(blob);
                    }
                }
                let _ = reply.send(outcome);
            },
        );
        // From here on, the writer thread cleans up.
        self.chunks = 0;
        outcome.await.unwrap_or(Err(LocalError::Closed))?;
        Ok(())
    }
}

impl Drop for UnfinishedPut {
    fn drop(&mut self) {
        if self.chunks > 0 {
            self.core.pending_deletes.add(self.id);
        }
    }
}
