//! Waveforms in the SQLite file.
//!
//! A seal reads and compresses beside the writer, and only its rows are written in the writer's transaction. One seal
//! runs at a time, so that no seal replaces the chunk of another one.

use std::collections::BTreeSet;
use std::ops::Range;

use async_trait::async_trait;
use proto_json::waveform::{StreamDescription, StreamId, partition_of};
use proto_json::{BlobHash, Mrn, Timestamp};
use rusqlite::{Connection, Row, params};
use sqlite::Readers;
use uuid::Uuid;

use crate::StoreError;
use crate::waveforms::tail::{self, SEAL_AFTER_US, StoredPiece, Tail, Window};
use crate::waveforms::{
    CHUNK_SPAN_US, Chunk, ChunkKey, EncodedChunk, Head, MAX_STREAMS, NewPiece, SealReport, StoredStream,
    WaveformReader, WaveformStore, micros, unreadable,
};

use super::failure::broken;
use super::rows::{self, Checked, checked, required};
use super::{SqliteStore, corrections};

/// Largest number of pieces that one seal of a stream reads.
const PIECES: i64 = 2_000;

/// Streams without data that are removed together with chunks.
const EMPTY_STREAMS: usize = 100;

fn id(stream: StreamId) -> [u8; 16] {
    *stream.as_uuid().as_bytes()
}

/// A row of [`rows::WAVE_STREAMS`].
fn stored_stream(row: &Row<'_>) -> Result<StoredStream, StoreError> {
    let description: StreamDescription = rows::parse(&row.get::<_, String>("description")?)?;
    Ok(StoredStream { description, longest_chunk_us: row.get("longest_chunk_us")? })
}

pub(super) fn find_stream(db: &Connection, stream: StreamId) -> Result<Option<StoredStream>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{} WHERE stream = ?1", rows::WAVE_STREAMS.select()))?;
    let mut found = statement.query([id(stream)])?;
    found.next()?.map(|row| required(&rows::WAVE_STREAMS, row, stored_stream)).transpose()
}

fn streams_of(db: &Connection, mrn: Mrn, before: Timestamp) -> Result<Vec<StoredStream>, StoreError> {
    let sql = format!(
        "{} WHERE mrn = ?1 AND opened_at < ?2 ORDER BY opened_at DESC, stream DESC LIMIT ?3",
        rows::WAVE_STREAMS.select()
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![rows::number(mrn), before.as_millis(), MAX_STREAMS as i64])?;
    let mut streams = Vec::new();
    while let Some(row) = found.next()? {
        streams.push(required(&rows::WAVE_STREAMS, row, stored_stream)?);
    }
    streams.reverse();
    Ok(streams)
}

/// Stores a description with the patient that has the data of its number now. That of an erased patient is not stored.
fn open(db: &Connection, description: &StreamDescription) -> Result<(), StoreError> {
    let known = "SELECT 1 FROM wave_streams WHERE stream = ?1";
    if db.prepare_cached(known)?.exists([id(description.stream)])? {
        return Ok(());
    }
    let stream = proto_json::UploadId::from_uuid(*description.stream.as_uuid());
    let Some(mrn) = corrections::receiver(db, stream, description.mrn)? else { return Ok(()) };
    put_stream(db, &StreamDescription { mrn, ..description.clone() }, CHUNK_SPAN_US)
}

/// Streams of a patient, oldest first.
pub(super) fn oldest_streams(
    db: &Connection,
    mrn: Mrn,
    limit: usize,
) -> Result<Vec<StoredStream>, StoreError> {
    let sql = format!("{} WHERE mrn = ?1 ORDER BY opened_at LIMIT ?2", rows::WAVE_STREAMS.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![rows::number(mrn), limit])?;
    let mut streams = Vec::new();
    while let Some(row) = found.next()? {
        streams.push(required(&rows::WAVE_STREAMS, row, stored_stream)?);
    }
    Ok(streams)
}

/// Changes the patient of a stream. Its pieces and chunks are found by the stream.
pub(super) fn move_stream(db: &Connection, stream: &StoredStream, to: Mrn) -> Result<(), StoreError> {
    put_stream(db, &StreamDescription { mrn: to, ..stream.description.clone() }, stream.longest_chunk_us)
}

/// Removes pieces and chunks of a stream, at most about `budget`, which it decreases. Returns whether none is left.
pub(super) fn delete_parts(
    db: &Connection,
    stream: StreamId,
    budget: &mut usize,
) -> Result<bool, StoreError> {
    let parts =
        [("wave_pieces", "id"), ("wave_samples", "channel, number"), ("wave_heads", "channel, number")];
    for (table, key) in parts {
        let limit = i64::try_from((*budget).max(1)).unwrap_or(i64::MAX);
        let deleted = db
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE (stream, {key}) IN
                     (SELECT stream, {key} FROM {table} WHERE stream = ?1 LIMIT ?2)"
            ))?
            .execute(params![id(stream), limit])?;
        *budget = budget.saturating_sub(deleted);
        if deleted as i64 == limit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the description of a stream.
pub(super) fn delete_stream(db: &Connection, stream: StreamId) -> Result<(), StoreError> {
    let deleted = db.prepare_cached("DELETE FROM wave_streams WHERE stream = ?1")?.execute([id(stream)]);
    Ok(deleted.map(drop)?)
}

/// Removes, or only counts, chunks of a stream that end before a time, at most `limit`.
pub(super) fn old_parts(
    db: &Connection,
    stream: &StoredStream,
    before_us: i64,
    limit: usize,
    delete: bool,
) -> Result<u64, StoreError> {
    let (key, mut count) = (id(stream.description.stream), 0);
    for channel in 0..stream.description.channels.len() {
        let mut old = db.prepare_cached(
            "SELECT number FROM wave_heads WHERE stream = ?1 AND channel = ?2 AND to_us < ?3
             ORDER BY to_us LIMIT ?4",
        )?;
        let found = old.query_map(params![key, channel, before_us, limit - count], |row| row.get(0))?;
        let numbers: Vec<i64> = found.collect::<Result<_, _>>()?;
        count += numbers.len();
        for table in ["wave_heads", "wave_samples"].into_iter().filter(|_| delete) {
            let sql = format!("DELETE FROM {table} WHERE stream = ?1 AND channel = ?2 AND number = ?3");
            let mut delete = db.prepare_cached(&sql)?;
            for number in &numbers {
                delete.execute(params![key, channel, number])?;
            }
        }
    }
    Ok(count as u64)
}

fn put_stream(
    db: &Connection,
    description: &StreamDescription,
    longest_chunk_us: i64,
) -> Result<(), StoreError> {
    Ok(rows::WAVE_STREAMS.put(
        db,
        params![
            id(description.stream),
            rows::number(description.mrn),
            description.opened_at.as_millis(),
            rows::json(description)?,
            longest_chunk_us,
        ],
    )?)
}

/// A piece that is encoded and ready to be inserted.
struct EncodedPiece {
    stream: StreamId,
    mrn: Mrn,
    id: BlobHash,
    partition: u16,
    times: Range<i64>,
    data: Vec<u8>,
}

impl EncodedPiece {
    /// `None` without samples.
    fn of(piece: &NewPiece) -> Option<Self> {
        let StreamDescription { stream, mrn, channels, .. } = &*piece.stream;
        let times = tail::times_of(&piece.runs, channels)?;
        let data = tail::encode(*stream, &piece.runs);
        Some(EncodedPiece {
            stream: *stream,
            mrn: *mrn,
            id: BlobHash::of(&data),
            partition: partition_of(mrn),
            times,
            data,
        })
    }

    fn insert(&self, db: &Connection, stored_us: i64) -> Result<(), StoreError> {
        let known = "SELECT 1 FROM wave_pieces WHERE stream = ?1 AND id = ?2";
        if db.prepare_cached(known)?.exists(params![id(self.stream), self.id.as_bytes()])? {
            return Ok(());
        }
        // The patient may have been erased while the samples were on their way.
        let stream = proto_json::UploadId::from_uuid(*self.stream.as_uuid());
        if corrections::receiver(db, stream, self.mrn)?.is_none() {
            return Ok(());
        }
        let values = params![
            id(self.stream),
            self.id.as_bytes(),
            self.partition,
            self.times.start,
            self.times.end,
            stored_us,
            self.data,
        ];
        Ok(rows::WAVE_PIECES.insert(db, values)?)
    }
}

/// The pieces of a stream that overlap a range of times, oldest first; and the ids of damaged ones.
fn pieces(
    db: &Connection,
    stream: StreamId,
    times: &Range<i64>,
) -> Result<(Vec<StoredPiece>, Vec<Vec<u8>>), StoreError> {
    let sql = format!(
        "{} WHERE stream = ?1 AND to_us > ?2 AND from_us < ?3 ORDER BY stored_us LIMIT ?4",
        rows::WAVE_PIECES.select()
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![id(stream), times.start, times.end, PIECES])?;
    let (mut pieces, mut damaged) = (Vec::new(), Vec::new());
    while let Some(row) = found.next()? {
        let piece = checked(&rows::WAVE_PIECES, row, |row| {
            let id = BlobHash::from_bytes(row.get("id")?);
            let runs =
                tail::decode(stream, row.get_ref("data")?.as_blob().map_err(|error| broken("piece", error))?)
                    .map_err(|error| broken("piece", error))?;
            Ok(StoredPiece { id, stored_us: row.get("stored_us")?, runs })
        })?;
        match piece {
            Checked::Intact(piece) => pieces.push(piece),
            Checked::Damaged(_) => damaged.push(row.get("id")?),
        }
    }
    Ok((pieces, damaged))
}

/// The tail of a stream for a read: a damaged piece fails it.
fn tail_of(db: &Connection, of: &StoredStream, times: &Range<i64>) -> Result<Tail, StoreError> {
    let StreamDescription { stream, channels, .. } = &of.description;
    let (pieces, damaged) = pieces(db, *stream, times)?;
    if let Some(id) = damaged.first() {
        let id = Uuid::from_slice(id.get(..16).unwrap_or_default()).unwrap_or_default();
        let key = format!("stream {stream}, piece {id}");
        return Err(StoreError::Damaged(proto_json::DamagedRecord {
            kind: proto_json::RecordKind::Waveform,
            key,
        }));
    }
    Ok(Tail::new(pieces, channels))
}

/// The keys and heads of the sealed chunks of a channel that overlap a range of times, ascending by window.
fn sealed_heads(
    db: &Connection,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
) -> Result<Vec<(ChunkKey, Vec<u8>)>, StoreError> {
    let stream = of.description.stream;
    let sql = format!(
        "{} WHERE stream = ?1 AND channel = ?2 AND to_us > ?3 AND to_us < ?4 AND from_us < ?5 ORDER BY to_us",
        rows::WAVE_HEADS.select()
    );
    let mut statement = db.prepare_cached(&sql)?;
    let last = times.end.saturating_add(of.longest_chunk_us);
    let mut found = statement.query(params![id(stream), channel, times.start, last, times.end])?;
    let mut heads = Vec::new();
    while let Some(row) = found.next()? {
        heads.push(required(&rows::WAVE_HEADS, row, |row| {
            let window = row.get::<_, i64>("number")?.cast_unsigned();
            Ok((ChunkKey { stream, channel, window }, row.get("head")?))
        })?);
    }
    heads.sort_by_key(|(key, _)| key.window);
    Ok(heads)
}

fn chunk(db: &Connection, key: ChunkKey, head: &[u8]) -> Result<Option<Chunk>, StoreError> {
    let sql = format!("{} WHERE stream = ?1 AND channel = ?2 AND number = ?3", rows::WAVE_SAMPLES.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![id(key.stream), key.channel, key.window.cast_signed()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let chunk = required(&rows::WAVE_SAMPLES, row, |row| {
        let data = row.get_ref("data")?.as_blob().map_err(|error| broken("chunk", error))?;
        Chunk::decode(key, head, data).map_err(|error| unreadable(key, error))
    });
    chunk.map(Some)
}

/// The sealed chunk of a window.
fn sealed_chunk(db: &Connection, key: ChunkKey) -> Result<Option<Chunk>, StoreError> {
    let sql = format!("{} WHERE stream = ?1 AND channel = ?2 AND number = ?3", rows::WAVE_HEADS.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![id(key.stream), key.channel, key.window.cast_signed()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let head: Vec<u8> = required(&rows::WAVE_HEADS, row, |row| Ok(row.get("head")?))?;
    chunk(db, key, &head)
}

fn heads(
    db: &Connection,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
) -> Result<Vec<Head>, StoreError> {
    let rate = of.rate(channel)?;
    let mut found = Vec::new();
    for (key, head) in sealed_heads(db, of, channel, times)? {
        found.push(Head::decode(key, &head).map_err(|error| unreadable(key, error))?);
    }
    let tail = tail_of(db, of, times)?;
    for window in tail.windows_of(channel) {
        found.extend(tail.merge((channel, window), None).and_then(|chunk| chunk.head(rate)));
    }
    found.sort_by_key(|head| head.layout.indices.start);
    Ok(found)
}

fn chunks(
    db: &Connection,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
) -> Result<Vec<Chunk>, StoreError> {
    let tail = tail_of(db, of, times)?;
    let mut open: BTreeSet<u64> = tail.windows_of(channel).collect();
    let mut found = Vec::new();
    for (key, head) in sealed_heads(db, of, channel, times)? {
        let sealed = chunk(db, key, &head)?;
        if open.remove(&key.window) {
            found.extend(tail.merge((channel, key.window), sealed));
        } else {
            found.extend(sealed);
        }
    }
    for window in open {
        // The sealed chunk of the window may lie outside of the range.
        let sealed = sealed_chunk(db, tail::key(of.description.stream, (channel, window)))?;
        found.extend(tail.merge((channel, window), sealed));
    }
    found.sort_by_key(|chunk| chunk.first);
    Ok(found)
}

/// Streams of a partition with a piece that was stored before this time, oldest first.
fn candidates(
    db: &Connection,
    partition: u16,
    before_us: i64,
    limit: usize,
) -> Result<Vec<StreamId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT stream FROM wave_pieces WHERE part = ?1 AND stored_us < ?2
         GROUP BY stream ORDER BY min(stored_us) LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = statement.query_map(params![partition, before_us, limit], |row| {
        Ok(StreamId::from_uuid(Uuid::from_bytes(row.get(0)?)))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What a seal of a stream writes.
#[derive(Default)]
struct Seal {
    stream: Option<StoredStream>,
    chunks: Vec<(ChunkKey, EncodedChunk)>,
    pieces: Vec<Vec<u8>>,
    damaged: u64,
}

/// Prepares the seal of the settled windows of a stream.
fn prepare(db: &Connection, stream: StreamId, now_us: i64) -> Result<Seal, StoreError> {
    let Some(stored) = find_stream(db, stream)? else {
        tracing::error!(%stream, "pieces of an unknown waveform stream are not sealed");
        return Ok(Seal::default());
    };
    let (pieces, damaged) = pieces(db, stream, &(i64::MIN..i64::MAX))?;
    let tail = Tail::new(pieces, &stored.description.channels);
    let mut seal = Seal { damaged: damaged.len() as u64, pieces: damaged, ..Seal::default() };
    let mut sealed: BTreeSet<Window> = BTreeSet::new();
    for window in tail.settled(now_us) {
        let key = tail::key(stream, window);
        let before = match sealed_chunk(db, key) {
            // The pieces stay, so that nothing more is lost.
            Err(StoreError::Damaged(record)) => {
                tracing::error!(kind = record.kind.name(), "a damaged chunk is not extended by late samples");
                continue;
            }
            before => before?,
        };
        let rate = stored.rate(window.0)?;
        if let Some(chunk) = tail.merge(window, before.clone())
            && before.as_ref() != Some(&chunk)
        {
            let encoded = chunk.encode(key, rate);
            let encoded = encoded.ok_or_else(|| broken("chunk", "it has too many samples"))?;
            seal.chunks.push((key, encoded));
        }
        sealed.insert(window);
    }
    seal.pieces.extend(tail.covered_by(&sealed).iter().map(|id| id.as_bytes().to_vec()));
    seal.stream = Some(stored);
    Ok(seal)
}

impl Seal {
    fn write(&self, db: &Connection) -> Result<(), StoreError> {
        let Some(StoredStream { description, longest_chunk_us }) = &self.stream else { return Ok(()) };
        for (ChunkKey { channel, window, .. }, EncodedChunk { times, head, data }) in &self.chunks {
            let (stream, window) = (id(description.stream), window.cast_signed());
            rows::WAVE_HEADS.put(db, params![stream, channel, window, times.start, times.end, head])?;
            rows::WAVE_SAMPLES.put(db, params![stream, channel, window, data])?;
        }
        let longest = self.chunks.iter().map(|(_, chunk)| chunk.times.end - chunk.times.start).max();
        if let Some(longest) = longest.filter(|longest| longest > longest_chunk_us) {
            put_stream(db, description, longest)?;
        }
        let mut delete = db.prepare_cached("DELETE FROM wave_pieces WHERE stream = ?1 AND id = ?2")?;
        for piece in &self.pieces {
            delete.execute(params![id(description.stream), piece])?;
        }
        Ok(())
    }
}

fn delete(db: &Connection, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut old = db.prepare_cached(
        // Those of patients with a legal hold stay.
        "SELECT stream, channel, number FROM wave_heads WHERE to_us < ?1 AND stream NOT IN (
             SELECT stream FROM wave_streams JOIN holds ON wave_streams.mrn = holds.mrn)
         ORDER BY to_us LIMIT ?2",
    )?;
    let keys: Vec<(Vec<u8>, i64, i64)> = old
        .query_map(params![micros(before), limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for table in ["wave_heads", "wave_samples"] {
        let sql = format!("DELETE FROM {table} WHERE stream = ?1 AND channel = ?2 AND number = ?3");
        let mut delete = db.prepare_cached(&sql)?;
        for (stream, channel, window) in &keys {
            delete.execute(params![stream, channel, window])?;
        }
    }
    if (keys.len() as i64) < limit {
        db.prepare_cached(
            "DELETE FROM wave_streams WHERE stream IN (
                SELECT stream FROM wave_streams AS old WHERE opened_at < ?1
                AND NOT EXISTS (SELECT 1 FROM wave_heads WHERE stream = old.stream)
                AND NOT EXISTS (SELECT 1 FROM wave_pieces WHERE stream = old.stream)
                LIMIT ?2)",
        )?
        .execute(params![before.as_millis(), EMPTY_STREAMS as i64])?;
    }
    Ok(keys.len() as u64)
}

async fn read<T: Send + 'static>(
    readers: &Readers,
    of: &StoredStream,
    work: impl FnOnce(&Connection, &StoredStream) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let of = of.clone();
    readers.read(move |db| in_snapshot(db, |db| work(db, &of))).await
}

/// All statements of `work` see the same state, so that a seal cannot move samples between two of them.
fn in_snapshot<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let snapshot = db.unchecked_transaction()?;
    work(&snapshot)
}

#[async_trait]
impl WaveformReader for SqliteStore {
    async fn waveform_stream(&self, stream: StreamId) -> Result<Option<StoredStream>, StoreError> {
        self.readers.read(move |db| find_stream(db, stream)).await
    }

    async fn waveform_streams(&self, mrn: Mrn, before: Timestamp) -> Result<Vec<StoredStream>, StoreError> {
        self.readers.read(move |db| streams_of(db, mrn, before)).await
    }

    async fn waveform_heads(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Head>, StoreError> {
        read(&self.readers, of, move |db, of| heads(db, of, channel, &times)).await
    }

    async fn waveform_chunks(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Chunk>, StoreError> {
        read(&self.readers, of, move |db, of| chunks(db, of, channel, &times)).await
    }
}

#[async_trait]
impl WaveformStore for SqliteStore {
    async fn open_waveform(&self, description: &StreamDescription) -> Result<(), StoreError> {
        let description = description.clone();
        self.writer.write(move |db| open(db, &description)).await
    }

    async fn append_waveforms(&self, pieces: Vec<NewPiece>, now: Timestamp) -> Result<(), StoreError> {
        let pieces: Vec<EncodedPiece> = pieces.iter().filter_map(EncodedPiece::of).collect();
        let stored_us = micros(now);
        self.writer.write(move |db| pieces.iter().try_for_each(|piece| piece.insert(db, stored_us))).await
    }

    async fn seal_waveforms(
        &self,
        partition: u16,
        now: Timestamp,
        limit: usize,
    ) -> Result<SealReport, StoreError> {
        let _turn = self.seal.lock().await;
        let now_us = micros(now);
        let before = now_us.saturating_sub(SEAL_AFTER_US);
        let streams = self.readers.read(move |db| candidates(db, partition, before, limit)).await?;
        let mut report = SealReport { streams: streams.len(), ..SealReport::default() };
        for stream in streams {
            let seal = self.readers.read(move |db| in_snapshot(db, |db| prepare(db, stream, now_us))).await?;
            if seal.damaged > 0 {
                tracing::error!(%stream, pieces = seal.damaged, "damaged pieces of a waveform are removed");
            }
            report.add(SealReport {
                streams: 0,
                chunks: seal.chunks.len() as u64,
                pieces: seal.pieces.len() as u64,
                damaged: seal.damaged,
            });
            if !seal.chunks.is_empty() || !seal.pieces.is_empty() {
                self.writer.write(move |db| seal.write(db)).await?;
            }
        }
        Ok(report)
    }

    async fn delete_waveforms(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.writer.write(move |db| delete(db, before, limit)).await
    }
}
