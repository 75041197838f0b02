//! The body of a file: on its way in cut into batches and checked against the length and hash that were announced; on its
//! way out checked against the hash it is stored under.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::Fuse;
use futures::{StreamExt, stream};
use proto_json::{BlobHash, BlobHasher, DamagedRecord, RecordKind};

use crate::{ByteStream, StoreError};

/// What a body has to be.
pub(crate) struct Check {
    sha256: BlobHash,
    bytes: u64,
    seen: u64,
    hasher: BlobHasher,
}

impl Check {
    /// Nothing seen yet.
    pub(crate) fn new(sha256: BlobHash, bytes: u64) -> Self {
        Check { sha256, bytes, seen: 0, hasher: BlobHasher::new() }
    }

    async fn take(&mut self, piece: &Bytes) -> Result<(), StoreError> {
        self.seen += piece.len() as u64;
        if self.seen > self.bytes {
            return Err(StoreError::Corrupt(format!(
                "a file is longer than the {} bytes announced",
                self.bytes
            )));
        }
        let hasher = std::mem::take(&mut self.hasher);
        self.hasher = background::hash(hasher, piece).await.map_err(StoreError::unavailable)?;
        Ok(())
    }

    /// After the last byte: whether it was what was announced.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        if self.seen < self.bytes {
            return Err(StoreError::Corrupt(format!(
                "a file ended after {} of the {} bytes announced",
                self.seen, self.bytes
            )));
        }
        if self.hasher.clone().finish() == self.sha256 {
            Ok(())
        } else {
            Err(StoreError::Corrupt(format!("a file does not have the hash announced, {}", self.sha256)))
        }
    }
}

/// Reads until `batch` bytes are there or the body ends: a shorter batch is the last one. `rest` is what was read beyond.
pub(crate) async fn next_batch(
    batch: usize,
    body: &mut Fuse<ByteStream>,
    rest: &mut BytesMut,
    check: &mut Check,
) -> Result<Bytes, StoreError> {
    while rest.len() < batch
        && let Some(piece) = body.next().await
    {
        let piece = piece.map_err(not_read)?;
        check.take(&piece).await?;
        rest.extend_from_slice(&piece);
    }
    Ok(rest.split_to(rest.len().min(batch)).freeze())
}

/// The body of a stored file, the last piece of which comes only if all of them have the hash the file is stored under:
/// disks change bits, and a changed picture or ECG must not look like the one that was uploaded. A file of one piece gives
/// nothing but the error.
pub(crate) fn verified(sha256: BlobHash, bytes: u64, body: ByteStream) -> ByteStream {
    let start = Some((body, BlobHasher::new(), 0));
    stream::unfold(start, move |state| async move {
        let (mut body, mut hasher, mut seen) = state?;
        let piece = match body.next().await? {
            Ok(piece) => piece,
            Err(error) => return Some((Err(error), None)),
        };
        hasher.update(&piece);
        seen += piece.len() as u64;
        if seen < bytes {
            return Some((Ok(piece), Some((body, hasher, seen))));
        }
        if hasher.finish() == sha256 {
            return Some((Ok(piece), None));
        }
        tracing::error!(%sha256, bytes, "a stored file is damaged: its bytes do not have its hash");
        let damaged = DamagedRecord { kind: RecordKind::File, key: format!("sha256 {sha256}") };
        Some((Err(unreadable(StoreError::Damaged(damaged))), None))
    })
    .boxed()
}

/// An error of the store as one of a body.
pub(crate) fn unreadable(error: StoreError) -> io::Error {
    let kind = match error {
        StoreError::Unavailable(_) | StoreError::Refused(_) => io::ErrorKind::Other,
        StoreError::Corrupt(_) | StoreError::Damaged(_) | StoreError::WrongCursor => {
            io::ErrorKind::InvalidData
        }
    };
    io::Error::new(kind, error)
}

/// A body that cannot be read. Trying again does not help if it is damaged where it comes from.
fn not_read(error: io::Error) -> StoreError {
    match error.kind() {
        // Its source is well, and has not got it.
        io::ErrorKind::NotFound => StoreError::refused(error),
        io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
        _ => StoreError::unavailable(error),
    }
}
