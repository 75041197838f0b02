//! Staged files: rows of chunks in the queue file.
//!
//! A small file is one write. A large file is written part by part, and becomes visible with its last part.
//! At most one part of each file is in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, Timestamp, UploadId};
use rusqlite::{Connection, OptionalExtension, params};
use sqlite::{Chunk, ChunkError, PART, Priority, UnfinishedFile};

use super::LocalBus;
use super::core::{Core, time_of};
use super::file::{BLOBS, CHUNKS};
use crate::staging::{BodyCheck, Chunker};
use crate::{
    Attachment, BodyError, BusError, ByteStream, EnqueueError, StagedFile, StagingKey, StagingStore,
};

/// Up to this many chunks are deleted together with their file; the others become pending removals.
const MAX_DELETED: usize = 8;

#[async_trait]
impl StagingStore for LocalBus {
    async fn put(&self, key: StagingKey, bytes: u64, mut body: ByteStream) -> Result<(), EnqueueError> {
        let reservation = Reservation::new(&self.core, bytes)?;
        let mut file = UnfinishedFile::new(&self.core.writer);
        let mut check = BodyCheck::new(bytes, key.sha256);
        let mut chunker = Chunker::new(PART);
        while let Some(part) = body.next().await {
            let mut part = part.map_err(BodyError::Broken)?;
            check.add(&part).await?;
            while let Some(full) = chunker.fill(&mut part) {
                file.append(full, |_| Ok(())).await.map_err(|error| self.core.failed(error))?;
            }
        }
        check.finish()?;
        finish(&self.core, &file, key, bytes, chunker.finish(), reservation).await
    }

    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        get(&self.core, key).await
    }

    async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
        delete(&self.core, key).await
    }

    async fn staged_at(&self, key: StagingKey) -> Result<Option<Timestamp>, BusError> {
        let found = self.core.read(move |db| {
            db.prepare_cached("SELECT staged_at FROM blobs WHERE upload = ?1 AND sha256 = ?2")?
                .query_row(params![key.upload.as_uuid().as_bytes(), key.sha256.as_bytes()], |row| {
                    Ok(time_of(row.get(0)?))
                })
                .optional()
        });
        Ok(found.await?)
    }

    async fn count(&self) -> Result<u64, BusError> {
        let count = self
            .core
            .read(|db| db.prepare_cached("SELECT count(*) FROM blobs")?.query_row([], |row| row.get(0)));
        Ok(count.await?)
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
            let first = match CHUNKS.read(db, blob, 0)? {
                Chunk::Intact(chunk) => Some(chunk),
                Chunk::Missing | Chunk::Damaged(_) => None,
            };
            Ok(Some((blob, bytes, first)))
        })
        .await?;
    let Some((blob, bytes, first)) = found else { return Ok(None) };
    let core = Arc::clone(core);
    let chunks = CHUNKS.stream(&core.readers, blob, bytes, first);
    let body = chunks.map_err(move |error| match error {
        ChunkError::Failed(error) => io::Error::other(BusError::from(core.failed(error))),
        ChunkError::Missing | ChunkError::Damaged(_) => {
            io::Error::new(io::ErrorKind::NotFound, "the staged file was deleted while it was read")
        }
    });
    Ok(Some(StagedFile { bytes, body: verified(key.sha256, bytes, body.boxed()), in_memory: None }))
}

pub(super) async fn delete(core: &Core, key: StagingKey) -> Result<(), BusError> {
    core.cache.remove(key);
    let (staged_bytes, removals) = (Arc::clone(&core.staged_bytes), core.writer.removals());
    let deleted = core.submit(
        Priority::Normal,
        0,
        move |db| {
            let Some((blob, bytes)) = find(db, key)? else { return Ok(None) };
            db.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([blob])?;
            let deleted = CHUNKS.delete(db, blob, MAX_DELETED)?;
            Ok(Some((bytes, (deleted == MAX_DELETED).then_some(blob))))
        },
        move |outcome| {
            if let Ok(Some((bytes, rest))) = outcome {
                staged_bytes.fetch_sub(*bytes, Ordering::Relaxed);
                rest.iter().for_each(|blob| removals.add(*blob));
            }
        },
    );
    deleted.await?;
    Ok(())
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
        Ok(FileWrite { reservation, rows: Rows { blob: core.writer.next_file(), file: file.clone() } })
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
            CHUNKS.insert(db, self.blob, 0, bytes)?;
        }
        Ok(is_new)
    }
}

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

/// Writes the last part of a file and makes it visible. Completes even if the caller is cancelled.
async fn finish(
    core: &Core,
    file: &UnfinishedFile<'_>,
    key: StagingKey,
    bytes: u64,
    last: Bytes,
    reservation: Reservation,
) -> Result<(), EnqueueError> {
    let (blob, chunks, now) = (file.number, file.chunks, Timestamp::now());
    let written = core.submit(
        Priority::Normal,
        last.len(),
        move |db| {
            let is_new = make_visible(db, blob, key, bytes, now)?;
            if is_new {
                CHUNKS.insert(db, blob, chunks, &last)?;
            }
            Ok(is_new)
        },
        move |outcome| match outcome {
            Ok(true) => reservation.keep(),
            // Released before the caller is notified: it may retry at once.
            Ok(false) | Err(_) => drop(reservation),
        },
    );
    written.await?;
    Ok(())
}
