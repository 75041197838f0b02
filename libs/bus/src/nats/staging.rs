//! Staged files: messages of the stream `BLOBS`, one subject per file.
//!
//! A file that fits into one message is one message: one publish stages it, one read returns it. A larger
//! file is stored as chunks under a random name, and becomes visible with a manifest that refers to that
//! name. Concurrent puts therefore never mix. An interrupted put leaves chunks that cannot be read; `list`
//! includes them, and `delete` removes them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::{HeaderMap, Message, StatusCode, jetstream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use proto_json::{HashedBytes, Timestamp, UploadId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::pull_consumer::text;
use super::{Core, NatsBus, names, stream_state};
use crate::staging::{BodyCheck, Chunker, is_old};
use crate::{BodyError, BusError, ByteStream, EnqueueError, StagedFile, StagingKey, StagingStore};

/// Longest payload of one message; servers accept 1 MiB by default.
const CHUNK: usize = 512 << 10;
/// Upper bound for headers and subject of a message.
pub(super) const MESSAGE_OVERHEAD: usize = 4 << 10;
/// Chunks of a file that are written or read concurrently.
const WRITE_CONCURRENCY: usize = 4;
const READ_CONCURRENCY: usize = 2;

/// Messages listed with the first request, and with one of the following requests. The broker reads the bodies of all
/// messages of a request from its disk, although it does not send them.
const FIRST_LIST_BATCH: usize = 8;
const LIST_BATCH: usize = 500;

/// How long a file that only the stream leader has is waited for. Replicas follow within milliseconds.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(2);
const REPLICATION_WAIT: Duration = Duration::from_millis(50);

/// Name of the "chunk" that records when a file was last staged again; the message is empty.
const STAGED_AGAIN: &str = "again";

/// JetStream error: the subject has no message.
const NO_MESSAGE: u32 = 10_037;

#[async_trait]
impl StagingStore for NatsBus {
    async fn put(&self, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError> {
        put(&self.core, key, bytes, body).await
    }

    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        get(&self.core, key).await
    }

    async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
        delete(&self.core, key).await
    }

    async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
        list(&self.core, |_| true).await
    }

    /// Messages of the stream are in the order of their times, unless the clock of the broker was changed. A file behind
    /// the first recent message is therefore recent too, or is listed once that message is old or deleted.
    async fn list_old(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
        let state = stream_state(&self.core, names::BLOBS).await?;
        if state.messages == 0 || state.oldest().is_some_and(|oldest| !is_old(oldest, before, now)) {
            return Ok(Vec::new());
        }
        list(&self.core, |at| is_old(at, before, now)).await
    }

    async fn staged_at(&self, key: StagingKey) -> Result<Option<Timestamp>, BusError> {
        let call = format!("STREAM.MSG.GET.{}", names::BLOBS);
        let last = json!({ "last_by_subj": names::all_of_staged_file(key) });
        match self.core.connection.api::<LastMessage>(&call, &last).await? {
            Ok(last) => Ok(Some(last.message.time)),
            Err(error) if error.err_code == NO_MESSAGE => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts the messages: one for a file that fits into a message, otherwise one for each part.
    async fn count(&self) -> Result<u64, BusError> {
        Ok(stream_state(&self.core, names::BLOBS).await?.messages)
    }
}

/// The reply of `STREAM.MSG.GET`.
#[derive(Deserialize)]
struct LastMessage {
    message: MessageTime,
}

#[derive(Deserialize)]
struct MessageTime {
    time: Timestamp,
}

pub(super) async fn get(core: &Arc<Core>, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
    let Some(file) = read_consistent(core, &names::staged_file(key)).await? else { return Ok(None) };
    let headers = file.headers.unwrap_or_default();
    let Some(chunks) = text(&headers, names::CHUNKS) else {
        let (bytes, payload) = (file.payload.len() as u64, file.payload);
        let body = futures::stream::iter((bytes > 0).then_some(Ok(payload))).boxed();
        return Ok(Some(StagedFile { bytes, body, in_memory: None }));
    };
    let number = |name| text(&headers, name).and_then(|number| number.parse::<u64>().ok());
    let (Some(bytes), Some(count)) = (number(names::BYTES), number(names::CHUNK_COUNT)) else {
        return Err(BusError::refused("the manifest of a staged file is incomplete"));
    };
    let core = Arc::clone(core);
    let body = futures::stream::iter(0..count).map(move |number| {
        let (core, subject) = (Arc::clone(&core), names::chunk(key, &chunks, number));
        async move {
            let chunk = read_consistent(&core, &subject).await.map_err(io::Error::other)?;
            chunk.map(|chunk| chunk.payload).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "the staged file was deleted while it was read")
            })
        }
    });
    Ok(Some(StagedFile { bytes, body: body.buffered(READ_CONCURRENCY).boxed(), in_memory: None }))
}

/// Reads the last message of a subject. Any replica answers a direct read, and a replica may lag; if it finds
/// nothing, the stream leader is asked whether the message exists.
async fn read_consistent(core: &Core, subject: &str) -> Result<Option<Message>, BusError> {
    let started = Instant::now();
    loop {
        if let Some(message) = read(core, subject).await? {
            return Ok(Some(message));
        }
        let call = format!("STREAM.MSG.GET.{}", names::BLOBS);
        match core.connection.api::<Value>(&call, &json!({ "last_by_subj": subject })).await? {
            Err(error) if error.err_code == NO_MESSAGE => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(_) if started.elapsed() < REPLICATION_TIMEOUT => {
                tokio::time::sleep(REPLICATION_WAIT).await;
            }
            Ok(_) => {
                return Err(BusError::unavailable("a staged file is not on all servers of the broker yet"));
            }
        }
    }
}

/// Reads the last message of a subject from any replica.
async fn read(core: &Core, subject: &str) -> Result<Option<Message>, BusError> {
    let call = format!("$JS.API.DIRECT.GET.{}.{subject}", names::BLOBS);
    direct_reply(core.connection.request(call, Bytes::new()).await?)
}

/// The message that a direct read returned, if any.
pub(super) fn direct_reply(message: Message) -> Result<Option<Message>, BusError> {
    match message.status {
        None => Ok(Some(message)),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(BusError::unavailable(message.description.unwrap_or_else(|| status.to_string()))),
    }
}

/// Lists files in the order of the stream, up to the first message whose time does not satisfy `goes_on`.
async fn list(
    core: &Core,
    goes_on: impl Fn(Timestamp) -> bool,
) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
    let consumer = pull::Config {
        ack_policy: AckPolicy::None,
        headers_only: true,
        memory_storage: true,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let jetstream = jetstream::new(core.connection.client.clone());
    let consumer =
        jetstream.create_consumer_on_stream(consumer, names::BLOBS).await.map_err(BusError::unavailable)?;
    let mut found = BTreeMap::<StagingKey, Timestamp>::new();
    let mut batch = FIRST_LIST_BATCH;
    loop {
        let fetch = consumer.fetch().max_messages(batch).messages();
        batch = (batch * 2).min(LIST_BATCH);
        let mut messages = fetch.await.map_err(BusError::unavailable)?;
        let mut left = 0;
        // A reply that was lost with its connection never arrives.
        let timeout = core.config.request_timeout;
        while let Some(message) = tokio::time::timeout(timeout, messages.try_next())
            .await
            .map_err(BusError::unavailable)?
            .map_err(BusError::Unavailable)?
        {
            let info = message.info().map_err(BusError::Refused)?;
            left = info.pending;
            let millis = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
            if let (Some(key), Ok(at)) =
                (names::staging_key(&message.subject), Timestamp::from_millis(millis))
            {
                if !goes_on(at) {
                    return Ok(found.into_iter().collect());
                }
                found.entry(key).and_modify(|last| *last = at.max(*last)).or_insert(at);
            }
        }
        if left == 0 {
            return Ok(found.into_iter().collect());
        }
    }
}

pub(super) async fn delete(core: &Core, key: StagingKey) -> Result<(), BusError> {
    purge(core, &names::all_of_staged_file(key)).await
}

async fn purge(core: &Core, subjects: &str) -> Result<(), BusError> {
    let call = format!("STREAM.PURGE.{}", names::BLOBS);
    core.connection.api::<Value>(&call, &json!({ "filter": subjects })).await??;
    Ok(())
}

/// Stages a file that is in memory: with one publish if it fits into a message.
pub(super) async fn put_in_memory(
    core: &Arc<Core>,
    key: StagingKey,
    content: HashedBytes,
) -> Result<(), EnqueueError> {
    if content.len() <= max_message_bytes(core) {
        return publish(core, names::staged_file(key), content.bytes().clone()).await;
    }
    let bytes = content.len() as u64;
    let body = futures::stream::once(async move { Ok(content.bytes().clone()) }).boxed();
    put(core, key, bytes, body).await
}

async fn publish(core: &Core, subject: String, payload: Bytes) -> Result<(), EnqueueError> {
    Ok(core.connection.publish(subject, HeaderMap::new(), payload).await??)
}

async fn put(core: &Arc<Core>, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError> {
    let mut put = Put { core: Arc::clone(core), key, chunks: None };
    let outcome = put.write(bytes, body).await;
    // Also deletes the chunks of a file that already existed, because that file refers to other chunks.
    put.discard().await;
    outcome
}

/// Longest payload that is published as one message.
pub(super) fn max_message_bytes(core: &Core) -> usize {
    CHUNK.min(core.connection.client.max_payload().saturating_sub(MESSAGE_OVERHEAD).max(1))
}

/// An unfinished `put`.
struct Put {
    core: Arc<Core>,
    key: StagingKey,
    /// `None` while the file fits into one message.
    chunks: Option<Chunks>,
}

/// Chunks that no manifest refers to.
struct Chunks {
    name: String,
    count: u64,
    in_flight: FuturesUnordered<BoxFuture<'static, Result<(), EnqueueError>>>,
}

impl Put {
    async fn write(&mut self, bytes: u64, mut body: ByteStream) -> Result<(), EnqueueError> {
        let mut chunker = Chunker::new(max_message_bytes(&self.core));
        let mut check = BodyCheck::new(bytes, self.key.sha256);
        while let Some(part) = body.next().await {
            let mut part = part.map_err(BodyError::Broken)?;
            check.add(&part).await?;
            while let Some(full) = chunker.fill(&mut part) {
                self.write_chunk(full).await?;
            }
        }
        check.finish()?;
        let last = chunker.finish();
        if self.chunks.is_none() {
            // If the file exists, it has the same bytes: concurrent readers see one copy or the other.
            return publish(&self.core, names::staged_file(self.key), last).await;
        }
        self.write_chunk(last).await?;
        self.finish(bytes).await
    }

    /// Publishes a chunk. Waits only while too many are in flight.
    async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), EnqueueError> {
        let chunks = self.chunks.get_or_insert_with(|| Chunks {
            name: UploadId::generate().to_string(),
            count: 0,
            in_flight: FuturesUnordered::new(),
        });
        let core = Arc::clone(&self.core);
        let subject = names::chunk(self.key, &chunks.name, chunks.count);
        chunks.count += 1;
        chunks.in_flight.push(Box::pin(async move { publish(&core, subject, bytes).await }));
        while chunks.in_flight.len() >= WRITE_CONCURRENCY {
            if let Some(stored) = chunks.in_flight.next().await {
                stored?;
            }
        }
        Ok(())
    }

    /// Publishes the manifest, unless the file already exists.
    async fn finish(&mut self, bytes: u64) -> Result<(), EnqueueError> {
        if let Some(chunks) = &mut self.chunks {
            while let Some(stored) = chunks.in_flight.next().await {
                stored?;
            }
        }
        // From here on a stored manifest may refer to these chunks. They are deleted only if it is certain
        // that none does.
        let Some(chunks) = self.chunks.take() else { return Ok(()) };
        let subject = names::staged_file(self.key);
        let mut headers = HeaderMap::new();
        headers.insert(names::EXPECTED_LAST, "0");
        headers.insert(names::CHUNKS, chunks.name.as_str());
        headers.insert(names::CHUNK_COUNT, chunks.count.to_string());
        headers.insert(names::BYTES, bytes.to_string());
        match self.core.connection.publish(subject.clone(), headers, Bytes::new()).await? {
            Ok(()) => Ok(()),
            Err(error) if error.is_conflict() => {
                let Some(existing) = read_consistent(&self.core, &subject).await? else {
                    return Err(BusError::unavailable("the staged file was deleted in this moment").into());
                };
                let existing = existing.headers.and_then(|headers| text(&headers, names::CHUNKS));
                // The conflict can be with this manifest: a copy of it may have been stored without an
                // acknowledgement.
                if existing != Some(chunks.name.clone()) {
                    self.chunks = Some(chunks);
                }
                // A file that is staged again counts as new; see `list`.
                publish(&self.core, names::chunk(self.key, STAGED_AGAIN, 0), Bytes::new()).await
            }
            Err(error) => {
                self.chunks = Some(chunks);
                Err(error.into())
            }
        }
    }

    /// Deletes the chunks that no manifest refers to.
    async fn discard(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            chunks.delete(Arc::clone(&self.core), self.key).await;
        }
    }
}

impl Chunks {
    async fn delete(self, core: Arc<Core>, key: StagingKey) {
        // No chunk may arrive after the purge.
        let _: Vec<_> = self.in_flight.collect().await;
        if let Err(error) = purge(&core, &names::chunks_of(key, &self.name)).await {
            tracing::warn!(upload = %key.upload, error = %error, "chunks of an interrupted put were not deleted");
        }
    }
}

/// A cancelled put deletes its chunks.
impl Drop for Put {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            self.core.runtime.spawn(chunks.delete(Arc::clone(&self.core), self.key));
        }
    }
}
