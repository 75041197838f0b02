//! Where files wait until they are stored or worked on.

use std::fmt;
use std::io;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, BlobHasher, HashedBytes, Timestamp, UploadId};

use crate::{BusError, EnqueueError};

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Name of a staged file: its upload and its hash. Each upload owns what it staged, so that it can be deleted with the
/// upload, whatever other uploads of the same bytes are still on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StagingKey {
    /// The upload.
    pub upload: UploadId,
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
}

impl fmt::Display for StagingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.upload, self.sha256)
    }
}

impl FromStr for StagingKey {
    type Err = BusError;

    fn from_str(name: &str) -> Result<Self, BusError> {
        let unknown = || BusError::refused("this is no name of a staged file");
        let (upload, sha256) = name.split_once('.').ok_or_else(unknown)?;
        let upload = upload.parse().map_err(|_| unknown())?;
        Ok(StagingKey { upload, sha256: sha256.parse().map_err(|_| unknown())? })
    }
}

/// A file in memory that is sent along with the message that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// The upload that owns it.
    pub upload: UploadId,
    /// What is in it.
    pub content: HashedBytes,
    /// Nobody but the consumer of the message reads it: it need not be staged, and may come with the delivery instead, see
    /// [`Delivery::enclosed`](crate::Delivery::enclosed). Whether it does is up to the adapter.
    pub may_enclose: bool,
}

impl SmallFile {
    /// The name it is staged under.
    #[must_use]
    pub fn key(&self) -> StagingKey {
        StagingKey { upload: self.upload, sha256: self.content.sha256() }
    }
}

/// A staged file, open for reading.
pub struct StagedFile {
    /// Length in bytes.
    pub bytes: u64,
    /// The bytes.
    pub body: ByteStream,
    /// All of them, where they are in memory: then they need not be read, and are known to have their hash.
    pub in_memory: Option<HashedBytes>,
}

/// A body that is not what its sender said, or that ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Shorter or longer than announced.
    #[error("the file has {found} bytes or more, but {announced} were announced")]
    WrongLength {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came; the rest of a longer body is not waited for.
        found: u64,
    },
    /// Other bytes than announced.
    #[error("the file has the SHA-256 {found}, but {announced} was announced")]
    WrongHash {
        /// The hash it was to be stored under.
        announced: BlobHash,
        /// The hash of what came.
        found: BlobHash,
    },
    /// Its source failed.
    #[error("the file could not be read to its end: {0}")]
    Broken(#[source] io::Error),
}

impl From<BodyError> for EnqueueError {
    fn from(error: BodyError) -> Self {
        EnqueueError::Bus(BusError::refused(error))
    }
}

/// Compares a body, as it comes, with what was announced.
pub(crate) struct BodyCheck {
    announced: (u64, BlobHash),
    bytes: u64,
    hash: BlobHasher,
}

impl BodyCheck {
    pub(crate) fn new(bytes: u64, sha256: BlobHash) -> Self {
        BodyCheck { announced: (bytes, sha256), bytes: 0, hash: BlobHasher::new() }
    }

    /// Takes the next part; fails as soon as there is more than announced.
    pub(crate) async fn add(&mut self, part: &Bytes) -> Result<(), BodyError> {
        self.bytes += part.len() as u64;
        if self.bytes > self.announced.0 {
            return Err(BodyError::WrongLength { announced: self.announced.0, found: self.bytes });
        }
        let hash = std::mem::take(&mut self.hash);
        self.hash = background::hash(hash, part).await.map_err(|error| BodyError::Broken(error.into()))?;
        Ok(())
    }

    /// Fails unless everything announced has come.
    pub(crate) fn finish(self) -> Result<(), BodyError> {
        let (bytes, sha256) = self.announced;
        if self.bytes != bytes {
            return Err(BodyError::WrongLength { announced: bytes, found: self.bytes });
        }
        let found = self.hash.finish();
        if found == sha256 { Ok(()) } else { Err(BodyError::WrongHash { announced: sha256, found }) }
    }
}

/// Gathers parts of any size into chunks of one size.
pub(crate) struct Chunker {
    size: usize,
    chunk: BytesMut,
}

impl Chunker {
    pub(crate) fn new(size: usize) -> Self {
        Chunker { size, chunk: BytesMut::new() }
    }

    /// Takes from `part` what fits, and returns a chunk once it is certain that more follows: the last one is left for
    /// [`Chunker::finish`].
    pub(crate) fn fill(&mut self, part: &mut Bytes) -> Option<Bytes> {
        if self.chunk.is_empty() && part.len() > self.size {
            return Some(part.split_to(self.size));
        }
        let fitting = part.len().min(self.size - self.chunk.len());
        self.chunk.extend_from_slice(&part.split_to(fitting));
        (!part.is_empty()).then(|| self.chunk.split().freeze())
    }

    /// The last chunk; empty if nothing came.
    pub(crate) fn finish(self) -> Bytes {
        self.chunk.freeze()
    }
}

/// Where files wait until they are stored or worked on. Durable like the queues: what `put` has confirmed is there
/// after a crash.
#[async_trait]
pub trait StagingStore: fmt::Debug + Send + Sync + 'static {
    /// Stores `bytes` bytes of `body` under `key` and waits until they are durable. Putting the same key again is no
    /// error and leaves one copy. A body of another length or hash is refused and leaves nothing.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] when the stage takes no more; [`BusError`] when the broker fails or the body does: its cause is
    /// then a [`BodyError`].
    async fn put(&self, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError>;

    /// Opens a staged file; `None` if there is none.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError>;

    /// Deletes a staged file, if there is one.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn delete(&self, key: StagingKey) -> Result<(), BusError>;

    /// Every staged file, with the time it was staged. May include one whose `put` was cut off, or is not at its end: that
    /// one cannot be read, but be deleted.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError>;

    /// Stores bytes that are in memory already.
    ///
    /// # Errors
    /// As [`StagingStore::put`].
    async fn put_bytes(&self, key: StagingKey, bytes: Bytes) -> Result<(), EnqueueError> {
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
