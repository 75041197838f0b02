//! Where files wait until they are stored or worked on.

use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, Timestamp, UploadId};

use crate::{BusError, EnqueueError};

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Name of a staged file: its upload and its hash. Each upload owns what it staged, so that it can be deleted with the
/// upload, whatever other uploads of the same bytes are still on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageKey {
    /// The upload.
    pub upload: UploadId,
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
}

impl fmt::Display for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.upload, self.sha256)
    }
}

/// A staged file, open for reading.
pub struct StagedBlob {
    /// Length in bytes.
    pub bytes: u64,
    /// The bytes.
    pub body: ByteStream,
}

/// Where files wait until they are stored or worked on. Durable like the queues: what `put` has confirmed is there
/// after a crash.
#[async_trait]
pub trait BlobStage: fmt::Debug + Send + Sync + 'static {
    /// Stores `bytes` bytes of `body` under `key` and waits until they are durable. Putting the same key again is no
    /// error and leaves one copy. A body of another length or hash is refused and leaves nothing.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] when the stage takes no more; [`BusError`] when the broker fails or the body does.
    async fn put(&self, key: StageKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError>;

    /// Opens a staged file; `None` if there is none.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn get(&self, key: StageKey) -> Result<Option<StagedBlob>, BusError>;

    /// Deletes a staged file, if there is one.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn delete(&self, key: StageKey) -> Result<(), BusError>;

    /// Every staged file, with the time it was staged.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn list(&self) -> Result<Vec<(StageKey, Timestamp)>, BusError>;

    /// Stores bytes that are in memory already.
    ///
    /// # Errors
    /// As [`BlobStage::put`].
    async fn put_bytes(&self, key: StageKey, bytes: Bytes) -> Result<(), EnqueueError> {
        let length = bytes.len() as u64;
        self.put(key, length, futures::stream::once(async move { Ok(bytes) }).boxed()).await
    }
}

/// All bytes of a stream in one piece. `bytes` is their expected number.
///
/// # Errors
/// When the stream fails.
pub async fn collect(body: ByteStream, bytes: u64) -> io::Result<Bytes> {
    let capacity = usize::try_from(bytes).unwrap_or(usize::MAX).min(64 << 20);
    let whole = body
        .try_fold(BytesMut::with_capacity(capacity), |mut whole, part| async move {
            whole.extend_from_slice(&part);
            Ok(whole)
        })
        .await?;
    Ok(whole.freeze())
}
