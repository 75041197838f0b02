//! Files in rows of chunks.
//!
//! A large file is written in several transactions, so that it neither delays other writes nor has to fit in memory. It is
//! invisible until its last transaction marks it as complete.
//!
//! A large file is stored before the record that refers to it. The record's transaction marks it as referenced, and refuses
//! a record whose file is missing. So no record can refer to a missing file, whatever the sweep of orphaned files removes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use proto_json::{BlobHash, Timestamp, UploadId};
use rusqlite::{Connection, Row, params};
use sqlite::Table;
use uuid::Uuid;

use crate::body::{Check, next_batch, unreadable, verified};
use crate::{BlobKey, ByteStream, StoreError, StoredBlob};

use super::failure::broken;
use super::readers::Readers;
use super::rows::{BLOB_CHUNKS, BLOBS, Checked, checked, required};
use super::writer::Writer;

/// Number of a file in this database; not reused while chunks of it exist.
pub(super) type BlobNumber = i64;

/// Length of a chunk. Each is read and written as a whole.
const CHUNK: usize = 256 * 1024;

/// Bytes written in one transaction.
const BATCH: usize = 4 * CHUNK;

/// Maximum number of chunks of a file: see the key of `blob_chunks`.
const CHUNKS_PER_BLOB: i64 = 1 << 20;

/// Chunks removed in one transaction.
const REMOVED_AT_ONCE: i64 = 32;

/// Writes a file before its record, unless it exists.
pub(super) async fn put(
    writer: &Writer,
    readers: &Readers,
    key: BlobKey,
    bytes: u64,
    body: ByteStream,
) -> Result<(), StoreError> {
    if readers.read(move |connection| find(connection, key)).await?.is_some() {
        return Ok(());
    }
    if bytes.div_ceil(CHUNK as u64) > CHUNKS_PER_BLOB as u64 {
        return Err(StoreError::Corrupt(format!("a file of {bytes} bytes is too long")));
    }
    let mut check = Check::new(key.sha256, bytes);
    let mut body = body.fuse();
    let mut rest = BytesMut::new();
    let mut unfinished: Option<Unfinished<'_>> = None;
    loop {
        let batch = next_batch(BATCH, &mut body, &mut rest, &mut check).await?;
        let last = batch.len() < BATCH;
        if last {
            check.finish()?;
        }
        let number = unfinished.as_ref().map_or_else(|| writer.next_blob(), |file| file.number);
        let Some(file) = &mut unfinished else {
            if last {
                return writer
                    .write(move |connection| {
                        if find(connection, key)?.is_none() {
                            insert_whole(connection, number, key, false, &batch)?;
                        }
                        Ok(())
                    })
                    .await;
            }
            unfinished = Some(Unfinished { writer, number, chunks: (BATCH / CHUNK) as i64, visible: false });
            writer
                .write_part(move |connection| {
                    BlobRow::new(number, key, bytes).put(connection)?;
                    insert_chunks(connection, number, 0, &batch)
                })
                .await?;
            continue;
        };
        let first = file.chunks;
        file.chunks += (BATCH / CHUNK) as i64;
        file.visible = writer
            .write_part(move |connection| {
                insert_chunks(connection, number, first, &batch)?;
                if last { complete(connection, number, key) } else { Ok(false) }
            })
            .await?;
        if last {
            // If another writer of the same file was first, this copy is discarded.
            return Ok(());
        }
    }
}

/// Opens a file for reading.
pub(super) async fn open(readers: &Readers, key: BlobKey) -> Result<Option<StoredBlob>, StoreError> {
    let found = readers.read(move |connection| find(connection, key)).await?;
    Ok(found.map(|file| StoredBlob { bytes: file.bytes, body: read(readers, &file) }))
}

/// Reads a file. Each chunk is compared with its checksum before it is returned, and the whole with its hash.
pub(super) fn read(readers: &Readers, file: &BlobRow) -> ByteStream {
    let BlobRow { number, bytes, sha256, .. } = *file;
    let chunks = bytes.div_ceil(CHUNK as u64);
    let readers = readers.clone();
    // Each chunk is a read of its own: a file never changes, and a slow client does not delay a checkpoint.
    let body = stream::iter(0..chunks).then(move |n| {
        let readers = readers.clone();
        async move {
            let chunk = readers.read(move |connection| read_chunk(connection, number, n)).await;
            let chunk = chunk.map_err(unreadable)?;
            let expected = (bytes - n * CHUNK as u64).min(CHUNK as u64);
            if chunk.len() as u64 == expected {
                Ok(Bytes::from(chunk))
            } else {
                Err(unreadable(broken("file", "a part of it is missing")))
            }
        }
    });
    verified(sha256, bytes, body.boxed())
}

/// Files whose writing was interrupted when the store was last closed, without damaged rows, whose files may be complete.
pub(super) fn incomplete(connection: &Connection) -> Result<VecDeque<BlobNumber>, StoreError> {
    let mut statement = connection.prepare(&format!("{} WHERE complete = 0", BLOBS.select()))?;
    let mut rows = statement.query([])?;
    let mut numbers = VecDeque::new();
    while let Some(row) = rows.next()? {
        match checked(&BLOBS, row, |row| Ok(row.get(0)?))? {
            Checked::Intact(number) => numbers.push_back(number),
            Checked::Damaged(record) => {
                tracing::error!(kind = record.kind.name(), "a file that may be incomplete is not removed");
            }
        }
    }
    Ok(numbers)
}

/// Removes some chunks of an incomplete file; true once the file is removed.
pub(super) fn remove_some(connection: &Connection, number: BlobNumber) -> Result<bool, StoreError> {
    let incomplete = by_number(connection, number)?.is_some_and(|row| !row.complete);
    if !incomplete {
        return Ok(true);
    }
    let first = number * CHUNKS_PER_BLOB;
    let removed = connection
        .prepare_cached(
            "DELETE FROM blob_chunks WHERE key IN
                 (SELECT key FROM blob_chunks WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3)",
        )?
        .execute(params![first, first + CHUNKS_PER_BLOB, REMOVED_AT_ONCE])?;
    if removed > 0 {
        return Ok(false);
    }
    connection.prepare_cached("DELETE FROM blobs WHERE number = ?1")?.execute([number])?;
    Ok(true)
}

/// A file of which some chunks are written. If it is dropped before it is visible, its chunks are removed.
struct Unfinished<'a> {
    writer: &'a Writer,
    number: BlobNumber,
    chunks: i64,
    visible: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.visible {
            self.writer.discard(self.number);
        }
    }
}

/// A row of `blobs`.
#[derive(Debug, Clone)]
pub(super) struct BlobRow {
    pub(super) number: BlobNumber,
    upload: UploadId,
    pub(super) sha256: BlobHash,
    pub(super) bytes: u64,
    complete: bool,
    /// A record refers to it.
    referenced: bool,
    written_at: i64,
}

impl BlobRow {
    /// A file that is neither complete nor referenced.
    fn new(number: BlobNumber, BlobKey { upload, sha256 }: BlobKey, bytes: u64) -> Self {
        let written_at = Timestamp::now().as_millis();
        BlobRow { number, upload, sha256, bytes, complete: false, referenced: false, written_at }
    }

    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(BlobRow {
            number: row.get("number")?,
            upload: UploadId::from_uuid(Uuid::from_bytes(row.get("upload")?)),
            sha256: BlobHash::from_bytes(row.get("sha256")?),
            bytes: u64::try_from(row.get::<_, i64>("bytes")?)
                .map_err(|error| broken("length of a file", error))?,
            complete: row.get("complete")?,
            referenced: row.get("referenced")?,
            written_at: row.get("written_at")?,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Inserts the row, or replaces the one of this number.
    fn put(&self, connection: &Connection) -> Result<(), StoreError> {
        let bytes = i64::try_from(self.bytes).map_err(|error| broken("length of a file", error))?;
        let (upload, sha256) = (self.upload.as_uuid().as_bytes(), self.sha256.as_bytes());
        let (complete, referenced) = (self.complete, self.referenced);
        let values = params![self.number, upload, sha256, bytes, complete, referenced, self.written_at];
        Ok(BLOBS.put(connection, values)?)
    }
}

/// The visible file of this key.
fn find(connection: &Connection, key: BlobKey) -> Result<Option<BlobRow>, StoreError> {
    let sql = format!("{} WHERE upload = ?1 AND sha256 = ?2 AND complete = 1", BLOBS.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![key.upload.as_uuid().as_bytes(), key.sha256.as_bytes()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let row = required(&BLOBS, row, BlobRow::read)?;
    if (row.upload, row.sha256) == (key.upload, key.sha256) {
        Ok(Some(row))
    } else {
        Err(broken("file", "an index leads to another one"))
    }
}

fn by_number(connection: &Connection, number: BlobNumber) -> Result<Option<BlobRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{} WHERE number = ?1", BLOBS.select()))?;
    let mut found = statement.query([number])?;
    found.next()?.map(|row| required(&BLOBS, row, BlobRow::read)).transpose()
}

/// The number of the next file. The writer increments it and never reuses a number, not even after a failed write, because
/// files are discarded by their numbers. Damaged numbers do not count; the chunks of such a file do.
pub(super) fn next_number(connection: &Connection) -> Result<BlobNumber, StoreError> {
    let last = |table: &Table, order: &str| -> Result<Option<i64>, StoreError> {
        let mut statement = connection.prepare(&format!("{} ORDER BY {order} DESC", table.select()))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if table.verify(row)?.key {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    };
    let of_rows = last(&BLOBS, "number")?.unwrap_or(0);
    let of_chunks = last(&BLOB_CHUNKS, "key")?.unwrap_or(0) / CHUNKS_PER_BLOB;
    Ok(of_rows.max(of_chunks) + 1)
}

/// Marks a file as referenced by a record. False if it is not stored.
pub(super) fn mark_referenced(connection: &Connection, key: BlobKey) -> Result<bool, StoreError> {
    let Some(row) = find(connection, key)? else { return Ok(false) };
    if !row.referenced {
        BlobRow { referenced: true, ..row }.put(connection)?;
    }
    Ok(true)
}

/// Removes files without a record that were written before `before`, at most `limit`. Returns how many.
pub(super) async fn sweep(writer: &Writer, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let hidden = writer.write(move |connection| {
        let orphaned = "complete = 1 AND referenced = 0 AND written_at < ?1 LIMIT ?2";
        let mut statement = connection.prepare_cached(&format!("{} WHERE {orphaned}", BLOBS.select()))?;
        let mut found = statement.query(params![before.as_millis(), limit])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            match checked(&BLOBS, row, BlobRow::read)? {
                Checked::Intact(row) => rows.push(row),
                Checked::Damaged(record) => {
                    tracing::error!(kind = record.kind.name(), "a damaged file is not swept");
                }
            }
        }
        for row in &rows {
            BlobRow { complete: false, ..*row }.put(connection)?;
        }
        Ok(rows.into_iter().map(|row| row.number).collect::<Vec<_>>())
    });
    let hidden = hidden.await?;
    for number in &hidden {
        writer.discard(*number);
    }
    Ok(hidden.len() as u64)
}

fn insert_chunks(
    connection: &Connection,
    number: BlobNumber,
    first: i64,
    batch: &[u8],
) -> Result<(), StoreError> {
    for (n, chunk) in (first..).zip(batch.chunks(CHUNK)) {
        BLOB_CHUNKS.insert(connection, params![number * CHUNKS_PER_BLOB + n, chunk])?;
    }
    Ok(())
}

/// Makes a file visible; false if another writer has stored the same file.
fn complete(connection: &Connection, number: BlobNumber, key: BlobKey) -> Result<bool, StoreError> {
    if find(connection, key)?.is_some() {
        return Ok(false);
    }
    let Some(row) = by_number(connection, number)? else {
        return Err(broken("file", "its row is gone"));
    };
    BlobRow { complete: true, written_at: Timestamp::now().as_millis(), ..row }.put(connection)?;
    Ok(true)
}

/// Writes a small file that does not exist.
pub(super) fn insert_whole(
    connection: &Connection,
    number: BlobNumber,
    key: BlobKey,
    referenced: bool,
    bytes: &[u8],
) -> Result<(), StoreError> {
    BlobRow { complete: true, referenced, ..BlobRow::new(number, key, bytes.len() as u64) }
        .put(connection)?;
    insert_chunks(connection, number, 0, bytes)
}

fn read_chunk(connection: &Connection, number: BlobNumber, n: u64) -> Result<Vec<u8>, StoreError> {
    let key = number * CHUNKS_PER_BLOB + i64::try_from(n).map_err(|error| broken("file", error))?;
    let mut statement = connection.prepare_cached(&format!("{} WHERE key = ?1", BLOB_CHUNKS.select()))?;
    let mut found = statement.query([key])?;
    let chunk = found.next()?.map(|row| required(&BLOB_CHUNKS, row, |row| Ok(row.get("data")?)));
    Ok(chunk.transpose()?.unwrap_or_default())
}
