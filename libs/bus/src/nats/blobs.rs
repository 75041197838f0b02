//! Staged files: messages of a stream, one subject per file.
//!
//! A file that fits into one message is one: a single publish stages it, a single read gets it. A larger one is stored as
//! chunks under a name that no other put shares, and becomes visible with a last message that names them. So concurrent
//! puts never mix, and one that is cut off leaves chunks that nobody reads and `list` shows.
//!
//! In a cluster, each of these messages lies in whichever lane took it, mostly the upload's own: whoever reads or deletes
//! looks into all of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::{HeaderMap, jetstream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use proto_json::{Timestamp, UploadId};
use serde_json::{Value, json};

use super::pull::text;
use super::{Core, NatsBus, lanes, names};
use crate::staging::{BodyCheck, Chunker};
use crate::{BodyError, BusError, ByteStream, EnqueueError, SmallFile, StagedFile, StagingKey, StagingStore};

/// The largest part that is sent as one message; servers take 1 MiB by default.
const CHUNK: usize = 512 << 10;
/// What headers and subject of a message take at most.
pub(super) const BESIDE_PAYLOAD: usize = 4 << 10;
/// Chunks on their way to or from the broker at a time, per file.
const CHUNKS_UNDER_WAY: usize = 4;
const CHUNKS_READ_AHEAD: usize = 2;

/// Files listed with one request.
const LISTED_AT_A_TIME: usize = 500;

/// In the place of a name of chunks: an empty message that says when a file was last staged again.
const STAGED_AGAIN: &str = "again";

/// There is no message on this subject.
const NO_MESSAGE: u32 = 10_037;

#[async_trait]
impl StagingStore for NatsBus {
    async fn put(&self, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError> {
        put(&self.core, key, bytes, body).await
    }

    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError> {
        let subject = names::blob(key);
        let order = self.core.lanes.of(&key.upload);
        let Some(file) = self.core.read(names::BLOBS, &order, &subject).await? else {
            // A replica may be behind; its leader is not.
            for lane in order {
                let call = format!("STREAM.MSG.GET.{}", names::stream(names::BLOBS, lane));
                let wanted = json!({ "last_by_subj": names::in_lane(lane, &subject) });
                match self.core.api_in::<Value>(lane, &call, &wanted).await? {
                    Err(error) if error.err_code == NO_MESSAGE => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => {
                        return Err(BusError::unavailable(
                            "a staged file is not on all servers of the broker yet",
                        ));
                    }
                }
            }
            return Ok(None);
        };
        let headers = file.headers.unwrap_or_default();
        let Some(chunks) = text(&headers, names::CHUNKS) else {
            let (bytes, payload) = (file.payload.len() as u64, file.payload);
            let body = futures::stream::iter((bytes > 0).then_some(Ok(payload))).boxed();
            return Ok(Some(StagedFile { bytes, body, in_memory: None }));
        };
        let number = |name| text(&headers, name).and_then(|number| number.parse::<u64>().ok());
        let (Some(bytes), Some(count)) = (number(names::BYTES), number(names::CHUNK_COUNT)) else {
            return Err(BusError::refused("a staged file does not say how long it is"));
        };
        let core = Arc::clone(&self.core);
        let body = futures::stream::iter(0..count).map(move |number| {
            let (core, subject) = (Arc::clone(&core), names::chunk(key, &chunks, number));
            let order = order.clone();
            async move {
                let chunk = core.read(names::BLOBS, &order, &subject).await.map_err(io::Error::other)?;
                chunk.map(|chunk| chunk.payload).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, "the staged file was deleted while it was read")
                })
            }
        });
        Ok(Some(StagedFile { bytes, body: body.buffered(CHUNKS_READ_AHEAD).boxed(), in_memory: None }))
    }

    async fn delete(&self, key: StagingKey) -> Result<(), BusError> {
        let order = self.core.lanes.of(&key.upload);
        purge(&self.core, &order, &names::all_of_blob(key)).await
    }

    /// With files whose put was cut off: they cannot be read, but be deleted.
    async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
        let mut found = BTreeMap::new();
        for lane in self.core.lanes.all() {
            list(&self.core, lane, &mut found).await?;
        }
        Ok(found.into_iter().collect())
    }
}

/// Adds what is staged in one lane.
async fn list(core: &Core, lane: usize, found: &mut BTreeMap<StagingKey, Timestamp>) -> Result<(), BusError> {
    let consumer = pull::Config {
        ack_policy: AckPolicy::None,
        headers_only: true,
        memory_storage: true,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let jetstream = jetstream::new(core.link.client.clone());
    let consumer = jetstream
        .create_consumer_on_stream(consumer, names::stream(names::BLOBS, lane))
        .await
        .map_err(BusError::unavailable)?;
    loop {
        let fetch = consumer.fetch().max_messages(LISTED_AT_A_TIME).messages();
        let mut messages = fetch.await.map_err(BusError::unavailable)?;
        let mut left = 0;
        // An answer that was lost with its connection never comes.
        let patience = core.config.request_timeout;
        while let Some(message) = tokio::time::timeout(patience, messages.try_next())
            .await
            .map_err(BusError::unavailable)?
            .map_err(BusError::Unavailable)?
        {
            let info = message.info().map_err(BusError::Refused)?;
            left = info.pending;
            let millis = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
            if let (Some(key), Ok(at)) = (names::key_of(&message.subject), Timestamp::from_millis(millis)) {
                found.entry(key).and_modify(|last| *last = at.max(*last)).or_insert(at);
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
}

/// Deletes from the upload's own lane, and from the others if anything is there. What a lane without a leader keeps is found
/// by whoever lists what was left.
async fn purge(core: &Core, order: &[usize], subjects: &str) -> Result<(), BusError> {
    let home = order.first().copied();
    let purges = order.iter().map(|lane| async move {
        let (lane, stream) = (*lane, names::stream(names::BLOBS, *lane));
        let filter = names::in_lane(lane, subjects);
        if Some(lane) != home {
            let any = json!({ "seq": 1, "next_by_subj": filter }).to_string();
            let call = format!("$JS.API.DIRECT.GET.{stream}");
            if lanes::found(core.link.ask_once(call, None, any.into(), lanes::READ_AGAIN).await?)?.is_none() {
                return Ok(());
            }
        }
        core.api_in::<Value>(lane, &format!("STREAM.PURGE.{stream}"), &json!({ "filter": filter })).await??;
        Ok(())
    });
    // All are tried, whatever becomes of one.
    futures::future::join_all(purges).await.into_iter().collect()
}

/// Stages a file that is in memory: with one publish where it fits into a message.
pub(super) async fn put_small(core: &Arc<Core>, file: SmallFile) -> Result<(), EnqueueError> {
    let key = file.key();
    if file.content.len() <= room(core) {
        return stage(core, key, &names::blob(key), file.content.bytes().clone()).await;
    }
    let bytes = file.content.len() as u64;
    let body = futures::stream::once(async move { Ok(file.content.bytes().clone()) }).boxed();
    put(core, key, bytes, body).await
}

/// Publishes one message about a file.
async fn stage(core: &Core, key: StagingKey, subject: &str, payload: Bytes) -> Result<(), EnqueueError> {
    core.store(core.lanes.of(&key.upload), subject, None, payload).await?.done()
}

async fn put(core: &Arc<Core>, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError> {
    let mut put = Put { core: Arc::clone(core), key, chunks: None };
    let outcome = put.take(bytes, body).await;
    // Also of a file that was there already, whose chunks have another name.
    put.discard().await;
    outcome
}

/// What is sent as one message at most.
pub(super) fn room(core: &Core) -> usize {
    CHUNK.min(core.link.client.max_payload().saturating_sub(BESIDE_PAYLOAD).max(1))
}

/// A file on its way to the stage.
struct Put {
    core: Arc<Core>,
    key: StagingKey,
    /// Of a file that does not fit into one message.
    chunks: Option<Chunks>,
}

/// Chunks that no finished file refers to yet.
struct Chunks {
    name: String,
    count: u64,
    under_way: FuturesUnordered<BoxFuture<'static, Result<(), EnqueueError>>>,
}

impl Put {
    async fn take(&mut self, bytes: u64, mut body: ByteStream) -> Result<(), EnqueueError> {
        let mut chunker = Chunker::new(room(&self.core));
        let mut check = BodyCheck::new(bytes, self.key.sha256);
        while let Some(part) = body.next().await {
            let mut part = part.map_err(BodyError::Broken)?;
            check.add(&part).await?;
            while let Some(full) = chunker.fill(&mut part) {
                self.send(full).await?;
            }
        }
        check.finish()?;
        let last = chunker.finish();
        if self.chunks.is_none() {
            // The same bytes as those that may be there: whoever reads them now reads one or the other.
            return stage(&self.core, self.key, &names::blob(self.key), last).await;
        }
        self.send(last).await?;
        self.finish(bytes).await
    }

    /// Sends a chunk; waits only when enough of them are under way.
    async fn send(&mut self, bytes: Bytes) -> Result<(), EnqueueError> {
        let chunks = self.chunks.get_or_insert_with(|| Chunks {
            name: UploadId::generate().to_string(),
            count: 0,
            under_way: FuturesUnordered::new(),
        });
        let (core, key) = (Arc::clone(&self.core), self.key);
        let subject = names::chunk(key, &chunks.name, chunks.count);
        chunks.count += 1;
        chunks.under_way.push(Box::pin(async move { stage(&core, key, &subject, bytes).await }));
        while chunks.under_way.len() >= CHUNKS_UNDER_WAY {
            if let Some(stored) = chunks.under_way.next().await {
                stored?;
            }
        }
        Ok(())
    }

    /// Makes the file visible, unless it is there already.
    async fn finish(&mut self, bytes: u64) -> Result<(), EnqueueError> {
        if let Some(chunks) = &mut self.chunks {
            while let Some(stored) = chunks.under_way.next().await {
                stored?;
            }
        }
        // From here on, the broker may have a file that refers to these chunks: they are deleted only when it is certain
        // that it has not.
        let Some(chunks) = self.chunks.take() else { return Ok(()) };
        let subject = names::blob(self.key);
        let mut headers = HeaderMap::new();
        headers.insert(names::EXPECTED_LAST, "0");
        headers.insert(names::CHUNKS, chunks.name.as_str());
        headers.insert(names::CHUNK_COUNT, chunks.count.to_string());
        headers.insert(names::BYTES, bytes.to_string());
        let order = self.core.lanes.of(&self.key.upload);
        let taken = self.core.store(order, &subject, Some(headers), Bytes::new()).await?;
        match taken.answer {
            Ok(()) => Ok(()),
            Err(error) if error.is_conflict() => {
                let Some(there) = self.core.read_in(names::BLOBS, taken.lane, &subject).await? else {
                    return Err(BusError::unavailable("the staged file was deleted in this moment").into());
                };
                let is_other = there.headers.and_then(|headers| text(&headers, names::CHUNKS))
                    != Some(chunks.name.clone());
                if is_other && taken.alone {
                    self.chunks = Some(chunks);
                }
                // Staged anew, the file is as young as if it had not been there: see `list`.
                let again = names::chunk(self.key, STAGED_AGAIN, 0);
                stage(&self.core, self.key, &again, Bytes::new()).await
            }
            Err(error) => {
                if taken.alone {
                    self.chunks = Some(chunks);
                }
                Err(error.into())
            }
        }
    }

    /// Deletes the chunks that no finished file refers to.
    async fn discard(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            chunks.delete(Arc::clone(&self.core), self.key).await;
        }
    }
}

impl Chunks {
    async fn delete(self, core: Arc<Core>, key: StagingKey) {
        // None of them may arrive afterwards.
        let _: Vec<_> = self.under_way.collect().await;
        let order = core.lanes.of(&key.upload);
        if let Err(error) = purge(&core, &order, &names::chunks_of(key, &self.name)).await {
            tracing::warn!(upload = %key.upload, error = %error, "parts of a file that was not staged are left on the stage");
        }
    }
}

/// A put that is cancelled cleans up behind itself.
impl Drop for Put {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            self.core.runtime.spawn(chunks.delete(Arc::clone(&self.core), self.key));
        }
    }
}
