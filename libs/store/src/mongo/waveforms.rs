//! Waveforms in MongoDB. No write needs a transaction: each one is idempotent by its key.
//!
//! - `waveform_streams`: the descriptions.
//! - `waveform_pieces`: the open tails. The key has the hash of the content.
//! - `waveforms`: the sealed chunks.
//!
//! A seal writes a chunk before it removes its pieces, and a read reads pieces before chunks: so no sample is missing
//! in between. A seal replaces a chunk only if it still has the content that the seal has read; otherwise, another
//! process has sealed it meanwhile, and the pieces stay for the next seal.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, RawDocument, RawDocumentBuf, cstr, doc};
use proto_json::waveform::{StreamDescription, StreamId, partition_of};
use proto_json::{BlobHash, DamagedRecord, Fate, Mrn, RecordKind, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;
use crate::waveforms::tail::{self, SEAL_AFTER_US, StoredPiece, Tail, Window};
use crate::waveforms::{
    CHUNK_SPAN_US, Chunk, ChunkKey, EncodedChunk, Head, MAX_STREAMS, NewPiece, SealReport, StoredStream,
    WaveformReader, WaveformStore, micros, unreadable,
};

use super::documents::{self, date, uuid};
use super::failure::{broken, insert, within};
use super::reading::all;
use super::sealed::{required, seal};
use super::{Db, MongoStore, calls, corrections};

/// Largest number of pieces that one seal of a stream reads.
const PIECES: i64 = 2_000;
/// Pieces that are searched for each stream that is to be sealed.
const PIECES_PER_STREAM: usize = 64;
/// Streams without data that are removed together with chunks.
const EMPTY_STREAMS: i64 = 100;

/// `waveform_streams`. The longest chunk is a field beside, because it changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamDocument {
    #[serde(rename = "_id")]
    id: mongodb::bson::Uuid,
    mrn: i64,
    opened_at: mongodb::bson::DateTime,
    /// JSON.
    description: String,
}

const LONGEST_CHUNK: &str = "longest_chunk_us";

fn id(stream: StreamId) -> mongodb::bson::Uuid {
    uuid(stream.as_uuid())
}

pub(super) fn stored_stream(raw: &RawDocumentBuf) -> Result<StoredStream, StoreError> {
    let document: StreamDocument = required(raw)?;
    let description = serde_json::from_str(&document.description).map_err(|error| broken("stream", error))?;
    // Absent until a chunk is longer than assumed.
    let longest_chunk_us = raw.get_i64(LONGEST_CHUNK).unwrap_or(CHUNK_SPAN_US);
    Ok(StoredStream { description, longest_chunk_us })
}

async fn find_stream(db: &Db, stream: StreamId) -> Result<Option<StoredStream>, StoreError> {
    let action = db.waveform_streams.find_one(doc! { "_id": id(stream) }).max_time(db.limit);
    within(db.limit, action).await?.as_ref().map(stored_stream).transpose()
}

async fn streams_of(db: &Db, mrn: Mrn, before: Timestamp) -> Result<Vec<StoredStream>, StoreError> {
    let filter = doc! { "mrn": documents::number(mrn), "opened_at": { "$lt": date(before) } };
    let order = doc! { "opened_at": -1, "_id": -1 };
    let found = all(db, db.waveform_streams.find(filter).sort(order).limit(MAX_STREAMS as i64)).await?;
    found.iter().rev().map(stored_stream).collect()
}

/// Stores a description with the patient that has the data of its number now. That of an erased patient is not stored.
async fn open(db: &Db, description: &StreamDescription) -> Result<(), StoreError> {
    let Some(mrn) = receiver(db, description).await? else { return Ok(()) };
    let stream = StoredStream {
        description: StreamDescription { mrn, ..description.clone() },
        longest_chunk_us: CHUNK_SPAN_US,
    };
    let document = seal(&StreamDocument::new(&stream.description)?)?;
    insert(db.limit, db.waveform_streams.insert_one(document)).await?;
    // No transaction: the patient may have been merged or erased meanwhile.
    match receiver(db, description).await? {
        Some(now) if now == mrn => {}
        Some(now) => {
            let (id, document) = moved(&stream, now)?;
            within(db.limit, db.waveform_streams.replace_one(id, document)).await?;
        }
        None => {
            let id = doc! { "_id": id(description.stream) };
            within(db.limit, db.waveform_streams.delete_one(id)).await?;
        }
    }
    Ok(())
}

/// The patient that a stream is stored with; `None` if the patient or the stream was erased.
async fn receiver(db: &Db, description: &StreamDescription) -> Result<Option<Mrn>, StoreError> {
    if corrections::is_erased(db, *description.stream.as_uuid()).await? {
        return Ok(None);
    }
    Ok(match corrections::fate_of(db, description.mrn).await? {
        None => Some(description.mrn),
        Some(Fate::Merged { into, .. }) => Some(into),
        Some(Fate::Erased { .. }) => None,
    })
}

impl StreamDocument {
    fn new(description: &StreamDescription) -> Result<Self, StoreError> {
        Ok(StreamDocument {
            id: id(description.stream),
            mrn: documents::number(description.mrn),
            opened_at: date(description.opened_at),
            description: serde_json::to_string(description).map_err(|error| broken("stream", error))?,
        })
    }
}

/// The id and the document of a stream that belongs to another patient now.
pub(super) fn moved(stream: &StoredStream, to: Mrn) -> Result<(Document, RawDocumentBuf), StoreError> {
    let description = StreamDescription { mrn: to, ..stream.description.clone() };
    let mut document = seal(&StreamDocument::new(&description)?)?;
    document.append(cstr!("longest_chunk_us"), stream.longest_chunk_us);
    Ok((doc! { "_id": id(description.stream) }, document))
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

fn bytes<'a>(document: &'a Document, field: &str) -> Result<&'a [u8], StoreError> {
    document.get_binary_generic(field).map(Vec::as_slice).map_err(|error| broken("waveform", error))
}

fn number(document: &Document, field: &str) -> Result<i64, StoreError> {
    // Servers may shorten numbers.
    let number = document.get_i64(field).or_else(|_| document.get_i32(field).map(i64::from));
    number.map_err(|error| broken("waveform", error))
}

/// The document of a piece; `None` without samples.
fn piece_document(piece: &NewPiece, stored_us: i64) -> Option<Document> {
    let StreamDescription { stream, mrn, channels, .. } = &*piece.stream;
    let times = tail::times_of(&piece.runs, channels)?;
    let data = tail::encode(*stream, &piece.runs);
    Some(doc! {
        "_id": format!("{stream}/{}", BlobHash::of(&data)),
        "stream": id(*stream),
        "part": i32::from(partition_of(mrn)),
        "from_us": times.start,
        "to_us": times.end,
        "stored_us": stored_us,
        "data": binary(data),
    })
}

async fn append(db: &Db, mut pieces: Vec<NewPiece>, stored_us: i64) -> Result<(), StoreError> {
    let mut streams: Vec<Arc<StreamDescription>> = Vec::new();
    for piece in &pieces {
        if !streams.iter().any(|known| known.stream == piece.stream.stream) {
            streams.push(piece.stream.clone());
        }
    }
    let erased = erased_among(db, &streams).await?;
    pieces.retain(|piece| !erased.contains(&piece.stream.stream));
    streams.retain(|known| !erased.contains(&known.stream));
    let documents: Vec<Document> =
        pieces.iter().filter_map(|piece| piece_document(piece, stored_us)).collect();
    if documents.is_empty() {
        return Ok(());
    }
    insert(db.limit, db.waveform_pieces.insert_many(documents).ordered(false)).await?;
    // No transaction: a patient may have been erased meanwhile.
    for stream in erased_among(db, &streams).await? {
        within(db.limit, db.waveform_pieces.delete_many(doc! { "stream": id(stream) })).await?;
    }
    Ok(())
}

/// Those of the streams that were erased.
async fn erased_among(db: &Db, streams: &[Arc<StreamDescription>]) -> Result<Vec<StreamId>, StoreError> {
    let mut erased = Vec::new();
    for description in streams {
        if receiver(db, description).await?.is_none() {
            erased.push(description.stream);
        }
    }
    Ok(erased)
}

/// The pieces of a stream that overlap a range of times; and the ids of damaged ones.
async fn pieces(
    db: &Db,
    stream: StreamId,
    times: Option<&Range<i64>>,
) -> Result<(Vec<StoredPiece>, Vec<String>), StoreError> {
    let mut filter = doc! { "stream": id(stream) };
    if let Some(times) = times {
        filter.extend(doc! { "to_us": { "$gt": times.start }, "from_us": { "$lt": times.end } });
    }
    let action = db.waveform_pieces.find(filter).sort(doc! { "stored_us": 1 }).limit(PIECES);
    let (mut pieces, mut damaged) = (Vec::new(), Vec::new());
    for document in all(db, action).await? {
        let key = document.get_str("_id").unwrap_or_default();
        let hash = key.rsplit_once('/').and_then(|(_, hash)| hash.parse::<BlobHash>().ok());
        let runs = bytes(&document, "data").ok().and_then(|data| tail::decode(stream, data).ok());
        match (hash, runs) {
            (Some(id), Some(runs)) => {
                pieces.push(StoredPiece { id, stored_us: number(&document, "stored_us")?, runs });
            }
            _ => damaged.push(key.to_owned()),
        }
    }
    Ok((pieces, damaged))
}

/// The tail of a stream for a read: a damaged piece fails it.
async fn tail_of(db: &Db, of: &StoredStream, times: &Range<i64>) -> Result<Tail, StoreError> {
    let (pieces, damaged) = pieces(db, of.description.stream, Some(times)).await?;
    match damaged.into_iter().next() {
        Some(key) => Err(StoreError::Damaged(DamagedRecord { kind: RecordKind::Waveform, key })),
        None => Ok(Tail::new(pieces, &of.description.channels)),
    }
}

fn chunk_id(key: ChunkKey) -> String {
    format!("{}/{}/{}", key.stream, key.channel, key.window)
}

/// The sealed chunks of a channel that overlap a range of times, ascending by window; only the heads, or all.
async fn sealed(
    db: &Db,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
    is_head: bool,
) -> Result<Vec<(ChunkKey, Document)>, StoreError> {
    let stream = of.description.stream;
    let last = times.end.saturating_add(of.longest_chunk_us);
    let filter = doc! {
        "stream": id(stream),
        "channel": i32::from(channel),
        "to_us": { "$gt": times.start, "$lt": last },
        "from_us": { "$lt": times.end },
    };
    let mut action = db.waveforms.find(filter).sort(doc! { "to_us": 1 });
    if is_head {
        action = action.projection(doc! { "number": 1, "head": 1 });
    }
    let mut found = Vec::new();
    for document in all(db, action).await? {
        let window = number(&document, "number")?.cast_unsigned();
        found.push((ChunkKey { stream, channel, window }, document));
    }
    found.sort_by_key(|(key, _)| key.window);
    Ok(found)
}

fn chunk_of(key: ChunkKey, document: &Document) -> Result<Chunk, StoreError> {
    Chunk::decode(key, bytes(document, "head")?, bytes(document, "data")?)
        .map_err(|error| unreadable(key, error))
}

async fn sealed_document(db: &Db, key: ChunkKey) -> Result<Option<Document>, StoreError> {
    within(db.limit, db.waveforms.find_one(doc! { "_id": chunk_id(key) }).max_time(db.limit)).await
}

async fn heads(
    db: &Db,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
) -> Result<Vec<Head>, StoreError> {
    let rate = of.rate(channel)?;
    let tail = tail_of(db, of, times).await?;
    let mut found = Vec::new();
    for (key, document) in sealed(db, of, channel, times, true).await? {
        found.push(Head::decode(key, bytes(&document, "head")?).map_err(|error| unreadable(key, error))?);
    }
    for window in tail.windows_of(channel) {
        found.extend(tail.merge((channel, window), None).and_then(|chunk| chunk.head(rate)));
    }
    found.sort_by_key(|head| head.layout.indices.start);
    Ok(found)
}

async fn chunks(
    db: &Db,
    of: &StoredStream,
    channel: u16,
    times: &Range<i64>,
) -> Result<Vec<Chunk>, StoreError> {
    let tail = tail_of(db, of, times).await?;
    let mut open: BTreeSet<u64> = tail.windows_of(channel).collect();
    let mut found = Vec::new();
    for (key, document) in sealed(db, of, channel, times, false).await? {
        let sealed = chunk_of(key, &document)?;
        if open.remove(&key.window) {
            found.extend(tail.merge((channel, key.window), Some(sealed)));
        } else {
            found.push(sealed);
        }
    }
    for window in open {
        // The sealed chunk of the window may lie outside of the range.
        let key = tail::key(of.description.stream, (channel, window));
        let sealed = sealed_document(db, key).await?.map(|document| chunk_of(key, &document)).transpose()?;
        found.extend(tail.merge((channel, window), sealed));
    }
    found.sort_by_key(|chunk| chunk.first);
    Ok(found)
}

/// Streams of a partition with a piece that was stored before this time, oldest first.
async fn candidates(
    db: &Db,
    partition: u16,
    before_us: i64,
    limit: usize,
) -> Result<Vec<StreamId>, StoreError> {
    let filter = doc! { "part": i32::from(partition), "stored_us": { "$lt": before_us } };
    let most = i64::try_from(limit.saturating_mul(PIECES_PER_STREAM)).unwrap_or(i64::MAX);
    let action = db.waveform_pieces.find(filter).sort(doc! { "stored_us": 1 }).limit(most);
    let mut streams: Vec<StreamId> = Vec::new();
    for document in all(db, action.projection(doc! { "stream": 1 })).await? {
        let stream = document.get("stream").and_then(|stream| match stream {
            mongodb::bson::Bson::Binary(binary) => Uuid::from_slice(&binary.bytes).ok(),
            _ => None,
        });
        let stream = StreamId::from_uuid(stream.ok_or_else(|| broken("piece", "it has no stream"))?);
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    streams.truncate(limit);
    Ok(streams)
}

/// Seals the settled windows of a stream.
async fn seal_stream(db: &Db, stream: StreamId, now_us: i64) -> Result<SealReport, StoreError> {
    let Some(stored) = find_stream(db, stream).await? else {
        tracing::error!(%stream, "pieces of an unknown waveform stream are not sealed");
        return Ok(SealReport::default());
    };
    let (pieces, mut removed) = pieces(db, stream, None).await?;
    let mut report = SealReport { damaged: removed.len() as u64, ..SealReport::default() };
    if report.damaged > 0 {
        tracing::error!(%stream, pieces = report.damaged, "damaged pieces of a waveform are removed");
    }
    let tail = Tail::new(pieces, &stored.description.channels);
    let mut sealed: BTreeSet<Window> = BTreeSet::new();
    for window in tail.settled(now_us) {
        let key = tail::key(stream, window);
        let document = sealed_document(db, key).await?;
        let before = match document.as_ref().map(|document| chunk_of(key, document)).transpose() {
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
            let longest = encoded.times.end - encoded.times.start;
            if longest > stored.longest_chunk_us {
                let update = doc! { "$max": { LONGEST_CHUNK: longest } };
                within(db.limit, db.waveform_streams.update_one(doc! { "_id": id(stream) }, update)).await?;
            }
            if !write(db, key, encoded, document).await? {
                continue;
            }
            report.chunks += 1;
        }
        sealed.insert(window);
    }
    removed.extend(tail.covered_by(&sealed).iter().map(|id| format!("{stream}/{id}")));
    report.pieces = removed.len() as u64;
    if !removed.is_empty() {
        within(db.limit, db.waveform_pieces.delete_many(doc! { "_id": { "$in": removed } })).await?;
    }
    Ok(report)
}

/// Writes a chunk in place of `before`. False if another process has changed it meanwhile.
async fn write(
    db: &Db,
    key: ChunkKey,
    EncodedChunk { times, head, data }: EncodedChunk,
    before: Option<Document>,
) -> Result<bool, StoreError> {
    let document = doc! {
        "_id": chunk_id(key),
        "stream": id(key.stream),
        "channel": i32::from(key.channel),
        "number": key.window.cast_signed(),
        "from_us": times.start,
        "to_us": times.end,
        "head": binary(head),
        "data": binary(data),
    };
    let Some(before) = before else { return insert(db.limit, db.waveforms.insert_one(document)).await };
    let unchanged = doc! {
        "_id": chunk_id(key),
        "head": binary(bytes(&before, "head")?.to_vec()),
        "data": binary(bytes(&before, "data")?.to_vec()),
    };
    let replaced = within(db.limit, db.waveforms.replace_one(unchanged, document)).await?;
    Ok(replaced.matched_count == 1)
}

async fn delete(db: &Db, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut old = doc! { "to_us": { "$lt": micros(before) } };
    let held = corrections::held_streams(db).await?;
    if !held.is_empty() {
        old.insert("stream", doc! { "$nin": held });
    }
    let old = db.waveforms.find(old);
    let action = old.sort(doc! { "to_us": 1 }).limit(most).projection(doc! { "_id": 1 });
    let ids: Vec<String> = all(db, action)
        .await?
        .iter()
        .filter_map(|found| found.get_str("_id").ok().map(str::to_owned))
        .collect();
    let count = ids.len();
    if count > 0 {
        within(db.limit, db.waveforms.delete_many(doc! { "_id": { "$in": ids } })).await?;
    }
    if count < limit {
        let old = db.waveform_streams.clone_with_type::<Document>();
        let old = old.find(doc! { "opened_at": { "$lt": date(before) } }).sort(doc! { "opened_at": 1 });
        for document in all(db, old.limit(EMPTY_STREAMS).projection(doc! { "_id": 1 })).await? {
            let Some(stream) = document.get("_id") else { continue };
            if is_empty(db, &db.waveform_pieces, stream).await? && is_empty(db, &db.waveforms, stream).await?
            {
                within(db.limit, db.waveform_streams.delete_one(doc! { "_id": stream })).await?;
            }
        }
    }
    Ok(count as u64)
}

async fn is_empty(
    db: &Db,
    collection: &Collection<Document>,
    stream: &mongodb::bson::Bson,
) -> Result<bool, StoreError> {
    let one = collection.find_one(doc! { "stream": stream }).projection(doc! { "_id": 1 });
    Ok(within(db.limit, one.max_time(db.limit)).await?.is_none())
}

/// For the scrub: verifies a document of `waveform_pieces`.
pub(super) fn intact_piece(raw: &RawDocument) -> Result<(), DamagedRecord> {
    let key = raw.get_str("_id").unwrap_or_default();
    let is_intact = || {
        let stream = key.split_once('/')?.0.parse().ok()?;
        let data = raw.get_binary("data").ok()?.bytes;
        tail::decode(stream, data).ok()
    };
    is_intact().map(drop).ok_or_else(|| damaged(key))
}

/// For the scrub: verifies a document of `waveforms`.
pub(super) fn intact_chunk(raw: &RawDocument) -> Result<(), DamagedRecord> {
    let id = raw.get_str("_id").unwrap_or_default();
    let is_intact = || {
        let mut parts = id.split('/');
        let stream = parts.next()?.parse().ok()?;
        let (channel, window) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let [head, data] = ["head", "data"].map(|part| raw.get_binary(part).map(|binary| binary.bytes));
        Chunk::decode(ChunkKey { stream, channel, window }, head.ok()?, data.ok()?).ok()
    };
    is_intact().map(drop).ok_or_else(|| damaged(id))
}

fn damaged(key: &str) -> DamagedRecord {
    DamagedRecord { kind: RecordKind::Waveform, key: format!("_id {key}") }
}

async fn read<T, F>(
    db: &Arc<Db>,
    of: &StoredStream,
    work: impl FnOnce(Arc<Db>, StoredStream) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
    T: Send + 'static,
{
    let of = of.clone();
    calls::run(db, |db| work(db, of)).await
}

#[async_trait]
impl WaveformReader for MongoStore {
    async fn waveform_stream(&self, stream: StreamId) -> Result<Option<StoredStream>, StoreError> {
        calls::run(&self.db, move |db| async move { find_stream(&db, stream).await }).await
    }

    async fn waveform_streams(&self, mrn: Mrn, before: Timestamp) -> Result<Vec<StoredStream>, StoreError> {
        calls::run(&self.db, move |db| async move { streams_of(&db, mrn, before).await }).await
    }

    async fn waveform_heads(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Head>, StoreError> {
        read(&self.db, of, move |db, of| async move { heads(&db, &of, channel, &times).await }).await
    }

    async fn waveform_chunks(
        &self,
        of: &StoredStream,
        channel: u16,
        times: Range<i64>,
    ) -> Result<Vec<Chunk>, StoreError> {
        read(&self.db, of, move |db, of| async move { chunks(&db, &of, channel, &times).await }).await
    }
}

#[async_trait]
impl WaveformStore for MongoStore {
    async fn open_waveform(&self, description: &StreamDescription) -> Result<(), StoreError> {
        let description = description.clone();
        calls::run(&self.db, move |db| async move { open(&db, &description).await }).await
    }

    async fn append_waveforms(&self, pieces: Vec<NewPiece>, now: Timestamp) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move { append(&db, pieces, micros(now)).await }).await
    }

    async fn seal_waveforms(
        &self,
        partition: u16,
        now: Timestamp,
        limit: usize,
    ) -> Result<SealReport, StoreError> {
        let now_us = micros(now);
        let before_us = now_us.saturating_sub(SEAL_AFTER_US);
        let streams =
            calls::run(&self.db, move |db| async move { candidates(&db, partition, before_us, limit).await });
        let streams = streams.await?;
        let mut report = SealReport { streams: streams.len(), ..SealReport::default() };
        for stream in streams {
            let sealed =
                calls::run(&self.db, move |db| async move { seal_stream(&db, stream, now_us).await });
            report.add(sealed.await?);
        }
        Ok(report)
    }

    async fn delete_waveforms(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        calls::run(&self.db, move |db| async move { delete(&db, before, limit).await }).await
    }
}
