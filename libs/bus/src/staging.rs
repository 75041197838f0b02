//! The port for files that wait for a consumer.

use std::fmt;
use std::io;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::{BlobHash, BlobHasher, HashedBytes, Timestamp, UploadId};

use crate::{BusError, EnqueueError};

/// A stream of bytes.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Key of a staged file: its upload and its hash. Each upload has its own copy, so the copy can be deleted
/// with the upload even if other uploads staged the same bytes.
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

    fn from_str(key: &str) -> Result<Self, BusError> {
        let invalid = || BusError::refused("invalid key of a staged file");
        let (upload, sha256) = key.split_once('.').ok_or_else(invalid)?;
        let upload = upload.parse().map_err(|_| invalid())?;
        Ok(StagingKey { upload, sha256: sha256.parse().map_err(|_| invalid())? })
    }
}

/// A staged file, open for reading.
pub struct StagedFile {
    /// Length in bytes.
    pub bytes: u64,
    /// The bytes.
    pub body: ByteStream,
    /// The whole file, if the adapter has it in memory. Its hash is verified.
    pub in_memory: Option<HashedBytes>,
}

impl StagedFile {
    /// A file that is in memory.
    #[must_use]
    pub fn from_memory(content: HashedBytes) -> Self {
        let parts = (!content.is_empty()).then(|| Ok(content.bytes().clone()));
        let body = futures::stream::iter(parts).boxed();
        StagedFile { bytes: content.len() as u64, body, in_memory: Some(content) }
    }
}

/// A body that does not match the announced length or hash, or that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Shorter or longer than announced.
    #[error("the file has {found} bytes or more, but {announced} were announced")]
    WrongLength {
        /// Bytes announced.
        announced: u64,
        /// Bytes received; the rest of a longer body is not read.
        found: u64,
    },
    /// The hash differs from the announced hash.
    #[error("the file has the SHA-256 {found}, but {announced} was announced")]
    WrongHash {
        /// The announced hash.
        announced: BlobHash,
        /// The hash of the received bytes.
        found: BlobHash,
    },
    /// The source of the body failed.
    #[error("the file could not be read to its end: {0}")]
    Broken(#[source] io::Error),
}

impl From<BodyError> for EnqueueError {
    fn from(error: BodyError) -> Self {
        EnqueueError::Bus(BusError::refused(error))
    }
}

/// Verifies length and hash of a body while it is received.
pub(crate) struct BodyCheck {
    announced: (u64, BlobHash),
    bytes: u64,
    hash: BlobHasher,
}

impl BodyCheck {
    pub(crate) fn new(bytes: u64, sha256: BlobHash) -> Self {
        BodyCheck { announced: (bytes, sha256), bytes: 0, hash: BlobHasher::new() }
    }

    /// Adds the next part. Fails as soon as the body is longer than announced.
    pub(crate) async fn add(&mut self, part: &Bytes) -> Result<(), BodyError> {
        self.bytes += part.len() as u64;
        if self.bytes > self.announced.0 {
            return Err(BodyError::WrongLength { announced: self.announced.0, found: self.bytes });
        }
        let hash = std::mem::take(&mut self.hash);
        self.hash = background::hash(hash, part).await.map_err(|error| BodyError::Broken(error.into()))?;
        Ok(())
    }

    /// Fails unless length and hash match.
    pub(crate) fn finish(self) -> Result<(), BodyError> {
        let (bytes, sha256) = self.announced;
        if self.bytes != bytes {
            return Err(BodyError::WrongLength { announced: bytes, found: self.bytes });
        }
        let found = self.hash.finish();
        if found == sha256 { Ok(()) } else { Err(BodyError::WrongHash { announced: sha256, found }) }
    }
}

/// Splits parts of any size into chunks of one size.
pub(crate) struct Chunker {
    size: usize,
    chunk: BytesMut,
}

impl Chunker {
    pub(crate) fn new(size: usize) -> Self {
        Chunker { size, chunk: BytesMut::new() }
    }

    /// Takes bytes from `part`. Returns a full chunk once more bytes are known to follow; [`Chunker::finish`]
    /// returns the last chunk.
    pub(crate) fn fill(&mut self, part: &mut Bytes) -> Option<Bytes> {
        if self.chunk.is_empty() && part.len() > self.size {
            return Some(part.split_to(self.size));
        }
        let fitting = part.len().min(self.size - self.chunk.len());
        self.chunk.extend_from_slice(&part.split_to(fitting));
        (!part.is_empty()).then(|| self.chunk.split().freeze())
    }

    /// Returns the last chunk; empty if there were no bytes.
    pub(crate) fn finish(self) -> Bytes {
        self.chunk.freeze()
    }
}

/// Files that wait for a consumer. Durable like the queues: a file that `put` confirmed exists after a crash.
#[async_trait]
pub trait StagingStore: fmt::Debug + Send + Sync + 'static {
    /// Stores `bytes` bytes of `body` under `key` and waits until they are durable. Putting a key again is no
    /// error and leaves one copy. A body of another length or hash is refused and leaves nothing.
    ///
    /// # Errors
    /// [`EnqueueError::Full`] if the store is full; [`BusError`] if the broker fails. If the body fails, the
    /// cause is a [`BodyError`].
    async fn put(&self, key: StagingKey, bytes: u64, body: ByteStream) -> Result<(), EnqueueError>;

    /// Opens a staged file; `None` if it does not exist.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn get(&self, key: StagingKey) -> Result<Option<StagedFile>, BusError>;

    /// Deletes a staged file if it exists.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn delete(&self, key: StagingKey) -> Result<(), BusError>;

    /// Lists every staged file with the time it was staged. The list can include files whose `put` is
    /// unfinished or was interrupted. Such a file cannot be read, but it can be deleted.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn list(&self) -> Result<Vec<(StagingKey, Timestamp)>, BusError>;

    /// Lists files that were staged before `before`, and files whose time is in the future of `now` because a clock
    /// was wrong. May return an earlier time of a file that was staged again: compare it with
    /// [`StagingStore::staged_at`] before the file is deleted.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn list_old(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<(StagingKey, Timestamp)>, BusError> {
        let mut files = self.list().await?;
        files.retain(|(_, at)| is_old(*at, before, now));
        Ok(files)
    }

    /// Returns when a file was last staged; `None` if it does not exist.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn staged_at(&self, key: StagingKey) -> Result<Option<Timestamp>, BusError> {
        Ok(self.list().await?.into_iter().find(|(other, _)| *other == key).map(|(_, at)| at))
    }

    /// Returns the number of staged files. An adapter can count a long file more than once.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn count(&self) -> Result<u64, BusError> {
        Ok(self.list().await?.len() as u64)
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// As [`StagingStore::put`].
    async fn put_bytes(&self, key: StagingKey, bytes: Bytes) -> Result<(), EnqueueError> {
        let length = bytes.len() as u64;
        self.put(key, length, futures::stream::once(async move { Ok(bytes) }).boxed()).await
    }
}

/// Whether a file of this time belongs to [`StagingStore::list_old`].
pub(crate) fn is_old(at: Timestamp, before: Timestamp, now: Timestamp) -> bool {
    at < before || at.is_in_future_of(now)
}

/// Collects a stream into one buffer. `bytes` is the expected length.
///
/// # Errors
/// If the stream fails.
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
