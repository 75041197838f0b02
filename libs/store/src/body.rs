//! The body of a file. On writing, it is cut into batches and compared with the announced length and hash; on reading, it is
//! compared with the hash it is stored under.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::Fuse;
use futures::{StreamExt, stream};
use proto_json::{BlobHash, BlobHasher, DamagedRecord, RecordKind};

use crate::{ByteStream, StoreError};

/// Compares a body with its announced length and hash.
pub(crate) struct Check {
    sha256: BlobHash,
    bytes: u64,
    seen: u64,
    hasher: BlobHasher,
}

impl Check {
    /// Before the first byte.
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

    /// After the last byte: succeeds if length and hash are the announced ones.
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

/// Reads until `batch` bytes are complete or the body ends. A shorter batch is the last one. `rest` keeps what was read
/// beyond the batch.
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

/// Verifies a stored file while it is read. The last piece is returned only if the file has the hash it is stored under:
/// disks change bits, and a changed picture or ECG must not look like the one that was uploaded. A damaged file of one piece
/// returns only the error.
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

/// Converts an error of the store to one of a body.
pub(crate) fn unreadable(error: StoreError) -> io::Error {
    let kind = match error {
        StoreError::Unavailable(_) | StoreError::Refused(_) => io::ErrorKind::Other,
        StoreError::Corrupt(_) | StoreError::Damaged(_) | StoreError::WrongCursor => {
            io::ErrorKind::InvalidData
        }
    };
    io::Error::new(kind, error)
}

/// Converts an error of a body. Retrying does not help if its source is damaged.
fn not_read(error: io::Error) -> StoreError {
    match error.kind() {
        // The source answers, but does not have it.
        io::ErrorKind::NotFound => StoreError::refused(error),
        io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
        _ => StoreError::unavailable(error),
    }
}
