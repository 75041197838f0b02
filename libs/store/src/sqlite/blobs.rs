//! Files in chunk rows.
//!
//! A large file is written in several transactions, so that it neither holds up other writes nor has to fit in memory. Until
//! its last step it is marked as not complete, and nobody sees it.
//!
//! Such a file is there before the record that refers to it. Until that comes it belongs to the upload that brought it, and
//! goes if the upload never comes to be. A record and the end of that ownership are one transaction, which first looks
//! whether the file is there: so no record can be left without its file, whatever is removed when.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use proto_json::{BlobHash, Timestamp, UploadId};
use rusqlite::{Connection, Row, params};
use sqlite::Table;

use crate::body::{Check, next_batch, unreadable, verified};
use crate::{ByteStream, Origin, Removal, StoreError, StoredBlob};

use super::failure::broken;
use super::readers::Readers;
use super::rows::{BLOB_CHUNKS, BLOBS, Checked, checked, required};
use super::writer::Writer;

/// Number of a file in this database; never given twice while chunks of it exist.
pub(super) type BlobNumber = i64;

/// Length of a chunk. Each is read and written as a whole.
const CHUNK: usize = 256 * 1024;

/// Length of what is written in one transaction.
const BATCH: usize = 4 * CHUNK;

/// Chunks that a file can have: see the key of `blob_chunks`.
const CHUNKS_PER_BLOB: i64 = 1 << 20;

/// Chunks removed in one transaction.
const REMOVED_AT_ONCE: i64 = 32;

/// Writes a file unless it is there.
pub(super) async fn put(
    writer: &Writer,
    readers: &Readers,
    from: Origin,
    sha256: BlobHash,
    bytes: u64,
    body: ByteStream,
) -> Result<(), StoreError> {
    match readers.read(move |connection| find(connection, sha256)).await? {
        Some(BlobRow { upload: None, .. }) => return Ok(()),
        Some(_) if writer.write(move |connection| bring_again(connection, from, sha256)).await? => {
            return Ok(());
        }
        Some(_) | None => {}
    }
    if bytes.div_ceil(CHUNK as u64) > CHUNKS_PER_BLOB as u64 {
        return Err(StoreError::Corrupt(format!("a file of {bytes} bytes is too long")));
    }
    let mut check = Check::new(sha256, bytes);
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
                        if !bring_again(connection, from, sha256)? {
                            insert_whole(connection, number, Some(from), sha256, &batch)?;
                        }
                        Ok(())
                    })
                    .await;
            }
            unfinished = Some(Unfinished { writer, number, chunks: (BATCH / CHUNK) as i64, visible: false });
            writer
                .write_part(move |connection| {
                    BlobRow::new(number, Some(from), sha256, bytes).put(connection)?;
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
                if last { complete(connection, number, from, sha256) } else { Ok(false) }
            })
            .await?;
        if last {
            // If another writer was first, ours is discarded: the bytes are the same.
            return Ok(());
        }
    }
}

/// Opens a file for reading.
pub(super) async fn open(readers: &Readers, sha256: BlobHash) -> Result<Option<StoredBlob>, StoreError> {
    let found = readers.read(move |connection| find(connection, sha256)).await?;
    Ok(found.map(|file| StoredBlob { bytes: file.bytes, body: read(readers, &file) }))
}

/// The bytes of a file. Each part is compared with its checksum before it is given, and the whole with its hash.
pub(super) fn read(readers: &Readers, file: &BlobRow) -> ByteStream {
    let BlobRow { number, bytes, sha256, .. } = *file;
    let chunks = bytes.div_ceil(CHUNK as u64);
    let readers = readers.clone();
    // Chunk by chunk, each a read of its own: a file never changes, and a slow client holds up no checkpoint.
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

/// Files whose writing was interrupted when the store was last closed. A damaged row is not one of them: the file may be
/// complete.
pub(super) fn cut_off(connection: &Connection) -> Result<VecDeque<BlobNumber>, StoreError> {
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

/// Removes some chunks of a file that is not complete; true once it is gone.
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

/// A file some of whose chunks are written. Dropped before it is visible, its chunks are removed.
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
    pub(super) sha256: BlobHash,
    pub(super) bytes: u64,
    complete: bool,
    /// The upload it belongs to as long as no record refers to it.
    upload: Option<[u8; 16]>,
    brought_at: Option<i64>,
}

impl BlobRow {
    /// A file that is not complete yet. `from` is its owner, if no record comes with it.
    fn new(number: BlobNumber, from: Option<Origin>, sha256: BlobHash, bytes: u64) -> Self {
        let upload = from.map(|from| *from.upload.as_uuid().as_bytes());
        let brought_at = Some(Timestamp::now().as_millis());
        BlobRow { number, sha256, bytes, complete: false, upload, brought_at }
    }

    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(BlobRow {
            number: row.get("number")?,
            sha256: BlobHash::from_bytes(row.get("sha256")?),
            bytes: u64::try_from(row.get::<_, i64>("bytes")?)
                .map_err(|error| broken("length of a file", error))?,
            complete: row.get("complete")?,
            upload: row.get("upload")?,
            brought_at: row.get("brought_at")?,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Inserts the row, or replaces the one of this number.
    fn put(&self, connection: &Connection) -> Result<(), StoreError> {
        let bytes = i64::try_from(self.bytes).map_err(|error| broken("length of a file", error))?;
        let sha256 = self.sha256.as_bytes();
        let (complete, upload, brought_at) = (self.complete, self.upload, self.brought_at);
        Ok(BLOBS.put(connection, params![self.number, sha256, bytes, complete, upload, brought_at])?)
    }
}

/// The file of this hash that is visible.
fn find(connection: &Connection, sha256: BlobHash) -> Result<Option<BlobRow>, StoreError> {
    let sql = format!("{} WHERE sha256 = ?1 AND complete = 1", BLOBS.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([sha256.as_bytes()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let row = required(&BLOBS, row, BlobRow::read)?;
    if row.sha256 == sha256 { Ok(Some(row)) } else { Err(broken("file", "an index leads to another one")) }
}

fn by_number(connection: &Connection, number: BlobNumber) -> Result<Option<BlobRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{} WHERE number = ?1", BLOBS.select()))?;
    let mut found = statement.query([number])?;
    found.next()?.map(|row| required(&BLOBS, row, BlobRow::read)).transpose()
}

/// The number to give to the next file. The writer counts on from there, and gives none twice: not even after a failed
/// write, since the order to discard a file names it by its number. Damaged numbers do not count; the chunks of such a file
/// do.
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

/// A file is brought that may be there. If it is, it belongs to its upload from now on, or, brought by two, to nobody.
fn bring_again(connection: &Connection, from: Origin, sha256: BlobHash) -> Result<bool, StoreError> {
    let Some(row) = find(connection, sha256)? else { return Ok(false) };
    let upload = row.upload.filter(|upload| upload == from.upload.as_uuid().as_bytes());
    BlobRow { upload, brought_at: Some(Timestamp::now().as_millis()), ..row }.put(connection)?;
    Ok(true)
}

/// A record refers to a file: from now on it is nobody's, and stays. False if it is not there.
pub(super) fn refer(connection: &Connection, sha256: BlobHash) -> Result<bool, StoreError> {
    let Some(row) = find(connection, sha256)? else { return Ok(false) };
    if row.upload.is_some() {
        BlobRow { upload: None, ..row }.put(connection)?;
    }
    Ok(true)
}

/// Removes a file that still belongs to this upload, unless it was brought since `before`.
pub(super) async fn remove_abandoned(
    writer: &Writer,
    upload: UploadId,
    sha256: BlobHash,
    before: Timestamp,
) -> Result<Removal, StoreError> {
    let hidden = writer.write(move |connection| {
        let owned =
            find(connection, sha256)?.filter(|row| row.upload.as_ref() == Some(upload.as_uuid().as_bytes()));
        let Some(row) = owned else { return Ok(Err(Removal::Kept)) };
        if row.brought_at.is_some_and(|brought_at| brought_at >= before.as_millis()) {
            return Ok(Err(Removal::NotYet));
        }
        let number = row.number;
        BlobRow { complete: false, ..row }.put(connection)?;
        Ok(Ok(number))
    });
    Ok(match hidden.await? {
        Ok(number) => {
            writer.discard(number);
            Removal::Removed
        }
        Err(left) => left,
    })
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

/// Makes a file visible; false if the same file, brought by another writer, is visible already.
fn complete(
    connection: &Connection,
    number: BlobNumber,
    from: Origin,
    sha256: BlobHash,
) -> Result<bool, StoreError> {
    if bring_again(connection, from, sha256)? {
        return Ok(false);
    }
    let Some(row) = by_number(connection, number)? else {
        return Err(broken("file", "its row is gone"));
    };
    BlobRow { complete: true, brought_at: Some(Timestamp::now().as_millis()), ..row }.put(connection)?;
    Ok(true)
}

/// A small file, in one go, unless it is there. `from` is its owner, if no record comes with it.
pub(super) fn insert_whole(
    connection: &Connection,
    number: BlobNumber,
    from: Option<Origin>,
    sha256: BlobHash,
    bytes: &[u8],
) -> Result<(), StoreError> {
    if find(connection, sha256)?.is_none() {
        let row = BlobRow::new(number, from, sha256, bytes.len() as u64);
        BlobRow { complete: true, ..row }.put(connection)?;
        insert_chunks(connection, number, 0, bytes)?;
    }
    Ok(())
}

fn read_chunk(connection: &Connection, number: BlobNumber, n: u64) -> Result<Vec<u8>, StoreError> {
    let key = number * CHUNKS_PER_BLOB + i64::try_from(n).map_err(|error| broken("file", error))?;
    let mut statement = connection.prepare_cached(&format!("{} WHERE key = ?1", BLOB_CHUNKS.select()))?;
    let mut found = statement.query([key])?;
    let chunk = found.next()?.map(|row| required(&BLOB_CHUNKS, row, |row| Ok(row.get("data")?)));
    Ok(chunk.transpose()?.unwrap_or_default())
}
