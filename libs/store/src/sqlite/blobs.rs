//! Files in chunk rows.
//!
//! A large file is written in several transactions, so that it neither holds up other writes nor has to fit in memory. Until
//! its last step it is marked as not complete, and nobody sees it.
//!
//! Such a file is there before the record that refers to it. Until that comes it belongs to the upload that brought it, and
//! goes if the upload never comes to be. A record and the end of that ownership are one transaction, which first looks
//! whether the file is there: so no record can be left without its file, whatever is removed when.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use proto_json::{BlobHash, Timestamp, UploadId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::body::{Check, next_batch, verified};
use crate::{ByteStream, Origin, Removal, StoreError, StoredBlob};

use super::failure::broken;
use super::readers::Readers;
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
    match readers.read(move |connection| owner(connection, sha256)).await? {
        Some(None) => return Ok(()),
        Some(Some(_)) if writer.write(move |connection| bring_again(connection, from, sha256)).await? => {
            return Ok(());
        }
        Some(Some(_)) | None => {}
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
                    begin(connection, number, Some(from), sha256, bytes)?;
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
    let Some((number, bytes)) = readers.read(move |connection| find(connection, sha256)).await? else {
        return Ok(None);
    };
    let chunks = bytes.div_ceil(CHUNK as u64);
    let readers = readers.clone();
    // Chunk by chunk, each a read of its own: a file never changes, and a slow client holds up no checkpoint.
    let body = stream::iter(0..chunks).then(move |n| {
        let readers = readers.clone();
        async move {
            let chunk = readers.read(move |connection| read_chunk(connection, number, n)).await;
            let chunk = chunk.map_err(io::Error::other)?;
            let expected = (bytes - n * CHUNK as u64).min(CHUNK as u64);
            if chunk.len() as u64 == expected {
                Ok(Bytes::from(chunk))
            } else {
                Err(io::Error::other(broken("file", "a part of it is missing")))
            }
        }
    });
    Ok(Some(StoredBlob { bytes, body: verified(sha256, bytes, body.boxed()) }))
}

/// Files that were cut off when the store was last closed.
pub(super) fn cut_off(connection: &Connection) -> Result<VecDeque<BlobNumber>, StoreError> {
    let mut statement = connection.prepare("SELECT number FROM blobs WHERE complete = 0")?;
    let numbers = statement.query_map([], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// Removes some chunks of a file that is not complete; true once it is gone.
pub(super) fn remove_some(connection: &Connection, number: BlobNumber) -> Result<bool, rusqlite::Error> {
    let complete: Option<bool> = connection
        .prepare_cached("SELECT complete FROM blobs WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    if complete != Some(false) {
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

fn find(connection: &Connection, sha256: BlobHash) -> Result<Option<(BlobNumber, u64)>, StoreError> {
    let found = connection
        .prepare_cached("SELECT number, bytes FROM blobs WHERE sha256 = ?1 AND complete = 1")?
        .query_row([sha256.as_bytes()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((number, bytes)) = found else { return Ok(None) };
    Ok(Some((number, u64::try_from(bytes).map_err(|error| broken("length of a file", error))?)))
}

/// The number to give to the next file. The writer counts on from there, and gives none twice: not even after a failed
/// write, since the order to discard a file names it by its number.
pub(super) fn next_number(connection: &Connection) -> Result<BlobNumber, StoreError> {
    Ok(connection.query_row("SELECT coalesce(max(number), 0) + 1 FROM blobs", [], |row| row.get(0))?)
}

/// The upload that a file belongs to as long as no record refers to it; `None` if there is no such file.
fn owner(connection: &Connection, sha256: BlobHash) -> Result<Option<Option<[u8; 16]>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT upload FROM blobs WHERE sha256 = ?1 AND complete = 1")?
        .query_row([sha256.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// A file is brought that may be there. If it is, it belongs to its upload from now on, or, brought by two, to nobody.
fn bring_again(connection: &Connection, from: Origin, sha256: BlobHash) -> Result<bool, StoreError> {
    let upload = from.upload.as_uuid().as_bytes();
    let changed = connection
        .prepare_cached(
            "UPDATE blobs SET brought_at = ?3, upload = CASE WHEN upload = ?2 THEN upload END
             WHERE sha256 = ?1 AND complete = 1",
        )?
        .execute(params![sha256.as_bytes(), upload, Timestamp::now().as_millis()])?;
    Ok(changed > 0)
}

/// A record refers to a file: from now on it is nobody's, and stays. False if it is not there.
pub(super) fn refer(connection: &Connection, sha256: BlobHash) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "UPDATE blobs SET upload = NULL WHERE sha256 = ?1 AND complete = 1 AND upload IS NOT NULL",
        )?
        .execute([sha256.as_bytes()])?;
    Ok(find(connection, sha256)?.is_some())
}

/// Removes a file that still belongs to this upload, unless it was brought since `before`.
pub(super) async fn remove_abandoned(
    writer: &Writer,
    upload: UploadId,
    sha256: BlobHash,
    before: Timestamp,
) -> Result<Removal, StoreError> {
    let hidden = writer.write(move |connection| {
        let found = connection
            .prepare_cached(
                "SELECT number, brought_at FROM blobs WHERE sha256 = ?1 AND complete = 1 AND upload = ?2",
            )?
            .query_row(params![sha256.as_bytes(), upload.as_uuid().as_bytes()], |row| {
                Ok((row.get::<_, BlobNumber>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        let Some((number, brought_at)) = found else { return Ok(Err(Removal::Kept)) };
        if brought_at >= before.as_millis() {
            return Ok(Err(Removal::NotYet));
        }
        connection.prepare_cached("UPDATE blobs SET complete = 0 WHERE number = ?1")?.execute([number])?;
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

fn begin(
    connection: &Connection,
    number: BlobNumber,
    from: Option<Origin>,
    sha256: BlobHash,
    bytes: u64,
) -> Result<(), StoreError> {
    let bytes = i64::try_from(bytes).map_err(|error| broken("length of a file", error))?;
    connection
        .prepare_cached(
            "INSERT INTO blobs (number, sha256, bytes, complete, upload, brought_at)
             VALUES (?1, ?2, ?3, 0, ?4, ?5)",
        )?
        .execute(params![
            number,
            sha256.as_bytes(),
            bytes,
            from.as_ref().map(|from| from.upload.as_uuid().as_bytes()),
            Timestamp::now().as_millis(),
        ])?;
    Ok(())
}

fn insert_chunks(
    connection: &Connection,
    number: BlobNumber,
    first: i64,
    batch: &[u8],
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("INSERT INTO blob_chunks (key, data) VALUES (?1, ?2)")?;
    for (n, chunk) in (first..).zip(batch.chunks(CHUNK)) {
        statement.execute(params![number * CHUNKS_PER_BLOB + n, chunk])?;
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
    show(connection, number)?;
    Ok(true)
}

fn show(connection: &Connection, number: BlobNumber) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE blobs SET complete = 1, brought_at = ?2 WHERE number = ?1")?
        .execute(params![number, Timestamp::now().as_millis()])?;
    Ok(())
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
        begin(connection, number, from, sha256, bytes.len() as u64)?;
        insert_chunks(connection, number, 0, bytes)?;
        show(connection, number)?;
    }
    Ok(())
}

fn read_chunk(connection: &Connection, number: BlobNumber, n: u64) -> Result<Vec<u8>, StoreError> {
    let key = number * CHUNKS_PER_BLOB + i64::try_from(n).map_err(|error| broken("file", error))?;
    let chunk = connection
        .prepare_cached("SELECT data FROM blob_chunks WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(chunk.unwrap_or_default())
}
