//! Files in rows of chunks.
//!
//! A small file is one write. A large file is written in parts, each in a transaction of its own, so that it neither delays
//! other writes nor has to fit in memory. The adapter makes it visible in its last transaction, and decides by a row of its
//! own which files are visible.
//!
//! Invariants: numbers of files are not reused while the file is open, not even after a failed write. Chunks of a file that
//! does not become visible are removed, also if its writer is cancelled or a transaction fails. After a crash, the adapter
//! passes such files to [`Writer::start`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Error, Failure, Readers, Table, Writer};

/// Length of a chunk. Each is read and written as a whole.
pub const CHUNK: usize = 256 * 1024;

/// Bytes of a large file that are written in one transaction. Other writes wait for one of them at most, so it is short.
pub const PART: usize = CHUNK;

/// The key of chunk n of file f is f * 2^20 + n: a file is one range of rows, without a further index.
const NUMBER_BITS: i64 = 20;

/// All keys are below this. A higher key is damaged and is ignored: no file is removed because of it, and it does not affect
/// the number of the next file.
const END: i64 = 1 << 60;

/// Maximum number of chunks of a file.
pub const MAX_CHUNKS: u64 = 1 << NUMBER_BITS;

/// The chunks of files.
#[derive(Debug, Clone, Copy)]
pub struct ChunkTable {
    /// Columns: key and bytes.
    pub table: Table,
    /// Whether each row has a checksum. A file is also verified by its hash.
    pub has_checksums: bool,
    /// Whether the file of this number is visible, or might be.
    pub is_visible: fn(&Connection, i64) -> rusqlite::Result<bool>,
    /// Called after the last chunk of an invisible file was removed.
    pub forget: fn(&Connection, i64) -> rusqlite::Result<()>,
}

/// A chunk that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Its bytes.
    Intact(Bytes),
    /// It does not match its checksum. Contains its key.
    Damaged(String),
    /// It does not exist.
    Missing,
}

/// The next chunk of a file could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChunkError {
    /// SQLite or the disk failed.
    #[error(transparent)]
    Failed(#[from] Error),
    /// It does not match its checksum. Contains its key.
    #[error("a chunk ({0}) is damaged")]
    Damaged(String),
    /// It does not exist, or has another length.
    #[error("a chunk is missing")]
    Missing,
}

fn key(file: i64, number: i64) -> i64 {
    (file << NUMBER_BITS) + number
}

impl ChunkTable {
    /// Writes consecutive chunks of a file. `bytes` ends at the end of a chunk or of the file.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn insert(&self, db: &Connection, file: i64, first: i64, bytes: &[u8]) -> rusqlite::Result<()> {
        let Table { name, columns, .. } = self.table;
        let plain = (!self.has_checksums)
            .then(|| format!("INSERT INTO {name} ({}) VALUES (?1, ?2)", columns.join(", ")));
        for (number, chunk) in (first..).zip(bytes.chunks(CHUNK)) {
            let values = params![key(file, number), chunk];
            match &plain {
                Some(sql) => db.prepare_cached(sql)?.execute(values).map(drop)?,
                None => self.table.insert(db, values)?,
            }
        }
        Ok(())
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn read(&self, db: &Connection, file: i64, number: i64) -> rusqlite::Result<Chunk> {
        let Table { name, columns, .. } = self.table;
        let select = if self.has_checksums {
            self.table.select()
        } else {
            format!("SELECT {} FROM {name}", columns.join(", "))
        };
        let mut statement = db.prepare_cached(&format!("{select} WHERE {} = ?1", columns[0]))?;
        let mut found = statement.query([key(file, number)])?;
        let Some(row) = found.next()? else { return Ok(Chunk::Missing) };
        if self.has_checksums && !self.table.verify(row)?.row {
            return Ok(Chunk::Damaged(self.table.name_of(row)?));
        }
        Ok(Chunk::Intact(Bytes::from(row.get::<_, Vec<u8>>(1)?)))
    }

    /// Reads a file. Its first chunk may have been read already. Each chunk is a read of its own: a file never changes, and
    /// a slow client does not delay a checkpoint.
    pub fn stream(
        self,
        readers: &Readers,
        file: i64,
        bytes: u64,
        mut first: Option<Bytes>,
    ) -> BoxStream<'static, Result<Bytes, ChunkError>> {
        let readers = readers.clone();
        let chunks = stream::iter(0..bytes.div_ceil(CHUNK as u64)).then(move |number| {
            let (readers, first) = (readers.clone(), first.take());
            async move {
                let read =
                    move |db: &Connection| Ok::<_, Error>(self.read(db, file, number.cast_signed())?);
                let chunk = match first {
                    Some(chunk) => Chunk::Intact(chunk),
                    None => readers.read(read).await?,
                };
                let length = (bytes - number * CHUNK as u64).min(CHUNK as u64);
                match chunk {
                    Chunk::Intact(chunk) if chunk.len() as u64 == length => Ok(chunk),
                    Chunk::Intact(_) | Chunk::Missing => Err(ChunkError::Missing),
                    Chunk::Damaged(key) => Err(ChunkError::Damaged(key)),
                }
            }
        });
        chunks.boxed()
    }

    /// Deletes chunks of a file, at most `most`. Returns how many.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn delete(&self, db: &Connection, file: i64, most: usize) -> rusqlite::Result<usize> {
        let Table { name, columns, .. } = self.table;
        let column = columns[0];
        db.prepare_cached(&format!(
            "DELETE FROM {name} WHERE {column} IN
                 (SELECT {column} FROM {name} WHERE {column} >= ?1 AND {column} < ?2 LIMIT ?3)"
        ))?
        .execute(params![key(file, 0), key(file + 1, 0), most])
    }

    /// The files that have chunks, in ascending order; one query per file. Damaged keys above all others do not count.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn files(&self, db: &Connection) -> rusqlite::Result<Vec<i64>> {
        let Table { name, columns, .. } = self.table;
        let sql = format!(
            "SELECT {0} FROM {name} WHERE {0} >= ?1 AND {0} < {END} ORDER BY {0} LIMIT 1",
            columns[0]
        );
        let mut next = db.prepare(&sql)?;
        let mut files: Vec<i64> = Vec::new();
        while let Some(chunk) = next
            .query_row([key(files.last().map_or(0, |file| file + 1), 0)], |row| row.get::<_, i64>(0))
            .optional()?
        {
            files.push(chunk >> NUMBER_BITS);
        }
        Ok(files)
    }

    /// The highest of [`ChunkTable::files`]; 0 if there is none. One query.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn last_file(&self, db: &Connection) -> rusqlite::Result<i64> {
        let Table { name, columns, .. } = self.table;
        let sql = format!("SELECT coalesce(max({0}), 0) FROM {name} WHERE {0} < {END}", columns[0]);
        Ok(db.query_row(&sql, [], |row| row.get::<_, i64>(0))? >> NUMBER_BITS)
    }
}

/// Files whose chunks the writer removes, a few per transaction.
#[derive(Debug, Clone, Default)]
pub struct Removals(Arc<Mutex<VecDeque<i64>>>);

impl Removals {
    /// Adds a file that is not visible and will not be written to. See [`Writer::discard`] for others.
    pub fn add(&self, file: i64) {
        self.0.lock().push_back(file);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Removes about `most` chunks. Returns the number of files of which nothing is left, for [`Removals::finish`].
    pub(crate) fn step(&self, db: &Connection, table: &ChunkTable, most: usize) -> rusqlite::Result<usize> {
        let (mut done, mut left) = (0, most);
        while left > 0 {
            let Some(file) = self.0.lock().get(done).copied() else { break };
            let mut deleted = 0;
            if !(table.is_visible)(db, file)? {
                deleted = table.delete(db, file, left)?;
                if deleted == left {
                    break;
                }
                (table.forget)(db, file)?;
            }
            done += 1;
            left -= deleted.max(1);
        }
        Ok(done)
    }

    /// Records that the first `done` files are removed, once this is committed.
    pub(crate) fn finish(&self, done: usize) {
        self.0.lock().drain(..done);
    }

    /// Proceeds with other files after a failure.
    pub(crate) fn skip_first(&self) {
        let mut files = self.0.lock();
        if !files.is_empty() {
            files.rotate_left(1);
        }
    }
}

/// A large file that is being written. Dropping it removes its chunks, unless the file is visible.
#[derive(Debug)]
pub struct UnfinishedFile<'a> {
    writer: &'a Writer,
    /// Its number.
    pub number: i64,
    /// The chunks that were written.
    pub chunks: i64,
}

impl<'a> UnfinishedFile<'a> {
    /// A file without chunks, with the next number.
    #[must_use]
    pub fn new(writer: &'a Writer) -> Self {
        UnfinishedFile { writer, number: writer.next_file(), chunks: 0 }
    }

    /// Writes a part of the file, and executes `work` in the same transaction. All parts but the last have [`PART`] bytes.
    ///
    /// # Errors
    /// Those of `work` and of the engine.
    pub async fn append<T: Send + 'static, E: Failure>(
        &mut self,
        part: Bytes,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (number, first, chunks) = (self.number, self.chunks, self.writer.chunks);
        let bytes = part.len();
        self.chunks += bytes.div_ceil(CHUNK) as i64;
        let insert = move |db: &Connection| {
            chunks.insert(db, number, first, &part).map_err(Error::from)?;
            work(db)
        };
        self.writer.write_part(bytes, insert).await
    }
}

impl Drop for UnfinishedFile<'_> {
    fn drop(&mut self) {
        if self.chunks > 0 {
            self.writer.discard(self.number);
        }
    }
}
