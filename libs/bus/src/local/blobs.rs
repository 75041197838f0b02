//! Staged files: rows of chunks in the same file as the queues.
//!
//! A small file is one write. A large one is written chunk by chunk, each in a group with whatever else is written then,
//! and becomes visible with its last chunk; nothing ever holds more than a few chunks in memory.

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
use crate::{BodyError, BusError, ByteStream, EnqueueError, SmallFile, StagedFile, StagingKey, StagingStore};

/// Bytes in a row of `chunks`.
const CHUNK: usize = 256 << 10;

/// Chunks a file may have: 2^20, that is 256 GiB.
pub(super) const CHUNK_BITS: i64 = 20;

/// Files of up to this many chunks are deleted at once, larger ones bit by bit.
const DELETED_AT_ONCE: u64 = 8;

/// Row of a chunk.
pub(super) fn chunk_id(blob: i64, number: i64) -> i64 {
    (blob << CHUNK_BITS) + number
}

#[async_trait]
impl StagingStore for LocalBus {
    async fn put(&self, key: StagingKey, bytes: u64, mut body: ByteStream) -> Result<(), EnqueueError> {
        let room = Room::take(&self.core, bytes)?;
        let mut blob = Unfinished { core: Arc::clone(&self.core), id: self.core.blob_id(), chunks: 0 };
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
        blob.finish(key, bytes, chunker.finish(), room).await
    }

    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        if let Some(content) = self.core.fresh.get(key) {
            let parts = (!content.is_empty()).then(|| Ok(content.bytes().clone()));
            let body = futures::stream::iter(parts).boxed();
            return Ok(Some(StagedFile { bytes: content.len() as u64, body, in_memory: Some(content) }));
        }
        let found = self
            .core
            .read(move |db| {
                let Some((blob, bytes)) = find(db, key)? else { return Ok(None) };
                Ok(Some((blob, bytes, chunk_of(db, blob, 0)?)))
            })
            .await?;
        let Some((blob, bytes, first)) = found else { return Ok(None) };
        let body = verified(key.sha256, bytes, read_on(Arc::clone(&self.core), blob, bytes, first));
        Ok(Some(StagedFile { bytes, body, in_memory: None }))
    }

    async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
        self.core.fresh.forget(key);
        let (reply, outcome) = oneshot::channel();
        let (staged, garbage) = (Arc::clone(&self.core.staged), self.core.garbage.clone());
        self.core.writer.submit(
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
                    staged.fetch_sub(*bytes, Ordering::Relaxed);
                    if !is_small(*bytes) {
                        garbage.add(*blob);
                    }
                }
                let _ = reply.send(outcome.map(|_| ()));
            },
        );
        Ok(outcome.await.unwrap_or(Err(LocalError::Closed))?)
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

fn is_small(bytes: u64) -> bool {
    bytes <= DELETED_AT_ONCE * CHUNK as u64
}

fn key_of(upload: [u8; 16], sha256: [u8; 32]) -> StagingKey {
    StagingKey {
        upload: UploadId::from_uuid(uuid::Uuid::from_bytes(upload)),
        sha256: BlobHash::from_bytes(sha256),
    }
}

/// Row and length of a staged file.
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

/// The bytes of a file whose first chunk is at hand; each further one is read when it is asked for.
fn read_on(core: Arc<Core>, blob: i64, bytes: u64, first: Option<Bytes>) -> ByteStream {
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

/// The body of a staged file, the last part of which comes only if the whole has its hash. Disks change bits, and a changed
/// file must not be stored or analysed.
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

/// A file that is in memory, on its way to the stage in one write with whatever else belongs to it.
pub(super) struct WholeFile {
    room: Room,
    rows: Rows,
}

/// What is written of a whole file.
pub(super) struct Rows {
    blob: i64,
    file: SmallFile,
}

impl WholeFile {
    pub(super) fn new(core: &Core, file: SmallFile) -> Result<Self, EnqueueError> {
        let room = Room::take(core, file.content.len() as u64)?;
        Ok(WholeFile { room, rows: Rows { blob: core.blob_id(), file } })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.file.content.len()
    }

    /// The room, to be kept once the rows are durable; and the rows.
    pub(super) fn split(self) -> (Room, Rows) {
        (self.room, self.rows)
    }
}

impl Rows {
    /// Stages the file. False if it was staged before: then it is as young as a new one.
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

/// Writes the row that makes a file visible. If it was there before, that one becomes as young as a new one: false.
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

/// Room on the stage for one file. Dropped, it is free again.
pub(super) struct Room {
    staged: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    fn take(core: &Core, bytes: u64) -> Result<Self, EnqueueError> {
        let most = core.limits.max_staged_bytes;
        core.staged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |staged| {
                staged.checked_add(bytes).filter(|staged| *staged <= most)
            })
            .map_err(|_| EnqueueError::Full)?;
        Ok(Room { staged: Arc::clone(&core.staged), bytes })
    }

    /// The file is staged and keeps its room.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.staged.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file on its way to the stage. Dropped before its end, what is written of it is deleted.
struct Unfinished {
    core: Arc<Core>,
    id: i64,
    chunks: i64,
}

impl Unfinished {
    async fn append(&mut self, bytes: Bytes) -> Result<(), LocalError> {
        let _turn = self.core.chunk_turn.acquire().await.map_err(|_| LocalError::Closed)?;
        let id = chunk_id(self.id, self.chunks);
        self.chunks += 1;
        self.core
            .writer
            .write(bytes.len(), move |db| {
                db.prepare_cached(INSERT_CHUNK)?.execute(params![id, &bytes[..]]).map(|_| ())
            })
            .await
    }

    /// Writes the last chunk and makes the file visible. Goes through even if the caller is cancelled.
    async fn finish(
        mut self,
        key: StagingKey,
        bytes: u64,
        last: Bytes,
        room: Room,
    ) -> Result<(), EnqueueError> {
        let (blob, chunks, now) = (self.id, self.chunks, Timestamp::now());
        let garbage = self.core.garbage.clone();
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
                    room.keep();
                } else {
                    // Free before anybody hears of it: who tries again at once must find it.
                    drop(room);
                    if chunks > 0 {
                        garbage.add(blob);
                    }
                }
                let _ = reply.send(outcome);
            },
        );
        // From here on, the writer's thread cleans up.
        self.chunks = 0;
        outcome.await.unwrap_or(Err(LocalError::Closed))?;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.chunks > 0 {
            self.core.garbage.add(self.id);
        }
    }
}
