//! Files in rows of chunks.
//!
//! A large file is written in several transactions. It is invisible until the last one marks it as complete.
//!
//! A large file is stored before the record that refers to it. The record's transaction marks it as referenced, and refuses
//! a record whose file is missing. So no record can refer to a missing file, whatever the sweep of orphaned files removes.

use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, DamagedRecord, Timestamp, UploadId};
use rusqlite::{Connection, Row, params};
use sqlite::{CHUNK, ChunkError, ChunkTable, MAX_CHUNKS, PART, Readers, UnfinishedFile, Writer};
use uuid::Uuid;

use crate::body::{Check, next_batch, unreadable, verified};
use crate::{BlobKey, ByteStream, StoreError, StoredBlob};

use super::failure::broken;
use super::rows::{self, BLOB_CHUNKS, BLOBS, Checked, checked, required};

/// Number of a file in this database; not reused while chunks of it exist.
pub(super) type BlobNumber = i64;

/// The chunks of files.
pub(super) const CHUNKS: ChunkTable =
    ChunkTable { table: BLOB_CHUNKS, has_checksums: true, is_visible: is_complete, forget: remove_row };

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
    if bytes.div_ceil(CHUNK as u64) > MAX_CHUNKS {
        return Err(StoreError::Corrupt(format!("a file of {bytes} bytes is too long")));
    }
    let mut check = Check::new(key.sha256, bytes);
    let mut body = body.fuse();
    let mut rest = BytesMut::new();
    let mut file = UnfinishedFile::new(writer);
    let number = file.number;
    loop {
        let part = next_batch(PART, &mut body, &mut rest, &mut check).await?;
        let (is_first, is_last) = (file.chunks == 0, part.len() < PART);
        if is_last {
            check.finish()?;
        }
        if is_first && is_last {
            let insert = move |connection: &Connection| {
                if find(connection, key)?.is_none() {
                    insert_whole(connection, number, key, false, &part)?;
                }
                Ok(())
            };
            return writer.write(insert).await;
        }
        let mark = move |connection: &Connection| {
            if is_first {
                BlobRow::new(number, key, bytes).put(connection)?;
            }
            if is_last { complete(connection, number, key) } else { Ok(()) }
        };
        file.append(part, mark).await?;
        if is_last {
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
    let chunks = CHUNKS.stream(readers, number, bytes, None);
    let body = chunks.map_err(|error| {
        unreadable(match error {
            ChunkError::Failed(error) => error.into(),
            ChunkError::Damaged(key) => {
                StoreError::Damaged(DamagedRecord { kind: rows::kind(&BLOB_CHUNKS), key })
            }
            ChunkError::Missing => broken("file", "a part of it is missing"),
        })
    });
    verified(sha256, bytes, body.boxed())
}

/// Files whose writing was interrupted when the store was last closed, without damaged rows, whose files may be complete.
pub(super) fn incomplete(connection: &Connection) -> Result<Vec<BlobNumber>, StoreError> {
    let mut statement = connection.prepare(&format!("{} WHERE complete = 0", BLOBS.select()))?;
    let mut rows = statement.query([])?;
    let mut numbers = Vec::new();
    while let Some(row) = rows.next()? {
        match checked(&BLOBS, row, |row| Ok(row.get(0)?))? {
            Checked::Intact(number) => numbers.push(number),
            Checked::Damaged(record) => {
                tracing::error!(kind = record.kind.name(), "a file that may be incomplete is not removed");
            }
        }
    }
    Ok(numbers)
}

/// Whether a file is complete. A file whose row is damaged might be.
fn is_complete(connection: &Connection, number: BlobNumber) -> rusqlite::Result<bool> {
    Ok(by_number(connection, number).map_or_else(
        |error| {
            tracing::warn!(%error, "could not remove an incomplete file");
            true
        },
        |row| row.is_some_and(|row| row.complete),
    ))
}

fn remove_row(connection: &Connection, number: BlobNumber) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM blobs WHERE number = ?1")?.execute([number]).map(drop)
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

/// The number of the next file. Damaged numbers do not count; the chunks of such a file do.
pub(super) fn next_number(connection: &Connection) -> Result<BlobNumber, StoreError> {
    let mut last = CHUNKS.last_file(connection)?;
    let mut statement = connection.prepare(&format!("{} ORDER BY number DESC", BLOBS.select()))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if BLOBS.verify(row)?.key {
            last = last.max(row.get(0)?);
            break;
        }
    }
    Ok(last + 1)
}

/// Marks a file as referenced by a record. False if it is not stored.
pub(super) fn mark_referenced(connection: &Connection, key: BlobKey) -> Result<bool, StoreError> {
    let Some(row) = find(connection, key)? else { return Ok(false) };
    if !row.referenced {
        BlobRow { referenced: true, ..row }.put(connection)?;
    }
    Ok(true)
}

/// Marks a file as orphaned from now on: no record refers to it any more. Readers that opened it can finish, because the
/// sweep leaves it for its time.
pub(super) fn release(connection: &Connection, key: BlobKey) -> Result<(), StoreError> {
    let Some(row) = find(connection, key)? else { return Ok(()) };
    BlobRow { referenced: false, written_at: Timestamp::now().as_millis(), ..row }.put(connection)
}

/// Removes the files of an upload, at most about `budget` chunks, which it decreases. Returns whether none is left.
pub(super) fn delete_all(
    connection: &Connection,
    upload: UploadId,
    budget: &mut usize,
) -> Result<bool, StoreError> {
    let sql = format!("{} WHERE upload = ?1 AND complete = 1", BLOBS.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([upload.as_uuid().as_bytes()])?;
    let mut numbers: Vec<BlobNumber> = Vec::new();
    while let Some(row) = found.next()? {
        numbers.push(required(&BLOBS, row, |row| Ok(row.get("number")?))?);
    }
    for number in numbers {
        if *budget == 0 {
            return Ok(false);
        }
        let deleted = CHUNKS.delete(connection, number, *budget)?;
        if deleted == *budget {
            *budget = 0;
            return Ok(false);
        }
        *budget -= deleted.max(1);
        remove_row(connection, number)?;
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
        Ok::<_, StoreError>(rows.into_iter().map(|row| row.number).collect::<Vec<_>>())
    });
    let hidden = hidden.await?;
    for number in &hidden {
        writer.discard(*number);
    }
    Ok(hidden.len() as u64)
}

/// Makes a file visible, unless another writer has stored the same file.
fn complete(connection: &Connection, number: BlobNumber, key: BlobKey) -> Result<(), StoreError> {
    if find(connection, key)?.is_some() {
        return Ok(());
    }
    let Some(row) = by_number(connection, number)? else {
        return Err(broken("file", "its row is gone"));
    };
    BlobRow { complete: true, written_at: Timestamp::now().as_millis(), ..row }.put(connection)
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
    Ok(CHUNKS.insert(connection, number, 0, bytes)?)
}
